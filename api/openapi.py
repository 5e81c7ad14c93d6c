"""The OpenAPI document: routes from Litestar, bodies and parameters from the Structs that decode them."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Litestar
from msgspec import Struct

from api.auth import ANYONE, ROLES, Role
from api.problems import PROBLEM_JSON, Problem

DOCUMENT = "document"
JSON = "application/json"
_REF = "#/components/schemas/{name}"

Roles = frozenset[Role] | str


class Documentation(Struct, frozen=True):
    """What a route's decoders and encoders know of it."""

    body: Any = None
    query: type[Struct] | None = None
    responses: Mapping[int, Any] = {}
    ndjson: bool = False


def documented(
    roles: Roles,
    summary: str,
    *,
    body: Any = None,  # noqa: ANN401 - any type that msgspec knows
    query: type[Struct] | None = None,
    responses: Mapping[int, Any],
    ndjson: bool = False,
) -> dict[str, Any]:
    """A route's options: who may call it, and how the document describes it."""
    document = Documentation(body, query, responses, ndjson)
    return {"opt": {ROLES: roles, DOCUMENT: document}, "summary": summary}


def document(app: Litestar) -> dict[str, Any]:
    """The whole document."""
    schema = app.openapi_schema.to_schema()
    found = _documented_routes(app)
    types = [
        t for _, _, _, d in found for t in (d.body, *d.responses.values()) if t is not None and not isinstance(t, str)
    ]
    _, components = msgspec.json.schema_components([Problem, *types], ref_template=_REF)
    schema["components"] = {
        "schemas": components,
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
    }
    for path, method, roles, documentation in found:
        operation = schema["paths"][path][method]
        _describe(operation, documentation)
        operation["security"] = [] if roles == ANYONE else [{"key": []}]
        operation["x-roles"] = roles if roles == ANYONE else sorted(roles)
    return schema


def _documented_routes(app: Litestar) -> list[tuple[str, str, Roles, Documentation]]:
    return [
        (route.path_format, method.lower(), handler.opt[ROLES], handler.opt[DOCUMENT])
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        for method in sorted(handler.http_methods)
        if DOCUMENT in handler.opt and method != "OPTIONS"
    ]


def _describe(operation: dict[str, Any], documentation: Documentation) -> None:
    if documentation.body is not None:
        types = (JSON, "application/x-ndjson") if documentation.ndjson else (JSON,)
        schema = _schema(documentation.body)
        operation["requestBody"] = {"required": True, "content": {t: {"schema": schema} for t in types}}
    if documentation.query is not None:
        operation.setdefault("parameters", []).extend(_parameters(documentation.query))
    operation["responses"] = {str(status): _response(t) for status, t in documentation.responses.items()}
    problem = {PROBLEM_JSON: {"schema": _schema(Problem)}}
    operation["responses"]["default"] = {"description": "A problem", "content": problem}


def _response(type_: Any) -> dict[str, Any]:  # noqa: ANN401 - a media type's name, or any type that msgspec knows
    if isinstance(type_, str):
        return {"description": "Done", "content": {type_: {"schema": {"type": "string"}}}}
    return {"description": "Done", "content": {JSON: {"schema": _schema(type_)}}}


def _schema(type_: Any) -> dict[str, Any]:  # noqa: ANN401 - any type that msgspec knows
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=_REF)
    return schema


def _parameters(query: type[Struct]) -> list[dict[str, Any]]:
    (_, components) = msgspec.json.schema_components([query], ref_template=_REF)
    properties: dict[str, Any] = components[query.__name__]["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]
