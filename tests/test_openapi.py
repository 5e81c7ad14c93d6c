"""The OpenAPI document: complete, valid, unchanged unless on purpose, and true of what the service does.

After a change that is meant, `REFRESH_GOLDEN=1 pytest tests/test_openapi.py` writes the golden copy anew.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
import jsonschema_rs
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from litestar.routes import HTTPRoute

from api.app import create_app
from api.openapi import document
from api.settings import ApiSettings
from ledger.ledger import Ledger
from tests.serving import APP, CALLS, Clock, Json, Service, a_call, bearer, serving

GOLDEN = Path(__file__).parent / "golden" / "openapi.json"
REFRESH = "REFRESH_GOLDEN"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXAMPLES_PER_OPERATION = 16
# Streams do not end, so none is let in.
SETTINGS = ApiSettings(sweep_interval_s=86_400.0, sse_streams_max=0)


def make_document() -> Json:
    made = document(create_app(Ledger(Path("unopened")), SETTINGS, Clock()))
    return msgspec.json.decode(msgspec.json.encode(made))


DOCUMENT = make_document()
OPERATIONS = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in sorted(methods)]


def parts(value: Any) -> Iterator[Json]:  # noqa: ANN401 - any part of the document
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
        for child in cast("Json", value).values():
            yield from parts(child)
    elif isinstance(value, list):
        for child in cast("list[Any]", value):
            yield from parts(child)


def operation_of(method: str, path: str) -> Json:
    return DOCUMENT["paths"][path][method.lower()]


def resolved(reference: str) -> Json:
    found: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def matches(schema: Json, value: object) -> None:
    """Raise unless the value is as the schema says; references are to the document's components."""
    validator(msgspec.json.encode(schema)).validate(value)


@cache
def validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    whole = {"$schema": DIALECT, "components": DOCUMENT["components"], **msgspec.json.decode(schema)}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def test_the_document_is_the_golden_one() -> None:
    """The public surface changes only where someone looks at the change."""
    text = msgspec.json.format(msgspec.json.encode(DOCUMENT, order="sorted"), indent=2) + b"\n"
    if REFRESH in os.environ:
        GOLDEN.write_bytes(text)
    assert text == GOLDEN.read_bytes(), f"if this is meant, run it with {REFRESH}=1 and review the difference"


def test_the_served_document_is_this_one(tmp_path: Path) -> None:
    """/schema gives it, to any key and to nobody else."""
    with serving(tmp_path, settings=SETTINGS) as service:
        assert service.get("/schema", APP).json() == DOCUMENT
        assert service.request("GET", "/schema", None).status_code == 401


def test_every_route_is_documented() -> None:
    """Each route of the application is there, with words, roles, and what it answers."""
    app = create_app(Ledger(Path("unopened")), SETTINGS, Clock())
    routes = {
        (str(method), route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    }
    assert routes == set(OPERATIONS)
    for method, path in OPERATIONS:
        operation = operation_of(method, path)
        assert operation["summary"]
        assert operation["description"]
        assert operation["x-roles"]
        assert (operation["security"] == []) == (operation["x-roles"] == "anyone")
        assert ("requestBody" in operation) == (method in {"POST", "PATCH"})
        assert "default" in operation["responses"]
        assert any(status.startswith("2") for status in operation["responses"])


def test_every_operation_has_its_own_id() -> None:
    """Generated clients name their functions by it."""
    ids = [operation_of(*each)["operationId"] for each in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(id_.isidentifier() for id_ in ids)


def test_path_parameters_are_declared() -> None:
    """Each in the path is a required parameter, and there is no other."""
    for method, path in OPERATIONS:
        declared = {each["name"] for each in operation_of(method, path)["parameters"] if each["in"] == "path"}
        assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        assert all(each["required"] for each in operation_of(method, path)["parameters"] if each["in"] == "path")


def test_no_reference_dangles_and_no_component_is_left_over() -> None:
    """Every `$ref` leads somewhere, and every component is led to."""
    references = {part["$ref"] for part in parts(DOCUMENT) if "$ref" in part}
    assert references
    assert all(resolved(reference) for reference in references)
    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} == references


def schemas() -> Iterator[Json]:
    yield from DOCUMENT["components"]["schemas"].values()
    yield from (part["schema"] for part in parts(DOCUMENT) if isinstance(part.get("schema"), dict))


def test_every_schema_is_json_schema_2020_12() -> None:
    """The dialect of OpenAPI 3.1; its patterns mean the same in every regular expression dialect."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    for schema in schemas():
        jsonschema_rs.meta.validate({"$schema": DIALECT, **schema})
    patterns = [part["pattern"] for part in parts(DOCUMENT) if isinstance(part.get("pattern"), str)]
    assert patterns
    assert [pattern for pattern in patterns if r"\Z" in pattern or r"\A" in pattern] == []


def test_examples_and_defaults_are_valid() -> None:
    """What the document shows would be accepted."""
    shown = [(part, example) for part in parts(DOCUMENT) for example in part.get("examples", [])]
    shown += [(part, part["default"]) for part in parts(DOCUMENT["components"]) if "default" in part]
    assert len(shown) > 10
    for schema, example in shown:
        matches({name: value for name, value in schema.items() if name != "examples"}, example)


def test_a_call_of_the_contract_is_valid_and_its_answers_too(tmp_path: Path) -> None:
    """A whole call, its receipt, its view, a batch's result, statistics and a problem, by their schemas."""
    call = a_call(error={"code": "x", "message": "y"}, metadata={"feature": "search"}, attempt=1, app=APP)
    matches({"$ref": "#/components/schemas/ModelCall"}, call)
    with serving(tmp_path, settings=SETTINGS) as service:
        answers = [
            (service.post(CALLS, call), "post", CALLS),
            (service.post(CALLS, call), "post", CALLS),
            (service.post(CALLS, [call, {}, a_call("b")]), "post", CALLS),
            (service.get(CALLS), "get", CALLS),
            (service.get(f"{CALLS}/c-1"), "get", f"{CALLS}/{{call_id}}"),
            (service.get(f"{CALLS}/c-1/events"), "get", f"{CALLS}/{{call_id}}/events"),
            (service.get("/v1/model-call-stats?group_by=app&granularity=day"), "get", "/v1/model-call-stats"),
            (service.get("/health/ready"), "get", "/health/ready"),
            (service.get("/nowhere"), "get", "/schema"),
        ]
    assert [answer.status_code for answer, _, _ in answers] == [201, 200, 207, 200, 200, 200, 200, 200, 404]
    for answer, method, path in answers:
        assert_documented(DOCUMENT["paths"][path][method], answer)


def assert_documented(operation: Json, response: httpx.Response) -> None:
    """The status, the content type and the content are as the document says."""
    documented = operation["responses"].get(str(response.status_code), operation["responses"]["default"])
    content_type = response.headers["content-type"].partition(";")[0]
    by_type = {name.partition(";")[0]: content for name, content in documented["content"].items()}
    assert content_type in by_type, (response.status_code, content_type)
    if content_type.endswith("json") and content_type != "application/x-ndjson":
        matches(by_type[content_type]["schema"], response.json())


# What a machine makes of the document


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("openapi"), settings=SETTINGS) as service:
        service.post(CALLS, [a_call(f"c-{n}") for n in range(5)])
        yield service


Case = schemathesis.Case[Any]
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


def takes_input(method: str, path: str) -> bool:
    operation = operation_of(method, path)
    return bool(operation["parameters"]) or "requestBody" in operation


GENERATED = [
    (*each, mode) for each in OPERATIONS for mode in (POSITIVE, NEGATIVE) if mode is POSITIVE or takes_input(*each)
]


@pytest.mark.parametrize(("method", "path", "mode"), GENERATED)
def test_generated_requests_are_answered_as_documented(
    service: Service, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    """Requests that follow the document, and ones that break it: never a 5xx, always a documented answer."""
    operation = cast("Any", SCHEMA)[path][method]

    @settings(
        max_examples=EXAMPLES_PER_OPERATION,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )
    @given(case=operation.as_strategy(generation_mode=mode), caller=st.sampled_from(("admin", "admin", APP, "auditor")))
    def answered(case: Case, caller: str) -> None:
        response = send(service, case, caller)
        assert response.status_code < 500 or path.endswith("/stream"), response.text
        assert_documented(operation_of(method, path), response)

    answered()


def send(service: Service, case: Case, caller: str) -> httpx.Response:
    prepared = case.as_transport_kwargs(base_url=str(service.client.base_url))
    headers = {**dict(prepared["headers"]), **bearer(caller)}
    body = {name: prepared[name] for name in ("json", "data") if prepared.get(name) is not None}
    content = body.get("data", msgspec.json.encode(body["json"]) if "json" in body else b"")
    return service.client.request(
        prepared["method"], prepared["url"], params=prepared.get("params"), headers=headers, content=content
    )
