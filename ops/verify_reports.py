"""Checking the state of usage reporting: what is collected and batched is what the journal says, user by user."""

from typing import Any

import apsw

from ledger import reconciliation, usage_fold
from ledger.report_state import BATCHES, PAIRS, REPORT_HEAD, PairRow
from ops.faults import Faults
from schema.money import amount_e10

FOUND_MAX = 1_000
STRETCH_EVENTS = 50_000
_UNDUE = (
    "SELECT id, status FROM usage_report_batches WHERE (due_at_us IS NULL) <> (status IN ('reported', 'dead')) LIMIT ?"
)
Key = tuple[str, str]


def check_reports(db: apsw.Connection, size: int, faults: Faults, notes: list[str]) -> None:
    """Fold the journal anew and compare; and hold rows against what must be true of them at every commit."""
    if not all(db.table_exists("main", table.name) for table in (REPORT_HEAD, PAIRS, BATCHES)):
        notes.append("usage reports not checked: the file is of an earlier version")
        return
    head = reconciliation.head(db)
    if head is None:
        return
    if head.position > size:
        faults.add(REPORT_HEAD.name, f"it is at {head.position}, and the journal ends at {size}")
        return
    latest: Any = db.execute("SELECT coalesce(max(sequence), 0) FROM usage_report_batches").get
    if head.sequence < latest:
        faults.add(REPORT_HEAD.name, "it is behind the last batch", key=str(latest))
    for id_, status in db.execute(_UNDUE, (FOUND_MAX,)):
        faults.add(BATCHES.name, f"it is {status}, and whether it is to be sent is not as that means", key=str(id_))
    _check_sums(db, _moved(db, head.started_after, head.position), faults)


def _moved(db: apsw.Connection, after: int, until: int) -> dict[Key, int]:
    found: dict[Key, int] = {}
    while after < until:
        end = min(until, after + STRETCH_EVENTS)
        for moved in usage_fold.between(db, after, end):
            key = moved.app, moved.user_id
            found[key] = found.get(key, 0) + moved.amount_e10
        after = end
    return found


def _check_sums(db: apsw.Connection, moved: dict[Key, int], faults: Faults) -> None:
    sums = _batch_sums(db)
    rows: Any = db.execute("SELECT * FROM usage_report_pairs")
    pairs = {(row[0], row[1]): PairRow(*row) for row in rows}
    for key in sorted({*moved, *sums, *pairs}):
        pair, (batched_e10, reported_e10) = pairs.get(key) or PairRow(*key), sums.get(key, (0, 0))
        pruned_e10, name = amount_e10(pair.pruned), "/".join(key)
        if amount_e10(pair.batched) != pruned_e10 + batched_e10:
            faults.add(PAIRS.name, "batched is not the sum of its batches", key=name)
        if amount_e10(pair.reported) != pruned_e10 + reported_e10:
            faults.add(PAIRS.name, "reported is not the sum of its reported batches", key=name)
        if amount_e10(pair.batched) + amount_e10(pair.open) != moved.get(key, 0):
            faults.add(PAIRS.name, "batched and open are not what its calls cost", key=name)


def _batch_sums(db: apsw.Connection) -> dict[Key, tuple[int, int]]:
    """All, and those that were reported."""
    found: dict[Key, tuple[int, int]] = {}
    rows: Any = db.execute("SELECT app, user_id, amount, status FROM usage_report_batches")
    for app, user_id, amount, status in rows:
        all_e10, reported_e10 = found.get((app, user_id), (0, 0))
        own_e10 = amount_e10(amount)
        found[app, user_id] = all_e10 + own_e10, reported_e10 + (own_e10 if status == "reported" else 0)
    return found
