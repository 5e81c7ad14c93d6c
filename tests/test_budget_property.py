"""Any history of calls, holds, changes and budgets gives what is added up plainly; how it was grouped never shows."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from ledger import rebuild
from ledger.database import open_writer
from ledger.decision import Command
from ledger.writer import Outcome, Writer
from ops.verify import verify
from projections.engine import Engine, registry
from schema.errors import LedgerError
from schema.hold import HoldDeclined
from schema.model_call import ModelCallStartDeclined
from schema.money import amount_e10, amount_text
from schema.times import parse_time
from tests.accounts import create_account, credit, hold, release, settle, sweep_accounts
from tests.budgets import change_budget, create_budget, read_budget, retire_budget
from tests.changes import a_rate, advance, correction, rerate
from tests.histories import APP, DAY_US, HOUR_US, MINUTE_US, SECOND_US, call, finish, open_book, reading, select, start
from tests.plain_budgets import PlainBudget, PlainBudgets, PlainCall, PlainHold

CREDIT = 10**10
BEGIN_US = parse_time("2026-10-31T20:00:00Z")  # a month ends soon, and summer time in New York
SCOPES = [("app", APP), ("account", "app"), ("account", "ann"), ("user", "ann"), ("model", "mini"), ("tag", "search")]
PERIODS = [("day", "America/New_York", 0), ("month", "Asia/Tokyo", 0), ("rolling", "UTC", 1), ("rolling", "UTC", 26)]
ACCOUNTS = {"app": 5_000, "ann": 300}  # what each begins with
LOW = {"app": 4_800, "ann": 150}
COMMANDS = 120

Told = Callable[[], str]
Step = tuple[Command, Told]


class History:
    """Random commands, with what each must answer."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.plain = PlainBudgets()
        self.prices = {"gpt-4o": CREDIT // 4, "mini": CREDIT // 20}
        self.totals = {account: amount * CREDIT for account, amount in ACCOUNTS.items()}
        self.low = dict.fromkeys(ACCOUNTS, False)
        self.alerts: list[tuple[str, str, int]] = []
        self.now = BEGIN_US
        self.made = 0

    def step(self) -> Step:
        self.now += self.dice.choice([0, 0, SECOND_US, 7 * MINUTE_US, 50 * MINUTE_US, 5 * HOUR_US])
        self.made += 1
        kinds = (
            ["call"] * 5
            + ["hold"] * 3
            + ["release", "settle", "settle", "begin", "begin", "end", "end", "correct", "correct", "void"]
        )
        kinds += ["budget", "budget", "budget", "change", "retire", "price", "rerate", "sweep", "credit"]
        command, told = getattr(self, f"do_{self.dice.choice(kinds)}")(f"x-{self.made}", self.now)
        now = self.now

        def answered() -> str:
            self.plain.begin()
            fate = told()
            self.plain.end(now)
            self.watch()
            return fate

        return command, answered

    def watch(self) -> None:
        """Each account's balance against its threshold."""
        for account, total in self.totals.items():
            low = total <= LOW[account] * CREDIT
            if low != self.low[account]:
                self.low[account] = low
                self.alerts.append((account, "low" if low else "recovered", total))

    def what(self) -> tuple[str | None, str, str | None]:
        dice = self.dice
        return dice.choice([None, "ann", "bob"]), dice.choice(["gpt-4o", "mini"]), dice.choice([None, "search", "chat"])

    def payer(self, user: str | None) -> str:
        return "ann" if user == "ann" else "app"

    def do_call(self, id_: str, now: int) -> Step:
        user, model, tag = self.what()
        at = now + self.dice.choice([0, 0, 0, -HOUR_US, -5 * HOUR_US, -26 * HOUR_US, 3 * HOUR_US, -50 * DAY_US])
        tokens = self.dice.randint(0, 40)
        command = call(
            id_, at_us=now, started_us=at, user_id=user, model=model, metadata=_metadata(tag),
            usage={"input_tokens": tokens, "output_tokens": 0},
        )  # fmt: skip

        def told() -> str:
            cost = tokens * self.prices[model]
            self.plain.calls[id_] = PlainCall(user, model, tag, self.payer(user), at, tokens, cost, charged=cost)
            self.totals[self.payer(user)] -= cost
            return "accepted"

        return command, told

    def do_hold(self, id_: str, now: int) -> Step:
        user, model, tag = self.what()
        account, amount = self.dice.choice(list(ACCOUNTS)), self.dice.randint(1, 20) * CREDIT // 2
        seconds = self.dice.choice([10, 3_000, 40_000])
        command = hold(
            amount_text(amount), id_, account, at_us=now, expires_in_s=seconds, user_id=user, model=model,
            tags=None if tag is None else {"feature": tag},
        )  # fmt: skip
        by = user or ("ann" if account == "ann" else None)
        return command, lambda: self.held(
            id_, PlainHold(by, model, tag, account, amount, now + seconds * SECOND_US), now
        )

    def held(self, id_: str, hold: PlainHold, now: int) -> str:
        mine = [h.amount for h in self.plain.holds.values() if h.account == hold.account and h.open and h.ends > now]
        if hold.amount > self.totals[hold.account] - sum(mine):
            return "credit is missing"
        lacks = self.plain.lacks(hold, now)
        if lacks:
            return f"{amount_text(lacks)} is missing"
        hold.budgets = [id_ for id_, budget in self.plain.live().items() if budget.covers(hold)]
        self.plain.holds[id_] = hold
        return "accepted"

    def do_release(self, _: str, now: int) -> Step:
        ids = [id_ for id_, each in self.plain.holds.items() if each.open and each.ends > now and id_[0] == "x"]
        if not ids:
            return self.do_sweep("", now)
        id_ = self.dice.choice(ids)

        def told() -> str:
            found = self.plain.holds[id_]
            if found.fate == "settled":
                return "hold_closed"
            if not found.open:
                return "duplicate"
            found.open, found.fate = False, "released"
            return "accepted"

        return release(id_, at_us=now), told

    def do_settle(self, _: str, now: int) -> Step:
        """By hand: in time or late, before the hold's call or after it."""
        if not self.plain.holds:
            return self.do_sweep("", now)
        id_, amount = self.dice.choice(list(self.plain.holds)), self.dice.randint(0, 20) * CREDIT // 2

        def told() -> str:
            found = self.plain.holds[id_]
            if found.fate == "settled":
                return "duplicate" if found.settled == amount else "hold_closed"
            if found.fate == "released" or id_ in self.finished():  # its call came late, and was charged itself
                return "hold_closed"
            found.open, found.fate, found.settled, found.by_hand_at = False, "settled", amount, now
            self.totals[found.account] -= amount
            return "accepted"

        return settle(amount_text(amount), id_, at_us=now), told

    def do_begin(self, id_: str, now: int) -> Step:
        user, model, tag = self.what()
        amount, seconds = self.dice.randint(1, 20) * CREDIT // 2, self.dice.choice([10, 3_000, 40_000])
        command = start(
            f"s{id_}", at_us=now, timeout_us=90 * DAY_US, user_id=user, model=model, metadata=_metadata(tag),
            hold={"amount": amount_text(amount), "expires_in_s": seconds},
        )  # fmt: skip
        wanted = PlainHold(user, model, tag, self.payer(user), amount, now + seconds * SECOND_US)
        if wanted.account == "ann":
            wanted.user = "ann"

        def told() -> str:
            fate = self.held(f"s{id_}", wanted, now)
            if fate == "accepted":
                self.plain.calls[f"s{id_}"] = PlainCall(user, model, tag, self.payer(user), now, -1, 0)
            return fate

        return command, told

    def do_end(self, _: str, now: int) -> Step:
        ids = [id_ for id_, each in self.plain.calls.items() if each.tokens < 0]
        if not ids:
            return self.do_sweep("", now)
        id_, tokens = self.dice.choice(ids), self.dice.randint(0, 40)
        command = finish(id_, at_us=now, usage={"input_tokens": tokens, "output_tokens": 0})

        def told() -> str:
            found = self.plain.calls[id_]
            if found.tokens >= 0:
                return "duplicate" if found.tokens == tokens else "already_finished"
            hold = self.plain.holds[id_]
            found.tokens, found.cost = tokens, tokens * self.prices[found.model]
            if hold.by_hand_at is None:
                found.charged = found.cost
                self.totals[found.account] -= found.cost
                if hold.open and hold.ends > now:
                    hold.fate, hold.settled = "settled", found.cost
                hold.open = False
            else:
                found.charged, hold.by_hand_at = hold.settled, None
            return "accepted"

        return command, told

    def finished(self) -> list[str]:
        return [id_ for id_, each in self.plain.calls.items() if each.tokens >= 0]

    def do_void(self, id_: str, now: int) -> Step:
        ids = self.finished()
        if not ids:
            return self.do_sweep("", now)
        chosen = self.dice.choice(ids)

        def told() -> str:
            found = self.plain.calls[chosen]
            if found.voided:
                return "call_voided"
            found.voided = True
            self.totals[found.account] += found.charged
            return "accepted"

        return replace(correction(chosen, id_, void=True), received_at_us=now), told

    def do_correct(self, id_: str, now: int) -> Step:
        ids = self.finished()
        if not ids:
            return self.do_sweep("", now)
        chosen, tokens = self.dice.choice(ids), self.dice.randint(0, 40)
        user, model, tag = self.what()
        at = now - self.dice.choice([0, HOUR_US, 26 * HOUR_US])
        command = correction(
            chosen, id_, user_id=user, model=model, metadata=_metadata(tag), started_at=_time(at),
            usage={"input_tokens": tokens, "output_tokens": 0},
        )  # fmt: skip

        def told() -> str:
            found = self.plain.calls[chosen]
            if found.voided:
                return "call_voided"
            account, cost = found.account if user == found.user else self.payer(user), tokens * self.prices[model]
            charged = cost if account != found.account else changed(found, cost)
            self.totals[found.account] += found.charged
            self.plain.calls[chosen] = PlainCall(user, model, tag, account, at, tokens, cost, charged=charged)
            self.totals[account] -= charged
            return "accepted"

        return replace(command, received_at_us=now), told

    def do_budget(self, id_: str, now: int) -> Step:
        (kind, scope), (period, zone, hours) = self.dice.choice(SCOPES), self.dice.choice(PERIODS)
        amount, hard = self.dice.randint(1, 40) * CREDIT, self.dice.random() < 0.5
        command = create_budget(
            amount_text(amount), id_, kind, scope, at_us=now, period=period, timezone=zone,
            window_hours=hours or None, enforcement="hard" if hard else "soft",
            scope={"key": "feature"} if kind == "tag" else {},
        )  # fmt: skip

        def told() -> str:
            same = [b for b in self.plain.live().values() if (b.kind, b.scope) == (kind, scope)]
            if len(same) >= 10:
                return "limit_reached"
            budget = PlainBudget(kind, scope, amount, period, zone, hours, hard, 0)
            budget.since = budget.window(now)[0]
            self.plain.budgets[id_] = budget
            self.plain.cross(id_, budget.window(now))
            return "accepted"

        return command, told

    def do_change(self, _: str, now: int) -> Step:
        ids = list(self.plain.live())
        if not ids:
            return self.do_budget(f"x-{self.made}", now)
        id_, amount, hard = self.dice.choice(ids), self.dice.randint(1, 40) * CREDIT, self.dice.random() < 0.5

        def told() -> str:
            budget = self.plain.budgets[id_]
            if budget.retired:
                return "not_found"
            if (budget.amount, budget.hard) == (amount, hard):
                return "duplicate"
            budget.amount, budget.hard = amount, hard
            self.plain.cross(id_, budget.window(now))
            return "accepted"

        enforcement = "hard" if hard else "soft"
        return change_budget(id_, at_us=now, amount=amount_text(amount), enforcement=enforcement), told

    def do_retire(self, _: str, now: int) -> Step:
        ids = list(self.plain.live())
        if not ids:
            return self.do_sweep("", now)
        id_ = self.dice.choice(ids)

        def told() -> str:
            again = self.plain.budgets[id_].retired
            self.plain.budgets[id_].retired = True
            return "duplicate" if again else "accepted"

        return retire_budget(id_, at_us=now), told

    def do_price(self, id_: str, now: int) -> Step:
        model, price = self.dice.choice(list(self.prices)), self.dice.randint(1, 8) * CREDIT // 16

        def told() -> str:
            self.prices[model] = price
            return "accepted"

        return replace(a_rate(id_, amount_text(price), model=model), received_at_us=now), told

    def do_rerate(self, id_: str, now: int) -> Step:
        """All of them, in one batch that is asked for next; a run without its batch changes nothing."""
        self.pending = id_

        def told() -> str:
            return "accepted"

        return replace(rerate(id_, BEGIN_US - 90 * DAY_US, now + 2 * DAY_US), received_at_us=now), told

    def advanced(self, id_: str, now: int) -> Step:
        def told() -> str:
            self.plain.begin()
            for found in self.plain.calls.values():
                if found.tokens >= 0 and not found.voided:
                    cost = found.tokens * self.prices[found.model]
                    charged = changed(found, cost)
                    self.totals[found.account] += found.charged - charged
                    found.cost, found.charged = cost, charged
            self.plain.end(now)
            self.watch()
            return "swept"

        return replace(advance(id_, 100_000), received_at_us=now), told

    def do_sweep(self, _: str, now: int) -> Step:
        return sweep_accounts(now), lambda: "swept"

    def do_credit(self, id_: str, now: int) -> Step:
        account, amount = self.dice.choice(list(ACCOUNTS)), self.dice.randint(1, 60)

        def told() -> str:
            self.totals[account] += amount * CREDIT
            return "accepted"

        return credit(str(amount), id_, account, at_us=now), told


def changed(call: PlainCall, cost: int) -> int:
    """What a call is charged once its cost is another: the difference, but no more is given back than it paid."""
    return max(call.charged + cost - call.cost, 0)


def _metadata(tag: str | None) -> dict[str, Any] | None:
    return None if tag is None else {"feature": tag, "other": 1}


def _time(at_us: int) -> str:
    return str(call(at_us=at_us).call.started_at)


def _fate(outcome: Outcome) -> str:
    if isinstance(outcome, LedgerError):
        return outcome.code
    if outcome.recorded is None or (outcome.recorded.actor == "ledger" and not outcome.duplicate):
        return "swept"
    data = outcome.recorded.data
    if isinstance(data, HoldDeclined | ModelCallStartDeclined):
        return "credit is missing" if data.budget is None else f"{data.missing} is missing"
    return "duplicate" if outcome.duplicate else "accepted"


def _prepare(history: History, writer: Writer) -> list[Command]:
    at = history.now - DAY_US
    commands: list[Command] = [
        create_account("app", at_us=at, overdraft="unheld", low_balance=str(LOW["app"])),
        create_account("ann", "user", "ann", at_us=at, overdraft="unheld", low_balance=str(LOW["ann"])),
        *(credit(str(amount), "first", account, at_us=at) for account, amount in ACCOUNTS.items()),
        *(a_rate(f"r-{model}", amount_text(price), model=model) for model, price in history.prices.items()),
    ]
    commands = [replace(command, received_at_us=at) for command in commands]
    assert [each for each in writer.write(commands) if isinstance(each, LedgerError)] == []
    return commands


def _compare(history: History, writer: Writer) -> None:
    plain, path = history.plain, writer.path
    for id_, budget in plain.live().items():
        view = read_budget(path, id_, history.now)
        assert amount_e10(view.spent) == plain.spent(id_, history.now), (id_, budget)
        assert amount_e10(view.held) == plain.held(id_, history.now), (id_, budget)
    with reading(path) as db:
        entries = [json.loads(entry) for (entry,) in select(db, "SELECT entry FROM events ORDER BY position")]
    crossed = Counter(
        (
            each["data"]["id"],
            each["data"]["threshold"],
            parse_time(each["data"]["period_end"]),
            amount_e10(each["data"]["spent"]),
        )
        for each in entries
        if each["type"] == "budget.crossed.v1"
    )
    assert crossed == plain.crossings
    alerts = [
        (each["data"]["account"], each["type"].split("_")[-1].split(".")[0], amount_e10(each["data"]["after"]))
        for each in entries
        if each["type"].startswith("account.balance_")
    ]
    assert sorted(alerts) == sorted(history.alerts)


@pytest.mark.parametrize("seed", range(12))
def test_any_history_agrees_with_plain_sums(tmp_path: Path, seed: int) -> None:
    """Spent, held, declines, crossings and alerts; then each command by itself on a second ledger: the same entries."""
    history = History(seed)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with open_book(tmp_path / "one") as writer:
        commands = _prepare(history, writer)
        while history.made < COMMANDS:
            steps: list[Step] = []
            for _ in range(history.dice.randint(1, 8)):
                history.pending = ""
                steps.append(history.step())
                if history.pending:
                    steps.append(history.advanced(history.pending, history.now))
                    break
            group = [command for command, _ in steps]
            commands += group
            fates = [_fate(outcome) for outcome in writer.write(group)]
            told = [answer() for _, answer in steps]
            assert fates == told, [*zip(group, fates, told, strict=True)]
            _compare(history, writer)
        report = verify(writer.path)
        assert report.ok, report.faults
        with open_book(tmp_path / "two") as alone:
            for command in commands:
                alone.write([command])
            assert _entries(alone) == _entries(writer)


def test_a_rebuild_in_small_steps_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the live tables, wherever a step ends."""
    monkeypatch.setattr(rebuild, "STEP_EVENTS_MAX", 3)
    history = History(96)
    with open_book(tmp_path) as writer:
        _prepare(history, writer)
        for _ in range(COMMANDS):
            command, told = history.step()
            told()
            writer.write([command])
        db = open_writer(writer.path, "os")
        before = {table: _rows(db, table) for table in TABLES}
        assert all(before.values())
        for name in ("budget_sums", "account_alerts"):
            rebuild.rebuild(db, Engine(db), registry()[name])
        assert {table: _rows(db, table) for table in TABLES} == before
        db.close()


TABLES = ("budget_rules", "budget_sums", "budget_crossings", "budget_holds", "account_alerts")


def _rows(db: apsw.Connection, table: str) -> list[Any]:
    return sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=str)


def _entries(writer: Writer) -> list[Any]:
    with reading(writer.path) as db:
        return select(db, "SELECT entry FROM events ORDER BY position")
