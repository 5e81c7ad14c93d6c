"""How often coupons are used, in all and by account: redemptions, and orders that were not given up."""

from collections.abc import Iterable, Sequence
from typing import cast

import apsw

from projections.projection import Projection, Table, Target
from schema.coupon import CouponRedeemed
from schema.entry import Recorded
from schema.order import OrderCancelled, OrderExpired, OrderPaid, OrderPlaced

_OF = (CouponRedeemed, OrderPlaced, OrderExpired, OrderCancelled, OrderPaid)
_USES = """
    coupon         TEXT NOT NULL,
    account        TEXT NOT NULL,
    uses           INTEGER NOT NULL,
    PRIMARY KEY (coupon, account)
"""
_TOTALS = """
    coupon         TEXT PRIMARY KEY,
    uses           INTEGER NOT NULL
"""


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    uses, totals = target.table("coupon_uses"), target.table("coupon_totals")
    for data in [event.data for event in events]:
        if not isinstance(data, _OF) or data.coupon is None:
            continue
        count = -1 if isinstance(data, OrderExpired | OrderCancelled) else 1
        target.db.execute(
            f"INSERT INTO {uses} VALUES (?, ?, ?) ON CONFLICT (coupon, account) DO UPDATE SET uses = uses + ?3",
            (data.coupon, data.account, count),
        )
        target.db.execute(
            f"INSERT INTO {totals} VALUES (?, ?) ON CONFLICT (coupon) DO UPDATE SET uses = uses + ?2",
            (data.coupon, count),
        )


def used(db: apsw.Connection, coupon: str, account: str) -> tuple[int, int]:
    """How often a coupon is used: in all, and by one account."""
    total = db.execute("SELECT uses FROM coupon_totals WHERE coupon = ?", (coupon,)).get
    own = db.execute("SELECT uses FROM coupon_uses WHERE coupon = ? AND account = ?", (coupon, account)).get
    return total or 0, own or 0


def totals(db: apsw.Connection, coupons: Iterable[str]) -> dict[str, int]:
    """How often each of these coupons is used; those never used are left out."""
    query = "SELECT t.coupon, t.uses FROM carray(?) c CROSS JOIN coupon_totals t ON t.coupon = c.value"
    wanted = tuple(coupons)
    return dict(cast("list[tuple[str, int]]", db.execute(query, (apsw.carray(wanted),)).fetchall())) if wanted else {}


PROJECTION = Projection(
    name="coupon_uses",
    version=1,
    tables=(
        Table("coupon_uses", _USES, key="coupon, account", options="STRICT, WITHOUT ROWID"),
        Table("coupon_totals", _TOTALS, key="coupon", options="STRICT, WITHOUT ROWID"),
    ),
    apply=_apply,
    blocking=True,
    of=_OF,
)
