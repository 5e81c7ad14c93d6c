"""Rating a call: which rate, what it comes to, and why. A call that cannot be priced or measured is never free."""

from ledger.rate_book import Rate, RateBook
from ledger.rating import Cost, UnclearUsageError, quantities
from schema.errors import FieldError, NoPrice, OutOfRange
from schema.model_call import ModelCall, Rating, RatingPolicy
from schema.money import COST_DECIMALS, amount_text
from schema.unit import REQUESTS

COST_CREDITS_MAX = 10_000_000
_COST_E10_MAX = COST_CREDITS_MAX * 10**COST_DECIMALS
_NO_PRICE = Rating(status="unpriced", reason="no_price")


def rate_call(book: RateBook, call: ModelCall, started_at_us: int, policy: RatingPolicy) -> Rating:
    """The rating of a finished call. Raises NoPrice where the policy refuses, OutOfRange for an absurd cost."""
    rate = book.find(call.provider, call.model, call.type, started_at_us)
    used = quantities(call.usage)
    measured = sum(used.values()) > used[REQUESTS]
    if call.status == "success" and not measured and not (rate is not None and rate.billing == "call"):
        return Rating(status="unpriced", reason="unmeasured", rate=None if rate is None else rate.position)
    if rate is not None and measured and call.status == "success":
        priced = _priced_plainly(rate, call, used)
        if priced is not None:
            return priced
    if rate is None or rate.charged.prices_nothing:
        if policy.unpriced == "reject":
            raise NoPrice(errors=(FieldError("$.model", f"no rate for {call.provider}/{call.model}, {call.type}"),))
        return _NO_PRICE
    if call.status != "success" and (not measured or rate.billing == "call" or policy.failed == "free"):
        return Rating(
            cost="0", input_cost="0", vendor_cost="0" if rate.vendor else None, status="free", reason="failed",
            rate=rate.position,
        )  # fmt: skip
    return _priced(rate, call, used)


def _priced_plainly(rate: Rate, call: ModelCall, used: dict[str, int]) -> Rating | None:
    """The rating of nearly every call, in one pass; None where there is more to it, and `_priced` tells."""
    if call.price_context or call.usage is None or call.usage.estimated:
        return None
    found = rate.both.cost(used)
    if found is None:
        return None
    cost, input_cost, vendor = found
    if not 0 < cost <= _COST_E10_MAX or vendor > _COST_E10_MAX:
        return None
    text = amount_text(cost)
    return Rating(
        cost=text,
        input_cost=amount_text(input_cost),
        vendor_cost=None if rate.vendor is None else text if rate.vendor is rate.charged else amount_text(vendor),
        status="priced",
        rate=rate.position,
    )


def _priced(rate: Rate, call: ModelCall, used: dict[str, int]) -> Rating:
    try:
        cost = rate.charged.cost(used, call.price_context)
    except UnclearUsageError:
        return Rating(status="unpriced", reason="unclear_usage", rate=rate.position)
    uncovered = cost.uncovered and rate.billing != "call"  # the price of a call is for all that it uses
    if uncovered and not cost.cost_e10:
        return Rating(status="unpriced", reason="no_price_for_usage", rate=rate.position)
    vendor = _vendor(rate, call, used, cost)
    if cost.cost_e10 > _COST_E10_MAX:
        message = f"The call would cost over {COST_CREDITS_MAX:,} credits"
        raise OutOfRange(errors=(FieldError("$.usage", message),))
    estimated = call.usage is not None and call.usage.estimated
    text = amount_text(cost.cost_e10)
    return Rating(
        cost=text,
        input_cost=amount_text(cost.input_cost_e10),
        vendor_cost=text if vendor is cost else None if vendor is None else amount_text(vendor.cost_e10),
        status="estimated" if estimated else "free" if rate.charged.is_free and not cost.cost_e10 else "priced",
        reason="partly_unpriced" if uncovered else _reason(cost, call, free=rate.charged.is_free),
        rate=rate.position,
    )


def _vendor(rate: Rate, call: ModelCall, used: dict[str, int], charged: Cost) -> Cost | None:
    """What the vendor asks, None where that cannot be told; what is charged stands all the same."""
    if rate.vendor is None or rate.vendor is rate.charged:
        return None if rate.vendor is None else charged
    try:
        cost = rate.vendor.cost(used, call.price_context)
    except UnclearUsageError:
        return None
    untold = cost.uncovered and not cost.cost_e10 and rate.billing != "call"
    return None if untold or cost.cost_e10 > _COST_E10_MAX else cost


def _reason(cost: Cost, call: ModelCall, *, free: bool) -> str | None:
    if call.usage is not None and call.usage.estimated:
        return "estimated_usage"
    if free and not cost.cost_e10:
        return "free_rate"
    return None if call.status == "success" else "partial_usage"
