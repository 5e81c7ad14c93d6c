"""One hash over all rows of a projection: equal tables give equal hashes, live or rebuilt, here or on another machine.

Computed inside SQLite by its `shathree` extension where that is installed, else the same bytes are hashed here.
Format: SHA3-256 over, for each statement, `S<length>:<text>` and for each row `R` and its values, each as `N`, `I` and
eight bytes, `F` and eight bytes, `T<length>:<UTF-8>` or `B<length>:<bytes>`. Source: ext/misc/shathree.c of SQLite.
"""

import struct
from hashlib import sha3_256

import apsw
import apsw.sqlite_extra

from projections.projection import Projection, Table

EXTENSION = "shathree"
# The extension takes an interrupted query for a finished one. A deadline that cut it short is still past when this
# many steps are made after it, and so raises here.
_ASK_DEADLINE = "WITH RECURSIVE c (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c LIMIT 20000) SELECT count(*) FROM c"


def prepare(db: apsw.Connection) -> None:
    """Load the extension into a connection, if this installation has it and the connection has not."""
    if apsw.sqlite_extra.has(EXTENSION) and not _loaded(db):
        apsw.sqlite_extra.load(db, EXTENSION)


def _loaded(db: apsw.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM pragma_function_list WHERE name = 'sha3_query'").get)


def state_hash(db: apsw.Connection, projection: Projection, *, in_c: bool = True) -> str:
    """The hash of a projection's live tables, in hex. Call `prepare` on the connection before."""
    sql = ";".join(query(table) for table in projection.tables)
    if in_c and _loaded(db):
        digest: bytes = db.execute("SELECT sha3_query(?, 256)", (sql,)).get
        db.execute(_ASK_DEADLINE).fetchall()
        return digest.hex()
    return _in_python(db, sql)


def query(table: Table) -> str:
    """All rows of a table in the order of its key."""
    return f"SELECT * FROM {table.name} ORDER BY {table.key}"


def _in_python(db: apsw.Connection, sql: str) -> str:
    hasher = sha3_256()
    for statement in sql.split(";"):
        # The extension hashes the text as SQLite cuts it off: up to and with its semicolon.
        text = statement if sql.endswith(statement) else f"{statement};"
        hasher.update(_tagged(b"S", text.encode()))
        for row in db.execute(statement):
            hasher.update(b"R" + b"".join(map(_value, row)))
    return hasher.hexdigest()


def _value(value: object) -> bytes:
    match value:
        case None:
            return b"N"
        case int():
            return b"I" + struct.pack(">q", value)
        case float():
            return b"F" + struct.pack(">d", value)
        case str():
            return _tagged(b"T", value.encode())
        case _:
            assert isinstance(value, bytes)
            return _tagged(b"B", value)


def _tagged(tag: bytes, content: bytes) -> bytes:
    return tag + str(len(content)).encode() + b":" + content
