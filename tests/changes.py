"""Commands that change calls, and a plain fold of what they must come to; it shares no code with the projections."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import apsw
import msgspec

from ledger import reads
from ledger.ledger import Ledger
from ledger.rate_acceptance import accept_rate
from ledger.writer import Outcome, Writer
from schema.correction import Basis, CorrectModelCall, PostedCorrection
from schema.model_call import DEFAULT_POLICY
from schema.model_call_query import CallFilter, Dimension, StatQuery
from schema.model_rate import ModelRateSet, SetModelRate
from schema.rerate import AdvanceRerate, RerateReverting, RerateStarted, RevertRerate, StartRerate
from schema.times import format_time, parse_time
from tests.histories import ACTOR, APP, DAY_US, NOON_US, Fields

FROM_US, TO_US = NOON_US - 60 * DAY_US, NOON_US + 2 * DAY_US


def a_rate(id_: str, price: str = "0.001", **fields: Any) -> SetModelRate:  # noqa: ANN401 - a rate's fields
    named = {"provider": "openai", "model": "gpt-4o", "effective_from": "2026-01-01T00:00:00.000000Z", "input": price}
    rate = msgspec.convert({"id": id_, **named, "output": price, "vendor": {"input": price}, **fields}, ModelRateSet)
    accept_rate(rate)
    return SetModelRate(actor=ACTOR, received_at_us=NOON_US, rate=rate)


def correction(id_: str, change: str = "fix-1", *, app: str = APP, void: bool = False, **set_: Any) -> CorrectModelCall:  # noqa: ANN401
    """Correct a call by these fields, or void it."""
    posted: Fields = {"id": change, "reason": "wrong", **({"void": True} if void else {"set": set_})}
    return CorrectModelCall(
        actor=ACTOR, received_at_us=NOON_US, id=id_, app=app, policy=DEFAULT_POLICY,
        correction=msgspec.convert(deepcopy(posted), PostedCorrection),
    )  # fmt: skip


def rerate(id_: str, from_us: int = FROM_US, to_us: int = TO_US, **filter_: str) -> StartRerate:
    posted: Fields = {"id": id_, "from": format_time(from_us), "to": format_time(to_us), "filter": filter_ or None}
    return StartRerate(actor=ACTOR, received_at_us=NOON_US, rerate=msgspec.convert(posted, RerateStarted))


def advance(id_: str, limit: int = 500) -> AdvanceRerate:
    return AdvanceRerate(received_at_us=NOON_US, id=id_, policy=DEFAULT_POLICY, limit=limit)


def revert(id_: str) -> RevertRerate:
    return RevertRerate(actor=ACTOR, received_at_us=NOON_US, data=RerateReverting(id=id_))


def carry_on(writer: Writer | Ledger, id_: str, limit: int = 500) -> int:
    """Advance until nothing is left; how many batches that took."""
    batches = 0
    while _events(one(writer, advance(id_, limit))):
        batches += 1
    return batches


def one(writer: Writer | Ledger, command: msgspec.Struct) -> Outcome:
    found = writer.execute_now([command]) if isinstance(writer, Ledger) else writer.write([command])
    return found[0]


def _events(outcome: Outcome) -> int:
    assert not isinstance(outcome, Exception), outcome
    return outcome.events


@dataclass(frozen=True)
class Counted:
    """A finished call in plain values: what a sum is made of."""

    fields: Fields
    cost: Decimal | None
    rate: int | None = None


@dataclass
class Plain:
    """What calls come to: the first state of each, and the last one; None once it is voided."""

    rates: list[tuple[str, Decimal]] = field(default_factory=list[tuple[str, Decimal]])
    billed: dict[tuple[str, str], Counted] = field(default_factory=dict[tuple[str, str], Counted])
    now: dict[tuple[str, str], Counted | None] = field(default_factory=dict[tuple[str, str], "Counted | None"])
    runs: dict[str, dict[tuple[str, str], tuple[Counted, Counted]]] = field(
        default_factory=dict[str, dict[tuple[str, str], tuple[Counted, Counted]]]
    )

    def rated(self, fields: Fields) -> Counted:
        """Priced by the latest rate of its model: as many credits a token as that says."""
        usage: Fields = fields.get("usage") or {}
        tokens = (usage.get("input_tokens") or 0) + (usage.get("output_tokens") or 0)
        rate = next((n for n, (model, _) in reversed([*enumerate(self.rates)]) if model == fields["model"]), None)
        if rate is None or (not tokens and fields["status"] == "success"):
            return Counted(fields, None, rate)
        return Counted(fields, self.rates[rate][1] * tokens, rate)

    def record(self, fields: Fields) -> None:
        key = fields["app"], fields["id"]
        if key not in self.now:
            self.billed[key] = self.now[key] = self.rated(fields)

    def correct(self, app: str, id_: str, set_: Fields) -> None:
        known = self.now.get((app, id_))
        if known is not None:
            self.now[app, id_] = self.rated({**known.fields, **set_})

    def void(self, app: str, id_: str) -> None:
        if self.now.get((app, id_)) is not None:
            self.now[app, id_] = None

    def rerate(self, run: str, from_us: int = FROM_US, to_us: int = TO_US, model: str | None = None) -> None:
        changed = self.runs.setdefault(run, {})
        for key, known in self.now.items():
            if known is None or (model and known.fields["model"] != model):
                continue
            if from_us <= parse_time(known.fields["started_at"]) < to_us:
                after = self.rated(known.fields)
                if (after.cost, after.rate) != (known.cost, known.rate):
                    changed[key] = known, after
                    self.now[key] = after

    def revert(self, run: str) -> None:
        for key, (before, after) in self.runs[run].items():
            if self.now[key] is after:
                self.now[key] = replace(before)

    def calls(self, basis: Basis) -> list[Counted]:
        if basis == "billed":
            return list(self.billed.values())
        return [known for known in self.now.values() if known is not None]


Sums = dict[tuple[str | None, ...], tuple[int, int, int, Decimal, int]]


def fold(calls: Iterable[Counted], group: Sequence[Dimension], bucket: int) -> Sums:
    """Calls, successes, input tokens, cost and unpriced calls by bucket (start cut to so many letters) and group."""
    found: Sums = defaultdict(lambda: (0, 0, 0, Decimal(0), 0))
    for each in calls:
        start = each.fields["started_at"][:bucket]
        key = (start, *(each.fields.get(name) for name in group))
        n, succeeded, tokens, cost, unpriced = found[key]
        used: Fields = each.fields.get("usage") or {}
        found[key] = (
            n + 1, succeeded + (each.fields["status"] == "success"), tokens + (used.get("input_tokens") or 0),
            cost + (each.cost or 0), unpriced + (each.cost is None),
        )  # fmt: skip
    return dict(found)


BUCKETS = {"hour": 13, "day": 10, "month": 7, "total": 0}


def statistics(db: apsw.Connection, query: StatQuery) -> Sums:
    letters = BUCKETS[query.granularity]
    return {
        (each.start[:letters], *(each.group[name] for name in query.group_by)): (
            each.calls, each.succeeded, each.input_tokens, Decimal(each.cost), each.unpriced_calls,
        )
        for each in reads.model_call_stats(db, query).buckets
    }  # fmt: skip


def listed(db: apsw.Connection, basis: Basis) -> list[Counted]:
    """Every finished call that a list shows, page by page."""
    found: list[Counted] = []
    cursor: str | None = None
    while True:
        page = reads.model_calls(db, CallFilter(basis=basis), cursor, 3)
        for view in page.items:
            fields: Fields = msgspec.to_builtins(view)
            if view.status != "processing":
                found.append(Counted(fields, None if view.cost is None else Decimal(view.cost)))
        cursor = page.next_cursor
        if cursor is None:
            return found
