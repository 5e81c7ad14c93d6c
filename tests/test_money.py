"""Exact decimals: integers of a named scale, plain decimal text, never a binary fraction."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema import money
from schema.money import WRITTEN_MAX, amount_e10, amount_text, format_scaled, parse_scaled
from tests.strategies import examples


@pytest.mark.parametrize(
    ("text", "decimals", "amount"),
    [
        ("0", 6, 0), ("12.5", 2, 1250), ("12.50", 2, 1250), ("0.000001", 6, 1), ("999999.999999", 6, 10**12 - 1),
        ("007", 0, 7), ("1", 12, 10**12), ("0.0076187500", 10, 76_187_500),
    ],
)  # fmt: skip
def test_text_to_scale(text: str, decimals: int, amount: int) -> None:
    """A decimal becomes the integer of its scale."""
    assert parse_scaled(text, decimals) == amount


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (0, 6, "0"), (1250, 2, "12.5"), (1200, 2, "12"), (1, 10, "0.0000000001"), (-1, 10, "-0.0000000001"),
        (-1250, 2, "-12.5"), (10**30, 10, "1" + "0" * 20), (76_187_500, 10, "0.00761875"),
    ],
)  # fmt: skip
def test_scale_to_text(amount: int, decimals: int, text: str) -> None:
    """No exponent, no trailing zeros, a zero before the point."""
    assert format_scaled(amount, decimals) == text


def test_too_many_decimals_are_refused() -> None:
    """Digits below the scale are an error, even zeros: nothing is rounded silently."""
    with pytest.raises(ValueError, match="at most 6 decimals"):
        parse_scaled("0.0000001", 6)


@examples(200)
@given(st.integers(-(2**63), 2**63), st.integers(1, 12))
def test_text_says_the_exact_amount(amount: int, decimals: int) -> None:
    """The text of any amount is that number exactly, and parses back."""
    text = format_scaled(amount, decimals)
    assert Decimal(text).scaleb(decimals) == amount
    if amount >= 0:
        assert parse_scaled(text, decimals) == amount


def test_a_million_small_costs_add_up() -> None:
    """A million calls of 4.375e-7 credits are 0.4375 credits to the last digit."""
    assert format_scaled(sum([parse_scaled("0.0000004375", 10)] * 1_000_000), 10) == "0.4375"


@examples(200)
@given(st.integers(-(10**20), 10**20))
def test_an_amount_reads_back_as_it_was_written(amount: int) -> None:
    """Whether it was written a moment ago or by another process."""
    text = amount_text(amount)
    assert text == format_scaled(amount, 10)
    assert amount_e10(text) == parse_scaled(text, 10) == amount


@pytest.mark.parametrize(
    "amount", [0, 1, -1, 10, 10**9, 10**10 - 1, 10**10, 10**10 + 1, 15_625_000, 9_999_999_990, -(10**10), 123 * 10**10]
)
def test_an_amount_is_written_as_any_decimal_is(amount: int) -> None:
    """Below a credit by a shorter way."""
    assert amount_text(amount) == format_scaled(amount, 10)


def test_amounts_remembered_are_bounded() -> None:
    """More amounts than are remembered read back all the same."""
    texts = [amount_text(n) for n in range(2 * WRITTEN_MAX + 1)]
    assert [amount_e10(text) for text in texts] == list(range(2 * WRITTEN_MAX + 1))
    assert len(money._written) <= WRITTEN_MAX
