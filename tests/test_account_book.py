"""A charge is folded from what was decided of it or from its event, and refused where its own figures do not add up."""

import pytest
from msgspec.structs import replace

from projections.account_book import Book
from projections.account_state import AccountState
from schema.charge import Charge
from schema.entry import Recorded
from schema.model_call import ModelCallRecorded

CREDIT_E10 = 10**10
PLAIN = Charge(account="acc", amount="2", tokens=5, sequence=1, after="8")
OWED = Charge(account="acc", amount="12", owed="2", tokens=5, sequence=1, after="0")


def _book() -> Book:
    book = Book()
    book.add(AccountState("acc", "app//acc", "never", (), 1, balance_e10=10 * CREDIT_E10, issued_e10=10 * CREDIT_E10))
    book.collect()
    return book


def _called(charge: Charge) -> Recorded:
    call = ModelCallRecorded(
        id="c-1", app="acc", provider="openai", model="gpt-4o", type="chat_completion", status="success",
        started_at="2026-11-22T12:00:00.000000Z", charge=charge,
    )  # fmt: skip
    return Recorded(7, 0, "/apps/acc/model_call", "c-1", "", "model_call/acc/c-1", 0, "key:k", call)


def _figures(book: Book) -> tuple[int, int, int, int]:
    state = book.accounts["acc"]
    return state.balance_e10 // CREDIT_E10, state.spent_e10 // CREDIT_E10, state.owed_e10 // CREDIT_E10, state.tokens


@pytest.mark.parametrize("decided", [False, True])
def test_what_was_decided_and_what_the_event_says_come_to_the_same(*, decided: bool) -> None:
    book = _book()
    if decided:
        book.plain = PLAIN, book.accounts["acc"], 2 * CREDIT_E10, 8 * CREDIT_E10
    book.evolve(_called(PLAIN))
    assert _figures(book) == (8, 2, 0, 5)
    assert book.lines == [7, 1, 0, "consumption", -2 * CREDIT_E10, 0, 8 * CREDIT_E10, 0, 2 * CREDIT_E10, 0, 5, 1]


@pytest.mark.parametrize(
    ("charge", "figures"), [(replace(PLAIN, tokens=6), (8, 2, 0, 6)), (OWED, (0, 12, 2, 5))], ids=["equal", "owed"]
)
def test_what_was_decided_of_another_charge_is_not_taken(charge: Charge, figures: tuple[int, ...]) -> None:
    """Not even where it is equal: a decision that was given up leaves its charge behind."""
    book = _book()
    stranger = AccountState("other", "app//other", "never", (), 2)
    book.plain = PLAIN, stranger, CREDIT_E10, CREDIT_E10
    book.evolve(_called(charge))
    assert _figures(book) == figures
    assert (stranger.balance_e10, stranger.sequence) == (0, 0)


@pytest.mark.parametrize("wrong", [{"sequence": 2}, {"after": "8.1"}, {"amount": "2.1"}])
@pytest.mark.parametrize("charge", [PLAIN, OWED], ids=["plain", "owed"])
def test_a_charge_that_does_not_add_up_is_refused(charge: Charge, wrong: dict[str, str | int]) -> None:
    with pytest.raises(ValueError, match="does not add up"):
        _book().evolve(_called(replace(charge, **wrong)))


@pytest.mark.parametrize(("amount", "total"), [(3, 8), (2, 7)])
def test_a_decision_that_does_not_add_up_is_refused(amount: int, total: int) -> None:
    book = _book()
    book.plain = PLAIN, book.accounts["acc"], amount * CREDIT_E10, total * CREDIT_E10
    with pytest.raises(ValueError, match="does not add up"):
        book.evolve(_called(PLAIN))
