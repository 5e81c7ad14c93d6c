"""Ready means: takes writes and answers reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from projections.engine import registry
from schema.errors import StorageUnavailable
from tests.serving import CALLS, Service, a_call, serving


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def test_a_ledger_that_cannot_be_written_is_not_ready_until_it_can(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a group that storage refused, readiness is gone; the next group that is stored brings it back."""

    def refuse() -> None:
        raise StorageUnavailable

    assert service.request("GET", "/health/ready", None).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(service.ledger.writer, "_begin", refuse)
        assert service.post(CALLS, a_call("c-0")).status_code == 503
        response = service.request("GET", "/health/ready", None)
        assert (response.status_code, response.json()) == (503, {"status": "unready"})
    assert service.post(CALLS, a_call("c-1")).status_code == 201
    assert service.request("GET", "/health/ready", None).status_code == 200


def test_details_are_for_operators(service: Service) -> None:
    """Positions, lags and state hashes need a key of role admin, auditor or dashboard."""
    details = service.get("/health/ready").json()["details"]
    assert {p["name"] for p in details["projections"]} == set(registry())
    assert all(p["lag"] == 0 and p["current"] and len(p["state_hash"]) == 64 for p in details["projections"])
    assert "details" not in service.request("GET", "/health/ready", None).json()


def test_an_absurd_host_header_is_no_fault_of_ours(service: Service) -> None:
    """A Host that is no host must not turn a 404 into a 500."""
    response = service.request("GET", "/nope", None, headers={"Host": "x:99999999"})
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


def test_a_new_ledger_is_its_owners_alone(service: Service) -> None:
    """The file and its WAL hold user ids and free data."""
    for name in ("ledger.db", "ledger.db-wal"):
        assert service.ledger.path.with_name(name).stat().st_mode & 0o077 == 0
