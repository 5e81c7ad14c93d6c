"""A finished call as the ledger knows it before a change: its event, its row, and what statistics counted of it."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from ledger import journal
from projections.budget_book import tags_of
from schema.charge import Charge
from schema.correction import Counted
from schema.entry import Recorded
from schema.model_call import ModelCall, Rating, Usage
from schema.model_call_view import CallRow, credits_text
from schema.times import parse_time

_ROW = ", ".join(CallRow.__struct_fields__)


class KnownCall(Struct, frozen=True):
    """A call: `event` is the one that tells the whole of it, `row` what the projection holds."""

    event: Recorded
    row: CallRow

    @property
    def call(self) -> ModelCall | None:
        """The whole call; None while it has not ended."""
        return self.event.data if isinstance(self.event.data, ModelCall) else None

    @property
    def started_at_us(self) -> int:
        """Its start."""
        data: Any = self.event.data
        return parse_time(data.started_at)

    @property
    def rating(self) -> Rating:
        """What it costs now."""
        row = self.row
        return Rating(
            cost=credits_text(row.cost_e10), input_cost=credits_text(row.input_cost_e10),
            vendor_cost=credits_text(row.vendor_cost_e10), status=row.cost_status, reason=row.cost_reason,
            rate=row.rate,
        )  # fmt: skip

    def counted(self, charged: Charge | None = None, tag_keys: Iterable[str] = ()) -> Counted:
        """What statistics counted of it, and the position of the latest event that they counted.

        `charged` and the tags with these keys are for budgets.
        """
        call = self.call
        assert call is not None
        return Counted(
            position=max(self.event.position, self.row.rated),
            user_id=call.user_id, provider=call.provider, model=call.model, credential_id=call.credential_id,
            type=call.type, status=call.status, started_at=call.started_at, usage=_counted_usage(call),
            duration_ms=call.duration_ms, ttfb_ms=call.ttfb_ms, rating=self.rating,
            charged=None if charged is None else charged.account, tags=tags_of(call.metadata, tag_keys) or None,
        )  # fmt: skip


def _counted_usage(call: ModelCall) -> Usage | None:
    """The quantities alone: the vendor's own object may be large, and is not counted."""
    return None if call.usage is None else msgspec.structs.replace(call.usage, native=None, units=None)


def known_calls(db: apsw.Connection, positions: Sequence[int]) -> list[KnownCall]:
    """Calls by the positions of their first events, in that order."""
    if not positions:
        return []
    query = f"SELECT {_ROW} FROM carray(?) c CROSS JOIN model_calls m ON m.position = c.value"
    found: list[Any] = db.execute(query, (apsw.carray(array("q", positions)),)).fetchall()
    rows = [CallRow(*row) for row in found]
    events = journal.at(db, [row.event_position for row in rows])
    return [KnownCall(event, row) for event, row in zip(events, rows, strict=True)]
