"""Estimates: a call's rating by the rates as they are, without an event."""

from threading import Lock

import apsw

from ledger import journal
from ledger.call_rating import rate_call
from ledger.rate_book import RateBook
from ledger.rating import EXACT_DECIMALS, Line, quantities
from projections.engine import require
from schema.estimate import Estimate, EstimateLine
from schema.model_call import ModelCall, RatingPolicy
from schema.money import RATE_DECIMALS, SECONDS_DECIMALS, format_scaled
from schema.unit import is_duration


class Estimator:
    """Prices calls for readers, by a rate book of its own: the writer's may change at any moment.

    The book belongs to no reader's thread, so one at a time refreshes and uses it.
    """

    def __init__(self) -> None:
        self._rates = RateBook()
        self._lock = Lock()

    def estimate(self, db: apsw.Connection, call: ModelCall, started_at_us: int, policy: RatingPolicy) -> Estimate:
        """What an accepted call would be charged. Raises NoPrice and OutOfRange as a post would."""
        require(db, journal.head_position(db), "model_rates")
        with self._lock:
            self._rates.refresh(db)
            return estimated(self._rates, call, started_at_us, policy)


def estimated(book: RateBook, call: ModelCall, started_at_us: int, policy: RatingPolicy) -> Estimate:
    """The rating of a call, with the parts that its cost is added up from."""
    rating = rate_call(book, call, started_at_us, policy)
    rate = None if rating.rate is None else book.find(call.provider, call.model, call.type, started_at_us)
    lines: list[Line] = []
    if rate is not None and rating.cost is not None and rating.reason != "failed":
        lines = rate.charged.lines(quantities(call.usage), call.price_context)
    return Estimate(
        cost=rating.cost,
        input_cost=rating.input_cost,
        vendor_cost=rating.vendor_cost,
        cost_status=rating.status,
        cost_reason=rating.reason,
        rate_id=None if rate is None else rate.id,
        rate_position=rating.rate,
        lines=[_line(line) for line in lines if line.quantity],
    )


def _line(line: Line) -> EstimateLine:
    duration = is_duration(line.unit)
    return EstimateLine(
        unit=line.unit,
        quantity=format_scaled(line.quantity, SECONDS_DECIMALS) if duration else str(line.quantity),
        rate=format_scaled(line.rate_e12, RATE_DECIMALS),
        amount=format_scaled(line.amount_e18, EXACT_DECIMALS),
    )
