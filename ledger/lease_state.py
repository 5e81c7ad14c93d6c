"""The state that leases live on: whose turn it is, what quotas have used, who is penalised, which leases are out."""

from msgspec import Struct

from ledger.state import state_table
from schema.lease import Outcome

HEAD = 1


class LeaseHead(Struct, frozen=True):
    """The one row that every lease moves: how many there were, the latest time among them.

    And how many are forgotten, which are the first ones, with the time of the last of these.
    """

    id: int = HEAD
    sequence: int = 0
    last_us: int = 0
    pruned: int = 0
    pruned_us: int = 0


class RotationRow(Struct, frozen=True):
    """A credential's turn and health.

    `events` counts what the journal was told of it, and names the next such event. Reports on leases up to
    `cleared` are about what has been mended since; leases up to `resealed` lent a secret that it no longer has.
    `failed`: an error disabled it, which the record shows too from the next group on; `recheck_at_us` is null unless it
    is to be looked at again. Until `unreadable_until_us` it is passed over, for its secret could not be opened.
    """

    credential: str
    provider: str
    current: int = 0
    errors: int = 0
    cleared: int = 0
    penalised_until_us: int = 0
    recheck_at_us: int | None = None
    recheck_failures: int = 0
    last_leased_us: int | None = None
    events: int = 0
    resealed: int = 0
    failed: bool = False
    unreadable_until_us: int = 0


class UsageRow(Struct, frozen=True):
    """What a credential was lent in a day or month, by outcome. Leases up to `reset` were taken off by hand."""

    credential: str
    kind: str
    period: str
    starts_at_us: int
    ends_at_us: int
    used: int = 0
    reset: int = 0
    near: bool = False
    exhausted: bool = False
    success: int = 0
    auth: int = 0
    payment: int = 0
    rate_limited: int = 0
    content: int = 0
    server: int = 0
    timeout: int = 0
    not_sent: int = 0


class LeaseRow(Struct, frozen=True):
    """A lease; `model` is what was asked for, null where it was a provider.

    Leases are in the order of `leased_at_us`, which never runs back; `expires_at_us` is by the clock, as is said to the
    application, and `expires_in_s` what it asked for.
    """

    id: str
    sequence: int
    credential: str
    provider: str
    model: str | None
    app: str | None
    actor: str
    leased_at_us: int
    expires_at_us: int
    day: str
    month: str
    outcome: Outcome | None = None
    retry_after_s: int | None = None
    reported_at_us: int | None = None
    expires_in_s: int = 0


class ProviderRotationRow(Struct, frozen=True):
    """A provider's failures in a row, and until when it is passed over."""

    provider: str
    failures: int = 0
    cool_until_us: int = 0


class ModelRotationRow(Struct, frozen=True):
    """The provider that a model was last lent from."""

    model: str
    provider: str


LEASE_HEAD = state_table("lease_head", LeaseHead)
ROTATIONS = state_table("credential_rotation", RotationRow)
USAGES = state_table("credential_usage", UsageRow, key_width=3)
LEASES = state_table("leases", LeaseRow)
PROVIDER_ROTATIONS = state_table("provider_rotation", ProviderRotationRow)
MODEL_ROTATIONS = state_table("model_rotation", ModelRotationRow)
