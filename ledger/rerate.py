"""Re-rating, batch by batch: which calls come next, what they would cost now, and the totals so far."""

from collections.abc import Sequence
from typing import Any, cast

import apsw
from msgspec import Struct

from ledger.call_rating import rate_call
from ledger.changed_call import KnownCall, known_calls
from ledger.rate_book import RateBook
from projections.bulk import Value
from projections.call_filter import name_ids
from schema.errors import LedgerError
from schema.model_call import Rating, RatingPolicy
from schema.money import amount_e10, amount_text
from schema.rerate import Amounts, Progress, RerateFilter, RerateStarted
from schema.times import parse_time

_NAMED = ("app", "provider", "model", "type", "user_id")
Key = tuple[int, int]


class Batch(Struct, frozen=True):
    """The next calls of a run, and where it goes on after them; None where it is over."""

    calls: list[KnownCall]
    next: Key | None


class Verdict(Struct, frozen=True):
    """A call, what it costs and what it would; None where no cost can be worked out."""

    known: KnownCall
    before: Rating
    after: Rating | None

    @property
    def changes(self) -> bool:
        """Whether there is something to re-rate."""
        return self.after is not None and self.after != self.before


def next_batch(db: apsw.Connection, run: RerateStarted, after: Key | None, limit: int) -> Batch:
    """The next calls in order of start, of at most `limit` looked at: finished, not voided, and as the filter says."""
    low: Key = (parse_time(run.from_), 0) if after is None else after
    scan = (
        "SELECT * FROM model_calls WHERE (started_at_us, position) > (?1, ?2) AND started_at_us < ?3 "
        "ORDER BY started_at_us, position LIMIT ?4"
    )
    bound: tuple[Value, ...] = (*(low if after else (low[0] - 1, 2**62)), parse_time(run.to), limit)
    rows = cast("list[Any]", db.execute(f"SELECT started_at_us, position FROM ({scan})", bound).fetchall())
    where, values = _where(db, run.filter)
    unfinished = "status NOT IN (SELECT id FROM names WHERE name IN ('processing', 'timed_out'))"
    query = f"SELECT position FROM ({scan}) WHERE voided = 0 AND {unfinished}{where} ORDER BY started_at_us, position"
    positions = [position for (position,) in db.execute(query, (*bound, *values))]
    return Batch(known_calls(db, positions), tuple(rows[-1]) if len(rows) == limit else None)


def _where(db: apsw.Connection, run_filter: RerateFilter | None) -> tuple[str, tuple[Value, ...]]:
    if run_filter is None:
        return "", ()
    wanted = {name: value for name in _NAMED if (value := getattr(run_filter, name)) is not None}
    ids = name_ids(db, list(wanted.values()))
    sql = "".join(f" AND {name} = ?" for name in wanted)
    values: tuple[Value, ...] = tuple(ids.get(value, -1) for value in wanted.values())
    if run_filter.cost_status is not None:
        return f"{sql} AND cost_status = ?", (*values, run_filter.cost_status)
    return sql, values


def judge(book: RateBook, calls: Sequence[KnownCall], policy: RatingPolicy) -> list[Verdict]:
    """What each call would cost by the rates that are set now."""
    return [Verdict(known, known.rating, _rated(book, known, policy)) for known in calls]


def _rated(book: RateBook, known: KnownCall, policy: RatingPolicy) -> Rating | None:
    call = known.call
    assert call is not None
    try:
        return rate_call(book, call, known.started_at_us, RatingPolicy(failed=policy.failed))
    except LedgerError:  # dearer than any call may be: it keeps the cost that it has, and is counted as skipped
        return None


def advanced(progress: Progress | None, verdicts: Sequence[Verdict], following: Key | None, left: int = 0) -> Progress:
    """The totals with a batch more, in which `left` calls were not judged at all."""
    done = progress or Progress(before=Amounts(), after=Amounts())
    return Progress(
        seen=done.seen + len(verdicts) + left,
        changed=done.changed + sum(verdict.changes for verdict in verdicts),
        skipped=done.skipped + sum(verdict.after is None for verdict in verdicts) + left,
        before=_added(done.before, [verdict.before for verdict in verdicts]),
        after=_added(done.after, [verdict.after or verdict.before for verdict in verdicts]),
        next=following,
    )


def _added(total: Amounts, ratings: Sequence[Rating]) -> Amounts:
    return Amounts(
        cost=_sum(total.cost, [rating.cost for rating in ratings]),
        vendor_cost=_sum(total.vendor_cost, [rating.vendor_cost for rating in ratings]),
        unpriced=total.unpriced + sum(rating.cost is None for rating in ratings),
    )


def _sum(total: str, amounts: Sequence[str | None]) -> str:
    return amount_text(amount_e10(total) + sum(amount_e10(amount) for amount in amounts if amount is not None))
