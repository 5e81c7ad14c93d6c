"""A model's rates by the date from which they hold: a rate for the whole day, and windows of the day over it.

A call takes the greatest `effective_from` at or before its start, then the latest posted. So of one date the newest
rate without a window holds, under the windows that were posted after it; and a later date hides all of an earlier one.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schema.model_rate import ModelRateSet
from schema.times import parse_time

_canonical = msgspec.json.Encoder(order="sorted").encode


class Segment(Struct, frozen=True):
    """What holds from a date on, until the next. `content` is all of it that prices a call, to compare with."""

    from_us: int
    rates: tuple[ModelRateSet, ...]
    content: tuple[bytes, ...]

    @property
    def whole_day(self) -> ModelRateSet:
        """The rate outside all windows."""
        return self.rates[0]


Segments = dict[int, Segment]


def segments(rates: Iterable[ModelRateSet]) -> Segments:
    """Rates in the order in which they were posted, by date."""
    found: dict[int, list[ModelRateSet]] = {}
    for rate in rates:
        from_us = parse_time(rate.effective_from or "")
        if rate.daily_window is None:
            found[from_us] = [rate]
        else:
            others = [other for other in found.get(from_us, ()) if other.daily_window != rate.daily_window]
            found[from_us] = [*others, rate]
    return {from_us: segment(from_us, found[from_us]) for from_us in sorted(found)}


def segment(from_us: int, rates: Sequence[ModelRateSet]) -> Segment:
    """A segment of these rates."""
    return Segment(from_us, tuple(rates), tuple(_content(rate) for rate in rates))


def _content(rate: ModelRateSet) -> bytes:
    same = replace(
        rate, id="", effective_from=None, listed=None, display_name=None, description=None, metadata=None
    )  # fmt: skip
    return _canonical(same)


def at(found: Segments, time_us: int) -> Segment | None:
    """What holds at an instant."""
    from_us = max((each for each in found if each <= time_us), default=None)
    return None if from_us is None else found[from_us]


def to_post(current: Segments, offered: Segments, now_us: int) -> list[tuple[int, Segment]]:
    """What must be posted, and from when, so that from now on the rates are those on offer.

    Dates of the past that the list has and the ledger has not are taken over; a price of the past that the list has
    changed without a new date holds from now on, and one that the list has withdrawn before its date never does.
    """
    current = dict(current)
    posted: list[tuple[int, Segment]] = []

    def post(from_us: int, wanted: Segment) -> None:
        current[from_us] = wanted
        posted.append((from_us, wanted))

    in_force = at(offered, now_us)
    for from_us, wanted in sorted(offered.items()):
        superseded = in_force is not None and from_us < in_force.from_us
        if superseded and from_us not in current and _differs(at(current, from_us), wanted):
            post(from_us, wanted)
    if in_force is not None:
        before = at(current, now_us)
        if _differs(before, in_force):
            dated = before is None or in_force.from_us > before.from_us
            post(in_force.from_us if dated else now_us, in_force)
    for from_us in sorted({*offered, *current}):
        wanted = at(offered, from_us)
        if from_us > now_us and wanted is not None and _differs(at(current, from_us), wanted):
            post(from_us, wanted)
    return posted


def _differs(current: Segment | None, wanted: Segment) -> bool:
    return current is None or current.content != wanted.content
