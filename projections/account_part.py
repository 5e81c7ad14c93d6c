"""Grants, holds and statement lines: the parts that an account's credit falls into."""

from msgspec import Struct

from schema.charge import Scope
from schema.credit import TransactionKind
from schema.hold import HoldStatus

HoldKey = tuple[str, str]  # app (empty: the ledger's) and id
HIGH = 10**18  # from here on a sum is stored in two numbers
MARK_LINES = 64  # so far apart are the lines of a statement that can be sought
# Position, number of the account, position of the line before, kind, amount, held, and what a state shows.
LineRow = tuple[int, int, int, TransactionKind | None, int, int, int, int, int, int, int, int, int, int, int]


def parted(total: int) -> tuple[int, int]:
    """A sum as it is stored: how many times HIGH, and the rest."""
    return (0, total) if 0 <= total < HIGH else divmod(total, HIGH)


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
