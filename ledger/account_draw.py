"""Where an amount comes from: free quota first, then the balance. Nothing here changes anything."""

from typing import Any

from msgspec import Struct

from projections.account_book import AccountState, Book, Grant
from schema.charge import AMOUNT_E10_MAX, Charge
from schema.money import amount_e10, amount_text

OVERDRAFT_E10_MAX = AMOUNT_E10_MAX  # how far below zero a balance may go; what exceeds it is owed


class Drawn(Struct, gc=False):
    """An amount by where it comes from: grants in the order they are spent, the balance, and what nobody could pay."""

    free: dict[str, int]
    balance_e10: int
    owed_e10: int

    @property
    def paid_e10(self) -> int:
        """What moves."""
        return sum(self.free.values()) + self.balance_e10

    def plus(self, other: "Drawn") -> "Drawn":
        """Both together."""
        free = {id_: self.free.get(id_, 0) + other.free.get(id_, 0) for id_ in {**self.free, **other.free}}
        return Drawn(free, self.balance_e10 + other.balance_e10, self.owed_e10 + other.owed_e10)


def drawn_by(charge: Charge) -> Drawn:
    """A charge by where it came from."""
    free = {id_: amount_e10(text) for id_, text in (charge.free or {}).items()}
    owed_e10 = amount_e10(charge.owed)
    return Drawn(free, amount_e10(charge.amount) - owed_e10 - sum(free.values()), owed_e10)


def texts(parts: dict[str, int]) -> dict[str, str] | None:
    """Amounts by grant as an event has them; None where there are none."""
    return {id_: amount_text(part) for id_, part in parts.items() if part} or None


def usable(book: Book, account: AccountState, now_us: int, use: Any) -> list[Grant]:  # noqa: ANN401 - as Scope.covers
    """The grants that may be spent on `use`: scoped ones by priority, then the others; what ends first comes first."""
    if not account.grants:
        return []
    found = [
        grant
        for grant in book.grants.get(account.id, {}).values()
        if grant.expires_at_us > now_us
        and grant.unheld_e10 > 0
        and (grant.scope is None or (use is not None and grant.scope.covers(use)))
    ]
    found.sort(key=_order)
    return found


def _order(grant: Grant) -> tuple[bool, int, int, int, str]:
    scoped = grant.scope is not None
    return not scoped, grant.priority if scoped else 0, grant.expires_at_us, grant.position, grant.id


def draw(account: AccountState, grants: list[Grant], wanted_e10: int, *, overdraft: bool) -> Drawn:
    """As much of an amount as can be paid now; the rest is owed. `overdraft`: the balance may go below zero."""
    balance_e10 = account.unheld_balance_e10
    if not grants and wanted_e10 <= balance_e10:  # as nearly always
        return Drawn({}, wanted_e10, 0)
    payable_e10 = balance_e10 + sum(grant.unheld_e10 for grant in grants)
    left_e10 = wanted_e10 if overdraft else min(wanted_e10, max(payable_e10, 0))
    free: dict[str, int] = {}
    for grant in grants:
        if not left_e10:
            break
        free[grant.id] = part = min(left_e10, grant.unheld_e10)
        left_e10 -= part
    from_balance_e10 = min(left_e10, balance_e10 + OVERDRAFT_E10_MAX) if overdraft else left_e10
    from_balance_e10 = max(from_balance_e10, 0)
    return Drawn(free, from_balance_e10, wanted_e10 - sum(free.values()) - from_balance_e10)


def draw_held(parts: dict[str, int], balance_e10: int, wanted_e10: int) -> Drawn:
    """An amount out of what was held for it; what exceeds that is told as owed."""
    left_e10 = wanted_e10
    free: dict[str, int] = {}
    for id_, held in parts.items():
        free[id_] = part = min(left_e10, held)
        left_e10 -= part
    from_balance_e10 = min(left_e10, balance_e10)
    return Drawn({id_: part for id_, part in free.items() if part}, from_balance_e10, left_e10 - from_balance_e10)


def give_back(charged: Drawn, wanted_e10: int) -> Drawn:
    """An amount of a charge, in the reverse order: what is owed first, then the balance, then the grants."""
    owed_e10 = min(charged.owed_e10, wanted_e10)
    balance_e10 = min(charged.balance_e10, wanted_e10 - owed_e10)
    left_e10 = wanted_e10 - owed_e10 - balance_e10
    free: dict[str, int] = {}
    for id_, part in reversed(charged.free.items()):
        taken = min(part, left_e10)
        left_e10 -= taken
        if taken:
            free[id_] = taken
    return Drawn(free, balance_e10, owed_e10)
