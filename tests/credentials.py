"""Builders of credentials and of services that have some."""

from typing import Any

import httpx

from tests.catalogue import a_provider
from tests.serving import Json, Service

SECRET = "sk-canary-5d41402abc4b2a76b9719d911017c592"
PROVIDER = "openai"
CREDENTIALS = "/v1/credentials"


def of(provider: str = PROVIDER) -> str:
    return f"/v1/providers/{provider}/credentials"


def a_credential(id_: str = "key-1", **fields: object) -> Json:
    """A credential as posted; keyword arguments replace fields."""
    return {"id": id_, "type": "api_key", "secret": {"api_key": SECRET}, **fields}


def with_provider(service: Service, id_: str = PROVIDER) -> None:
    assert service.post("/v1/providers", a_provider(id_), "admin").status_code == 201


def create(service: Service, id_: str = "key-1", provider: str = PROVIDER, **fields: object) -> httpx.Response:
    return service.post(of(provider), a_credential(id_, **fields), "admin")


def change(service: Service, id_: str, query: str = "", *, position: object = "*", **fields: object) -> httpx.Response:
    headers = {"If-Match": str(position)}
    return service.request("PATCH", f"{CREDENTIALS}/{id_}{query}", json=fields, headers=headers)


def remove(service: Service, id_: str, query: str = "", position: object = "*") -> httpx.Response:
    return service.request("DELETE", f"{CREDENTIALS}/{id_}{query}", headers={"If-Match": str(position)})


def erase(service: Service, id_: str, query: str = "", **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
    return service.request("POST", f"{CREDENTIALS}/{id_}/erase{query}", **options)
