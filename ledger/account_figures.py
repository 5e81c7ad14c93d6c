"""What listed accounts hold and how long they last: figures as of one snapshot, so that a page adds up."""

from collections.abc import Sequence

import apsw

from ledger import account_reads, catalogue_reads
from ledger.forecast import forecast_of, range_position
from projections.catalogue import Condition
from schema.account import ACCOUNT
from schema.account_alert import FORECAST_DAYS_DEFAULT
from schema.account_view import AccountFigures
from schema.catalogue import Stand
from schema.paging import Page

# Each account's holds, grants and use are looked up: so many are one short read.
ACCOUNTS_MAX = 100


def page(
    db: apsw.Connection, conditions: Sequence[Condition], cursor: str | None, limit: int, now_us: int
) -> Page[tuple[Stand, AccountFigures]]:
    """Accounts by id, at most `ACCOUNTS_MAX`; raises Rebuilding, InvalidInput for a bad cursor."""
    found = catalogue_reads.page(db, ACCOUNT, conditions, cursor, min(limit, ACCOUNTS_MAX))
    since = range_position(db, FORECAST_DAYS_DEFAULT, now_us)
    items = [(stand, _figures(db, stand.content.id, since, now_us)) for stand in found.items]
    return Page(items=items, next_cursor=found.next_cursor)


def _figures(db: apsw.Connection, id_: str, since: int, now_us: int) -> AccountFigures:
    view, _ = account_reads.account(db, id_, None, now_us)
    lasts = forecast_of(db, view, since, FORECAST_DAYS_DEFAULT, now_us)
    return AccountFigures(
        balance=view.balance, free_quota=view.free_quota, held=view.held, available=view.available, owed=view.owed,
        spent=view.spent, tokens=view.tokens, average=lasts.average, days_left=lasts.days_left, basis=lasts.basis,
    )  # fmt: skip
