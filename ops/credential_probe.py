"""Looking whether a vendor takes a key: its list of models is asked for, which costs nothing and says enough."""

import httpx

from schema.lease import ProbeTarget, can_be_probed

TIMEOUT_S = 10.0
# Vendors that want the key elsewhere than in `Authorization: Bearer`; the others are as OpenAI is.
_HEADERS: dict[str, tuple[str, dict[str, str]]] = {
    "anthropic": ("x-api-key", {"anthropic-version": "2023-06-01"}),
    "azure": ("api-key", {}),
    "gemini": ("x-goog-api-key", {}),
    "google": ("x-goog-api-key", {}),
}


class ModelListProbe:
    """`GET {base_url}/models` with the key. What has no address, or more than a key, is enabled by hand."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._transport = transport

    async def works(self, target: ProbeTarget) -> bool:
        """Whether the vendor answers with success; raises httpx.HTTPError."""
        if target.base_url is None or not can_be_probed(target.type, target.base_url):
            return False
        url = f"{target.base_url.rstrip('/')}/models"
        # Redirects are not followed: a key goes where it was meant to go.
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, transport=self._transport, follow_redirects=False) as client,
            client.stream("GET", url, headers=_headers(target)) as response,
        ):
            return response.is_success


def _headers(target: ProbeTarget) -> dict[str, str]:
    key = target.secret["api_key"]
    if target.provider_type in _HEADERS:
        name, more = _HEADERS[target.provider_type]
        return {name: key, **more}
    return {"Authorization": f"Bearer {key}"}
