"""Rates as their readers see them: receipts, histories, re-pricings, the public price list."""

from typing import Literal

from msgspec import Struct

from schema.model_call import CallType
from schema.model_rate import Billing, DailyWindow, ModelRateView, PriceBook

SkipReason = Literal["no_vendor_prices", "rounds_to_zero", "deprecated"]


class RateReceipt(Struct, kw_only=True):
    """What the ledger promises about a rate: where its event is, and from when it holds."""

    id: str
    position: int
    recorded_at: str
    effective_from: str
    duplicate: bool


class MarkReceipt(Struct, kw_only=True):
    """How a rate is marked now, and since which event."""

    id: str
    position: int
    recorded_at: str
    deprecated: bool
    duplicate: bool


class DatedRate(ModelRateView, kw_only=True):
    """A rate in its history. `moved` has each charged price, by its place, and by how many percent it moved.

    That is from the rate before of the same type and daily window; null where there was none, or it was 0 or is gone.
    """

    actor: str
    moved: dict[str, str | None]


class RepricedRate(Struct, kw_only=True):
    """What a re-pricing makes of one rate. `margin` is in percent after rounding, by each price's place."""

    id: str
    provider: str
    model: str
    type: CallType | None
    before: PriceBook
    after: PriceBook
    margin: dict[str, str | None]


class SkippedRate(Struct, kw_only=True):
    """A rate that a re-pricing leaves alone, and why."""

    id: str
    provider: str
    model: str
    type: CallType | None
    reason: SkipReason


class RepricingResult(Struct, kw_only=True):
    """What a re-pricing did or, as a dry run, would do."""

    id: str
    effective_from: str
    dry_run: bool = False
    duplicate: bool = False
    items: list[RepricedRate]
    skipped: list[SkippedRate]


class ModelPrice(PriceBook, kw_only=True, omit_defaults=False):
    """What calls to a model are charged now, in credits for one unit. `type` null means any type."""

    provider: str
    model: str
    type: CallType | None
    billing: Billing
    effective_from: str
    daily_window: DailyWindow | None
    display_name: str | None
    deprecated: bool
