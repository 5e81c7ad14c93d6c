"""Where a ledger stands: its head and root, and how far each projection is."""

import apsw
import msgspec
from msgspec import Struct

from ledger import journal, tree
from projections.engine import checkpoints, registry
from schema.times import format_time


class ProjectionStatus(Struct, kw_only=True):
    """One projection. `lag` is in events; `rebuilding` tells how far its replacement is."""

    name: str
    version: int
    position: int
    lag: int
    current: bool
    rebuilding: int | None = None
    state_hash: str | None = None
    state_hash_position: int | None = None


class LedgerStatus(Struct, kw_only=True):
    """The state of the file as of one moment.

    `leases_ahead_s`: leases are dated so far ahead, because a clock once ran ahead; null where not asked.
    """

    position: int
    root_hash: str
    recorded_at: str | None
    sqlite: str
    projections: list[ProjectionStatus]
    leases_ahead_s: int | None = None

    def lagging(self) -> list[str]:
        """Projections that reads cannot use now."""
        return [projection.name for projection in self.projections if not projection.current]

    def with_hashes(self, hashes: dict[str, tuple[int, str]]) -> "LedgerStatus":
        """The same, with each projection's state hash and the position it was taken at."""
        shown = [
            msgspec.structs.replace(
                projection,
                state_hash_position=hashes.get(projection.name, (None, None))[0],
                state_hash=hashes.get(projection.name, (None, None))[1],
            )
            for projection in self.projections
        ]
        return msgspec.structs.replace(self, projections=shown)


def read(db: apsw.Connection) -> LedgerStatus:
    """The status as of this snapshot."""
    head = journal.read_head(db)
    have = checkpoints(db)
    projections = [
        ProjectionStatus(
            name=name,
            version=have[name].version,
            position=have[name].position,
            lag=head.size - have[name].position,
            current=have[name].current(head.size),
            rebuilding=have[name].shadow_position,
        )
        for name in registry()
        if name in have
    ]
    return LedgerStatus(
        position=head.size,
        root_hash=tree.root(head.edge).hex(),
        recorded_at=format_time(head.recorded_at_us) if head.size else None,
        sqlite=apsw.sqlite_lib_version(),
        projections=projections,
    )
