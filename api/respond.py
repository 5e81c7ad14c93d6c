"""JSON responses, encoded once by msgspec."""

from typing import Any

import msgspec
from litestar import Response

_encode = msgspec.json.Encoder().encode


def json(content: Any, status: int = 200) -> Response[bytes]:  # noqa: ANN401 - any view
    """A view as JSON."""
    return Response(_encode(content), status_code=status, media_type="application/json")
