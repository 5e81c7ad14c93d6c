"""What outcomes do, as a table, and how long is waited after them."""

import pytest

from ledger.credential_health import EFFECTS, Effect, cool_down_us, penalty_us, recheck_delay_us
from schema.lease import OUTCOMES, Outcome
from schema.times import DAY_US, SECOND_US


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("success", {"clears"}),
        ("auth", {"disables"}),
        ("payment", {"disables"}),
        ("content", set[str]()),
        ("rate_limited", {"penalises", "cools"}),
        ("server", {"counts", "cools"}),
        ("timeout", {"counts", "cools"}),
        ("not_sent", {"returns"}),
    ],
)
def test_effects(outcome: Outcome, expected: set[str]) -> None:
    effect = EFFECTS[outcome]
    assert {name for name in Effect.__struct_fields__ if getattr(effect, name)} == expected


def test_every_outcome_has_an_effect() -> None:
    assert set(EFFECTS) == set(OUTCOMES)


def test_looks_at_a_failed_credential_thin_out_and_never_end() -> None:
    delays = [recheck_delay_us(n) // SECOND_US for n in range(40)]
    assert delays[:14] == [6, 7, 9, 13, 21, 37, 69, 133, 261, 517, 1029, 2053, 4101, 8197]
    assert set(delays[14:]) == {10_800}
    assert recheck_delay_us(10**9) == 10_800 * SECOND_US


@pytest.mark.parametrize(
    ("retry_after_s", "expected_us"),
    [
        (None, 180 * SECOND_US), (0, 0), (1, SECOND_US), (86_400, DAY_US), (86_401, DAY_US),
        (31_536_000, DAY_US),
    ],
)  # fmt: skip
def test_a_penalty_lasts_as_the_vendor_says_within_a_day(retry_after_s: int | None, expected_us: int) -> None:
    assert penalty_us(retry_after_s) == expected_us


def test_a_provider_cools_down_longer_from_the_third_failure_on() -> None:
    assert [cool_down_us(n) // SECOND_US for n in range(1, 5)] == [90, 90, 180, 180]
