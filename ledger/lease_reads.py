"""Reads of leases and of what credentials have used: never with a secret."""

from collections.abc import Sequence
from typing import Annotated, Any

import apsw
from msgspec import Meta, Struct

from ledger import journal
from ledger.commands.lease import is_near
from ledger.lease_choice import is_penalised, is_unreadable
from ledger.lease_load import DUE, due
from ledger.lease_state import LEASES, ROTATIONS, USAGES, LeaseHead, LeaseRow, RotationRow, UsageRow
from ledger.state import State
from projections import credential_call
from projections.engine import require
from projections.quota_period import Period, PeriodKind, calendar
from schema.credential import Credential
from schema.errors import NotFound
from schema.lease import CredentialFigures, CredentialStatus, LeaseFilter, LeaseView, QuotaUsage
from schema.paging import Page, decode_cursor, encode_cursor
from schema.times import SECOND_US, format_time

AHEAD_US_MAX = 300 * SECOND_US
SCAN_LEASES_MAX = 20_000
NEWEST = 2**62
Number = Annotated[int, Meta(ge=0, le=NEWEST)]


def lease(db: apsw.Connection, app: str | None, id_: str) -> LeaseView:
    """One lease, of this app where one is given; raises NotFound."""
    rows: list[Any] = db.execute("SELECT * FROM leases WHERE id = ?", (id_,)).fetchall()
    row = LeaseRow(*rows[0]) if rows else None
    if row is None or app not in {None, row.app}:
        raise NotFound(f"there is no lease {id_}")
    return view(row)


def leases(db: apsw.Connection, wanted: LeaseFilter, cursor: str | None, limit: int) -> Page[LeaseView]:
    """Newest first. Without an index for filters, a page looks at a bounded number and may be short."""
    (below,) = decode_cursor(cursor, tuple[Number]) if cursor else (NEWEST,)
    given: dict[str, Any] = {
        "credential": wanted.credential_id, "provider": wanted.provider, "app": wanted.app, "outcome": wanted.outcome,
    }  # fmt: skip
    where = "".join(f" AND {column} = :{column}" for column, value in given.items() if value is not None)
    newest: Any = db.execute("SELECT max(sequence) FROM leases WHERE sequence < ?", (below,)).get
    if newest is None:
        return Page(items=[], next_cursor=None)
    floor = newest - SCAN_LEASES_MAX
    within = "sequence < :below AND sequence > :floor"
    query = f"SELECT * FROM leases WHERE {within}{where} ORDER BY sequence DESC LIMIT :limit"
    bound = {**given, "below": below, "floor": floor, "limit": limit}
    rows: list[Any] = db.execute(query, bound).fetchall()
    found = [LeaseRow(*row) for row in rows]
    if len(found) == limit:
        return Page(items=[view(row) for row in found], next_cursor=encode_cursor(found[-1].sequence))
    more = db.execute("SELECT 1 FROM leases WHERE sequence <= ? LIMIT 1", (floor,)).get is not None
    return Page(items=[view(row) for row in found], next_cursor=encode_cursor(floor + 1) if more else None)


def view(row: LeaseRow) -> LeaseView:
    """A lease as read."""
    return LeaseView(
        id=row.id, provider=row.provider, credential_id=row.credential, model=row.model, app=row.app, actor=row.actor,
        leased_at=format_time(row.leased_at_us), expires_at=format_time(row.expires_at_us), outcome=row.outcome,
        retry_after_s=row.retry_after_s,
        reported_at=None if row.reported_at_us is None else format_time(row.reported_at_us),
    )  # fmt: skip


class _Rows(Struct, frozen=True):
    """A credential's state."""

    rotation: RotationRow
    usage: dict[PeriodKind, UsageRow]
    periods: dict[PeriodKind, Period]


def figures(db: apsw.Connection, credentials: Sequence[Credential], now_us: int) -> list[CredentialFigures]:
    """How credentials stand now: status, what their quotas have used, calls. Raises Rebuilding."""
    require(db, journal.head_position(db), credential_call.TABLE)
    head = LeaseHead(*next(iter(db.execute("SELECT * FROM lease_head")), ()))
    period_us = max(now_us, head.last_us)
    used = credential_call.used(db, [each.id for each in credentials])
    return [
        _figures(credential, rows, used.get(credential.id, (0, None)), now_us)
        for credential, rows in zip(credentials, _state(db, credentials, period_us), strict=True)
    ]


def _state(db: apsw.Connection, credentials: Sequence[Credential], now_us: int) -> list[_Rows]:
    state = State()
    periods = [_periods(credential, now_us) for credential in credentials]
    state.load(db, ROTATIONS, [(credential.id,) for credential in credentials])
    keys = [(c.id, p.kind, p.text) for c, each in zip(credentials, periods, strict=True) for p in each.values()]
    state.load(db, USAGES, keys)
    return [
        _Rows(
            state.get(RotationRow, credential.id) or RotationRow(credential.id, credential.provider),
            {
                kind: state.get(UsageRow, credential.id, kind, period.text)
                or UsageRow(credential.id, kind, period.text, period.start_us, period.end_us)
                for kind, period in each.items()
            },
            each,
        )
        for credential, each in zip(credentials, periods, strict=True)
    ]


def _periods(credential: Credential, now_us: int) -> dict[PeriodKind, Period]:
    found = calendar(credential.timezone)
    return {"day": found.period("day", now_us), "month": found.period("month", now_us)}


def _figures(credential: Credential, rows: _Rows, used: tuple[int, int | None], now_us: int) -> CredentialFigures:
    daily = _quota(rows, "day", credential.daily_limit)
    monthly = _quota(rows, "month", credential.monthly_limit)
    rotation, (calls, last_us) = rows.rotation, used
    return CredentialFigures(
        status=_status(credential, rotation, daily, monthly, now_us),
        near_limit=any(each.limit is not None and is_near(each.used, each.limit) for each in (daily, monthly)),
        usage={"daily": daily, "monthly": monthly},
        errors=rotation.errors,
        penalised_until=format_time(rotation.penalised_until_us) if is_penalised(rotation, now_us) else None,
        recheck_at=None if rotation.recheck_at_us is None else format_time(rotation.recheck_at_us),
        last_leased_at=None if rotation.last_leased_us is None else format_time(rotation.last_leased_us),
        calls=calls,
        last_used_at=None if last_us is None else format_time(last_us),
    )


def _quota(rows: _Rows, kind: PeriodKind, limit: int | None) -> QuotaUsage:
    usage, period = rows.usage[kind], rows.periods[kind]
    percent = None if limit is None else usage.used * 100 // limit
    return QuotaUsage(
        period=usage.period, used=usage.used, limit=limit, percent=percent, resets_at=format_time(period.end_us)
    )


def _status(
    credential: Credential, rotation: RotationRow, daily: QuotaUsage, monthly: QuotaUsage, now_us: int
) -> CredentialStatus:
    if not credential.enabled:
        return "disabled" if credential.disabled_reason in {None, "manual"} else "error"
    if is_unreadable(rotation, now_us):
        return "unreadable"
    if monthly.limit is not None and monthly.used >= monthly.limit:
        return "monthly_limit"
    if daily.limit is not None and daily.used >= daily.limit:
        return "daily_limit"
    return "rate_limited" if is_penalised(rotation, now_us) else "normal"


def recheck_due(db: apsw.Connection, now_us: int) -> bool:
    """Whether a credential is to be looked at: read often, so that no lock is taken in vain."""
    return db.execute(f"SELECT 1 FROM credential_rotation WHERE {DUE} LIMIT 1", due(now_us)).get is not None


def ahead_us(db: apsw.Connection, now_us: int) -> int:
    """How far the time of leases is ahead of the clock, where that is more than clocks of processes differ; else 0."""
    ahead: Any = db.execute("SELECT last_us - ? FROM lease_head", (now_us,)).get
    return ahead if ahead is not None and ahead > AHEAD_US_MAX else 0


def oldest_lease_us(db: apsw.Connection) -> int | None:
    """When the oldest lease that is kept was made."""
    return db.execute(f"SELECT leased_at_us FROM {LEASES.name} ORDER BY sequence LIMIT 1").get
