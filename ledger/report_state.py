"""The state of usage reporting: how far the journal is collected, what is collected, and the batches made of it.

Of each app's user: what calls cost since reporting began = `batched` + `open`, at the head's position; `batched` is
the sum of its batches, those forgotten (`pruned`) included. `base` is what they cost before. Amounts are decimal
strings of credits, so no sum has a bound.
"""

from msgspec import Struct

from ledger.state import state_table
from schema.money import ZERO
from schema.usage_report import BatchStatus

HEAD = 1


class ReportHead(Struct, frozen=True):
    """The one row of reporting: events up to `position` are collected, from the one after `started_after` on.

    `sequence` counts batches, `claims` the times that one was taken on, `events` how often it was paused or resumed.
    """

    id: int = HEAD
    started_after: int = 0
    position: int = 0
    sequence: int = 0
    claims: int = 0
    events: int = 0
    paused: bool = False


class PairRow(Struct, frozen=True):
    """An app's user (empty: calls of none): what is collected, since `opened_at_us`, null while there is nothing new.

    What is collected lies over position `after`, the last of it at `until`.
    """

    app: str
    user_id: str
    base: str = ZERO
    open: str = ZERO
    batched: str = ZERO
    reported: str = ZERO
    pruned: str = ZERO
    calls: int = 0
    tokens: str = ZERO
    after: int = 0
    until: int = 0
    opened_at_us: int | None = None


class BatchRow(Struct, frozen=True):
    """A batch. While it is claimed, `due_at_us` is when another may take it on; only the holder of `claim` finishes it.

    `tries` are those since it was made or retried by hand, `attempts` all.
    """

    id: str
    sequence: int
    app: str
    user_id: str
    after: int
    until: int
    calls: int
    tokens: str
    amount: str
    value: str
    decimals: int
    created_at_us: int
    status: BatchStatus = "pending"
    claim: int = 0
    tries: int = 0
    attempts: int = 0
    due_at_us: int | None = None
    first_sent_us: int | None = None
    reported_at_us: int | None = None
    duplicate: bool = False
    error: str | None = None


REPORT_HEAD = state_table("usage_report_head", ReportHead)
PAIRS = state_table("usage_report_pairs", PairRow, key_width=2)
BATCHES = state_table("usage_report_batches", BatchRow)
