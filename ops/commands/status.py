"""`usage-ledger status`."""

from pathlib import Path

import apsw
import click
import msgspec
from msgspec import Struct

from ledger import status
from ledger.database import Durability, open_reader, snapshot
from ledger.ledger import LEDGER_FILE
from ledger.status import LedgerStatus, ProjectionStatus
from ops.bootstrap import require_ledger
from ops.settings import Settings
from ops.terminal import answer, progress_bar, table, takes_json, takes_settings
from projections import state_hash
from projections.engine import registry


class Status(Struct, kw_only=True):
    """Where a ledger stands, as of one moment, and its files."""

    data_dir: str
    durability: Durability
    file_bytes: int
    wal_bytes: int
    ledger: LedgerStatus


@click.command("status")
@click.option("--hashes/--no-hashes", default=True, help="Hash each projection's rows, which reads them all.")
@takes_json
@takes_settings
def status_command(settings: Settings, *, hashes: bool, as_json: bool) -> None:
    """Show the position, the root hash, how far each projection is, and the sizes of the files."""
    require_ledger(settings)
    path = settings.directory / LEDGER_FILE
    db = open_reader(path)
    try:
        with snapshot(db):
            found = status.read(db)
            if hashes:
                found = found.with_hashes(_hashes(db, found))
    finally:
        db.close()
    shown = Status(
        data_dir=str(settings.directory.absolute()),
        durability=settings.durability,
        file_bytes=_size(path),
        wal_bytes=_size(path.with_name(f"{LEDGER_FILE}-wal")),
        ledger=found,
    )
    answer({**msgspec.structs.asdict(found), **_files(shown)}, _text(shown), as_json=as_json)


def _hashes(db: apsw.Connection, found: LedgerStatus) -> dict[str, tuple[int, str]]:
    state_hash.prepare(db)
    hashes: dict[str, tuple[int, str]] = {}
    with progress_bar() as progress:
        for done, each in enumerate(found.projections):
            progress("state hashes", done, len(found.projections))
            hashes[each.name] = (each.position, state_hash.state_hash(db, registry()[each.name]))
    return hashes


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _files(shown: Status) -> dict[str, object]:
    return {name: getattr(shown, name) for name in shown.__struct_fields__ if name != "ledger"}


def _text(shown: Status) -> str:
    rows = [
        ("position", str(shown.ledger.position)),
        ("root hash", shown.ledger.root_hash),
        ("recorded at", shown.ledger.recorded_at or "-"),
        ("ledger.db", f"{shown.file_bytes} bytes, WAL {shown.wal_bytes} bytes"),
        ("durability", shown.durability),
        ("SQLite", shown.ledger.sqlite),
        *((each.name, _projection(each)) for each in shown.ledger.projections),
    ]
    return table(rows)


def _projection(each: ProjectionStatus) -> str:
    rebuilt = f", being rebuilt, at {each.rebuilding}" if each.rebuilding is not None else ""
    hashed = f", state {each.state_hash}" if each.state_hash else ""
    return f"version {each.version}, position {each.position}, lag {each.lag}{rebuilt}{hashed}"


COMMAND = status_command
