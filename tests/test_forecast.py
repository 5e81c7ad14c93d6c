"""How long an account lasts: by the days that it was really used in, exact, from 0 to 999."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.forecast import forecast
from ledger.writer import Writer
from schema.account_alert import Forecast
from schema.errors import Forbidden, NotFound
from tests.accounts import create_account, credit, hold
from tests.changes import a_rate, correction
from tests.histories import APP, DAY_US, HOUR_US, NOON_US, call, open_book, reading
from tests.test_budget import done


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Writer]:
    with open_book(tmp_path) as writer:
        done(writer, a_rate("r-1", "0.1"), create_account(at_us=NOON_US))
        yield writer


def use(writer: Writer, credits: int, days: int, id_: str | None = None) -> None:
    at_us = NOON_US + days * DAY_US
    usage = {"input_tokens": credits * 10, "output_tokens": 0}
    done(writer, call(id_ or f"c-{days}", at_us=at_us, usage=usage))


def read(writer: Writer, after_us: int = 0, days: int = 30) -> Forecast:
    with reading(writer.path) as db:
        return forecast(db, "acc", None, days, NOON_US + after_us)


def test_without_use_nothing_can_be_told(book: Writer) -> None:
    """999, and it says so; nothing left is 0, used or not."""
    empty = read(book)
    assert (empty.basis, empty.days_left, empty.available) == ("nothing_left", 0, "0")
    done(book, credit("100"))
    unused = read(book, 5 * DAY_US)
    assert (unused.basis, unused.days_left, unused.average, unused.start) == ("no_use", 999, "0", None)


def test_the_average_is_over_the_days_of_use(book: Writer) -> None:
    """From the first use on, a day at least: not over thirty days of which most were before it."""
    done(book, credit("100"))
    use(book, 10, 0)
    first = read(book, HOUR_US)
    assert (first.average, first.days_left, first.basis) == ("10", 9, "use")
    use(book, 20, 3)
    found = read(book, 4 * DAY_US)
    assert (found.spent, found.average, found.available, found.days_left) == ("30", "7.5", "70", 9)
    assert found.start == "2026-11-22T12:00:00.000000Z"


def test_only_the_days_that_are_asked_for_count(book: Writer) -> None:
    """What was used before is not in it; without use since, it says so."""
    done(book, credit("1000"))
    use(book, 100, 0)
    use(book, 7, 40)
    found = read(book, 47 * DAY_US)
    assert (found.spent, found.average, found.days_left) == ("7", "1", 893)
    assert (read(book, 47 * DAY_US, 60).spent, read(book, 47 * DAY_US, 2).basis) == ("107", "no_use")
    whole = read(book, 47 * DAY_US, 366)
    assert (whole.average, whole.days_left) == ("2.2765957447", 392)


def test_a_remainder_lasts_a_day_and_none_lasts_for_ever(book: Writer) -> None:
    """At least 1 while anything is available, at most 999; what is held is not available."""
    done(book, credit("100"))
    use(book, 95, 0)
    assert read(book, DAY_US).days_left == 1
    done(book, hold("5", at_us=NOON_US, expires_in_s=7 * 86_400))
    assert (read(book, DAY_US).days_left, read(book, 8 * DAY_US).days_left) == (0, 1)
    done(book, credit("100000000", "cr-2"))
    assert read(book, DAY_US).days_left == 999


def test_what_was_given_back_is_not_use(book: Writer) -> None:
    """A void takes it out again."""
    done(book, credit("100"))
    use(book, 10, 0, "c-1")
    use(book, 10, 1, "c-2")
    done(book, correction("c-1", void=True))
    assert read(book, 2 * DAY_US).average == "5"
    done(book, correction("c-2", void=True))
    assert (read(book, 2 * DAY_US).basis, read(book, 2 * DAY_US).days_left) == ("no_use", 999)


def test_it_is_read_by_who_may_charge_it(book: Writer) -> None:
    """As the account itself."""
    with reading(book.path) as db:
        assert forecast(db, "acc", APP, 30, NOON_US).account == "acc"
        with pytest.raises(Forbidden):
            forecast(db, "acc", "other", 30, NOON_US)
        with pytest.raises(NotFound):
            forecast(db, "nobody", None, 30, NOON_US)
