"""Reads of orders and payments, of how often coupons are used, and of payment clients with their data keys."""

from collections.abc import Sequence
from typing import Annotated

import apsw
import msgspec
from msgspec import Meta

from ledger import catalogue_reads, data_keys, journal
from ledger.account_use import require_use
from projections import account_balance, coupon_use
from projections import order as orders
from projections import payment as payments
from projections.account_book import Book
from projections.catalogue import Condition
from projections.engine import require
from projections.order import OrderRow
from projections.payment import PaymentRow
from schema.catalogue import HistoryItem, Stand
from schema.errors import NotFound
from schema.money import amount_text
from schema.order import OrderFilter, OrderView
from schema.paging import Page, decode_cursor, encode_cursor
from schema.payment import PaymentFilter, PaymentView
from schema.payment_client import PAYMENT_CLIENT, subject_of
from schema.sealed import Sealed, WrappedKey
from schema.times import format_time

NEWEST = 2**62
Before = tuple[Annotated[int, Meta(ge=1, le=NEWEST)]]


def order(db: apsw.Connection, id_: str, app: str | None, now_us: int) -> OrderView:
    """An order as it is; raises NotFound, and Forbidden where the app may not use its account."""
    require(db, journal.head_position(db), "orders", "account_balances")
    row = orders.find(db, id_)
    if row is None:
        raise NotFound(f"there is no order {id_}")
    _require_account(db, row.account, app)
    return order_view(row, now_us)


def list_orders(
    db: apsw.Connection, wanted: OrderFilter, app: str | None, now_us: int, page: tuple[str | None, int]
) -> Page[OrderView]:
    """Orders, newest first; of an account, where it is named, that the app may use. `page` is cursor and limit."""
    cursor, limit = page
    require(db, journal.head_position(db), "orders", "account_balances")
    conditions: list[Condition] = []
    if wanted.account is not None:
        _require_account(db, wanted.account, app)
        conditions.append(("account = ?", (wanted.account,)))
    either = [None] if wanted.status is None else orders.with_status(wanted.status, now_us)
    found = [
        row
        for each in either
        for row in orders.newest(db, [*conditions, *([] if each is None else [each])], _before(cursor), limit)
    ]
    rows = sorted(found, key=lambda row: -row.placed_position)[:limit]
    next_cursor = encode_cursor(rows[-1].placed_position) if len(rows) == limit else None
    return Page(items=[order_view(row, now_us) for row in rows], next_cursor=next_cursor)


def _before(cursor: str | None) -> int:
    return decode_cursor(cursor, Before)[0] if cursor else NEWEST


def _require_account(db: apsw.Connection, account: str, app: str | None) -> None:
    book = Book()
    account_balance.load(db, book, [account])
    require_use(book, account, app)


def order_view(row: OrderRow, now_us: int) -> OrderView:
    """An order as it is at a moment: one that is over is expired, whether or not that was recorded yet."""
    over = row.status == "pending" and row.expires_at_us <= now_us
    return OrderView(
        id=row.id, account=row.account, package=row.package, amount_minor=row.amount_minor, currency=row.currency,
        credits=amount_text(row.credits_e10), bonus_credits=amount_text(row.bonus_e10), coupon=row.coupon,
        coupon_credits=amount_text(row.coupon_e10), client=row.client, status="expired" if over else row.status,
        late=bool(row.late), payment=row.payment, credited=amount_text(row.credited_e10),
        refunded_minor=row.refunded_minor, refunded_credits=amount_text(row.refunded_e10),
        placed_at=format_time(row.placed_at_us), expires_at=format_time(row.expires_at_us),
        metadata=None if row.metadata is None else msgspec.json.decode(row.metadata), position=row.position,
    )  # fmt: skip


def payment(db: apsw.Connection, id_: str) -> PaymentView:
    """A payment as it is; raises NotFound."""
    require(db, journal.head_position(db), "payments")
    row = payments.find(db, id_)
    if row is None:
        raise NotFound(f"there is no payment {id_}")
    return payment_view(row)


def list_payments(db: apsw.Connection, wanted: PaymentFilter, cursor: str | None, limit: int) -> Page[PaymentView]:
    """Payments, newest first."""
    require(db, journal.head_position(db), "payments")
    rows = payments.newest(db, payments.conditions(wanted), _before(cursor), limit)
    next_cursor = encode_cursor(rows[-1].received_position) if len(rows) == limit else None
    return Page(items=[payment_view(row) for row in rows], next_cursor=next_cursor)


def payment_view(row: PaymentRow) -> PaymentView:
    """A payment, and what became of it."""
    return PaymentView(
        id=row.id, client=row.client, payment=row.payment, order=row.order_id, account=row.account,
        amount_minor=row.amount_minor, currency=row.currency, status=row.status, why=row.why,
        resolution=row.resolution, received_at=format_time(row.received_at_us), position=row.position,
    )  # fmt: skip


def coupon_uses(db: apsw.Connection, coupons: Sequence[str]) -> dict[str, int]:
    """How often each of these coupons is used; those never used are left out."""
    require(db, journal.head_position(db), "coupon_uses")
    return coupon_use.totals(db, coupons)


def payment_client(db: apsw.Connection, id_: str) -> tuple[Stand, WrappedKey | None]:
    """A payment client with its data key, to know its word by; raises NotFound."""
    return catalogue_reads.one(db, PAYMENT_CLIENT, id_), data_keys.find(db, subject_of(id_))


def payment_client_changes(db: apsw.Connection, id_: str, cursor: str | None, limit: int) -> Page[HistoryItem]:
    """Who changed a payment client, when; secrets masked."""
    page = catalogue_reads.changes(db, PAYMENT_CLIENT, id_, cursor, limit)
    for change in [change for item in page.items for change in item.changes if change.field == "secret"]:
        change.before, change.after = _masked(change.before), _masked(change.after)
    return page


def _masked(secret: object) -> object:
    """A secret as history shows it: a creation has it as plain objects, a change as what was sealed."""
    if isinstance(secret, Sealed):
        return secret.mask
    return msgspec.convert(secret, Sealed).mask if secret is not None else None
