"""Callbacks: believed by their signature alone, in time, under any of a client's secrets; secrets are never told."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.payment_callback import CALLBACK_BYTES_MAX, SCHEMES
from api.payment_scheme import Callback, PaymentScheme, admit
from api.standard_webhook import StandardWebhooks
from ledger.database import open_writer
from ledger.ledger import Ledger
from ops.verify import verify
from schema.payment import Payment
from schema.payment_errors import BadSignature
from schema.times import SECOND_US
from tests.recharges import (
    CALLBACKS,
    OTHER_SECRET,
    SECRET,
    STRIPE_SECRET,
    a_client,
    call_back,
    order,
    signed,
    stocked,
    stripe_signed,
    told,
)
from tests.serving import NOW_US, QUIET, Clock, Service, a_keyring, add_keys, captured_log, serving

CLIENTS = "/v1/payment-clients"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        stocked(service)
        order(service)
        yield service


def send(service: Service, body: bytes, headers: dict[str, str], client: str = "bank") -> httpx.Response:
    return service.request("POST", f"{CALLBACKS}/{client}", None, content=body, headers=headers)


BODY = told("pay_1", "o-1")
GOOD = signed(BODY)
FORGED = [
    {},
    {**GOOD, "webhook-signature": ""},
    {**GOOD, "webhook-signature": "v1,"},
    {**GOOD, "webhook-signature": "v1"},
    {**GOOD, "webhook-signature": GOOD["webhook-signature"].replace("v1,", "v2,")},
    {**GOOD, "webhook-signature": GOOD["webhook-signature"][3:]},
    {**GOOD, "webhook-signature": " ".join([*["v1,AAAA"] * 16, GOOD["webhook-signature"]])},
    {**GOOD, "webhook-id": "msg_2"},
    {**GOOD, "webhook-id": ""},
    {**GOOD, "webhook-timestamp": str(NOW_US // SECOND_US + 1)},
    {**GOOD, "webhook-timestamp": "now"},
    {**GOOD, "webhook-timestamp": "1" * 400},
    {**GOOD, "webhook-timestamp": "-1"},
    signed(BODY, OTHER_SECRET),
    signed(BODY + b" "),
    signed(told("pay_1", "o-1", 1)),
    signed(BODY, at_us=NOW_US - 301 * SECOND_US),
    signed(BODY, at_us=NOW_US + 301 * SECOND_US),
    stripe_signed(BODY),
]


@pytest.mark.parametrize("headers", FORGED, ids=range(len(FORGED)))
def test_what_is_not_signed_is_not_believed(service: Service, headers: dict[str, str]) -> None:
    """Forged, cut, old, early, or for other bytes: 400, and nothing of it is kept."""
    before = service.position()
    answer = send(service, BODY, headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_signature")
    assert service.position() == before


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_clock_may_be_a_little_off(service: Service, seconds: int) -> None:
    """Up to the client's tolerance either way."""
    answer = send(service, BODY, signed(BODY, at_us=NOW_US + seconds * SECOND_US))
    assert answer.json()["status"] == "credited"


def test_a_replay_counts_nothing_twice(service: Service) -> None:
    """The very same bytes again within the time are a duplicate; later they are too old to be believed."""
    assert send(service, BODY, GOOD).json()["duplicate"] is False
    assert send(service, BODY, GOOD).json()["duplicate"] is True
    service.clock.now_us += 301 * SECOND_US
    assert send(service, BODY, GOOD).json()["code"] == "bad_signature"


def test_the_published_vector() -> None:
    """The example of the Standard Webhooks libraries, so that foreign signers are understood."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }  # fmt: skip
    callback = Callback(headers, b'{"test": 2432232314}')
    secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    admit(StandardWebhooks(), callback, secrets, 1_614_265_330 * SECOND_US, 1)
    with pytest.raises(BadSignature):
        admit(StandardWebhooks(), callback, secrets, 1_614_265_332 * SECOND_US, 1)


def test_secrets_turn_without_a_gap(service: Service) -> None:
    """While both are there either may sign; once the old one is gone it may not."""
    etag = service.get(f"{CLIENTS}/bank").headers["etag"]
    both = {"secret": {"new": OTHER_SECRET, "old": SECRET}}
    changed = service.request("PATCH", f"{CLIENTS}/bank", json=both, headers={"If-Match": etag})
    assert (changed.status_code, sorted(changed.json()["secret"])) == (200, ["new", "old"])
    assert send(service, BODY, signed(BODY, SECRET)).json()["duplicate"] is False
    assert send(service, BODY, signed(BODY, OTHER_SECRET)).json()["duplicate"] is True
    etag = {"If-Match": changed.headers["etag"]}
    service.request("PATCH", f"{CLIENTS}/bank", json={"secret": {"new": OTHER_SECRET}}, headers=etag)
    assert send(service, BODY, signed(BODY, SECRET)).json()["code"] == "bad_signature"
    assert send(service, BODY, signed(BODY, OTHER_SECRET)).json()["duplicate"] is True
    assert verify(service.ledger.path, keyring=a_keyring()).ok


def test_a_client_out_of_use_is_not_heard(service: Service) -> None:
    """Disabled, deleted or unknown: 404. Its secrets are gone from the file with it."""
    assert send(service, BODY, GOOD, "nobody").status_code == 404
    etag = service.get(f"{CLIENTS}/bank").headers["etag"]
    off = service.request("PATCH", f"{CLIENTS}/bank", json={"enabled": False}, headers={"If-Match": etag})
    assert send(service, BODY, GOOD).status_code == 404
    gone = service.request("DELETE", f"{CLIENTS}/bank", headers={"If-Match": off.headers["etag"]})
    assert (gone.status_code, gone.json()["deleted"]) == (200, True)
    assert send(service, BODY, GOOD).status_code == 404
    assert service.read("SELECT count(*) FROM data_keys") == [(0,)]
    assert service.post(CLIENTS, a_client(), "admin").json()["code"] == "id_conflict"
    assert verify(service.ledger.path, keyring=a_keyring()).ok


def test_verify_misses_the_data_key_of_a_payment_client(service: Service) -> None:
    """State that no event tells of is compared with the clients that there are."""
    with closing(open_writer(service.ledger.path, "os")) as db:
        db.execute("DELETE FROM data_keys WHERE subject = 'payment_client/bank'")
    faults = verify(service.ledger.path, keyring=a_keyring()).faults
    assert [(fault.table, fault.key) for fault in faults] == [("data_keys", "payment_client/bank")]


def test_a_payment_client_is_created_once(service: Service) -> None:
    """The same content again, secret and all, gets the first answer; another secret is another content."""
    again = service.post(CLIENTS, a_client(), "admin")
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    other = service.post(CLIENTS, a_client(secret=OTHER_SECRET), "admin")
    assert (other.status_code, other.json()["errors"][0]["path"]) == (409, "$.secret")


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        ("standard_webhooks", "whsec_c2hvcnQ="), ("standard_webhooks", "whsec_not base64 not base64 not base64"),
        ("stripe", "short"), ("paper", SECRET),
    ],
)  # fmt: skip
def test_a_secret_that_cannot_sign_is_refused(service: Service, scheme: str, secret: str) -> None:
    """With its place, and without a word of it."""
    refused = service.post(CLIENTS, a_client("c", secret, scheme=scheme), "admin")
    assert refused.status_code == 400
    assert secret not in refused.text


def test_secrets_are_told_nowhere(service: Service) -> None:
    """Neither by reads, lists, histories, events, logs nor the file; not even in the answer to a forgery."""
    with captured_log("json", "debug") as log:
        texts = [
            service.get(path).text
            for path in (CLIENTS, f"{CLIENTS}/bank", f"{CLIENTS}/bank/history", "/v1/events?limit=1000")
        ]
        texts.append(send(service, BODY, FORGED[0]).text)
        texts.append(send(service, BODY, GOOD).text)
        assert "payment_callback_refused" in log()
        texts.append(log())
    secret = SECRET.removeprefix("whsec_")
    assert [text for text in texts if secret[4:-4] in text] == []
    files = [path.read_bytes() for path in service.ledger.path.parent.glob("ledger.db*")]
    assert not any(secret.encode()[4:-4] in data for data in files)


def test_other_events_are_not_payments(service: Service) -> None:
    """A vendor sends more than payments; what tells of none is let be, what cannot be read is refused."""
    for body, status in (
        (b'{"type": "payment.failed", "data": {}}', 200), (b'{"type": "payment.succeeded", "data": {}}', 400),
        (b"[]", 400), (b"\xff", 400), (b"", 400), (told("pay/1", "o-1"), 400), (told("p", "o-1", 0), 400),
    ):  # fmt: skip
        answer = send(service, body, signed(body))
        assert answer.status_code == status, answer.text
    assert service.get("/v1/payments").json()["items"] == []


def test_a_body_has_a_bound(service: Service) -> None:
    """At the limit it is read, above it refused before that."""
    body = BODY.ljust(CALLBACK_BYTES_MAX)
    assert send(service, body, signed(body)).status_code == 200
    assert send(service, body + b" ", signed(body + b" ")).status_code == 413


def session(**fields: object) -> bytes:
    found = {
        "id": "cs_test_1", "object": "checkout.session", "client_reference_id": "o-1", "amount_total": 999,
        "currency": "usd", "payment_status": "paid", "payment_intent": "pi_1", **fields,
    }  # fmt: skip
    event = {"id": "evt_1", "type": fields.pop("type", "checkout.session.completed"), "data": {"object": found}}
    return json.dumps(event).encode()


def test_stripes_form(service: Service) -> None:
    """A paid session credits its order once, by whichever event tells; one not paid yet, or not ours, is let be."""
    service.post(CLIENTS, {**a_client("stripe", STRIPE_SECRET), "scheme": "stripe"}, "admin")
    for body in (session(payment_status="unpaid"), session(client_reference_id=None), b'{"type": "charge.updated"}'):
        assert send(service, body, stripe_signed(body), "stripe").json()["status"] == "ignored"
    body = session()
    assert send(service, body, signed(body), "stripe").json()["code"] == "bad_signature"
    assert send(service, body, stripe_signed(body, "whsec_another_0123456789"), "stripe").status_code == 400
    assert send(service, body, stripe_signed(body, at_us=NOW_US - 301 * SECOND_US), "stripe").status_code == 400
    paid = send(service, body, stripe_signed(body), "stripe").json()
    assert (paid["status"], paid["payment"]) == ("credited", "stripe:pi_1")
    later = session(type="checkout.session.async_payment_succeeded")
    assert send(service, later, stripe_signed(later), "stripe").json()["duplicate"] is True
    other = session(payment_intent=None, id="cs_2", amount_total=998)
    assert send(service, other, stripe_signed(other), "stripe").json()["code"] == "payment_mismatch"


def test_many_deliveries_at_once_credit_once(service: Service) -> None:
    """Fifty of the same at the same time: one is the first."""

    def deliver(_: int) -> bool:
        return call_back(service, "pay_1", "o-1").json()["duplicate"]

    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(deliver, range(50))) == [False] + [True] * 49
    assert service.get("/v1/accounts/acc").json()["balance"] == "1100"


class Spoken:
    """A scheme of tests: the body is the payment, and who says `please` is believed."""

    def usable(self, secret: str) -> bool:
        return secret == "please"

    def signed_at_s(self, callback: Callback) -> int:
        return int(callback.headers.get("at", "0"))

    def verify(self, callback: Callback, secrets: Sequence[str]) -> None:
        if callback.headers.get("word") not in secrets:
            raise BadSignature

    def payment(self, body: bytes) -> Payment | None:
        return msgspec.json.decode(body, type=Payment)


def test_another_scheme_is_plugged_in(tmp_path: Path) -> None:
    """What the service knows of payment clients is a protocol; a test has its own."""
    clock, ledger = Clock(), Ledger(tmp_path, durability="os", keyring=a_keyring())
    schemes: dict[str, PaymentScheme] = {**SCHEMES, "spoken": Spoken()}
    with TestClient(create_app(ledger, QUIET, clock, payment_schemes=schemes)) as client:
        add_keys(ledger)
        service = Service(ledger, client, clock)
        stocked(service)
        order(service)
        assert service.post(CLIENTS, a_client("aunt", "please", scheme="spoken"), "admin").status_code == 201
        body = msgspec.json.encode(Payment(payment="p", order="o-1", amount_minor=999, currency="USD"))
        said = {"word": "please", "at": str(NOW_US // SECOND_US)}
        assert send(service, body, {**said, "word": "now"}, "aunt").status_code == 400
        assert send(service, body, said, "aunt").json()["status"] == "credited"
