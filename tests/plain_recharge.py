"""A plain book of orders, payments, refunds and coupons, told in fractions; it shares no code with what it checks."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

CREDIT = 10**10
LIFETIME_S = 100


def to_e10(exact: Fraction) -> int:
    """The nearest 1e-10 credit, halves up."""
    return floor(exact * CREDIT + Fraction(1, 2))


@dataclass
class PlainCoupon:
    percent: Fraction | None  # of an order; None: it gives five credits by itself
    limit: int | None
    own: int | None
    used_by: list[str] = field(default_factory=list[str])

    def free_for(self, account: str) -> bool:
        in_all = self.limit is None or len(self.used_by) < self.limit
        return in_all and (self.own is None or self.used_by.count(account) < self.own)


@dataclass
class PlainOrder:
    content: tuple[object, ...]
    account: str
    price: int
    gives: int
    coupon: str | None
    coupon_gives: int
    ends: int
    status: str = "pending"
    credited: int = 0
    refunded: int = 0
    taken: int = 0
    refunds: dict[str, tuple[object, ...]] = field(default_factory=dict[str, tuple[object, ...]])


class PlainRecharge:
    """Accounts by what they have; whatever is asked answers with the fate that the ledger's answer must have."""

    def __init__(self, accounts: list[str], coupons: dict[str, PlainCoupon]) -> None:
        self.balance = dict.fromkeys(accounts, 0)
        self.free = dict.fromkeys(accounts, 0)
        self.coupons = coupons
        self.orders: dict[str, PlainOrder] = {}
        self.payments: dict[str, tuple[tuple[object, ...], str]] = {}
        self.redeemed: dict[tuple[str, str], str] = {}
        self.late: set[str] = set()  # how orders were paid that had expired

    def release(self, order: PlainOrder, status: str) -> None:
        order.status = status
        if order.coupon is not None:
            self.coupons[order.coupon].used_by.remove(order.account)

    def place(self, now: int, id_: str, account: str, amount: int | None, coupon: str | None) -> str:
        """A package of 3.33 for 10 credits and one on top, or an amount at three minor units a credit."""
        content = (account, amount, coupon)
        if id_ in self.orders:
            return "duplicate" if self.orders[id_].content == content else "id_conflict"
        exact = Fraction(10) if amount is None else Fraction(to_e10(Fraction(amount, 3)), CREDIT)
        more = 0
        if coupon is not None:
            used = self.coupons[coupon]
            if used.percent is None:
                return "coupon_unusable"
            if not used.free_for(account):
                return "coupon_unusable"
            used.used_by.append(account)
            more = to_e10(exact * used.percent / 100)
        gives = to_e10(exact) + (CREDIT if amount is None else 0)
        price = 333 if amount is None else amount
        self.orders[id_] = PlainOrder(content, account, price, gives, coupon, more, now + LIFETIME_S)
        return "accepted"

    def pay(self, now: int, payment: str, id_: str, amount: int) -> str:
        """What becomes of a payment, the first time and again."""
        content = (id_, amount)
        if payment in self.payments:
            first, fate = self.payments[payment]
            return f"{fate} again" if first == content else "id_conflict"
        fate = self._paid(now, id_, amount)
        self.payments[payment] = content, fate
        return fate

    def _paid(self, now: int, id_: str, amount: int) -> str:
        order = self.orders.get(id_)
        if order is None:
            return "flagged unknown_order"
        if order.price != amount:
            return "refused amount_differs"
        if order.status == "cancelled":
            return "flagged order_cancelled"
        if order.status not in {"pending", "expired"}:
            return "flagged order_paid_before"
        more = order.coupon_gives
        if order.status == "pending" and now >= order.ends:
            self.release(order, "expired")
        if order.status == "expired" and order.coupon is not None:
            if self.coupons[order.coupon].free_for(order.account):
                self.coupons[order.coupon].used_by.append(order.account)
                self.late.add("with its coupon")
            else:
                more = 0
                self.late.add("without its coupon")
        order.status, order.credited = "paid", order.gives + more
        self.balance[order.account] += order.credited
        return "credited"

    def late_with_coupon(self, now: int) -> list[str]:
        """Orders with a coupon that are over and can still be paid."""
        open_ = [(id_, o) for id_, o in self.orders.items() if o.status in {"pending", "expired"}]
        return [id_ for id_, o in open_ if o.coupon is not None and now >= o.ends]

    def cancel(self, now: int, id_: str) -> str:
        order = self.orders.get(id_)
        if order is None:
            return "not_found"
        if order.status == "cancelled":
            return "duplicate"
        if order.status != "pending" or now >= order.ends:
            return "order_closed"
        self.release(order, "cancelled")
        return "accepted"

    def sweep(self, now: int) -> int:
        due = [order for order in self.orders.values() if order.status == "pending" and now >= order.ends]
        for order in due:
            self.release(order, "expired")
        return len(due)

    def refund(self, id_: str, refund: str, amount: int, credits_e10: int | None) -> str:
        order = self.orders.get(id_)
        if order is None:
            return "not_found"
        content = (amount, credits_e10)
        if refund in order.refunds:
            *first, fate = order.refunds[refund]
            return f"{fate} again" if tuple(first) == content else "id_conflict"
        if order.status not in {"paid", "partly_refunded", "refunded"}:
            return "order_closed"
        if order.refunded + amount > order.price:
            return "refund_exceeds_paid"
        left = order.credited - order.taken
        if credits_e10 is None:
            whole = Fraction(order.credited, CREDIT) / order.price
            taken = min(to_e10(whole * (order.refunded + amount)) - to_e10(whole * order.refunded), left)
        elif credits_e10 > left:
            return "out_of_range"
        else:
            taken = credits_e10
        if taken > self.balance[order.account]:
            order.refunds[refund] = (*content, "declined")
            return "declined"
        order.refunds[refund] = (*content, "accepted")
        order.refunded += amount
        order.taken += taken
        order.status = "refunded" if order.refunded == order.price else "partly_refunded"
        self.balance[order.account] -= taken
        return "accepted"

    def redeem(self, account: str, id_: str, coupon: str) -> str:
        if (account, id_) in self.redeemed:
            return "duplicate" if self.redeemed[account, id_] == coupon else "id_conflict"
        used = self.coupons[coupon]
        if used.percent is not None or not used.free_for(account):
            return "coupon_unusable"
        used.used_by.append(account)
        self.redeemed[account, id_] = coupon
        self.free[account] += 5 * CREDIT
        return "accepted"

    def raised(self, coupon: str) -> tuple[int | None, int | None]:
        found = self.coupons[coupon]
        if found.limit is not None:
            found.limit += 1
        elif found.own is not None:
            found.own += 1
        return found.limit, found.own

    def spend(self, account: str, amount: int) -> str:
        if amount > self.balance[account]:
            return "declined"
        self.balance[account] -= amount
        return "accepted"
