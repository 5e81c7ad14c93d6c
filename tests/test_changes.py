"""Any history of calls, rates, corrections, voids, re-rates and reverts comes to what a plain fold says."""

from decimal import Decimal
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import journal, reads, rebuild
from ledger.database import open_writer
from ledger.decision import Command
from projections import model_call_stat
from projections.engine import Engine, registry
from schema.correction import Basis
from schema.model_call_query import CallFilter, Dimension, Granularity, Percentiles, StatQuery
from schema.times import format_time
from tests.changes import (
    BUCKETS,
    FROM_US,
    TO_US,
    Plain,
    a_rate,
    advance,
    correction,
    fold,
    listed,
    rerate,
    revert,
    statistics,
)
from tests.histories import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    NOON_US,
    Fields,
    call,
    entries,
    finish,
    kind_of,
    open_book,
    reading,
    replayed,
    start,
    sweep,
    tables,
    write_in_groups,
)
from tests.percentiles import ASKED, shown_percentiles
from tests.strategies import TORTURE_EXAMPLES, apps, examples, group_sizes, ids, optional, statuses, tails

BASES: tuple[Basis, ...] = get_args(Basis)
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
NAMES = [f"{measure}_p{per_cent}" for measure, asked in ASKED.items() for per_cent in asked]
GROUPS: tuple[tuple[Dimension, ...], ...] = (
    (), ("app",), ("user_id",), ("provider", "model"), ("type",), ("status",), ("credential_id",),
)  # fmt: skip
ADVANCES = 8  # more batches than a run over so few calls has

models = st.sampled_from(("gpt-4o", "sonnet"))
starts_us = st.sampled_from(
    (NOON_US, NOON_US - 1, NOON_US - 20 * MINUTE_US, NOON_US - HOUR_US, NOON_US - 30 * DAY_US, NOON_US - 13 * HOUR_US)
)
WITHIN_THE_HOUR = {format_time(NOON_US - 1), format_time(NOON_US - 20 * MINUTE_US)}  # before noon, cut at its start
tokens = st.integers(0, 9)
usages = optional(st.fixed_dictionaries({"input_tokens": tokens, "output_tokens": tokens}))
fields = st.fixed_dictionaries(
    {"started_at": starts_us.map(format_time), "usage": usages, "status": statuses},
    optional={
        "model": models, "type": st.sampled_from(("chat_completion", "embedding")),
        "user_id": optional(st.sampled_from(("u-1", "u-2"))), "credential_id": optional(st.just("k")),
        "duration_ms": optional(st.integers(0, 99) | st.integers(0, 10**12)), "ttfb_ms": optional(st.integers(0, 99)),
    },
)  # fmt: skip
prices = st.sampled_from(("0.5", "0.0000000001", "3"))
runs = st.sampled_from(("run-1", "run-2"))
ranges = st.sampled_from(((FROM_US, TO_US), (NOON_US - HOUR_US, NOON_US)))
step = st.one_of(
    st.tuples(st.just("call"), ids, apps, fields),
    st.tuples(st.just("call"), ids, apps, fields),
    st.tuples(st.just("long"), ids, apps, fields, st.booleans()),
    st.tuples(st.just("rate"), models, prices),
    st.tuples(st.just("correct"), ids, apps, st.dictionaries(st.just("x"), st.none()), fields),
    st.tuples(st.just("void"), ids, apps),
    st.tuples(st.just("rerate"), runs, ranges, optional(models)),
    st.tuples(st.just("revert"), runs),
)
Step = tuple[Any, ...]


class History:
    """The commands of some steps, and the fold of them; a run that begins is carried on to its end at once."""

    def __init__(self, steps: list[Step]) -> None:
        self.commands: list[Command] = []
        self.plain = Plain()
        self.taken: set[tuple[str, str]] = set()
        self.reverted: set[str] = set()
        for n, each in enumerate(steps):
            getattr(self, f"_{each[0]}")(n, *each[1:])

    def _call(self, _: int, id_: str, app: str, posted: Fields) -> None:
        if (app, id_) in self.taken:
            return
        self.taken.add((app, id_))
        self.commands.append(call(id_, app=app, at_us=NOON_US, **posted))
        self._record(id_, app, posted)

    def _record(self, id_: str, app: str, posted: Fields) -> None:
        whole = {"id": id_, "app": app, "provider": "openai", "model": "gpt-4o", "type": "chat_completion"}
        self.plain.record({**whole, **posted})

    def _long(self, _: int, id_: str, app: str, posted: Fields, late: bool) -> None:  # noqa: FBT001 - as drawn
        if (app, id_) in self.taken:
            return
        self.taken.add((app, id_))
        begun = {n: v for n, v in posted.items() if n in {"started_at", "model", "type", "user_id", "credential_id"}}
        ended = {n: v for n, v in posted.items() if n in {"usage", "duration_ms", "ttfb_ms"}}
        timeout_us = 0 if late else MINUTE_US
        self.commands.append(start(id_, app=app, at_us=NOON_US, timeout_us=timeout_us, **begun))
        if late:
            self.commands.append(sweep(NOON_US))
        self.commands.append(finish(id_, posted["status"], app=app, at_us=NOON_US, **ended))
        self._record(id_, app, posted)

    def _rate(self, n: int, model: str, price: str) -> None:
        self.commands.append(a_rate(f"rate-{n}", price, model=model))
        self.plain.rates.append((model, Decimal(price)))

    def _correct(self, n: int, id_: str, app: str, _: Fields, set_: Fields) -> None:
        self.commands.append(correction(id_, f"fix-{n}", app=app, **set_))
        self.plain.correct(app, id_, set_)

    def _void(self, n: int, id_: str, app: str) -> None:
        self.commands.append(correction(id_, f"void-{n}", app=app, void=True))
        self.plain.void(app, id_)

    def _rerate(self, _: int, run: str, bounds: tuple[int, int], model: str | None) -> None:
        if run in self.plain.runs:
            return
        self.commands.append(rerate(run, *bounds, **({} if model is None else {"model": model})))
        self.commands.extend(advance(run, 3) for _ in range(ADVANCES))
        self.plain.rerate(run, *bounds, model)

    def _revert(self, _: int, run: str) -> None:
        if run not in self.plain.runs or run in self.reverted:
            return
        self.reverted.add(run)
        self.commands.append(revert(run))
        self.commands.extend(advance(run, 3) for _ in range(ADVANCES))
        self.plain.revert(run)


def check_sums(db: apsw.Connection, plain: Plain) -> None:
    """Lists, and statistics of every granularity and group, over roll-ups and over the calls themselves."""
    for basis in BASES:
        calls = plain.calls(basis)
        for group, granularity in product(GROUPS, GRANULARITIES):
            letters = {"hour": 13, "day": 10, "month": 7, "total": 0}[granularity]
            expected = fold(calls, group, letters)
            assert fold(listed(db, basis), group, letters) == expected
            found = StatQuery(filter=CallFilter(basis=basis), granularity=granularity, group_by=group)
            assert statistics(db, found) == expected, (basis, group, granularity)
        by_calls = CallFilter(basis=basis, min_duration_ms=0)
        timed = [each for each in calls if each.fields.get("duration_ms") is not None]
        assert statistics(db, StatQuery(filter=by_calls)) == fold(timed, (), 0)
        cut = CallFilter(basis=basis, from_us=NOON_US - HOUR_US + 1, to_us=NOON_US)
        within = [each for each in calls if each.fields["started_at"] in WITHIN_THE_HOUR]
        assert statistics(db, StatQuery(filter=cut)) == fold(within, (), 0)


KEPT: tuple[tuple[Dimension, ...], ...] = ((), ("app",), ("provider", "model"), ("model",))


def check_percentiles(db: apsw.Connection, plain: Plain) -> None:
    """From histograms, and from the calls themselves, as sorting says; also where the range cuts an hour."""
    for basis, granularity, group in product(BASES, GRANULARITIES, KEPT):
        calls = [each.fields for each in plain.calls(basis)]
        for by_calls in (False, True):
            call_filter = CallFilter(basis=basis, as_of=10**9 if by_calls else None)
            query = StatQuery(filter=call_filter, granularity=granularity, group_by=group, percentiles=True)
            check_cells(db, query, calls, "calls" if by_calls else "histograms")
    for basis, app in product(BASES, ("a", "b")):
        calls = [each.fields for each in plain.calls(basis) if each.fields["app"] == app]
        query = StatQuery(filter=CallFilter(basis=basis, app=app), granularity="hour", percentiles=True)
        check_cells(db, query, calls, None)
    cut = CallFilter(from_us=NOON_US - HOUR_US + 1, to_us=NOON_US)
    within = [c.fields for c in plain.calls("corrected") if c.fields["started_at"] in WITHIN_THE_HOUR]
    totals = reads.model_call_stats(db, StatQuery(filter=cut, percentiles=True)).totals
    assert {name: getattr(totals, name) for name in NAMES} == shown_percentiles(within)


def check_cells(db: apsw.Connection, query: StatQuery, calls: list[Fields], source: str | None) -> None:
    letters = BUCKETS[query.granularity]
    buckets: dict[tuple[str, ...], list[Fields]] = {}
    for each in calls:
        key = (each["started_at"][:letters], *(each[name] or "" for name in query.group_by))
        buckets.setdefault(key, []).append(each)
    found = reads.model_call_stats(db, query)
    assert isinstance(found.percentiles, Percentiles)
    assert source is None or found.percentiles.source == source
    shown = {
        (each.start[:letters], *(each.group[name] or "" for name in query.group_by)): {
            name: getattr(each, name) for name in NAMES
        }
        for each in found.buckets
    }
    assert shown == {key: shown_percentiles(cell) for key, cell in buckets.items()}, query
    assert {name: getattr(found.totals, name) for name in NAMES} == shown_percentiles(calls)


def check(steps: list[Step], sizes: list[int], tail: int) -> None:
    history = History(steps)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as one, TemporaryDirectory() as two:
        patch.setattr(model_call_stat, "TAIL_EVENTS", tail)
        patch.setattr(rebuild, "STEP_EVENTS_MAX", sizes[0])
        with open_book(Path(one)) as book, open_book(Path(two)) as other:
            outcomes = write_in_groups(book, history.commands, sizes)
            assert "internal_error" not in set(map(kind_of, outcomes))
            write_in_groups(other, history.commands, [1])
            with reading(book.path) as db, reading(other.path) as second:
                check_sums(db, history.plain)
                check_percentiles(db, history.plain)
                events, live = journal.read(db, 0, 10**6), tables(db)
                assert (entries(second), tables(second)) == (entries(db), live)
            for size in {1, sizes[0], len(events)} if events else ():
                assert replayed(events, size) == live
            db = open_writer(book.path, "os")
            for name in registry():
                rebuild.rebuild(db, Engine(db), registry()[name])
            assert tables(db) == live
            db.close()


def histories(max_size: int) -> st.SearchStrategy[list[Step]]:
    return st.lists(step, min_size=2, max_size=max_size)


@examples(15)
@given(histories(20), group_sizes, tails)
def test_changes_come_to_what_a_plain_fold_says(steps: list[Step], sizes: list[int], tail: int) -> None:
    """As billed and as corrected; in any groups, on a second ledger, replayed and rebuilt."""
    check(steps, sizes, tail)


@pytest.mark.torture
@examples(TORTURE_EXAMPLES)
@given(histories(60), group_sizes, tails)
def test_long_histories_of_changes_come_to_what_a_plain_fold_says(
    steps: list[Step], sizes: list[int], tail: int
) -> None:
    """The same over longer histories and more of them."""
    check(steps, sizes, tail)
