"""What an order costs and gives: by the package that it names, or by the conversion of its currency."""

from typing import Any

import apsw
from msgspec import Struct

from ledger import catalogue
from ledger.decision import WorkingSet
from schema.charge import AMOUNT_CREDITS_MAX, AMOUNT_E10_MAX
from schema.conversion import CONVERSION, Conversion, credits_e10
from schema.coupon import Coupon, bonus_e10
from schema.entry import Recorded
from schema.errors import FieldError, OutOfRange
from schema.money import amount_e10, amount_text
from schema.order import PostedOrder
from schema.package import PACKAGE, Package
from schema.payment_errors import CouponUnusable, NotForSale


class Quote(Struct, frozen=True):
    """A price, and what it buys, as the event at `priced_at` says."""

    amount_minor: int
    currency: str
    credits_e10: int
    bonus_e10: int
    priced_at: int


def load(db: apsw.Connection, ws: WorkingSet, order: PostedOrder) -> None:
    """Bring in what prices an order."""
    if order.package is not None:
        catalogue.load(db, ws, PACKAGE, order.package)
    else:
        catalogue.load(db, ws, CONVERSION, order.currency or "")


def quote(ws: WorkingSet, order: PostedOrder) -> Quote:
    """What an order costs and gives, its coupon aside; raises NotForSale, OutOfRange."""
    if order.package is not None:
        latest = ws.latest.get((PACKAGE.source, order.package))
        package: Any = None if latest is None else latest.data
        if latest is None or not isinstance(package, Package) or not package.active:
            raise NotForSale(f"there is no package {order.package} to be bought")
        given = amount_e10(package.credits), amount_e10(package.bonus_credits)
        return Quote(package.price_minor, package.currency, *given, latest.position)
    return _converted(ws.latest.get((CONVERSION.source, order.currency or "")), order)


def _converted(latest: Recorded | None, order: PostedOrder) -> Quote:
    conversion: Any = None if latest is None else latest.data
    if latest is None or not isinstance(conversion, Conversion) or not conversion.active:
        raise NotForSale(f"nothing can be bought for an amount of {order.currency}")
    amount = order.amount_minor or 0
    if not conversion.least_minor <= amount <= conversion.most_minor:
        message = f"Expected {conversion.least_minor} to {conversion.most_minor}"
        raise OutOfRange(errors=(FieldError("$.amount_minor", message),))
    found = credits_e10(conversion, amount)
    if not 1 <= found <= AMOUNT_E10_MAX:
        message = f"Expected what buys {amount_text(1)} to {AMOUNT_CREDITS_MAX} credits"
        raise OutOfRange(errors=(FieldError("$.amount_minor", message),))
    return Quote(amount, conversion.id, found, 0, latest.position)


def with_coupon(quote: Quote, coupon: Coupon) -> int:
    """What a coupon gives on top: its percentage of the credits, the package's own bonus aside."""
    if coupon.bonus_percent is None:
        raise CouponUnusable("this coupon is not for an order: redeem it by itself")
    more = bonus_e10(coupon.bonus_percent, quote.credits_e10)
    if quote.credits_e10 + quote.bonus_e10 + more > AMOUNT_E10_MAX:
        raise CouponUnusable(f"with this coupon the order would give more than {AMOUNT_CREDITS_MAX:,} credits")
    return more
