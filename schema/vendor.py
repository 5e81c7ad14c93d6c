"""A vendor's own API, asked with a credential: what a test of a connection finds, and what the vendor offers."""

from msgspec import Struct

from schema.ids import ClientId
from schema.lease import Outcome
from schema.sealed import Secret

LISTED_MODELS_MAX = 2_000
DETAIL_CHARS_MAX = 300


class ModelListing(Struct, frozen=True, kw_only=True):
    """What asking a vendor for its models came to. `models` are names as the vendor gives them, each once.

    `complete` is false where it said that there are more, or a name could not be taken. `status` is null where there
    was no answer. `detail` holds nothing of the secret.
    """

    outcome: Outcome
    latency_ms: int = 0
    status: int | None = None
    models: tuple[str, ...] = ()
    complete: bool = True
    detail: str | None = None


class ProviderTestRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """With what to test: a stored credential, or a secret that is not stored. It repeats no secret when printed."""

    credential_id: ClientId | None = None
    secret: Secret | None = None

    def __repr__(self) -> str:
        return f"ProviderTestRequest(credential_id={self.credential_id!r})"


class ProviderTest(Struct, kw_only=True):
    """What a test found: `outcome` is a class as in reports on leases, `models` how many the vendor lists."""

    ok: bool
    outcome: Outcome
    status: int | None
    latency_ms: int
    models: int
    detail: str | None
