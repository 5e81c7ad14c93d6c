"""Charges: what a call, or a settled hold, takes from an account, and from where."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from schema.errors import FieldError, OutOfRange
from schema.ids import AppId, Name
from schema.money import COST_DECIMALS, ZERO, amount_e10, amount_text

AMOUNT_CREDITS_MAX = 100_000_000  # one credit, hold or adjustment
AMOUNT_E10_MAX = AMOUNT_CREDITS_MAX * 10**COST_DECIMALS

Amount = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,10})?\Z",
        description="Credits, a decimal string with at most ten decimals, up to 100 million.",
        examples=["12.5"],
    ),
]
HOLD_SECONDS_MAX = 7 * 86_400
HoldSeconds = Annotated[int, Meta(ge=1, le=HOLD_SECONDS_MAX, description="Seconds; at most a week.")]
SignedAmount = Annotated[
    str,
    Meta(
        pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,10})?\Z",
        description="Credits, a decimal string with at most ten decimals, up to 100 million either way.",
        examples=["12.5", "-3"],
    ),
]


class BudgetSpend(Struct, kw_only=True, gc=False):
    """What a hold that was settled by hand counts against the budgets that covered it, until its call comes."""

    budgets: list[str]
    amount: str
    at: str


class Charge(Struct, kw_only=True, omit_defaults=True, gc=False):
    """What an event takes from an account; negative amounts give back.

    `amount` is what was spent, of which `free` came from grants (by the credit's id), `owed` could not be paid, and
    the rest came from the balance. `tokens` is input and output together. `after` is balance and free quota together
    afterwards, `sequence` the number of the transaction; both are absent where no money moved. With `hold` the money
    was moved by the event that settled that hold, and only the tokens count here; `takes_back` is what budgets counted
    for it when it was settled by hand: now they count the call.
    """

    account: str
    amount: str = ZERO
    free: dict[str, str] | None = None
    owed: str = ZERO
    tokens: int = 0
    hold: str | None = None
    sequence: int | None = None
    after: str | None = None
    takes_back: BudgetSpend | None = None


class Scope(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """What a grant may be spent on: calls that have all the given values."""

    app: AppId | None = None
    provider: Name | None = None
    model: Name | None = None
    type: Name | None = None

    def covers(self, use: Any) -> bool:  # noqa: ANN401 - a call, or a hold that says what it is for
        """Whether something with an app, a provider, a model and a type is within it."""
        return (
            self.app in {None, use.app}
            and self.provider in {None, use.provider}
            and self.model in {None, use.model}
            and self.type in {None, use.type}
        )


def accept_amount(text: str, path: str, *, least_e10: int = 1) -> str:
    """A posted amount in its normal form; raises OutOfRange naming the path."""
    found_e10 = amount_e10(text)
    if not least_e10 <= found_e10 <= AMOUNT_E10_MAX:
        low = amount_text(least_e10)
        raise OutOfRange(errors=(FieldError(path, f"Expected {low} to {AMOUNT_CREDITS_MAX} credits"),))
    return amount_text(found_e10)
