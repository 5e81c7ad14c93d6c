"""Holds within one group: each command sees what those before it did, and what was there long before."""

from pathlib import Path

from schema.errors import HoldClosed
from tests.accounts import create_account, credit, hold, settle
from tests.changes import a_rate
from tests.histories import call, open_book
from tests.test_budget import done


def test_a_hold_for_a_call_that_was_charged_is_not_settled_in_the_group_that_places_it(tmp_path: Path) -> None:
    """The call was charged before, itself: once is enough, however the hold and its settlement come."""
    with open_book(tmp_path) as book:
        done(book, a_rate("gpt-4o", "0.01", model="gpt-4o"), create_account("app"), credit("5", "c", "app"))
        done(book, call("c-1", model="gpt-4o", usage={"input_tokens": 100, "output_tokens": 0}))
        _, settled = book.write([hold("1", "h-1", "app", call_id="c-1"), settle("1", "h-1")])
        assert isinstance(settled, HoldClosed)
        (later,) = book.write([settle("1", "h-1")])
        assert isinstance(later, HoldClosed)
