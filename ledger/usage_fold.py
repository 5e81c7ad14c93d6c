"""What a stretch of the journal moves of what users are to pay: calls that ended, and changes of such calls.

Each event tells the whole of its difference, for a change carries what was counted before it. So a stretch is folded
by itself, outside of any lock, and what was folded once is never looked at again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from ledger import journal
from projections.model_call import costs
from schema.correction import Counted, ModelCallCorrected, ModelCallRerated, ModelCallVoided
from schema.entry import Recorded
from schema.event import decode, event_types
from schema.model_call import FINISHED, Rating, Usage
from schema.usage_report import Moved

STRETCH_EVENTS = 2_000
_NAMES = ("recorded", "completed", "failed", "corrected", "voided", "rerated")


class _Sum(Struct):
    amount_e10: int = 0
    calls: int = 0
    tokens: int = 0
    until: int = 0


Part = tuple[str, str, int, int, int]  # app, user, amount, calls, tokens


def types() -> list[str]:
    """The stored types that can move anything, old versions too."""
    nouns = {f"model_call.{name}" for name in _NAMES}
    return [each for each in event_types() if each.rpartition(".")[0] in nouns]


def stretch(db: apsw.Connection, after: int) -> tuple[int, tuple[Moved, ...]]:
    """The end of the next stretch of events after a position, and what they moved."""
    until = min(journal.head_position(db), after + STRETCH_EVENTS)
    return until, folded(_read(db, after, until))


def between(db: apsw.Connection, after: int, until: int) -> tuple[Moved, ...]:
    """What all events after one position until another moved."""
    return folded(_read(db, after, until))


def _read(db: apsw.Connection, after: int, until: int) -> Iterator[Recorded]:
    wanted = msgspec.json.encode(types()).decode()
    query = (
        "SELECT position, type, entry FROM events WHERE position > ? AND position <= ? "
        "AND type IN (SELECT value FROM json_each(?)) ORDER BY position"
    )
    rows: Iterable[Any] = db.execute(query, (after, until, wanted))
    return (decode(*row) for row in rows)


def folded(events: Iterable[Recorded]) -> tuple[Moved, ...]:
    """The sums by app and user, in the order in which these first came; those that moved nothing are left out."""
    sums: dict[tuple[str, str], _Sum] = {}
    for event in events:
        for app, user_id, amount_e10, calls, tokens in _parts(event.data):
            found = sums.setdefault((app, user_id), _Sum())
            found.amount_e10 += amount_e10
            found.calls += calls
            found.tokens += tokens
            found.until = event.position
    return tuple(
        Moved(app, user_id, each.amount_e10, each.calls, each.tokens, each.until)
        for (app, user_id), each in sums.items()
        if each.amount_e10 or each.calls or each.tokens
    )


def _parts(data: Struct) -> Sequence[Part]:
    if isinstance(data, FINISHED):
        return [_part(data.app or "", data.user_id, data.rating, data.usage, 1)]
    if isinstance(data, ModelCallCorrected):
        app = data.app or ""
        return [_counted(app, data.replaces), _part(app, data.user_id, data.rating, data.usage, 1)]
    if isinstance(data, ModelCallVoided):
        return [_counted(data.app, data.replaces)]
    if isinstance(data, ModelCallRerated):
        before = data.replaces
        return [(data.app, before.user_id or "", _cost_e10(data.rating) - _cost_e10(before.rating), 0, 0)]
    return []


def _counted(app: str, before: Counted) -> Part:
    app, user_id, amount_e10, calls, tokens = _part(app, before.user_id, before.rating, before.usage, -1)
    return app, user_id, amount_e10, 0 if before.status == "timed_out" else calls, tokens  # which had not ended


def _part(app: str, user_id: str | None, rating: Rating | None, usage: Usage | None, sign: int) -> Part:
    tokens = 0 if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0)
    return app, user_id or "", sign * _cost_e10(rating), sign, sign * tokens


def _cost_e10(rating: Rating | None) -> int:
    return costs(rating)[0] or 0
