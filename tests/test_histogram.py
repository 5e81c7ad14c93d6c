"""Histograms: the bins, their sums and differences, what is stored of them, and what a percentile may be off by."""

import random
from collections import Counter

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.histogram import (
    RELATIVE_ERROR,
    bin_sql,
    middle,
    of_counts,
    pack,
    pack_counts,
    pack_sum,
    percentiles,
    unpack,
)
from tests import percentiles as plain
from tests.strategies import examples

MAX = 10**12
EDGES = [0, 1, 127, 128, 129, 255, 256, MAX - 1, MAX, *(2**n + d for n in range(7, 40) for d in (-1, 0, 1))]
numbers = st.one_of(st.sampled_from([e for e in EDGES if e <= MAX]), st.integers(0, MAX), st.integers(0, 60_000))


def bins_of(values: list[int]) -> list[int]:
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE v (n INTEGER PRIMARY KEY, value INTEGER)")
    db.executemany("INSERT INTO v (value) VALUES (?)", [(value,) for value in values])
    return [bin_ for (bin_,) in db.execute(f"SELECT {bin_sql('value')} FROM v ORDER BY n")]


def histogram(values: list[int]) -> int:
    return of_counts(Counter(bins_of(values)))


def test_every_value_is_in_the_bin_that_stands_for_it() -> None:
    """At each edge of a bin up to the greatest quantity, and below 128 exactly."""
    values = [value for value in EDGES if value <= MAX] + random.Random(1).sample(range(MAX), 2_000)
    for value, bin_ in zip(values, bins_of(values), strict=True):
        assert middle(bin_) == plain.middle(value)
        assert abs(middle(bin_) - value) * plain.RELATIVE_ERROR <= value
    assert RELATIVE_ERROR == "0.0078125"


def test_bins_are_in_the_order_of_values() -> None:
    values = sorted(value for value in EDGES if value <= MAX)
    assert bins_of(values) == sorted(bins_of(values))
    assert bins_of([None, 5]) == [None, 5]  # pyright: ignore[reportArgumentType]


SHAPES: dict[str, list[int]] = {
    "constant": [4_321] * 1_000,
    "one": [17],
    "nought": [0] * 100,
    "two points": [100] * 95 + [60_000] * 5,
    "two points, the other way": [100] * 5 + [60_000] * 95,
    "greatest": [MAX] * 3 + [0] * 3,
    "heavy tail": [int(200 * (1 / (1 - random.Random(n).random())) ** 3) % MAX for n in range(3_000)],
    "uniform": [random.Random(n).randrange(100, 9_000) for n in range(3_000)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_percentiles_are_within_the_error(shape: str) -> None:
    """Against sorting, for shapes that averages hide."""
    values = SHAPES[shape]
    asked = (1, 50, 95, 99, 100)
    for per_cent, found in zip(asked, percentiles(histogram(values), asked), strict=True):
        true = plain.exact(values, per_cent)
        assert found is not None
        assert true is not None
        assert abs(found - true) * plain.RELATIVE_ERROR <= true, (per_cent, found, true)


def test_nothing_has_no_percentiles() -> None:
    assert percentiles(of_counts({}), (50, 99)) == (None, None)


@examples(150)
@given(st.lists(numbers, max_size=60), st.lists(numbers, max_size=60))
def test_histograms_add_and_subtract_as_their_values_do(one: list[int], other: list[int]) -> None:
    """In any order; what is taken away leaves no trace."""
    both = histogram(one) + histogram(other)
    assert both == histogram(other + one)
    assert both - histogram(other) == histogram(one)
    assert -histogram(other) + both == histogram(one)


counted = st.dictionaries(st.integers(0, 2_239), st.sampled_from([1, 2, 255, 256, 65_535, 65_536, 2**32, 2**62]))


@examples(150)
@given(counted, counted)
def test_what_is_added_to_stored_counts_is_stored_as_if_it_had_been_there(
    counts: dict[int, int], more: dict[int, int]
) -> None:
    """By the short way for few values too: the one form in which a histogram is stored."""
    assert pack_counts(counts) == pack(of_counts(counts))
    assert pack_sum(pack_counts(counts), more) == pack(of_counts(counts) + of_counts(more))


@examples(150)
@given(counted)
def test_what_is_stored_is_what_there_was(counts: dict[int, int]) -> None:
    """Sparse or dense, at any width; and of two forms the shorter."""
    packed = pack(of_counts(counts))
    assert unpack(packed) == of_counts(counts)
    width = next(w for w in (1, 2, 4, 8) if max(counts.values(), default=0) < 256**w)
    assert len(packed) <= 3 + len(counts) * (2 + width)
