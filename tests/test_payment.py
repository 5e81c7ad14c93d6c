"""Payment systems over HTTP: what is sent, how it is signed, and what each answer means."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qs

import httpx
import pytest

from api.payment import PaymentSystem, Sent, UsageBatch
from ops.payment import SignedPayment, StripePayment, payment_system
from ops.poster import ANSWER_BYTES_MAX, HttpPoster
from ops.settings import load, override
from schema.errors import InvalidSetting
from schema.usage_report import PaymentFailed
from schema.webhook_signature import key_of
from tests.payment import SECRET, is_signed, payment
from tests.serving import NOW_US

T = TypeVar("T")
BATCH = UsageBatch(
    id="ur-1", customer="cus_1", app="shop", user_id="cus_1", value="12", decimals=6, amount="0.000012", calls=3,
    tokens=40, after=1, until=9, created_at_us=NOW_US,
)  # fmt: skip
Handler = Callable[[httpx.Request], httpx.Response]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def clock() -> int:
    return NOW_US


def answering(handler: Handler) -> HttpPoster:
    return HttpPoster(httpx.MockTransport(handler), timeout_s=2)


def signed(handler: Handler) -> SignedPayment:
    return SignedPayment(answering(handler), "https://pay.example/usage", key_of(SECRET) or b"", clock)


def stripe(handler: Handler) -> StripePayment:
    return StripePayment(answering(handler), "https://api.stripe.com", "sk_test_canary", "ai_credits")


def reply(status: int, text: str = "", **headers: str) -> Handler:
    return lambda _: httpx.Response(status, stream=httpx.ByteStream(text.encode()), headers=headers)


def test_a_batch_is_posted_signed_and_known_again() -> None:
    """Through a real socket: taken once, then known; and its total is told."""
    with payment() as system:
        poster = HttpPoster()
        sender = SignedPayment(poster, system.url, key_of(SECRET) or b"", clock)

        async def twice() -> list[object]:
            try:
                return [await sender.send(BATCH), await sender.send(BATCH), await sender.total_e10("cus_1", "shop")]
            finally:
                await poster.close()

        assert run(twice()) == [Sent(outcome="accepted"), Sent(outcome="duplicate"), 12]
    assert system.wrong == []
    assert list(system.taken) == ["ur-1"]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(200), "accepted"),
        (reply(202, '{"duplicate": true}'), "duplicate"),
        (reply(200, '{"duplicate": "maybe"}'), "accepted"),
        (reply(409), "duplicate"),
        (reply(400), "refused"),
        (reply(422), "refused"),
        (reply(401), "failed"),
        (reply(404), "failed"),
        (reply(429), "failed"),
        (reply(500), "failed"),
        (reply(307, Location="http://127.0.0.1/"), "failed"),
    ],
)
def test_what_an_answer_means(answer: Handler, outcome: str) -> None:
    """Only what would be answered the same again is refused; a redirect is not followed."""
    assert run(signed(answer).send(BATCH)).outcome == outcome


def test_what_goes_wrong_is_told_without_what_was_sent() -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Bearer sk_test_canary")

    found = run(stripe(broken).send(BATCH))
    assert (found.outcome, found.error) == ("failed", "no whole answer: ConnectError")
    busy = run(signed(reply(503, "busy", **{"Retry-After": "17"})).send(BATCH))
    assert (busy.error, busy.retry_after_s) == ("HTTP 503", 17)
    long = run(signed(reply(500, "x" * (ANSWER_BYTES_MAX + 1))).send(BATCH))
    assert (long.outcome, long.error) == ("failed", f"HTTP 500, an answer over {ANSWER_BYTES_MAX} bytes")


def test_stripe_gets_a_meter_event_with_the_batchs_id() -> None:
    seen: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return reply(200)(request)

    assert run(stripe(take).send(BATCH)).outcome == "accepted"
    [request] = seen
    assert str(request.url) == "https://api.stripe.com/v1/billing/meter_events"
    assert request.headers["Authorization"] == "Bearer sk_test_canary"
    assert parse_qs(request.content.decode()) == {
        "event_name": ["ai_credits"], "identifier": ["ur-1"], "timestamp": [str(NOW_US // 1_000_000)],
        "payload[stripe_customer_id]": ["cus_1"], "payload[value]": ["12"],
    }  # fmt: skip


def test_stripes_refusal_of_a_known_identifier_is_success() -> None:
    known = '{"error": {"message": "An event already exists with identifier ur-1."}}'
    other = '{"error": {"message": "An event already exists with identifier ur-2."}}'
    assert run(stripe(reply(400, known)).send(BATCH)).outcome == "duplicate"
    assert run(stripe(reply(400, other)).send(BATCH)).outcome == "refused"


def test_totals_are_scaled_or_not_to_be_had() -> None:
    """The signature is over the query; what cannot be asked is not guessed."""

    def total(request: httpx.Request) -> httpx.Response:
        given = request.headers
        query = request.url.query
        assert is_signed(SECRET, given["webhook-id"], given["webhook-timestamp"], query, given["webhook-signature"])
        return reply(200, '{"value": "-5", "decimals": 8}')(request)

    assert run(signed(total).total_e10("cus 1", "shop")) == -500
    assert run(signed(reply(404)).total_e10("cus_1", "shop")) is None
    assert run(stripe(reply(200)).total_e10("cus_1", "shop")) is None
    for answer in (reply(500), reply(200, "{}"), reply(200, '{"value": "x", "decimals": 1}')):
        with pytest.raises(PaymentFailed):
            run(signed(answer).total_e10("cus_1", "shop"))


def made(**fields: object) -> PaymentSystem | None:
    return payment_system(override(load({}), **fields), HttpPoster(), clock)


@pytest.mark.parametrize("value", [" 1_0 ", "\u0661", "+5", "9" * 4_000])
def test_a_total_that_is_no_plain_number_is_refused(value: str) -> None:
    """What a number may look like elsewhere is not what was asked for, and how long it is has a bound."""
    with pytest.raises(PaymentFailed):
        run(signed(reply(200, f'{{"value": "{value}", "decimals": 10}}')).total_e10("cus_1", "shop"))


def test_settings_say_what_they_lack() -> None:
    assert made() is None
    assert isinstance(made(payment_system="stripe", payment_secret="sk", payment_meter="m"), StripePayment)
    assert isinstance(
        made(payment_system="webhook", payment_secret=SECRET, payment_url="https://p.example"), SignedPayment
    )
    for lacking in (
        {"payment_system": "stripe", "payment_secret": "sk"},
        {"payment_system": "webhook", "payment_url": "https://p.example"},
        {"payment_system": "webhook", "payment_secret": SECRET},
        {"payment_system": "webhook", "payment_url": "https://p.example", "payment_secret": "whsec_short"},
        {"payment_url": "https://user:pass@p.example"},
    ):
        with pytest.raises(InvalidSetting):
            made(**lacking)
