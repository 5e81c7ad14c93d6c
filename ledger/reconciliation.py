"""Comparing what calls cost, as statistics have it, with what was reported: two sums made by different code."""

from typing import Any

import apsw

from ledger import journal, usage_fold
from ledger.report_state import BATCHES, HEAD, PAIRS, REPORT_HEAD, PairRow, ReportHead
from projections.engine import require
from projections.model_call_stat_read import read_stats
from schema.errors import QueryTooExpensive
from schema.model_call_query import CallFilter, StatQuery
from schema.money import amount_e10, amount_text
from schema.paging import Page, decode_cursor, encode_cursor
from schema.usage_report import GapKind, Reconciled, customer_of

BEHIND_EVENTS_MAX = 50_000
Key = tuple[str, str]


def ledger_costs(db: apsw.Connection, app: str | None) -> dict[Key, int]:
    """What calls cost by app and user, of one app where it is given; raises Rebuilding, InvalidInput for too many."""
    require(db, journal.head_position(db), "model_calls", "model_call_stats", "names")
    found = read_stats(db, StatQuery(filter=CallFilter(app=app), group_by=("app", "user_id")))
    return {
        (bucket.group["app"] or "", bucket.group["user_id"] or ""): amount_e10(bucket.cost) for bucket in found.buckets
    }


def head(db: apsw.Connection) -> ReportHead | None:
    """How far reporting is; None before it began."""
    rows: list[Any] = db.execute(f"SELECT * FROM {REPORT_HEAD.name} WHERE id = ?", (HEAD,)).fetchall()
    return ReportHead(*rows[0]) if rows else None


def compared(
    db: apsw.Connection, app: str | None, cursor: str | None, limit: int, *, gaps_only: bool
) -> Page[Reconciled]:
    """Users by app and id, each compared within the ledger. Raises QueryTooExpensive while too much is uncollected."""
    after: Key = decode_cursor(cursor, tuple[str, str]) if cursor else ("", "")
    begun = head(db)
    if begun is None:
        return Page(items=[])
    size = journal.head_position(db)
    if size - begun.position > BEHIND_EVENTS_MAX:
        raise QueryTooExpensive(f"{size - begun.position} events are not collected yet: ask again when they are")
    uncollected = {
        (moved.app, moved.user_id): moved.amount_e10 for moved in usage_fold.between(db, begun.position, size)
    }
    costs, pairs, dead = ledger_costs(db, app), _pairs(db, app), _dead(db)
    keys = {key for key in {*costs, *pairs, *uncollected} if app in {None, key[0]} and key > after}
    items: list[Reconciled] = []
    for key in sorted(keys):
        pair = pairs.get(key) or PairRow(*key)
        found = _compared(pair, costs.get(key, 0), uncollected.get(key, 0), dead.get(key, 0))
        if found.gaps or not gaps_only:
            items.append(found)
        if len(items) == limit:
            return Page(items=items, next_cursor=encode_cursor(*key))
    return Page(items=items)


def _compared(pair: PairRow, cost_e10: int, uncollected_e10: int, dead_e10: int) -> Reconciled:
    ledger_e10 = cost_e10 - amount_e10(pair.base)
    reported_e10, batched_e10 = amount_e10(pair.reported), amount_e10(pair.batched)
    open_e10 = batched_e10 - reported_e10 + amount_e10(pair.open) + uncollected_e10
    gaps: list[GapKind] = []
    if ledger_e10 != reported_e10 + open_e10:
        gaps.append("ledger")
    if dead_e10:
        gaps.append("unreported")
    user_id = pair.user_id or None
    return Reconciled(
        app=pair.app, user_id=user_id, customer=customer_of(pair.app, user_id), ledger=amount_text(ledger_e10),
        reported=amount_text(reported_e10), open=amount_text(open_e10), dead=amount_text(dead_e10), remote=None,
        gaps=gaps,
    )  # fmt: skip


def _pairs(db: apsw.Connection, app: str | None) -> dict[Key, PairRow]:
    rows: list[Any] = db.execute(f"SELECT * FROM {PAIRS.name} WHERE ?1 IS NULL OR app = ?1", (app,)).fetchall()
    return {(row[0], row[1]): PairRow(*row) for row in rows}


def _dead(db: apsw.Connection) -> dict[Key, int]:
    """What is in batches that were given up. Signs are dropped: two that add up to nothing are a gap all the same."""
    found: dict[Key, int] = {}
    rows: Any = db.execute(f"SELECT app, user_id, amount FROM {BATCHES.name} WHERE status = 'dead'")
    for app, user_id, amount in rows:
        found[app, user_id] = found.get((app, user_id), 0) + abs(amount_e10(amount))
    return found
