"""Commands on the keys that seal secrets: which master key wraps new data keys, and wrapping those that there are anew.

They make no events: what they change is state, and no secret is another for it.
"""

from msgspec import Struct


class AdoptMasterKey(Struct, frozen=True, kw_only=True):
    """Command: wrap new data keys with this master key from now on, in every process.

    `abandon` lets secrets be whose master key is not at hand: they stay unreadable.
    """

    actor: str
    received_at_us: int
    id: str
    abandon: bool = False


class RewrapDataKeys(Struct, frozen=True, kw_only=True):
    """Command: wrap the next data keys by id after `after` with the current master key, as many as there are nonces."""

    actor: str
    received_at_us: int
    after: str
    nonces: tuple[bytes, ...]


class Rewrapped(Struct, frozen=True, kw_only=True):
    """What one step did: how many it wrapped anew, whose keys it could not read, and after which id to go on."""

    rewrapped: int
    unreadable: tuple[str, ...]
    last: str | None
