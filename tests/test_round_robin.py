"""Smooth weighted round robin over plain candidates."""

from collections import Counter
from collections.abc import Mapping
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.round_robin import Candidate, effective, levelled, pick
from tests.strategies import examples

Weights = Mapping[str, int]


def picks(count: int, weights: Weights, currents: dict[str, int], priorities: Weights | None = None) -> str:
    """The ids taken in turn; `currents` goes on from where it is."""
    tiers = priorities or {}
    taken = ""
    for _ in range(count):
        found = pick([Candidate(id_, w, currents.get(id_, 0), tiers.get(id_, 0)) for id_, w in weights.items()])
        assert found is not None
        currents.update(found.currents)
        taken += found.id
    return taken


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 5, "b": 1, "c": 1}, "aabacaa" * 3),
        ({"a": 100, "b": 50, "c": 50}, "abca" * 5),
        ({"a": 100, "b": 10}, "aaaaabaaaaaaaaaabaaaaa"),
        ({"a": 1}, "aaa"),
        ({"a": 1, "b": 1, "c": 1}, "abcabc"),
    ],
)
def test_vectors(weights: Weights, expected: str) -> None:
    assert picks(len(expected), weights, {}) == expected


def test_nobody_is_taken_from_nobody() -> None:
    assert pick([]) is None


@examples(200)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_every_cycle_is_exact(weights: list[int]) -> None:
    """Each is taken weight/gcd times a cycle, and after each cycle everything is as before."""
    named = {chr(97 + n): weight for n, weight in enumerate(weights)}
    cycle, currents = sum(weights) // gcd(*weights), dict[str, int]()
    for _ in range(2):
        taken = Counter(picks(cycle, named, currents))
        assert taken == {id_: weight // gcd(*weights) for id_, weight in named.items()}
        assert set(currents.values()) == {0}


def test_a_weight_that_is_edited_leaves_the_others_where_they_were() -> None:
    """b, about to be taken, is taken next whatever becomes of c; what all hold together stays nothing."""
    currents: dict[str, int] = {}
    assert picks(2, {"a": 5, "b": 1, "c": 1}, currents) == "aa"
    before = dict(currents)
    assert picks(0, {"a": 5, "b": 1, "c": 50}, currents) == ""
    assert currents == before
    picks(9, {"a": 5, "b": 1, "c": 50}, currents)
    assert sum(currents.values()) == 0


def test_one_that_is_skipped_keeps_what_it_has() -> None:
    currents: dict[str, int] = {}
    assert picks(3, {"a": 5, "b": 1, "c": 1}, currents) == "aab"
    held = currents["b"]
    picks(10, {"a": 5, "c": 1}, currents)
    assert currents["b"] == held


def test_the_lowest_priority_number_goes_first() -> None:
    """Those of other tiers neither gain nor pay."""
    currents: dict[str, int] = {}
    weights = {"x": 1000, "a": 2, "b": 1}
    assert picks(3, weights, currents, {"x": 1}) == "aba"
    assert "x" not in currents
    assert picks(2, {"x": 1000}, currents, {"x": 1}) == "xx"


@examples(300)
@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=12), st.integers(0, 300), st.integers(1, 100))
def test_after_any_edit_nobody_of_equal_weight_waits_long(weights: list[int], before: int, edited: int) -> None:
    """Whatever was saved up under other weights: each has its turn within two cycles; nothing is lost or made."""
    named = {chr(97 + n): weight for n, weight in enumerate(weights)}
    currents: dict[str, int] = {}
    picks(before, named, currents)
    taken = picks(2 * len(weights), dict.fromkeys(named, edited), currents)
    assert set(taken) == set(named)
    assert sum(currents.values()) == 0


@examples(300)
@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=30), st.integers(1, 300))
def test_without_edits_nobody_is_let_off(weights: list[int], count: int) -> None:
    named, currents = {str(n): weight for n, weight in enumerate(weights)}, dict[str, int]()
    for _ in range(count):
        picks(1, named, currents)
        held = list(currents.values())
        assert levelled(held, sum(weights)) == held


@examples(300)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=12), st.integers(1, 10**6))
def test_levelling_keeps_the_sum_and_the_order(currents: list[int], owed_max: int) -> None:
    found, middle = levelled(currents, owed_max), sum(currents) // len(currents)
    assert sum(found) == sum(currents)
    assert min(found) >= middle - owed_max
    assert all(after <= before for before, after in zip(currents, found, strict=True) if before > middle)


@pytest.mark.parametrize("weight", [100, 19, 10, 9, 1])
def test_a_penalty_leaves_a_tenth_of_any_weight(weight: int) -> None:
    assert effective(weight, is_penalised=False) == 10 * effective(weight, is_penalised=True)
