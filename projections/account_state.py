"""An account's figures, and those that a writer remembers from one group to the next."""

from msgspec import Struct

from projections.account_part import HIGH, parted

NEVER_US = 2**62
DUE_UNKNOWN_US = 0
REMEMBERED_MAX = 32_768  # owners or accounts; beyond them all are forgotten


class AccountState(Struct, gc=False):
    """An account. Balance and free quota include what is held of them.

    `number` is the position of its first event: rows name it by that.
    `due_us`: nothing that is open or live ends before, as far as was looked; DUE_UNKNOWN_US where nobody looked.
    """

    id: str
    owner: str
    overdraft: str
    apps: tuple[str, ...]
    number: int
    balance_e10: int = 0
    balance_held_e10: int = 0
    free_e10: int = 0
    free_held_e10: int = 0
    issued_e10: int = 0
    expired_e10: int = 0
    spent_e10: int = 0
    owed_e10: int = 0
    tokens: int = 0
    sequence: int = 0
    grants: int = 0  # with something left
    holds: int = 0  # open
    lines: int = 0  # of its statement
    position: int = 0  # of the last of them
    due_us: int = NEVER_US

    @property
    def total_e10(self) -> int:
        """Balance and free quota together: what transactions add up to."""
        return self.balance_e10 + self.free_e10

    @property
    def held_e10(self) -> int:
        """What open holds set aside."""
        return self.balance_held_e10 + self.free_held_e10

    @property
    def unheld_balance_e10(self) -> int:
        """The balance without what is held of it; below zero where it is overdrawn."""
        return self.balance_e10 - self.balance_held_e10

    def balanced(self) -> bool:
        """Whether all that was issued is somewhere: the sum of `postings` is 0. What is held cancels out."""
        there = self.balance_e10 + self.free_e10 + self.spent_e10 + self.expired_e10
        return there == self.issued_e10 + self.owed_e10

    def shown(self) -> tuple[int, int, int, int, int, int, int, int, int]:
        """What a statement shows, as it is stored: sums without a bound of their own in two numbers."""
        spent, owed, tokens = self.spent_e10, self.owed_e10, self.tokens
        if 0 <= spent < HIGH and 0 <= owed < HIGH and 0 <= tokens < HIGH:  # as nearly always
            return (self.balance_e10, self.free_e10, 0, spent, 0, owed, 0, tokens, self.sequence)
        sums = (*parted(spent), *parted(owed), *parted(tokens))
        return (self.balance_e10, self.free_e10, *sums, self.sequence)

    def postings(self) -> tuple[int, ...]:
        """What stands on each system account; the sum is 0: all that was issued is somewhere.

        issued and owed are the ledger's claims, hence negative; then balance, free quota, held, spent, expired.
        """
        unheld_free = self.free_e10 - self.free_held_e10
        return (
            -self.issued_e10, -self.owed_e10, self.unheld_balance_e10, unheld_free, self.held_e10, self.spent_e10,
            self.expired_e10,
        )  # fmt: skip


class Remembered:
    """Accounts as events left them, and by owner their ids: None where an owner has no account."""

    __slots__ = ("owners", "states")

    def __init__(self) -> None:
        self.states: dict[str, AccountState] = {}
        self.owners: dict[str, str | None] = {}


class AccountMemory:
    """What a connection that writes remembers, for as long as it alone writes: it need not be read again.

    Taken at the beginning of a transaction and kept only once that is committed: whatever goes wrong between, the next
    group reads the file.
    """

    def __init__(self) -> None:
        self.kept = Remembered()

    def take(self) -> Remembered:
        """What is remembered, which is changed in place."""
        kept, self.kept = self.kept, Remembered()
        full = max(len(kept.states), len(kept.owners)) > REMEMBERED_MAX
        return Remembered() if full else kept

    def keep(self, remembered: Remembered) -> None:
        """Remember what a committed group has left."""
        self.kept = remembered

    def forget(self) -> None:
        """Somebody else has written."""
        self.kept = Remembered()
