"""Payment systems that usage is reported to: a signed request to any, or meter events as Stripe takes them."""

from collections.abc import Callable
from hashlib import sha256
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Struct

from api.outbound import Poster, Reply
from api.payment import PaymentSystem, Sent, UsageBatch
from ops.settings import Settings
from schema.errors import InvalidSetting
from schema.money import COST_DECIMALS
from schema.times import HOUR_US, SECOND_US, format_time
from schema.usage_report import Decimals, PaymentFailed
from schema.webhook_signature import headers, key_of

STRIPE_URL = "https://api.stripe.com"
# Stripe knows an identifier for at least a day.
STRIPE_RESEND_US = 23 * HOUR_US
STRIPE_DUPLICATE = b"already exists with identifier"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
# Sending the very same again would be answered the same.
_REFUSED = frozenset({400, 413, 422})
_UNASKABLE = frozenset({404, 405, 501})
_CONFLICT = 409


class _Posted(Struct, kw_only=True):
    """A batch on the wire; `value` is an integer, as text, in units of ten to the minus `decimals` credits."""

    id: str
    customer: str
    app: str
    user_id: str | None
    value: str
    decimals: int
    amount: str
    calls: int
    tokens: int
    after: int
    until: int
    created_at: str


class _Taken(Struct):
    duplicate: bool = False


class _Total(Struct):
    value: Annotated[str, Meta(pattern=r"^-?[0-9]{1,30}\Z")]
    decimals: Decimals


class SignedPayment:
    """`POST` of a batch as JSON, signed as Standard Webhooks has it; its id is the batch's. It answers 2xx or 409.

    `GET` with `app` and `customer` asks for a total; what is signed is then the query string.
    """

    name = "webhook"
    resend_us: int | None = None

    def __init__(self, poster: Poster, url: str, key: bytes, clock: Callable[[], int]) -> None:
        self._poster = poster
        self._url = url
        self._key = key
        self._clock = clock

    async def send(self, batch: UsageBatch) -> Sent:
        """2xx: it has it now, or (`{"duplicate": true}`, or 409) had it before."""
        values = {name: getattr(batch, name) for name in _Posted.__struct_fields__ if name != "created_at"}
        body = msgspec.json.encode(_Posted(**values, created_at=format_time(batch.created_at_us)))
        signed = headers([self._key], batch.id, self._clock() // SECOND_US, body)
        reply = await self._poster.ask("POST", self._url, {**signed, "Content-Type": JSON}, body)
        if reply.status == _CONFLICT or (_is_success(reply) and _says_duplicate(reply.body)):
            return Sent(outcome="duplicate")
        return _sent(reply)

    async def total_e10(self, customer: str, app: str) -> int | None:
        """What it has of a customer; raises PaymentFailed."""
        query = urlencode({"app": app, "customer": customer})
        id_ = f"total-{sha256(query.encode()).hexdigest()[:32]}"
        signed = headers([self._key], id_, self._clock() // SECOND_US, query.encode())
        reply = await self._poster.ask("GET", f"{self._url}?{query}", signed, b"")
        if reply.status in _UNASKABLE:
            return None
        if not _is_success(reply):
            raise PaymentFailed(f"the payment system gave no total: {reply.error}")
        try:
            total = msgspec.json.decode(reply.body, type=_Total)
            return int(total.value) * 10 ** (COST_DECIMALS - total.decimals)
        except (msgspec.DecodeError, ValueError):
            raise PaymentFailed("the payment system's answer is no total") from None


class StripePayment:
    """Meter events: the identifier is the batch's id. Stripe forgets identifiers after a day, hence `resend_us`.

    Totals are not asked for: Stripe adds events up later, in a time of its own.
    """

    name = "stripe"
    resend_us: int | None = STRIPE_RESEND_US

    def __init__(self, poster: Poster, url: str, key: str, meter: str) -> None:
        self._poster = poster
        self._url = f"{url.rstrip('/')}/v1/billing/meter_events"
        self._key = key
        self._meter = meter

    async def send(self, batch: UsageBatch) -> Sent:
        """2xx: taken. 400 that names the identifier: it has it."""
        form = {
            "event_name": self._meter,
            "identifier": batch.id,
            "timestamp": str(batch.created_at_us // SECOND_US),
            "payload[stripe_customer_id]": batch.customer,
            "payload[value]": batch.value,
        }
        given = {"Authorization": f"Bearer {self._key}", "Content-Type": FORM}
        reply = await self._poster.ask("POST", self._url, given, urlencode(form).encode())
        if reply.status is not None and STRIPE_DUPLICATE in reply.body and batch.id.encode() in reply.body:
            return Sent(outcome="duplicate")
        return _sent(reply)

    async def total_e10(self, customer: str, app: str) -> int | None:  # noqa: ARG002 - as the protocol has it
        """Not to be asked."""
        return None


def _is_success(reply: Reply) -> bool:
    return reply.status is not None and 200 <= reply.status < 300  # noqa: PLR2004 - HTTP's own


def _says_duplicate(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Taken).duplicate
    except msgspec.DecodeError:
        return False


def _sent(reply: Reply) -> Sent:
    if _is_success(reply):
        return Sent(outcome="accepted")
    outcome = "refused" if reply.status in _REFUSED else "failed"
    return Sent(outcome=outcome, error=reply.error, retry_after_s=reply.retry_after_s)


def payment_system(settings: Settings, poster: Poster, clock: Callable[[], int]) -> PaymentSystem | None:
    """What the settings ask for; raises InvalidSetting where they lack something."""
    if settings.payment_system == "none":
        return None
    if not settings.payment_secret:
        raise InvalidSetting("USAGE_LEDGER_PAYMENT_SECRET is needed to report usage")
    if settings.payment_system == "stripe":
        if not settings.payment_meter:
            raise InvalidSetting("USAGE_LEDGER_PAYMENT_METER is needed to report usage to Stripe")
        url = settings.payment_url or STRIPE_URL
        return StripePayment(poster, url, settings.payment_secret, settings.payment_meter)
    key = key_of(settings.payment_secret)
    if not settings.payment_url or key is None:
        raise InvalidSetting(
            "to report usage by webhook, USAGE_LEDGER_PAYMENT_URL is needed, and USAGE_LEDGER_PAYMENT_SECRET as "
            "whsec_ and 24 to 64 bytes in Base64"
        )
    return SignedPayment(poster, settings.payment_url, key, clock)
