"""Calls as rows of FOCUS, the FinOps Foundation's specification of cost and usage (focus.finops.org, version 1.2).

A finished call is one charge of category Usage. The ledger knows no commitments and no discounts, so billed, effective,
contracted and list cost are the same: what the call costs in credits, 0 where nothing had a price for it, and then
`x_CostReason` says why. What the vendor asks is `x_VendorCost`. Names that begin with x_ are the ledger's own.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from schema.call_export import Cell, ColumnKind, Layout, Row
from schema.model_call_view import ModelCallView, UsageView
from schema.times import format_time, parse_time

# A virtual currency, as FOCUS has it: credits are not money until someone says what one is.
NO_CURRENCY = "Credits"
Currency = Annotated[
    str, Meta(pattern=r"^[A-Z]{3}\Z", description="ISO 4217: what one credit is one of. Nothing is converted.")
]
MONTHS = 12
MILLISECOND_US = 1_000
TAG_CHARS_MAX = 256

COLUMNS: dict[str, ColumnKind] = {
    "BilledCost": "decimal", "EffectiveCost": "decimal", "ContractedCost": "decimal", "ListCost": "decimal",
    "BillingCurrency": "text", "BillingPeriodStart": "time", "BillingPeriodEnd": "time", "BillingAccountId": "text",
    "ChargePeriodStart": "time", "ChargePeriodEnd": "time", "ChargeCategory": "text", "ChargeClass": "text",
    "ChargeDescription": "text", "ChargeFrequency": "text", "ConsumedQuantity": "decimal", "ConsumedUnit": "text",
    "PricingCategory": "text", "PricingQuantity": "decimal", "PricingUnit": "text", "ProviderName": "text",
    "PublisherName": "text", "InvoiceIssuerName": "text", "ServiceCategory": "text", "ServiceSubcategory": "text",
    "ServiceName": "text", "ResourceId": "text", "ResourceName": "text", "ResourceType": "text",
    "SubAccountId": "text", "SubAccountName": "text", "Tags": "text", "x_CallId": "text", "x_Status": "text",
    "x_CostStatus": "text", "x_CostReason": "text", "x_VendorCost": "decimal", "x_InputTokens": "integer",
    "x_OutputTokens": "integer", "x_RatePosition": "integer", "x_Revision": "integer", "x_Position": "integer",
}  # fmt: skip
_SAME: dict[str, Cell] = {
    "ChargeCategory": "Usage", "ChargeClass": None, "ChargeFrequency": "Usage-Based", "PricingCategory": "Standard",
    "ServiceCategory": "AI and Machine Learning", "ServiceSubcategory": "Generative AI", "ResourceType": "Model",
}  # fmt: skip


def focus(currency: str = NO_CURRENCY) -> Layout:
    """The layout, with credits called by a currency."""

    def row(call: ModelCallView) -> Row | None:
        if call.voided or call.status == "processing":
            return None
        cells = {**_SAME, "BillingCurrency": currency, **_cost(call), **_times(call), **_usage(call), **_places(call)}
        return [cells[name] for name in COLUMNS]

    return Layout("focus", COLUMNS, row)


def _cost(call: ModelCallView) -> dict[str, Cell]:
    cost = call.cost or "0"
    return {
        "BilledCost": cost, "EffectiveCost": cost, "ContractedCost": cost, "ListCost": cost,
        "x_CostStatus": call.cost_status, "x_CostReason": call.cost_reason, "x_VendorCost": call.vendor_cost,
        "x_RatePosition": call.rate_position, "x_Revision": call.revision, "x_Position": call.position,
    }  # fmt: skip


def _times(call: ModelCallView) -> dict[str, Cell]:
    """A charge lasts as long as its call, a millisecond at least: its end is exclusive."""
    end_us = parse_time(call.started_at) + max(call.duration_ms or 0, 1) * MILLISECOND_US
    year, month = int(call.started_at[:4]), int(call.started_at[5:7])
    after, next_month = year + month // MONTHS, month % MONTHS + 1
    return {
        "ChargePeriodStart": call.started_at, "ChargePeriodEnd": format_time(end_us),
        "BillingPeriodStart": f"{year:04}-{month:02}-01T00:00:00.000000Z",
        "BillingPeriodEnd": f"{after:04}-{next_month:02}-01T00:00:00.000000Z",
    }  # fmt: skip


def _usage(call: ModelCallView) -> dict[str, Cell]:
    """Tokens if there are any, else pictures, else seconds, else the request itself."""
    usage = call.usage or UsageView()
    tokens = usage.input_tokens + usage.output_tokens
    amounts = ((str(tokens), "Tokens"), (str(usage.images), "Images"), (usage.seconds, "Seconds"), ("1", "Requests"))
    quantity, unit = next(each for each in amounts if each[0] != "0")
    return {
        "ConsumedQuantity": quantity, "ConsumedUnit": unit, "PricingQuantity": quantity, "PricingUnit": unit,
        "x_InputTokens": usage.input_tokens, "x_OutputTokens": usage.output_tokens,
    }  # fmt: skip


def _places(call: ModelCallView) -> dict[str, Cell]:
    return {
        "BillingAccountId": call.account or call.app, "SubAccountId": call.app, "SubAccountName": call.app,
        "ProviderName": call.provider, "PublisherName": call.provider, "InvoiceIssuerName": call.provider,
        "ServiceName": call.type, "ResourceId": f"{call.provider}/{call.model}", "ResourceName": call.model,
        "ChargeDescription": f"{call.type} by {call.model}", "Tags": _tags(call), "x_CallId": call.id,
        "x_Status": call.status,
    }  # fmt: skip


def _tags(call: ModelCallView) -> str:
    """Whom and what with, and the texts of the call's metadata, as one JSON object."""
    texts = {
        name: value
        for name, value in (call.metadata or {}).items()
        if isinstance(value, str) and len(value) <= TAG_CHARS_MAX
    }
    own = {"user_id": call.user_id, "credential_id": call.credential_id}
    return msgspec.json.encode({**texts, **{name: value for name, value in own.items() if value is not None}}).decode()
