"""Sessions: a cookie that acts as a key while that key is valid, and changes nothing on a stranger's behalf."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.session import COOKIE, Claim, sign
from api.settings import ApiSettings
from ledger.ledger import Ledger
from schema.key import CreateKey, KeyCreated
from schema.times import HOUR_US, SECOND_US
from tests.serving import APP, CALLS, NOW_US, OTHER_APP, Clock, Json, Service, a_call, add_keys, key_text, require

SECRET = b"s" * 32
OURS = {"Origin": "http://testserver.local"}
STRANGERS = ("http://elsewhere.example", "http://testserver.local.evil.example", "null", "")
SETTINGS = ApiSettings(sweep_interval_s=86_400.0, session_lifetime_us=HOUR_US)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    clock = Clock()
    ledger = Ledger(tmp_path, durability="os")
    with TestClient(
        create_app(ledger, SETTINGS, clock, session_secret=SECRET), raise_server_exceptions=False
    ) as client:
        add_keys(ledger)
        yield Service(ledger, client, clock)


def enter(service: Service, body: Json, **headers: str) -> httpx.Response:
    return service.request("POST", "/session", None, json=body, headers={**OURS, **headers})


def signed_in(service: Service, name: str = "admin") -> str:
    """The token of a new session; the client keeps no cookie."""
    response = enter(service, {"key": key_text(name)})
    assert response.status_code == 201
    token = response.cookies[COOKIE]
    service.client.cookies.clear()
    return token


def by_cookie(service: Service, token: str, method: str = "GET", path: str = CALLS, **headers: str) -> int:
    body = a_call(app=APP) if method == "POST" else None
    given = {"Cookie": f"theme=dark; {COOKIE}={token}", **headers}
    return service.request(method, path, None, json=body, headers=given).status_code


def link(key: str = "admin", nonce: str = "n-1", expires_us: int = NOW_US + HOUR_US, secret: bytes = SECRET) -> str:
    return sign(secret, Claim("link", key, expires_us, nonce), sha256(key_text(key).encode()).hexdigest())


def test_the_cookie_is_for_the_server_alone(service: Service) -> None:
    """Scripts and other sites cannot use it; it says nothing secret and does not outlast its time."""
    response = enter(service, {"key": key_text("dashboard")})
    cookie = response.headers["set-cookie"]
    assert cookie.endswith("; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict")
    assert key_text("dashboard").rpartition("_")[2] not in cookie
    assert response.json() == {"key_id": "dashboard", "role": "dashboard", "app": None,
                               "expires_at": "2026-11-22T13:00:00.000000Z"}  # fmt: skip


def test_it_is_secure_where_the_page_came_by_https(service: Service) -> None:
    response = enter(service, {"key": key_text("admin")}, Origin="https://testserver.local")
    assert response.headers["set-cookie"].endswith("; Secure")


def test_a_session_sees_what_its_key_sees(service: Service) -> None:
    service.post(CALLS, [a_call("mine"), a_call("theirs", app=OTHER_APP)], "admin")
    service.post(CALLS, a_call("mine"), APP)
    service.post(CALLS, a_call("theirs"), OTHER_APP)
    answer = service.request("GET", CALLS, None, headers={"Cookie": f"{COOKIE}={signed_in(service, APP)}"})
    assert [call["id"] for call in answer.json()["items"]] == ["mine"]
    assert by_cookie(service, signed_in(service, "dashboard"), path="/v1/events") == 403


def test_it_ends_with_its_time_with_its_key_and_by_leaving(service: Service) -> None:
    token, revoked = signed_in(service, "auditor"), signed_in(service, "dashboard")
    assert by_cookie(service, token) == by_cookie(service, revoked) == 200
    service.revoke("dashboard")
    assert (by_cookie(service, token), by_cookie(service, revoked)) == (200, 401)
    service.clock.now_us += HOUR_US
    assert by_cookie(service, token) == 401
    gone = service.request("DELETE", "/session", None)
    assert f"{COOKIE}=; Path=/; Max-Age=0" in gone.headers["set-cookie"]


@pytest.mark.parametrize("origin", STRANGERS)
def test_a_session_changes_nothing_for_another_origin(service: Service, origin: str) -> None:
    """No page elsewhere can make a browser post, or sign it in as somebody else."""
    token = signed_in(service)
    position = service.position()
    assert by_cookie(service, token, "POST", Origin=origin) == 403
    assert by_cookie(service, token, "POST", **{"Sec-Fetch-Site": "cross-site", **OURS}) == 403
    assert by_cookie(service, token, "POST", **{"Sec-Fetch-Site": "same-site", **OURS}) == 403
    assert enter(service, {"key": key_text("admin")}, Origin=origin).status_code == 403
    assert service.position() == position
    assert by_cookie(service, token, "POST", **OURS) == 201
    assert service.post(CALLS, a_call("by-key")).status_code == 201


def test_what_was_not_signed_here_is_nobody(service: Service) -> None:
    """Tokens that were changed, made with another secret, or made for another purpose."""
    token = signed_in(service)
    payload, _, mac = token.partition(".")
    digest = sha256(key_text("admin").encode()).hexdigest()
    other = sign(b"t" * 32, Claim("session", "admin", NOW_US + HOUR_US), digest)
    stranger = sign(SECRET, Claim("session", "nobody", NOW_US + HOUR_US), "0" * 64)
    forged = [
        f"{payload}x.{mac}",
        f"{payload}.{mac[:-2]}AA",
        payload,
        "",
        ".",
        "a" * 5_000,
        other,
        stranger,
        link(),
    ]
    assert [each for each in forged if by_cookie(service, each) != 401] == []
    assert service.request("GET", "/session", None, headers={"Cookie": f"{COOKIE}={other}"}).json()["role"] is None


def test_a_link_opens_one_session_for_ever(service: Service) -> None:
    """The second use is refused, also after a restart, because the first one is an event."""
    assert enter(service, {"link": link()}).status_code == 201
    service.client.cookies.clear()
    answer = enter(service, {"link": link()})
    assert (answer.status_code, answer.json()["code"]) == (410, "link_spent")
    assert service.read("SELECT type, subject FROM events ORDER BY position DESC LIMIT 1") == [
        ("sign_in_link.used.v1", "sign_in_link/n-1")
    ]
    bad = (link(expires_us=NOW_US), link(secret=b"t" * 32), signed_in(service), "", "x.y")
    assert [enter(service, {"link": each}).status_code for each in bad] == [410] * len(bad)
    service.revoke("auditor")
    assert enter(service, {"link": link("auditor", "n-2")}).status_code == 410


@pytest.mark.parametrize("body", [{}, {"key": "a", "link": "b"}, {"user": "x"}])
def test_signing_in_takes_one_thing(service: Service, body: Json) -> None:
    assert enter(service, body).status_code == 400
    assert enter(service, {"key": "ulk_no_key"}).status_code == 401
    assert enter(service, {"key": "ключ"}).status_code == 401


def test_without_a_secret_nobody_signs_in(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, durability="os")
    with TestClient(create_app(ledger, SETTINGS, Clock())) as client:
        add_keys(ledger)
        service = Service(ledger, client, Clock())
        assert enter(service, {"key": key_text("admin")}).status_code == 401
        assert by_cookie(service, sign(b"", Claim("session", "admin", 2**60), "0" * 64)) == 401


def test_the_page_lets_nothing_in_from_elsewhere(service: Service) -> None:
    """No inline script and no foreign origin; its files are kept for ever under their digests, and compressed."""
    page = service.request("GET", "/", None)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; " in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "<script>" not in page.text
    for path in [part.split('"')[0] for part in page.text.split('="')[1:] if part.startswith("/assets/")]:
        plain = service.request("GET", path, None, headers={"Accept-Encoding": "identity"})
        small = service.request("GET", path, None, headers={"Accept-Encoding": "gzip"})
        assert "immutable" in plain.headers["cache-control"]
        assert (small.headers["content-encoding"], small.content) == ("gzip", plain.content)
        assert int(small.headers["content-length"]) < len(plain.content)
    assert service.request("GET", "/assets/0000000000000000/main.js", None).status_code == 404
    assert service.request("GET", "/assets/0000000000000000/..%2f..%2fapp.py", None).status_code == 404


def test_a_key_made_again_under_an_id_would_not_inherit_sessions(service: Service) -> None:
    """The signature covers the key's digest."""
    token = sign(SECRET, Claim("session", "late", NOW_US + SECOND_US), "0" * 64)
    digest = sha256(os.urandom(8)).hexdigest()
    require(service.ledger.execute_now([CreateKey("test", NOW_US, KeyCreated(id="late", role="admin", sha256=digest))]))
    assert by_cookie(service, token) == 401
