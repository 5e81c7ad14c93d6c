"""Price lists for tests: made by hand, so that a test says what is on them, and when they change."""

from typing import Any

import msgspec

from ledger.rate_acceptance import accept_rate
from schema.model_rate import ListedPrice, ModelRateSet
from schema.price_list import OfferedModel, OfferedProvider, SyncPriceList

EPOCH = "1970-01-01T00:00:00.000000Z"
ACTOR = "test"


def offered_rate(model: str, price: str, from_: str = EPOCH, provider: str = "acme", **fields: object) -> ModelRateSet:
    """A rate of one input price; other fields as posted."""
    made = {
        "id": "x", "provider": provider, "model": model, "effective_from": from_, "mode": "auto", "input": price,
        "match": {"starts_with": model}, **fields,
    }  # fmt: skip
    rate = msgspec.convert(made, ModelRateSet)
    accept_rate(rate)
    return rate


def offered_model(
    model: str, *prices: str | tuple[str, str], rates: list[ModelRateSet] | None = None, problem: str | None = None
) -> OfferedModel:
    """A model with one price, or with prices from dates on."""
    dated = [(EPOCH, price) if isinstance(price, str) else price for price in prices]
    made = [offered_rate(model, price, from_) for from_, price in dated]
    return OfferedModel(model=model, rates=made if rates is None else rates, problem=problem)


def offered(*models: OfferedModel, id_: str = "acme", **fields: Any) -> OfferedProvider:  # noqa: ANN401
    return OfferedProvider(id=id_, name=id_.title(), models=list(models), **fields)


def listed(version: str = "1") -> ListedPrice:
    return ListedPrice(source="fake", version=version, hash=f"hash-{version}")


def sync(provider: OfferedProvider, now_us: int, version: str = "1") -> SyncPriceList:
    return SyncPriceList(actor=ACTOR, received_at_us=now_us, listed=listed(version), provider=provider)


class FakeList:
    """A list that a test changes."""

    name = "fake"

    def __init__(self, *providers: OfferedProvider) -> None:
        self.providers = list(providers)
        self.version = 1
        self.loads = 0

    def change(self, *providers: OfferedProvider) -> None:
        self.providers = list(providers)
        self.version += 1

    def load(self) -> tuple[ListedPrice, list[OfferedProvider]]:
        self.loads += 1
        return listed(str(self.version)), self.providers
