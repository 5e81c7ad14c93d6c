"""Tables of catalogue entries: a row each, with columns to find it by and its latest content as JSON text."""

from collections.abc import Callable, Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from projections.bulk import Value
from projections.projection import Projection, Table, Target
from schema.catalogue import SORT_MAX, Kind, Stand
from schema.entry import Recorded

Condition = tuple[str, tuple[Value, ...]]
Key = tuple[int, str]
FIRST: Key = (-SORT_MAX - 1, "")

_SHARED = """
    sort           INTEGER NOT NULL,
    deleted        INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    created_at_us  INTEGER NOT NULL,
    changed_at_us  INTEGER NOT NULL,
    data           TEXT NOT NULL
"""


class Found(Struct, frozen=True):
    """Entries in order of sort and id, and the key to go on after, if there may be more."""

    stands: list[Stand]
    next_key: Key | None


def projection(
    kind: Kind, version: int, columns: str, values: Callable[[Any], tuple[Value, ...]], unique: str
) -> Projection:
    """The projection of a kind. `columns` are those beside id and the shared ones, `values` what a content has in them.

    `unique` are the columns that no two live entries share: commands look there before an entry gets them.
    """
    names = [line.split()[0] for line in columns.strip().splitlines()]
    put = f"VALUES ({','.join('?' * (len(names) + 7))}) ON CONFLICT (id) DO UPDATE SET " + ", ".join(
        f"{name} = excluded.{name}" for name in (*names, "sort", "position", "changed_at_us", "data")
    )

    of = (kind.created, kind.changed, kind.deleted)

    def apply(target: Target, events: Sequence[Recorded]) -> None:
        table = target.table(kind.table)
        for event in [event for event in events if type(event.data) in of]:  # among calls there is hardly ever one
            data: Any = event.data
            if type(event.data) is not kind.deleted:
                now_us = event.recorded_at_us
                row = (data.id, *values(data), data.sort, 0, event.position, now_us, now_us, _text(kind, data))
                target.db.execute(f"INSERT INTO {table} {put}", row)
            else:
                ended = f"UPDATE {table} SET deleted = 1, position = ?, changed_at_us = ? WHERE id = ?"
                target.db.execute(ended, (event.position, event.recorded_at_us, data.id))

    indexes = (
        (f"{kind.table}_by_order", "(sort, id)"),
        (f"{kind.table}_by_name", f"({unique}) WHERE NOT deleted"),
        (f"{kind.table}_by_position", "(position)"),
    )
    table = Table(kind.table, f"id TEXT PRIMARY KEY, {columns.rstrip()},{_SHARED}", key="id", indexes=indexes)
    return Projection(name=kind.table, version=version, tables=(table,), apply=apply, blocking=True, of=of)


def _text(kind: Kind, data: Struct) -> str:
    content = kind.content(**{name: getattr(data, name) for name in kind.content.__struct_fields__})
    return msgspec.json.encode(content).decode()


_COLUMNS = "data, deleted, position, created_at_us, changed_at_us"


def find(db: apsw.Connection, kind: Kind, id_: str) -> Stand | None:
    """An entry by its id, deleted ones too."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM {kind.table} WHERE id = ?", (id_,)).fetchall()
    return _stand(kind, rows[0]) if rows else None


def find_holder(db: apsw.Connection, kind: Kind, but: str = "", **columns: str) -> str | None:
    """The id of a live entry other than `but` that has these values."""
    where = " AND ".join(f"{name} = ?" for name in columns)
    query = f"SELECT id FROM {kind.table} WHERE NOT deleted AND {where} AND id <> ? LIMIT 1"
    return db.execute(query, (*columns.values(), but)).get


def list_entries(db: apsw.Connection, kind: Kind, conditions: Sequence[Condition], after: Key, limit: int) -> Found:
    """Entries after a key that meet all conditions, at most `limit`."""
    where = " AND ".join(("(sort, id) > (?, ?)", *(condition for condition, _ in conditions)))
    bound = [value for _, values in conditions for value in values]
    query = f"SELECT {_COLUMNS}, sort, id FROM {kind.table} WHERE {where} ORDER BY sort, id LIMIT ?"
    rows: list[Any] = db.execute(query, (*after, *bound, limit)).fetchall()
    return Found([_stand(kind, row) for row in rows], rows[-1][-2:] if len(rows) == limit else None)


def latest_position(db: apsw.Connection, *kinds: Kind) -> int:
    """The position of the last change to any entry of these kinds, 0 if there was none: one seek a kind."""
    return max(db.execute(f"SELECT max(position) FROM {kind.table}").get or 0 for kind in kinds)


def having(text: str | None, columns: Sequence[str]) -> list[Condition]:
    """That a text is in one of the columns; letters A to Z in either case."""
    if text is None:
        return []
    places = " OR ".join(f"instr(lower({column}), lower(?))" for column in columns)
    return [(f"({places})", (text,) * len(columns))]


def _stand(kind: Kind, row: Any) -> Stand:  # noqa: ANN401 - a row
    content = msgspec.json.decode(row[0], type=kind.content)
    return Stand(content, bool(row[1]), *row[2:5])
