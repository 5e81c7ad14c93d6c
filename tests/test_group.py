"""A group decides what its commands would decide one by one: the same entries, byte for byte."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.accounts import create_account, credit, hold, release, settle
from tests.budgets import create_budget
from tests.changes import a_rate
from tests.histories import DAY_US, HOUR_US, NOON_US, call, finish, kind_of, open_book, reading, select, start
from tests.strategies import examples

TODAY_US = NOON_US + DAY_US
Commands = Callable[[], Sequence[Any]]


def _written(commands: Commands, *, together: bool) -> tuple[list[object], list[tuple[str, str]]]:
    """Outcomes, and types and entries, of commands on accounts of an app, of ann and of bob, with budgets of ann."""
    with TemporaryDirectory() as directory, open_book(Path(directory)) as writer:
        accounts = [create_account("app"), create_account("ann", "user", "ann"), create_account("bob", "user", "bob")]
        given_ = [credit("50", id_, id_, free=False) for id_ in ("app", "ann", "bob")]
        budgets = [
            create_budget("10", "soft", "user", "ann", thresholds=[50, 100]),
            create_budget("30", "hard", "user", "ann", enforcement="hard"),
        ]
        begun = writer.write([a_rate("gpt-4o", "1", model="gpt-4o"), *accounts, *given_, *budgets])
        assert {type(outcome).__name__ for outcome in begun} == {"Appended"}
        groups = writer.stats.groups
        wanted = commands()
        parts = [wanted] if together else [[one] for one in wanted]
        outcomes = [each for part in parts for each in writer.write(part)]
        assert writer.stats.groups == groups + len(parts)  # none failed and was tried command by command
        with reading(writer.path) as db:
            entries = select(db, "SELECT type, entry FROM events ORDER BY position")
        return [kind_of(outcome) for outcome in outcomes], entries[len(begun) :]


def _used(tokens: int) -> dict[str, int]:
    return {"input_tokens": tokens, "output_tokens": 0}


def _begun(id_: str = "c-1", **fields: Any) -> Any:  # noqa: ANN401 - a command
    return start(id_, at_us=TODAY_US, timeout_us=HOUR_US, **fields)


def _ended(id_: str = "c-1", tokens: int = 6, **fields: Any) -> Any:  # noqa: ANN401 - a command
    return finish(id_, at_us=TODAY_US, usage=_used(tokens), **fields)


@pytest.mark.parametrize(
    ("commands", "told"),
    [
        (lambda: [_begun(user_id="ann"), _ended()], {"budget.crossed.v1"}),
        (lambda: [_begun(account="ann"), _ended()], set[str]()),
        (lambda: [_begun(), _ended(user_id="ann")], {"budget.crossed.v1"}),
        (lambda: [_begun(user_id="bob", started_us=NOON_US), _ended(user_id="ann")], {"budget.crossed.v1"}),
        (lambda: [_begun(user_id="ann", started_us=NOON_US, hold={"amount": "8"}), _ended()], {"budget.crossed.v1"}),
        (lambda: [_begun(user_id="bob", hold={"amount": "8"}), _ended(user_id="ann")], {"budget.crossed.v1"}),
        (lambda: [_begun(user_id="ann"), _begun(user_id="bob"), _ended()], {"budget.crossed.v1"}),
    ],
)
def test_a_call_may_end_in_the_group_that_it_begins_in(commands: Commands, told: set[str]) -> None:
    together, apart = _written(commands, together=True), _written(commands, together=False)
    assert together == apart
    types = {type_ for type_, _ in together[1]}
    assert "model_call.completed.v2" in types
    assert types & {"budget.crossed.v1"} == told
    assert any('"charge":{"account":"' in entry for type_, entry in together[1] if type_ == "model_call.completed.v2")


@pytest.mark.parametrize("others", [[], [lambda: hold("1", "h-1", "ann", at_us=TODAY_US)]], ids=["alone", "beside"])
def test_a_users_budget_covers_what_a_start_holds(others: Sequence[Callable[[], Any]]) -> None:
    """Whoever else is in its group."""

    def commands() -> list[Any]:
        return [*(other() for other in others), _begun(account="ann", hold={"amount": "40", "account": "ann"})]

    outcomes, entries = _written(commands, together=True)
    assert (outcomes, entries) == _written(commands, together=False)
    assert [type_ for type_, _ in entries][-2:] == ["hold.declined.v1", "model_call.declined.v1"]


_ids = st.sampled_from(["c-1", "c-2", "c-3"])
_users = st.sampled_from([None, "ann", "bob", "eve"])
_tokens = st.integers(0, 40)
_holds = st.none() | st.tuples(_tokens.map(str), st.none() | st.sampled_from(["app", "ann"]))
_steps = st.one_of(
    st.tuples(st.just("start"), _ids, _users, _users, _holds, st.sampled_from([NOON_US, TODAY_US])),
    st.tuples(st.just("finish"), _ids, _tokens, _users),
    st.tuples(st.just("finish"), _ids, _tokens, _users),
    st.tuples(st.just("call"), _ids, _tokens, _users),
    st.tuples(st.just("place"), _ids, _tokens, st.none() | _ids),
    st.tuples(st.just("settle"), _ids, _tokens),
    st.tuples(st.just("release"), _ids),
    st.tuples(st.just("credit"), _ids, _tokens),
)


def _command(kind: str, id_: str, *rest: Any) -> Any:  # noqa: ANN401 - a command of a kind
    match kind, rest:
        case "start", (user, account, held, at_us):
            wanted = None if held is None else {"amount": held[0], "account": held[1]}
            return _begun(id_, user_id=user, account=account, hold=wanted, started_us=at_us)
        case "finish", (tokens, user):
            return _ended(id_, tokens, user_id=user)
        case "call", (tokens, user):
            return call(id_, at_us=TODAY_US, user_id=user, usage=_used(tokens))
        case "place", (amount, call_id):
            return hold(f"{amount}.5", id_, "ann", at_us=TODAY_US, call_id=call_id)
        case "settle", (amount,):
            return settle(str(amount), id_, at_us=TODAY_US)
        case "credit", (amount,):
            return credit(f"{amount}.5", id_, "ann", at_us=TODAY_US)
        case _:
            return release(id_, at_us=TODAY_US)


@examples(60)
@given(steps=st.lists(_steps, min_size=2, max_size=8))
def test_any_group_decides_as_its_commands_do_one_by_one(steps: Sequence[Any]) -> None:
    def commands() -> list[Any]:
        return [_command(*step) for step in steps]

    assert _written(commands, together=True) == _written(commands, together=False)
