"""How long an account lasts: what is available over what it spent a day, of the days that it was used in."""

import apsw

from ledger import account_reads
from projections import account_balance, account_statement
from projections.account_part import HIGH
from schema.account_alert import DAYS_LEFT_MAX, Basis, Forecast
from schema.account_view import AccountView
from schema.money import amount_e10, amount_text, half_up
from schema.times import DAY_US, format_time


def forecast(db: apsw.Connection, id_: str, app: str | None, days: int, now_us: int) -> Forecast:
    """Days left by the use of the last `days`; raises NotFound, Forbidden."""
    view, _ = account_reads.account(db, id_, app, now_us)
    return forecast_of(db, view, range_position(db, days, now_us), days, now_us)


def range_position(db: apsw.Connection, days: int, now_us: int) -> int:
    """The last position before the days that a forecast looks at."""
    return account_reads.position_at(db, now_us - days * DAY_US)


def forecast_of(db: apsw.Connection, view: AccountView, position: int, days: int, now_us: int) -> Forecast:
    """The same of an account that was read at `now_us`; `position` is that of `range_position`."""
    before = account_balance.state_at(db, view.id, position)
    spent_before = 0 if before is None else before.spent_e10
    first = account_statement.first_spent(db, view.id, position, divmod(spent_before, HIGH))
    spent, available = amount_e10(view.spent) - spent_before, amount_e10(view.available)
    began_us = now_us if first is None else account_reads.recorded_at(db, first)
    start_us = min(max(began_us, now_us - days * DAY_US), now_us - DAY_US)
    basis, days_left = _lasts(spent, available, now_us - start_us)
    average = max(half_up(spent * DAY_US, now_us - start_us), 0)
    return Forecast(
        account=view.id, basis=basis, start=None if basis == "no_use" else format_time(start_us),
        end=format_time(now_us), spent=amount_text(spent), average=amount_text(average),
        available=amount_text(available), days_left=days_left, position=view.position,
    )  # fmt: skip


def _lasts(spent_e10: int, available_e10: int, range_us: int) -> tuple[Basis, int]:
    """Whole days, at least one while anything is left. More given back than spent is no use."""
    if available_e10 <= 0:
        return "nothing_left", 0
    if spent_e10 <= 0:
        return "no_use", DAYS_LEFT_MAX
    return "use", min(max(available_e10 * range_us // (spent_e10 * DAY_US), 1), DAYS_LEFT_MAX)
