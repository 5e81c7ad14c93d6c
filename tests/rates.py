"""Rates for tests: posted fields brought to their normal form, as commands of the ledger."""

from copy import deepcopy
from decimal import Decimal
from typing import Any

import msgspec

from ledger.ledger import Ledger
from ledger.rate_acceptance import accept_rate
from schema.model_rate import ModelRateSet, SetModelRate
from tests.histories import NOON_US
from tests.serving import require

LONG_AGO = "2020-01-01T00:00:00Z"

Fields = dict[str, Any]


def rate(id_: str = "r-1", *, at_us: int = NOON_US, **fields: Any) -> SetModelRate:  # noqa: ANN401 - as posted
    """The command to set a rate; for `gpt-4o` of openai from long ago unless told otherwise."""
    posted = {"id": id_, "provider": "openai", "model": "gpt-4o", "effective_from": LONG_AGO, **fields}
    content = msgspec.convert(deepcopy(posted), ModelRateSet)
    accept_rate(content)
    return SetModelRate(actor="key:test", received_at_us=at_us, rate=content)


def set_rates(ledger: Ledger, *commands: SetModelRate) -> None:
    require(ledger.execute_now(list(commands)))


def credits_sum(amounts: list[str | None]) -> Decimal:
    return sum((Decimal(amount) for amount in amounts if amount is not None), Decimal(0))
