"""What calls cost: dated rates per provider, model and type, never overwritten.

A price is credits for one unit (token, image, second, call), a decimal string of at most twelve decimals. A call takes
the rate with the greatest `effective_from` at or before its start, then the latest posted.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schema.event import event
from schema.ids import ClientId, Name, ledger_source
from schema.model_call import CallType, Quantity, Seconds
from schema.times import TimeText

NOUN = "model_rate"
SOURCE = ledger_source(NOUN)
TIERS_MAX = 16
VARIANTS_MAX = 32
LINES_MAX = 64
REPRICED_MODELS_MAX = 1_000
REPRICED_RATES_MAX = 5_000

Billing = Literal["token", "call", "second"]
Mode = Literal["manual", "auto", "upstream"]
Price = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,6}(\.[0-9]{1,12})?\Z",
        description="Credits for one unit, a decimal string with at most twelve decimals.",
        examples=["0.00000125"],
    ),
]
Markup = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,4}(\.[0-9]{1,6})?\Z",
        description="What the vendor's price is multiplied with.",
        examples=["1.2"],
    ),
]
DayTime = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?\Z", examples=["16:30"])]


class Prices(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prices by unit. The named ones stand for units, as `input` for `input_tokens` and `image` for `images`.

    A price that is not given is not 0: the quantity then counts in the unit that includes it (cache in input,
    reasoning in output).
    """

    input: Price | None = None
    output: Price | None = None
    cache_read: Price | None = None
    cache_write: Price | None = None
    reasoning: Price | None = None
    per_call: Price | None = None
    per_second: Price | None = None
    image: Price | None = None
    lines: Annotated[dict[str, Price], Meta(max_length=LINES_MAX)] | None = None


NAMED = {
    "input": "input_tokens", "output": "output_tokens", "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens", "reasoning": "output_reasoning_tokens", "per_call": "requests",
    "per_second": "seconds", "image": "images",
}  # fmt: skip


class Tier(Prices, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prices of a call with more than `above` input tokens: all of its tokens, not only those above (a cliff)."""

    above: Quantity


class TieredPrices(Prices, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prices, and what changes above some numbers of input tokens."""

    tiers: Annotated[list[Tier], Meta(max_length=TIERS_MAX)] | None = None


class Variant(TieredPrices, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Prices of calls whose `price_context` has these values, as `{"service_tier": "flex"}`.

    Of several that fit, each unit takes the first that has a price for it; then the rate's own.
    """

    when: Annotated[dict[str, Name], Meta(min_length=1, max_length=8)]


class PriceBook(TieredPrices, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A whole set of prices: tiers of context and variants of service."""

    variants: Annotated[list[Variant], Meta(max_length=VARIANTS_MAX)] | None = None


class Markups(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Markups of input prices, and of output and all others."""

    input: Markup
    output: Markup


class DailyWindow(Struct, kw_only=True, forbid_unknown_fields=True):
    """Hours of the UTC day in which a rate holds, `end` excluded; it may pass midnight."""

    start: DayTime
    end: DayTime


class ListedPrice(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which price list a rate comes from, and the hash of that list."""

    source: Name
    version: Name
    hash: Name


class ModelRate(PriceBook, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rate as posted. Its own prices are charged, those in `vendor` are what the vendor asks.

    `type` null means any type. Mode `manual`: as posted. `auto`: the vendor's prices are charged, and follow the list.
    `upstream`: vendor times markup, recomputed when the list moves. `match` tells which other names the model has.
    """

    id: ClientId
    provider: Name
    model: Name
    type: CallType | None = None
    billing: Billing = "token"
    effective_from: TimeText | None = None
    vendor: PriceBook | None = None
    mode: Mode = "manual"
    markup: Markup | Markups | None = None
    daily_window: DailyWindow | None = None
    match: dict[str, Any] | None = None
    minimums: dict[str, Seconds] | None = None
    listed: ListedPrice | None = None
    display_name: Name | None = None
    description: Annotated[str, Meta(max_length=1_000)] | None = None
    metadata: dict[str, Any] | None = None


Margin = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,4}(\.[0-9]{1,6})?\Z",
        description="Percent above the vendor's price.",
        examples=["20"],
    ),
]
RepriceId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._:~-]{1,120}\Z",
        description="As other ids, at most 120 characters: the rates that it makes are `<id>:1`, `<id>:2`, …",
        examples=["margin-2026-12"],
    ),
]


class Repricing(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A margin over vendor prices, for every rate of a selection. Without a date it holds from now on.

    `credit_price` is what a credit costs in the vendor's currency.
    """

    id: RepriceId
    provider: Name | None = None
    models: Annotated[list[Name], Meta(min_length=1, max_length=REPRICED_MODELS_MAX)] | None = None
    margin_percent: Margin
    credit_price: Price = "1"
    effective_from: TimeText | None = None


class RepricingPost(Repricing, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A re-pricing as posted; a dry run tells what it would do."""

    dry_run: bool = False


class Repriced(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """That a rate was made by a re-pricing from the one at position `before`; the first names the request."""

    before: int
    request: Repricing | None = None


@event("model_rate.set", 1)
class ModelRateSet(ModelRate, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rate came into being: complete, with what is charged written out. Its numbers never change."""

    repriced: Repriced | None = None


@event("model_rate.deprecated", 1)
class ModelRateDeprecated(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rate is marked as no longer offered, or offered again. It still prices the calls it is for."""

    id: ClientId
    deprecated: bool = True
    reason: Name | None = None


class SetModelRate(Struct, kw_only=True):
    """Command: set a rate, in its normal form."""

    actor: str
    received_at_us: int
    rate: ModelRateSet


class DeprecateModelRate(Struct, kw_only=True):
    """Command: mark a rate."""

    actor: str
    received_at_us: int
    data: ModelRateDeprecated


class RepriceModelRates(Struct, kw_only=True):
    """Command: set rates by a margin over vendor prices."""

    actor: str
    received_at_us: int
    request: Repricing


class ModelRateView(ModelRate, kw_only=True, omit_defaults=False):
    """A rate as read; `position` is that of its event, which priced calls name."""

    position: int
    recorded_at: str
    deprecated: bool = False
    deprecated_reason: str | None = None
