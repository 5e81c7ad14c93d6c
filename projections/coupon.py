"""Coupons by id, as the latest change left them; how often each was used is in `coupon_uses`."""

import apsw

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from schema.catalogue import Stand
from schema.coupon import COUPON, Coupon, CouponFilter

_COLUMNS = """
    name           TEXT,
    code_sha256    TEXT NOT NULL,
    active         INTEGER NOT NULL
"""


def _values(coupon: Coupon) -> tuple[Value, ...]:
    return coupon.name, coupon.code_sha256, int(coupon.active)


def conditions(wanted: CouponFilter) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found = catalogue.having(wanted.q, ("id", "coalesce(name, '')"))
    if wanted.active is not None:
        found.append(("active = ?", (int(wanted.active),)))
    if not wanted.deleted:
        found.append(("NOT deleted", ()))
    return found


def by_code(db: apsw.Connection, code_sha256: str) -> Stand | None:
    """The coupon that has this code, if it is not deleted."""
    id_ = catalogue.find_holder(db, COUPON, code_sha256=code_sha256)
    return None if id_ is None else catalogue.find(db, COUPON, id_)


PROJECTION = catalogue.projection(COUPON, 1, _COLUMNS, _values, unique="code_sha256")
