"""Reads of usage reports: batches, one or many, and how reporting stands."""

from typing import Annotated, Any

import apsw
from msgspec import Meta

from ledger import journal
from ledger.commands.usage_report_sending import DUE, due
from ledger.reconciliation import head
from ledger.report_state import BATCHES, PAIRS, BatchRow
from schema.errors import NotFound
from schema.paging import Page, decode_cursor, encode_cursor
from schema.times import SECOND_US, format_time
from schema.usage_report import BatchFilter, BatchStatus, BatchView, Cut, ReportingView, customer_of

SCAN_BATCHES_MAX = 20_000
PRUNED_AT_ONCE_MAX = 500
NEWEST = 2**62
Number = Annotated[int, Meta(ge=0, le=NEWEST)]
UNSENT: tuple[BatchStatus, ...] = ("pending", "claimed", "failed", "dead")


def batch(db: apsw.Connection, id_: str) -> BatchView:
    """One batch; raises NotFound."""
    rows: list[Any] = db.execute(f"SELECT * FROM {BATCHES.name} WHERE id = ?", (id_,)).fetchall()
    if not rows:
        raise NotFound(f"there is no usage report {id_}")
    return view(BatchRow(*rows[0]))


def batches(db: apsw.Connection, wanted: BatchFilter, cursor: str | None, limit: int) -> Page[BatchView]:
    """Newest first. A page under filters looks at a bounded number and may be short."""
    (below,) = decode_cursor(cursor, tuple[Number]) if cursor else (NEWEST,)
    given: dict[str, Any] = {"status": wanted.status, "app": wanted.app, "user_id": wanted.user_id}
    where = "".join(f" AND {column} = :{column}" for column, value in given.items() if value is not None)
    newest: Any = db.execute(f"SELECT max(sequence) FROM {BATCHES.name} WHERE sequence < ?", (below,)).get
    if newest is None:
        return Page(items=[])
    # What is not reported, or is one user's, is found by an index, however old; else a stretch is looked at.
    is_indexed = wanted.status in UNSENT or (wanted.app is not None and wanted.user_id is not None)
    floor = 0 if is_indexed else newest - SCAN_BATCHES_MAX
    query = (
        f"SELECT * FROM {BATCHES.name} WHERE sequence < :below AND sequence > :floor{where} "
        "ORDER BY sequence DESC LIMIT :limit"
    )
    if wanted.status in UNSENT:
        query = query.replace(" WHERE ", " WHERE status <> 'reported' AND ", 1)
    rows: list[Any] = db.execute(query, {**given, "below": below, "floor": floor, "limit": limit}).fetchall()
    found = [BatchRow(*row) for row in rows]
    if len(found) == limit:
        return Page(items=[view(row) for row in found], next_cursor=encode_cursor(found[-1].sequence))
    more = db.execute(f"SELECT 1 FROM {BATCHES.name} WHERE sequence <= ? LIMIT 1", (floor,)).get is not None
    return Page(items=[view(row) for row in found], next_cursor=encode_cursor(floor + 1) if more else None)


def view(row: BatchRow) -> BatchView:
    """A batch as read."""
    user_id = row.user_id or None
    return BatchView(
        id=row.id, status=row.status, app=row.app, user_id=user_id, customer=customer_of(row.app, user_id),
        amount=row.amount, value=row.value, decimals=row.decimals, calls=row.calls, tokens=int(row.tokens),
        after=row.after, until=row.until, created_at=format_time(row.created_at_us), attempts=row.attempts,
        due_at=None if row.due_at_us is None else format_time(row.due_at_us),
        reported_at=None if row.reported_at_us is None else format_time(row.reported_at_us),
        duplicate=bool(row.duplicate), error=row.error,
    )  # fmt: skip


def standing(db: apsw.Connection, now_us: int, payment_system: str | None) -> ReportingView:
    """How reporting stands; what that costs grows with what is unsent, not with what was reported."""
    begun, size = head(db), journal.head_position(db)
    counted: Any = db.execute(
        f"SELECT status, count(*) FROM {BATCHES.name} WHERE status <> 'reported' GROUP BY status"
    ).fetchall()
    counts: dict[BatchStatus, int] = dict.fromkeys(UNSENT, 0) | dict(counted)
    oldest: Any = db.execute(f"SELECT min(created_at_us) FROM {BATCHES.name} WHERE status <> 'reported'").get
    collecting: Any = db.execute(f"SELECT count(*) FROM {PAIRS.name} WHERE opened_at_us IS NOT NULL").get
    return ReportingView(
        started=begun is not None,
        paused=bool(begun is not None and begun.paused),
        payment_system=payment_system,
        started_after=0 if begun is None else begun.started_after,
        position=0 if begun is None else begun.position,
        behind=0 if begun is None else size - begun.position,
        collecting=collecting,
        batches=counts,
        oldest_age_s=None if oldest is None else max(0, now_us - oldest) // SECOND_US,
    )


def has_due(db: apsw.Connection, now_us: int) -> bool:
    """Whether a batch is to be sent: read often, so that no lock is taken in vain."""
    paused = db.execute("SELECT paused FROM usage_report_head").get
    if paused:
        return False
    return db.execute(f"SELECT 1 FROM {BATCHES.name} WHERE {DUE} LIMIT 1", due(now_us)).get is not None


def has_cut(db: apsw.Connection, now_us: int, cut: Cut) -> bool:
    """Whether what is collected of anyone is to become a batch."""
    query = (
        f"SELECT 1 FROM {PAIRS.name} WHERE opened_at_us IS NOT NULL "
        "AND (opened_at_us <= ? OR opened_at_us > ? OR calls >= ?) LIMIT 1"
    )
    return db.execute(query, (now_us - cut.interval_us, now_us, cut.calls_max)).get is not None


def oldest_reported_us(db: apsw.Connection) -> int | None:
    """When the first of the oldest batches was reported, if any was."""
    oldest = f"SELECT reported_at_us FROM {BATCHES.name} ORDER BY sequence LIMIT ?"
    return db.execute(f"SELECT min(reported_at_us) FROM ({oldest})", (PRUNED_AT_ONCE_MAX,)).get
