"""What media type a body has."""

from typing import Any

from litestar import Request

from api.auth import header
from schema.errors import UnsupportedMediaType

JSON = "application/json"


def require_json(request: Request[Any, Any, Any]) -> None:
    """Raise UnsupportedMediaType unless the body is plain JSON."""
    encoding = _text(header(request.scope, b"content-encoding"))
    if encoding not in {"", "identity"}:
        raise UnsupportedMediaType(f"content encoding {encoding} is not supported here")
    content_type = _text(header(request.scope, b"content-type")).partition(";")[0].strip()
    if content_type != JSON:
        raise UnsupportedMediaType(f"{content_type or 'no content type'} is not supported here")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("latin-1").strip().lower()
