"""Random histories of leases against a plain model that shares no code with the rules; memory against the tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import astuple

from ledger.commands.credential_recheck import Claimed
from ledger.commands.lease import Lent
from ledger.decision import Command
from ledger.state import State, state_tables
from ledger.writer import Appended, Outcome, Writer
from ops.faults import Faults
from ops.verify_leases import check_leases
from tests.catalogue import create_model
from tests.histories import DAY_US, HOUR_US, MINUTE_US, NOON_US, SECOND_US, kind_of, open_book, reading, select
from tests.leases import a_credential, an_edit, claim, lend, lent, looked, prune, report, reset, set_up
from tests.strategies import TORTURE_EXAMPLES, examples

Step = tuple[Any, ...]
OUTCOMES = ("success", "auth", "payment", "rate_limited", "content", "server", "timeout", "not_sent")
PROVIDERS = {"p": "abc", "q": "de"}
FIELDS: dict[str, dict[str, Any]] = {
    "a": {"weight": 5, "daily_limit": 6, "timezone": "Asia/Shanghai"},
    "b": {"weight": 1, "monthly_limit": 9, "timezone": "America/New_York"},
    "c": {"weight": 30, "priority": 1, "daily_limit": 3},
    "d": {"weight": 100},
    "e": {"weight": 50, "priority": 0, "daily_limit": 4, "monthly_limit": 5},
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_on(until: int, now: int, longest: int) -> bool:
    return until - longest <= now < until


def levelled(held: list[int], most: int) -> list[int]:
    """With debts beyond `most` below the middle let off, at the cost of those above it, in proportion."""
    middle = sum(held) // len(held)
    debts = [max(0, middle - most - each) for each in held]
    gains = [max(0, each - middle) for each in held]
    shares = [sum(gains[:n]) * sum(debts) // max(1, sum(gains)) for n in range(len(held) + 1)]
    return [each + debts[n] - (shares[n + 1] - shares[n]) for n, each in enumerate(held)]


def wait_s(looks: int) -> int:
    return min(5 + 2**looks, 10_800)


@dataclass
class Plain:
    """A credential of the model."""

    id: str
    provider: str
    weight: int = 100
    priority: int = 0
    limits: dict[str, int | None] = field(default_factory=dict[str, int | None])
    timezone: str = "UTC"
    enabled: bool = True
    current: int = 0
    errors: int = 0
    cleared: int = 0
    slow_until: int = 0
    recheck: int | None = None
    looks: int = 0
    used: dict[str, int] = field(default_factory=dict[str, int])
    floors: dict[str, int] = field(default_factory=dict[str, int])

    def periods(self, now: int) -> dict[str, str]:
        day = (EPOCH + timedelta(microseconds=now)).astimezone(ZoneInfo(self.timezone)).date().isoformat()
        return {"day": day, "month": day[:7]}

    def usable(self, now: int) -> bool:
        full = any(
            (limit := self.limits.get(kind)) is not None and self.used.get(text, 0) >= limit
            for kind, text in self.periods(now).items()
        )
        return self.enabled and self.weight > 0 and not full


@dataclass
class Model:
    """What leases must come to, in dicts."""

    credentials: dict[str, Plain]
    leases: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    made: int = 0
    last: int = 0
    failures: dict[str, int] = field(default_factory=dict[str, int])
    cool: dict[str, int] = field(default_factory=dict[str, int])
    turn: str | None = None

    def lend(self, id_: str, wanted: str, at: int) -> str:
        if id_ in self.leases:
            known = self.leases[id_]
            if known["wanted"] != wanted:
                return "id_conflict"
            lender = self.credentials[known["credential"]]
            is_open = known["said"] is None and at < known["ends"] and lender.enabled
            return f"again {lender.id}" if is_open else "lease_ended"
        now = max(at, self.last)
        found = self.choose(wanted, now, at)
        if found is None:
            return "no_credential"
        taken, among = found
        held = levelled([each.current for each, _ in among], sum(weight for _, weight in among))
        for (each, weight), current in zip(among, held, strict=True):
            each.current = current + weight
        best = max(among, key=lambda pair: (pair[0].current, -list(self.credentials).index(pair[0].id)))[0]
        assert best is taken
        best.current -= sum(weight for _, weight in among)
        if wanted == "mini":
            self.turn = taken.provider
        periods = taken.periods(now)
        for text in periods.values():
            taken.used[text] = taken.used.get(text, 0) + 1
        self.made, self.last = self.made + 1, now
        self.leases[id_] = {
            "credential": taken.id, "wanted": wanted, "periods": periods, "number": self.made, "at": now, "said": None,
            "ends": at + 600 * SECOND_US,
        }  # fmt: skip
        return taken.id

    def choose(self, wanted: str, now: int, at: int) -> tuple[Plain, list[tuple[Plain, int]]] | None:
        if wanted != "mini":
            return self.of(wanted, now, at)
        order = ["q", "p"] if self.turn == "p" else ["p", "q"]
        able = [(name, found) for name in order if (found := self.of(name, now, at)) is not None]
        awake = [found for name, found in able if not is_on(self.cool.get(name, 0), at, 180 * SECOND_US)]
        if awake:
            return awake[0]
        return min(able, key=lambda pair: self.cool[pair[0]])[1] if able else None

    def of(self, provider: str, now: int, at: int) -> tuple[Plain, list[tuple[Plain, int]]] | None:
        usable = [self.credentials[id_] for id_ in PROVIDERS[provider] if self.credentials[id_].usable(now)]
        if not usable:
            return None
        tier = min(each.priority for each in usable)
        among = [
            (each, each.weight if is_on(each.slow_until, at, DAY_US) else each.weight * 10)
            for each in usable
            if each.priority == tier
        ]
        held = levelled([each.current for each, _ in among], sum(weight for _, weight in among))
        paired = zip(among, held, strict=True)
        return max(paired, key=lambda pair: pair[1] + pair[0][1])[0][0], among

    def report(self, id_: str, said: str, at: int) -> str:
        lease = self.leases.get(id_)
        if lease is None:
            return "not_found"
        if lease["said"] is not None:
            return "duplicate" if lease["said"] == said else "already_reported"
        lease["said"], now = said, at
        credential = self.credentials[lease["credential"]]
        if said == "not_sent":
            for text in lease["periods"].values():
                if lease["number"] > credential.floors.get(text, 0):
                    credential.used[text] -= 1
        self.judge(credential, said, now, heard=lease["number"] > credential.cleared)
        if said in {"rate_limited", "server", "timeout"}:
            failures = self.failures[credential.provider] = self.failures.get(credential.provider, 0) + 1
            until = now + (180 if failures >= 3 else 90) * SECOND_US
            before = self.cool.get(credential.provider, 0)
            longer = is_on(before, now, 180 * SECOND_US)
            self.cool[credential.provider] = max(until, before) if longer else until
        elif said == "success":
            self.failures[credential.provider] = self.cool[credential.provider] = 0
        return "accepted"

    def judge(self, credential: Plain, said: str, now: int, *, heard: bool) -> None:
        if heard and said == "rate_limited":
            until, before = now + 180 * SECOND_US, credential.slow_until
            credential.slow_until = max(until, before) if is_on(before, now, DAY_US) else until
        if not heard or not credential.enabled:
            return
        if said == "success":
            credential.errors = credential.looks = 0
        if said in {"auth", "payment", "server", "timeout"}:
            credential.errors += 1
            if said in {"auth", "payment"} or credential.errors >= 5:
                credential.looks = max(credential.looks, 12) if said == "payment" else credential.looks
                credential.enabled, credential.recheck = False, now + wait_s(credential.looks) * SECOND_US

    def reset(self, id_: str, counters: str, at: int, *, reactivate: bool) -> str:
        credential, now = self.credentials[id_], max(at, self.last)
        for kind, text in credential.periods(now).items():
            if counters in {"all", {"day": "daily", "month": "monthly"}[kind]}:
                credential.used[text], credential.floors[text] = 0, self.made
        if counters in {"all", "error"}:
            credential.errors = credential.slow_until = 0
            credential.cleared = self.made
        if reactivate and not credential.enabled:
            self.cure(credential)
        return "accepted"

    def cure(self, credential: Plain) -> None:
        credential.enabled, credential.recheck, credential.errors, credential.looks = True, None, 0, 0
        credential.cleared = self.made

    def recheck(self, at: int, *, works: bool) -> list[str]:
        """All that are due are looked at, with one finding."""
        now = at
        due = [
            each
            for each in self.credentials.values()
            if each.recheck is not None and (each.recheck <= now or each.recheck > now + 10_800 * SECOND_US)
        ]
        due.sort(key=lambda each: (each.recheck, each.id))
        for each in due:
            if works:
                looks = each.looks
                self.cure(each)
                each.looks = looks + 1
            else:
                each.looks += 1
                each.recheck = now + wait_s(each.looks) * SECOND_US
        return [each.id for each in due]

    def prune(self, at: int) -> None:
        floor = max(at, self.last) - 35 * DAY_US
        self.leases = {id_: lease for id_, lease in self.leases.items() if lease["at"] >= floor}


BACK = 12  # reports are about one of the latest leases
counters = st.sampled_from(["all", "daily", "monthly", "error"])
WANTED = ("p", "p", "q", "mini", "mini")
lends = st.tuples(st.just("lend"), st.just(0), st.sampled_from(WANTED))
steps = st.one_of(
    lends,
    lends,
    st.tuples(st.just("lend"), st.integers(1, BACK), st.sampled_from(WANTED)),
    st.tuples(st.just("report"), st.integers(1, BACK), st.sampled_from(OUTCOMES)),
    st.tuples(st.just("report"), st.integers(1, BACK), st.sampled_from(OUTCOMES)),
    st.tuples(st.just("reset"), st.sampled_from("abcde"), counters, st.booleans()),
    st.tuples(st.just("edit"), st.sampled_from("abcde"), st.integers(0, 9)),
    st.tuples(st.just("recheck"), st.booleans()),
    st.tuples(st.just("prune")),
)
waits = st.sampled_from((0, 0, 1, SECOND_US, 7 * SECOND_US, 3 * MINUTE_US, 5 * HOUR_US, DAY_US, 9 * DAY_US, -HOUR_US))
groups = st.lists(st.tuples(waits, st.lists(steps, min_size=1, max_size=8)), max_size=12)


WAITS = (0, 0, 0, 0, 1, SECOND_US, SECOND_US, 7 * SECOND_US, 3 * MINUTE_US, 5 * HOUR_US, DAY_US, -HOUR_US)


def random_groups(seed: int, count: int) -> list[tuple[int, list[Step]]]:
    """Longer histories than a strategy makes; the seed is all."""
    dice = Random(seed)
    return [(dice.choice(WAITS), [random_step(dice) for _ in range(dice.randrange(1, 12))]) for _ in range(count)]


def random_step(dice: Random) -> Step:
    match dice.randrange(40):
        case 0:
            return "reset", dice.choice("abcde"), dice.choice(("all", "daily", "monthly", "error")), dice.random() < 0.5
        case 1 | 2:
            return "edit", dice.choice("abcde"), dice.randrange(40)
        case 3:
            return ("prune",)
        case 4 | 5:
            return "recheck", dice.random() < 0.7
        case 6:
            return "lend", dice.randrange(1, BACK), dice.choice(WANTED)
        case n if n < 22:
            said = dice.choice((*OUTCOMES, "success", "server", "server", "not_sent", "not_sent"))
            return "report", dice.randrange(1, BACK), said
        case _:
            return "lend", 0, dice.choice(WANTED)


class Run:
    """A ledger and the model, side by side."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.model = Model({})
        self.now = NOON_US
        self.made = 0
        for provider, names in PROVIDERS.items():
            set_up(writer, *(a_credential(id_, provider=provider, **FIELDS[id_]) for id_ in names), provider=provider)
            assert (
                kind_of(writer.write([create_model(f"m-{provider}", provider=provider, model="mini")])[0]) == "accepted"
            )
            for id_ in names:
                made = dict(FIELDS[id_])
                limits = {"day": made.pop("daily_limit", None), "month": made.pop("monthly_limit", None)}
                self.model.credentials[id_] = Plain(id_, provider, limits=limits, **made)

    def group(self, wait: int, taken: Sequence[Step]) -> None:
        """Commands of a group go together; those between which the model must look go alone."""
        self.now = max(NOON_US, self.now + wait)
        commands: list[Command] = []
        expected: list[str] = []
        for step in taken:
            if step[0] == "recheck":
                self.flush(commands, expected)
                self.recheck(works=step[1])
            else:
                named = self.named(step)
                commands.append(self.command(named))
                expected.append(self.expect(named))
        self.flush(commands, expected)

    def named(self, step: Step) -> Step:
        """With the id of a new lease, or of one some leases back."""
        if step[0] not in {"lend", "report"}:
            return step
        verb, back, more = step
        self.made += back == 0
        return verb, f"l{self.made - max(0, back - 1)}", more

    def flush(self, commands: list[Command], expected: list[str]) -> None:
        with captured() as states:
            found = [told(each) for each in self.writer.write(commands)] if commands else []
        assert found == expected
        check_tables(self.writer.path, states)
        self.check_usage()
        commands.clear()
        expected.clear()

    def command(self, step: Step) -> Command:
        match step:
            case ("lend", id_, "mini"):
                return lend(id_, at_us=self.now, model="mini")
            case ("lend", id_, provider):
                return lend(id_, at_us=self.now, provider=provider)
            case ("report", id_, said):
                return report(id_, said, at_us=self.now)
            case ("reset", id_, counters, reactivate):
                return reset(id_, counters, at_us=self.now, reactivate=reactivate)
            case ("edit", id_, weight):
                plain = self.model.credentials[id_]
                fields: dict[str, Any] = {**FIELDS[id_], "weight": weight}
                if not plain.enabled:
                    fields |= {"enabled": False, "disabled_reason": "auth"}
                return an_edit(id_, provider=plain.provider, **fields)
            case _:
                return prune(self.now, 1_000)

    def expect(self, step: Step) -> str:
        match step:
            case ("lend", id_, wanted):
                return self.model.lend(id_, wanted, self.now)
            case ("report", id_, said):
                return self.model.report(id_, said, self.now)
            case ("reset", id_, counters, reactivate):
                return self.model.reset(id_, counters, self.now, reactivate=reactivate)
            case ("edit", id_, weight):
                self.model.credentials[id_].weight = weight
            case _:
                self.model.prune(self.now)
        return "accepted"

    def recheck(self, *, works: bool) -> None:
        [outcome] = self.writer.write([claim(self.now)])
        assert isinstance(outcome, Appended)
        assert isinstance(outcome.report, Claimed)
        found = outcome.report.claims
        assert [each.line.content.id for each in found] == self.model.recheck(self.now, works=works)
        self.writer.write([looked(each.line.content.id, each.until_us, works=works, at_us=self.now) for each in found])

    def check_usage(self) -> None:
        with reading(self.writer.path) as db:
            rows = select(db, "SELECT credential, period, used FROM credential_usage WHERE used > 0")
            currents = select(db, "SELECT credential, current, errors, recheck_at_us FROM credential_rotation")
        used = {(each.id, text): n for each in self.model.credentials.values() for text, n in each.used.items() if n}
        assert {(id_, text): n for id_, text, n in rows} == used
        for id_, current, errors, recheck in currents:
            plain = self.model.credentials[id_]
            assert (plain.current, plain.errors, plain.recheck) == (current, errors, recheck)
        for names in PROVIDERS.values():
            assert sum(self.model.credentials[id_].current for id_ in names) == 0


def told(outcome: Outcome) -> str:
    if isinstance(outcome, Appended) and isinstance(outcome.report, Lent):
        credential = lent(outcome).lease.credential
        return f"again {credential}" if outcome.duplicate else credential
    return kind_of(outcome)


class captured:  # noqa: N801 - used as a function
    """The working sets that groups wrote meanwhile."""

    def __enter__(self) -> list[State]:
        self.patch = pytest.MonkeyPatch()
        found: list[State] = []
        original = State.write

        def write(state: State, db: apsw.Connection) -> None:
            original(state, db)
            found.append(state)

        self.patch.setattr(State, "write", write)
        return found

    def __exit__(self, *_: object) -> None:
        self.patch.undo()


def check_tables(path: Path, states: Sequence[State]) -> None:
    """After a group the working set equals the tables, for every row that it knows or knows not to be there."""
    if not states:
        return
    with reading(path) as db:
        for table in state_tables():
            stored: dict[Any, Struct] = {
                row[: table.key_width]: table.row(*row) for row in select(db, f"SELECT * FROM {table.name}")
            }
            for key, row in states[-1].rows(table).items():
                assert (row and astuple(row)) == (astuple(stored[key]) if key in stored else None), (table.name, key)


def check(history: Sequence[tuple[int, Sequence[Step]]]) -> None:
    with TemporaryDirectory() as directory, open_book(Path(directory)) as writer:
        run = Run(writer)
        for wait, taken in history:
            run.group(wait, taken)
        with reading(writer.path) as db:
            faults = Faults()
            check_leases(db, faults, [])
            assert faults.found == []


@examples(60)
@given(groups)
def test_leases_reports_and_resets_are_as_the_model_has_them(history: list[tuple[int, list[Step]]]) -> None:
    check(history)


@pytest.mark.parametrize("seed", range(6))
def test_a_long_history_is_as_the_model_has_it(seed: int) -> None:
    check(random_groups(seed, 100))


@pytest.mark.torture
@examples(TORTURE_EXAMPLES)
@given(groups)
def test_long_histories_are_as_the_model_has_them(history: list[tuple[int, list[Step]]]) -> None:
    check(history)
