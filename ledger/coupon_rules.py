"""Whether a coupon can be used: its time, its limits, what it is for. Decided where it is counted."""

from typing import Any

import apsw
from msgspec import Struct

from ledger.decision import WorkingSet
from ledger.payer import may_use
from projections import catalogue, coupon_use
from projections import coupon as rows
from projections.account_book import AccountState
from schema.coupon import COUPON, Coupon
from schema.payment_errors import CouponUnusable
from schema.times import parse_time

_BY_CODE, _BY_ID = "coupon by code", "coupon by id"


class Found(Struct, frozen=True):
    """A coupon, and how often it is used: in all, and by the account that wants to use it now."""

    coupon: Coupon
    deleted: bool
    uses: int
    uses_of_account: int


def load_code(db: apsw.Connection, ws: WorkingSet, code_sha256: str, account: str) -> None:
    """Bring in the coupon that has a code, if there is one."""
    stand = rows.by_code(db, code_sha256)
    if stand is not None:
        ws.read[_BY_CODE, code_sha256] = _found(db, stand, account)


def load(db: apsw.Connection, ws: WorkingSet, id_: str, account: str) -> None:
    """Bring in a coupon that there is or was."""
    ws.read[_BY_ID, id_] = _found(db, catalogue.find(db, COUPON, id_), account)


def _found(db: apsw.Connection, stand: Any, account: str) -> Found:  # noqa: ANN401 - a Stand of a coupon
    return Found(stand.content, stand.deleted, *coupon_use.used(db, stand.content.id, account))


def with_code(ws: WorkingSet, code_sha256: str) -> Found | None:
    """The coupon with this code, if there is one."""
    return ws.read.get((_BY_CODE, code_sha256))


def known(ws: WorkingSet, id_: str) -> Found:
    """A coupon that was loaded by its id."""
    return ws.read[_BY_ID, id_]


def require_usable(found: Found, account: AccountState, now_us: int, package: str | None = None) -> None:
    """Raise CouponUnusable unless an account may use a coupon once more, now."""
    why = refusal(found, account, now_us, package)
    if why is not None:
        raise CouponUnusable(f"this coupon {why}")


def refusal(found: Found, account: AccountState, now_us: int, package: str | None = None) -> str | None:
    """Why it cannot be used once more; None where it can."""
    coupon = found.coupon
    if found.deleted or not coupon.active:
        return "is not offered any more"
    return _not_now(coupon, now_us) or _not_for(coupon, account, package) or _used_up(found)


def _not_now(coupon: Coupon, now_us: int) -> str | None:
    if coupon.valid_from is not None and now_us < parse_time(coupon.valid_from):
        return f"can be redeemed from {coupon.valid_from} on"
    if coupon.valid_until is not None and now_us >= parse_time(coupon.valid_until):
        return f"could be redeemed until {coupon.valid_until}"
    return None


def _not_for(coupon: Coupon, account: AccountState, package: str | None) -> str | None:
    if coupon.apps is not None and not any(may_use(account, app) for app in coupon.apps):
        return "is not for this account"
    if coupon.packages is not None and package not in coupon.packages:
        return "is not for this package"
    return None


def _used_up(found: Found) -> str | None:
    coupon = found.coupon
    if coupon.limit is not None and found.uses >= coupon.limit:
        return "was redeemed as often as it can be"
    if coupon.limit_per_account is not None and found.uses_of_account >= coupon.limit_per_account:
        return "was redeemed by this account as often as it can be"
    return None
