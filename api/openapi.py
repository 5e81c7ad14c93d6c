"""The OpenAPI document: routes from the application, bodies and parameters from the Structs that decode them."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, cast

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from msgspec import Meta, Struct

from api.auth import ANYONE, ROLES, Role
from api.problems import PROBLEM_JSON, Problem
from schema.conversion import Currency
from schema.ids import ClientId, ShortId
from schema.payment_client import PaymentClientId
from schema.usage_report import BatchId

DOCUMENT = "document"
JSON, NDJSON = "application/json", "application/x-ndjson"
INFO = {
    "title": "Usage Ledger",
    "version": "1",
    "description": "An event-sourced ledger of AI model calls. Times are RFC 3339 in UTC, decimals are strings.",
}
_REF = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_PATH_TYPES: dict[str, Any] = {
    "call_id": ClientId,
    "provider_id": ClientId,
    "model_id": ClientId,
    "credential_id": ClientId,
    "lease_id": ClientId,
    "rate_id": ClientId,
    "rerate_id": ClientId,
    "version": Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z", description="A digest.")],
    "name": Annotated[str, Meta(pattern=r"^[a-z_.]{1,64}\Z", description="A file of the dashboard.")],
    "account_id": ClientId,
    "budget_id": ClientId,
    "hold_id": ClientId,
    "currency": Currency,
    "package_id": ClientId,
    "coupon_id": ShortId,
    "order_id": ShortId,
    "payment_id": ClientId,
    "payment_client_id": PaymentClientId,
    "report_id": BatchId,
    "webhook_id": ClientId,
    "event_position": Annotated[int, Meta(ge=1, description="A position in the journal.")],
}

Roles = frozenset[Role] | str
Json = dict[str, Any]


class Documentation(Struct, frozen=True):
    """What a route's decoders and encoders know of it.

    `body` and `responses` are types, or the name of a media type whose content is text. `lines` is the type of an
    item where the body may be NDJSON. `headers` maps the request headers and `sends` the response headers that matter
    to their descriptions.
    """

    responses: Mapping[int, Any]
    body: Any = None
    lines: Any = None
    query: type[Struct] | None = None
    headers: Mapping[str, str] = {}
    sends: Mapping[str, str] = {}


def documented(roles: Roles, summary: str, **described: Any) -> Json:  # noqa: ANN401 - the fields of Documentation
    """A route's options: who may call it, and how the document describes it."""
    return {"opt": {ROLES: roles, DOCUMENT: Documentation(**described)}, "summary": summary}


def document(app: Litestar) -> Json:
    """The whole document."""
    routes = list(_documented_routes(app))
    paths: dict[str, Json] = {}
    for path, method, handler in routes:
        paths.setdefault(path, {})[method] = _operation(path, handler)
    described: list[Documentation] = [handler.opt[DOCUMENT] for _, _, handler in routes]
    types = [t for each in described for t in (each.body, each.lines, *each.responses.values())]
    _, components = msgspec.json.schema_components([Problem, *filter(_is_type, types)], ref_template=_REF)
    security = {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}}
    found = {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": security},
    }
    return _portable(found)


def _documented_routes(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if DOCUMENT in handler.opt:
                yield from ((route.path_format, str(m).lower(), handler) for m in sorted(handler.http_methods))


def _operation(path: str, handler: HTTPRouteHandler) -> Json:
    documentation: Documentation = handler.opt[DOCUMENT]
    roles: Roles = handler.opt[ROLES]
    operation: Json = {
        "operationId": handler.handler_name,
        "summary": handler.summary,
        "description": (handler.fn.__doc__ or "").strip(),
        "parameters": _parameters(path, documentation),
        "responses": _responses(documentation),
        "security": [] if roles == ANYONE else [{"key": []}],
        "x-roles": roles if roles == ANYONE else sorted(roles),
    }
    if documentation.body is not None:
        operation["requestBody"] = _request_body(documentation)
    return operation


def _parameters(path: str, documentation: Documentation) -> list[Json]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": _schema(_PATH_TYPES[name])}
        for name in _PATH_PARAMETER.findall(path)
    ]
    for name, description in documentation.headers.items():
        schema = {"type": "string", "description": description}
        found.append({"name": name, "in": "header", "required": False, "schema": schema})
    if documentation.query is not None:
        _, components = msgspec.json.schema_components([documentation.query], ref_template=_REF)
        properties: Json = components[documentation.query.__name__]["properties"]
        for name, schema in properties.items():
            found.append({"name": name, "in": "query", "required": False, "schema": _without_null(schema)})
    return found


def _without_null(schema: Json) -> Json:
    """In a query string what is absent is left out; there is no null."""
    if {"type": "null"} not in schema.get("anyOf", ()):
        return schema
    (only,) = (each for each in schema["anyOf"] if each != {"type": "null"})
    return only


def _request_body(documentation: Documentation) -> Json:
    content: Json = {JSON: {"schema": _schema(documentation.body)}}
    if documentation.lines is not None:
        description = "One item a line, each as in `x-item-schema`; a bad line is rejected alone."
        schema = {"type": "string", "description": description, "x-item-schema": _schema(documentation.lines)}
        content[NDJSON] = {"schema": schema}
    return {"required": True, "content": content}


def _responses(documentation: Documentation) -> Json:
    problem = {"description": "A problem", "content": {PROBLEM_JSON: {"schema": _schema(Problem)}}}
    sends = {
        name: {"description": description, "schema": {"type": "string"}}
        for name, description in documentation.sends.items()
    }
    found = {str(status): _response(type_, sends) for status, type_ in documentation.responses.items()}
    return {**found, "default": problem}


def _response(type_: Any, headers: Json) -> Json:  # noqa: ANN401 - a media type's name, or any type that msgspec knows
    content = {JSON: {"schema": _schema(type_)}} if _is_type(type_) else {type_: {"schema": {"type": "string"}}}
    return {"description": "Done", "content": content, **({"headers": headers} if headers else {})}


def _is_type(value: object) -> bool:
    return value is not None and not isinstance(value, str)


def _schema(type_: Any) -> Json:  # noqa: ANN401 - any type that msgspec knows
    (schema,), _ = msgspec.json.schema_components([type_], ref_template=_REF)
    return schema


def _portable(value: Any) -> Any:  # noqa: ANN401 - any part of the document
    r"""JSON Schema's patterns are ECMAScript's, where the end is `$`, which matches nowhere else, and `\Z` is none."""
    if isinstance(value, dict):
        items = cast("Json", value)
        return {
            name: re.sub(r"\\Z$", "$", part) if name == "pattern" else _portable(part) for name, part in items.items()
        }
    if isinstance(value, list):
        return [_portable(part) for part in cast("list[Any]", value)]
    return value
