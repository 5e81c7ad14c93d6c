"""Any interleaving of credits, holds, calls and changes, with repeats, gives what a plain book of accounts says."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ledger.decision import Command, groups
from ledger.writer import Outcome
from ops.verify import verify
from projections.account_balance import load, state_at
from projections.account_book import AccountState, Book
from schema.credit import CreditDeclined
from schema.errors import LedgerError
from schema.hold import HoldDeclined
from schema.money import amount_text
from schema.times import format_time
from tests.accounts import (
    change_account,
    create_account,
    credit,
    hold,
    release,
    remembered_as_stored,
    settle,
    sweep_accounts,
)
from tests.changes import a_rate, correction
from tests.histories import APP, NOON_US, SECOND_US, call, open_book, reading, select
from tests.plain_accounts import CREDIT, PlainAccounts

STEPS = int(os.environ.get("TORTURE_STEPS", "5000"))
OWNERS = {"app": "app", "ann": "user:ann", "bob": "user:bob"}
MODELS = {"gpt-4o": CREDIT, "mini": CREDIT // 10}  # a token's price
Step = tuple[Any, ...]

_amounts = st.integers(1, 60).map(lambda n: n * CREDIT // 4)
_ids = st.integers(0, 12).map(str)
_accounts = st.sampled_from(list(OWNERS))
_models = st.sampled_from(list(MODELS))
_users = st.sampled_from([None, "ann", "bob", "eve"])
_kinds = st.sampled_from(["recharge", "refund", "gift_signin"])
_steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("credit"), _accounts, _ids, _kinds, _amounts),
    st.tuples(
        st.just("grant"), _accounts, _ids, _amounts, st.sampled_from([None, 30, 300]),
        st.sampled_from([None, None, "gpt-4o"]), st.integers(0, 2),
    ),
    st.tuples(st.just("adjust"), _accounts, _ids, _amounts),
    st.tuples(
        st.just("place"), _accounts, _ids, _amounts, st.sampled_from([10, 100]), st.none() | _ids, st.none() | _models
    ),
    st.tuples(st.just("settle"), _ids, st.integers(0, 60).map(lambda n: n * CREDIT // 4)),
    st.tuples(st.just("release"), _ids),
    st.tuples(st.just("call"), _ids, st.none() | _accounts, _users, _models, st.integers(0, 40)),
    st.tuples(st.just("call"), _ids, st.none() | _accounts, _users, _models, st.integers(0, 40)),
    st.tuples(st.just("void"), _ids),
    st.tuples(st.just("correct"), _ids, st.integers(0, 40), _users),
    st.tuples(st.just("policy"), _accounts, st.sampled_from(["never", "unheld"])),
    st.tuples(st.just("sweep")),
)  # fmt: skip


class Interleaving(RuleBasedStateMachine):
    """Groups of commands on a ledger, and the same told plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.held = ExitStack()
        directory = self.held.enter_context(TemporaryDirectory())
        self.writer = self.held.enter_context(open_book(Path(directory)))
        self.plain = PlainAccounts(OWNERS)
        self.now = NOON_US
        self.changes = 0
        self.ever_overdrawn: set[str] = set()  # accounts that were allowed to be
        self.stood: dict[int, dict[str, dict[str, int]]] = {}  # by position

    @initialize()
    def begin(self) -> None:
        made = [
            create_account("app"),
            create_account("ann", "user", "ann"),
            create_account("bob", "user", "bob", app=APP),
        ]
        rates = [a_rate(model, amount_text(price), model=model) for model, price in MODELS.items()]
        outcomes = self.writer.write([*made, *rates])
        assert [outcome for outcome in outcomes if isinstance(outcome, LedgerError)] == []

    @rule(steps=st.lists(_steps, min_size=1, max_size=8), passes=st.sampled_from([0, 0, 1, 20, 200]))
    def write(self, steps: Sequence[Step], passes: int) -> None:
        """One group: each command sees those before it."""
        self.now += passes * SECOND_US
        pairs = [getattr(self, f"do_{name}")(*rest) for name, *rest in steps]
        expected = [told for _, told in pairs]
        commands = [command for command, _ in pairs]
        written = self.writer.stats.groups + len(groups(commands))
        outcomes = self.writer.write(commands)
        assert self.writer.stats.groups == written  # a group that fails is tried command by command, which hides why
        fates, told = [_fate(outcome) for outcome in outcomes], [each() for each in expected]
        assert fates == told, [*zip(steps, fates, told, strict=True)]
        remembered_as_stored(self.writer)

    def do_credit(self, account: str, id_: str, kind: str, amount: int) -> tuple[Command, Any]:
        command = credit(amount_text(amount), id_, account, kind=kind, free=False, at_us=self.now)
        return command, lambda: self.plain.credit(self.now, account, id_, (kind, amount, False, None, None, 0))

    def do_grant(
        self, account: str, id_: str, amount: int, seconds: int | None, model: str | None, priority: int
    ) -> tuple[Command, Any]:
        ends = None if seconds is None else (self.now // SECOND_US // 100 * 100 + seconds) * SECOND_US
        command = credit(
            amount_text(amount), id_, account, kind="gift_register", at_us=self.now, priority=priority,
            expires_at=None if ends is None else format_time(ends), scope=None if model is None else {"model": model},
        )  # fmt: skip
        content = ("gift_register", amount, True, ends, model, priority)
        return command, lambda: self.plain.credit(self.now, account, id_, content)

    def do_adjust(self, account: str, id_: str, amount: int) -> tuple[Command, Any]:
        command = credit(amount_text(-amount), id_, account, kind="adjustment", reason="wrong", at_us=self.now)
        return command, lambda: self.plain.credit(self.now, account, id_, ("adjustment", -amount, False, None, None, 0))

    def do_place(
        self, account: str, id_: str, amount: int, seconds: int, call_id: str | None, model: str | None
    ) -> tuple[Command, Any]:
        command = hold(
            amount_text(amount), id_, account, at_us=self.now, expires_in_s=seconds, call_id=call_id, model=model
        )
        return command, lambda: self.plain.place(self.now, account, id_, (amount, seconds, call_id, model))

    def do_settle(self, id_: str, amount: int) -> tuple[Command, Any]:
        return settle(amount_text(amount), id_, at_us=self.now), lambda: self.plain.settle(self.now, id_, amount)

    def do_release(self, id_: str) -> tuple[Command, Any]:
        return release(id_, at_us=self.now), lambda: self.plain.release(self.now, id_)

    def do_call(self, id_: str, account: str | None, user: str | None, model: str, tokens: int) -> tuple[Command, Any]:
        command = call(
            id_, at_us=self.now, started_us=NOON_US, account=account, user_id=user, model=model,
            usage={"input_tokens": tokens, "output_tokens": 0},
        )  # fmt: skip
        content = (account, user, model, tokens, tokens * MODELS[model])
        return command, lambda: self.plain.call(self.now, id_, content)

    def do_void(self, id_: str) -> tuple[Command, Any]:
        return _at(correction(id_, "void", void=True), self.now), lambda: self.plain.void(self.now, id_)

    def do_correct(self, id_: str, tokens: int, user: str | None) -> tuple[Command, Any]:
        self.changes += 1
        command = correction(
            id_, f"fix-{self.changes}", usage={"input_tokens": tokens, "output_tokens": 0}, user_id=user
        )
        known = self.plain.calls

        def told() -> str:
            price = MODELS[known[id_].content[2]] if id_ in known else 0
            return self.plain.correct(self.now, id_, tokens, tokens * price, user)

        return _at(command, self.now), told

    def do_policy(self, account: str, overdraft: str) -> tuple[Command, Any]:
        def told() -> str:
            found = self.plain.accounts[account]
            same = found.overdraft == overdraft
            found.overdraft = overdraft
            if overdraft == "unheld":
                self.ever_overdrawn.add(account)
            return "duplicate" if same else "accepted"

        return change_account(account, at_us=self.now, overdraft=overdraft), told

    def do_sweep(self) -> tuple[Command, Any]:
        def told() -> str:
            for account in OWNERS:
                self.plain.due(account, self.now)
            return "swept"

        return sweep_accounts(self.now), told

    @invariant()
    def the_tables_say_the_same(self) -> None:
        with reading(self.writer.path) as db:
            book = Book()
            load(db, book, OWNERS)
            for id_, state in book.accounts.items():
                plain = self.plain.accounts[id_]
                assert _sums(state) == {
                    "balance": plain.balance, "free": plain.free, "held": plain.held, "owed": plain.owed,
                    "spent": plain.spent, "tokens": plain.tokens,
                }  # fmt: skip
                assert sum(state.postings()) == 0
                assert state.overdraft == plain.overdraft
                assert min(state.free_e10, state.held_e10, state.owed_e10, state.spent_e10) >= 0
                assert id_ in self.ever_overdrawn or state.balance_e10 >= state.balance_held_e10 >= 0
            head = int(str(select(db, "SELECT size FROM journal_head")[0][0]))
            self.stood[head] = {id_: _sums(state) for id_, state in book.accounts.items()}
            query = "SELECT account, kind, amount_e10, after_e10, before_e10, sequence FROM account_transactions"
            lines = select(db, f"{query} ORDER BY account, position")
            for id_, plain in self.plain.accounts.items():
                mine = [line for line in lines if line[0] == id_]
                assert [line[1:4] for line in mine] == plain.lines
                assert [line[5] for line in mine] == list(range(1, len(mine) + 1))
                assert all(after == before for (*_, after, _, _), (*_, before, _) in pairwise(mine))
            statuses = dict(select(db, "SELECT id, status FROM holds"))
            assert statuses == {id_: each.status for id_, each in self.plain.holds.items()}

    def statements_say_the_same_ever_after(self) -> None:
        """As of each position they are what they were when that was the last one."""
        with reading(self.writer.path) as db:
            for position, sums in self.stood.items():
                lines = {id_: state_at(db, id_, position) for id_ in sums}
                assert {id_: None if line is None else _sums(line) for id_, line in lines.items()} == sums

    def teardown(self) -> None:
        self.statements_say_the_same_ever_after()
        self.writer.stop()
        report = verify(self.writer.path)
        assert report.ok, report.faults
        self.held.close()


def _sums(state: AccountState) -> dict[str, int]:
    return {
        "balance": state.balance_e10, "free": state.free_e10, "held": state.held_e10, "owed": state.owed_e10,
        "spent": state.spent_e10, "tokens": state.tokens,
    }  # fmt: skip


def _fate(outcome: Outcome) -> str:
    if isinstance(outcome, LedgerError):
        return outcome.code
    if outcome.recorded is None or (outcome.recorded.actor == "ledger" and not outcome.duplicate):
        return "swept"
    data = outcome.recorded.data
    if isinstance(data, HoldDeclined):
        return "declined again" if outcome.duplicate else "declined"
    if isinstance(data, CreditDeclined) and not outcome.duplicate:
        return "declined"
    return "duplicate" if outcome.duplicate else "accepted"


def _at(command: Any, now_us: int) -> Any:  # noqa: ANN401 - a command
    return msgspec.structs.replace(command, received_at_us=now_us)


def _run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Interleaving,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], phases=[Phase.generate],
        ),
    )  # fmt: skip


def test_any_interleaving_agrees_with_a_plain_book() -> None:
    """A few thousand commands in groups."""
    _run(25, 30)


@pytest.mark.torture
def test_any_interleaving_agrees_for_long() -> None:
    """TORTURE_STEPS groups of up to eight commands, each compared."""
    _run(max(1, STEPS // 50), 50)
