"""Grants and holds: the parts that an account's credit falls into."""

from msgspec import Struct

from schema.charge import Scope
from schema.hold import HoldStatus

HoldKey = tuple[str, str]  # app (empty: the ledger's) and id


class Grant(Struct, gc=False):
    """Free quota of one credit. What is held of it is part of what remains."""

    account: str
    id: str
    amount_e10: int
    remaining_e10: int
    held_e10: int
    expires_at_us: int  # NEVER_US: it does not
    priority: int
    scope: Scope | None
    position: int
    expirations: int = 0

    @property
    def unheld_e10(self) -> int:
        """What may be spent or held of it, or expires."""
        return self.remaining_e10 - self.held_e10


class HoldState(Struct, gc=False):
    """A hold: `balance_e10` of it is set aside in the balance, `free` in grants, in the order they are spent."""

    app: str
    id: str
    account: str
    amount_e10: int
    balance_e10: int
    free: dict[str, int]
    call_id: str | None
    expires_at_us: int
    status: HoldStatus
    position: int
    closed_position: int | None = None
    settled_e10: int | None = None

    @property
    def key(self) -> HoldKey:
        """Its app and id."""
        return self.app, self.id
