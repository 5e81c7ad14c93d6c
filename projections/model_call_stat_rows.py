"""Where the sums of a statistic come from, as one relation of SQL.

That is roll-ups for whole days and quarters of hours, their tail, and calls where a range cuts a quarter. Each row has
the index of its bucket, dimensions and measures; a cell may come in several rows.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import cast
from zoneinfo import ZoneInfo

import apsw
import msgspec
from msgspec import Struct

from projections.bucket import SEGMENTS, Part, Range, exploded, segments, segments_json, widened
from projections.bulk import Value
from projections.call_filter import FINISHED, Condition, all_of, conditions, known_range, sources
from projections.model_call_stat import DIMENSIONS, FROM_CALLS, ROLLUPS, Rollup, narrowest, tail
from schema.correction import Basis
from schema.errors import FieldError, InvalidInput
from schema.model_call_query import CallFilter, Dimension, Granularity
from schema.times import DAY_US, QUARTER_US

SEEKS_MAX = 200_000
CALLS_MAX = 1_000_000  # that a question looks at which only calls can answer
SPLIT = 10**9  # sums too large for SQLite are added as millions of thousands and the rest

_Arm = tuple[str, tuple[Value, ...]]


class Kept(Struct, frozen=True):
    """What is kept of calls in cells, and how the calls themselves tell the same.

    `dimensions` are in the order of the key, after roll-up and bucket, and 0 where a roll-up does not keep them.
    `counted`: which calls; `from_calls`: columns that a row of calls has by another name. `tail` gives the sources
    of what is not folded yet, and the positions to bind them with.
    """

    table: str
    rollups: tuple[Rollup, ...]
    dimensions: tuple[str, ...]
    counted: Condition
    from_calls: dict[str, str]
    tail: Callable[[apsw.Connection], tuple[tuple[str, ...], tuple[int, int]]]

    def narrowest(self, bucket_us: int, wanted: frozenset[str]) -> Rollup | None:
        """The roll-up of this bucket size that has these dimensions and the fewest others."""
        return narrowest(self.rollups, bucket_us, wanted)


STATS = Kept("model_call_stats", ROLLUPS, DIMENSIONS, FINISHED, FROM_CALLS, tail)


class Rows(Struct, frozen=True):
    """A relation and what it binds; `quarters` are those of the tail that are in the range, each with its bucket."""

    quarters: str
    arms: str
    bound: tuple[Value, ...]

    def select(
        self, db: apsw.Connection, shown: str, rest: str = "", bound: tuple[Value, ...] = ()
    ) -> list[tuple[int, ...]]:
        """What SELECT gives of it; `bound` is what `rest` binds, the clauses after FROM."""
        return self.run(db, f"SELECT {shown} FROM ({self.arms}) {rest}", (*self.bound, *bound))

    def run(self, db: apsw.Connection, sql: str, bound: tuple[Value, ...]) -> list[tuple[int, ...]]:
        """What a statement over `arms` gives, which binds all that it has."""
        head = "WITH quarters (i, quarter) AS MATERIALIZED (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
        return cast("list[tuple[int, ...]]", db.execute(f"{head} {sql}", (self.quarters, *bound)).fetchall())

    def sums(
        self, db: apsw.Connection, keys: str, measures: Sequence[str], rest: str, bound: tuple[Value, ...] = ()
    ) -> list[tuple[int, ...]]:
        """The sums of measures after their keys, of any size."""
        plain = ", ".join(f"sum({measure})" for measure in measures)
        try:
            return self.select(db, f"{keys}, {plain}", rest, bound)
        except apsw.SQLError as error:
            if "integer overflow" not in str(error):
                raise
        halves = ", ".join(f"sum({m} / {SPLIT}), sum({m} % {SPLIT})" for m in measures)
        return [_joined(row, len(measures)) for row in self.select(db, f"{keys}, {halves}", rest, bound)]


def _joined(row: tuple[int, ...], measures: int) -> tuple[int, ...]:
    halves = row[len(row) - 2 * measures :]
    sums = (high * SPLIT + low for high, low in zip(halves[::2], halves[1::2], strict=True))
    return (*row[: len(row) - 2 * measures], *sums)


class StatSource(Struct):
    """The calls that a filter selects, in ranges. `users`: nobody needs the rows of any others."""

    db: apsw.Connection
    filter: CallFilter
    ranges: list[Range]
    dimensions: dict[Dimension, int]
    kept: Kept = STATS
    users: tuple[int, ...] = ()

    def rows(self, shown: Sequence[str], measures: Sequence[str]) -> Rows:
        """The relation of these columns; raises InvalidInput where it would take too many steps."""
        whole = [(index, *bounds) for index, bounds in enumerate(self.ranges)]
        if self.filter.needs_calls():
            self._require_few(whole)
            return _union("[]", self._of_calls(whole, shown, measures), shown, measures)
        wanted = frozenset({*shown, *self.dimensions})
        quarterly, daily = (self.kept.narrowest(size, wanted) for size in (QUARTER_US, DAY_US))
        found = segments(stretched(self.db, self.ranges), days=daily is not None)
        arms = self._of_calls(found.edges, shown, measures)
        for rollup, parts in ((quarterly, found.quarters), (daily, found.days)):
            if rollup is not None and parts:
                arms.append(self._of_cells(rollup, parts, shown, measures))
        quarters = tail_quarters(self.db, self.kept, sorted(found.quarters + found.days, key=lambda part: part[1]))
        if quarters:
            arms.extend(self._of_tail(shown, measures))
        return _union(msgspec.json.encode(quarters).decode(), arms, shown, measures)

    def _require_few(self, parts: list[Part]) -> None:
        left, bound = CALLS_MAX, segments_json(parts)
        for table, _ in sources(self.filter):
            within = f"{SEGMENTS} CROSS JOIN {table} ON started_at_us >= b.low AND started_at_us < b.high"
            left -= (
                self.db.execute(f"SELECT count(*) FROM (SELECT 1 FROM {within} LIMIT ?)", (bound, left + 1)).get or 0
            )
            if left < 0:
                message = f"Expected a range of at most {CALLS_MAX:,} calls under this filter"
                raise InvalidInput(errors=(FieldError("$.from", message),))

    def _of_calls(self, parts: list[Part], shown: Sequence[str], measures: Sequence[str]) -> list[_Arm]:
        if not parts:
            return []
        where, bound = all_of([self.kept.counted, *conditions(self.filter, self.dimensions)])
        taken = self.kept.from_calls
        columns = _columns("b.i", *([f"{taken.get(c, c)} AS {c}" for c in each] for each in (shown, measures)))
        bindings = (segments_json(parts), *bound)
        place = "started_at_us >= b.low AND started_at_us < b.high"
        return [
            (f"SELECT {columns} FROM {SEGMENTS} CROSS JOIN {table} s ON {place} WHERE {which} AND {where}", bindings)
            for table, which in sources(self.filter)
        ]

    def _of_cells(self, rollup: Rollup, parts: list[Part], shown: Sequence[str], measures: Sequence[str]) -> _Arm:
        first = next(dimension for dimension in self.kept.dimensions if dimension in rollup.dimensions)
        place, among = "bucket >= b.low AND bucket < b.high", ()
        if first in self.dimensions:  # one seek a bucket, straight to the filtered rows
            parts, place = self._sought(rollup, parts, first), "bucket = b.low"
        elif first == "user_id" and self.users:  # and one a user
            each = list(exploded(clipped(parts, *data_range(self.db, self.kept, self.dimensions)), rollup.bucket_us))
            if len(each) * len(self.users) <= SEEKS_MAX:
                parts, place = each, "bucket = b.low AND user_id IN (SELECT value FROM json_each(?))"
                among = (msgspec.json.encode(self.users).decode(),)
        where, bound = all_of([*_nowhere_else(self.kept, rollup), *_billed(self.filter.basis), *self._named()])
        sql = (
            f"SELECT {_columns('b.i', shown, measures)} FROM {SEGMENTS} CROSS JOIN {self.kept.table} s "
            f"ON rollup = {rollup.code} AND {place} WHERE {where}"
        )
        return sql, (segments_json(parts), *among, *bound)

    def _sought(self, rollup: Rollup, parts: list[Part], first: Dimension) -> list[Part]:
        """The buckets of parts that lie in days with cells of what the first dimension is to be."""
        by_day = self.kept.narrowest(DAY_US, frozenset({first}))
        assert by_day is not None, f"there is no roll-up by {first} and day"
        within = clipped(parts, *data_range(self.db, self.kept, self.dimensions))
        days = list(dict.fromkeys(day for _, low, high in within for day in _days(low, high)))
        if len(days) > SEEKS_MAX:
            raise _too_long()
        where, bound = all_of([*_before(self.kept, by_day, first), (f"{first} = ?", (self.dimensions[first],))])
        sql = (
            f"SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM {self.kept.table} "
            f"WHERE rollup = {by_day.code} AND bucket = value AND {where})"
        )
        rows = cast("list[tuple[int]]", self.db.execute(sql, (msgspec.json.encode(days).decode(), *bound)).fetchall())
        present = {day for (day,) in rows}
        found: list[Part] = []
        for index, low, high in within:
            for day in _days(low, high):
                if day in present:
                    part = (index, max(low, day), min(high, day + DAY_US))
                    found.extend(exploded([part], rollup.bucket_us))
            if len(found) > SEEKS_MAX:
                raise _too_long()
        return found

    def _of_tail(self, shown: Sequence[str], measures: Sequence[str]) -> list[_Arm]:
        """What the cells do not hold yet: a bounded number of calls and changes."""
        where, bound = all_of([*_billed(self.filter.basis), *self._named()])
        found, stretch = self.kept.tail(self.db)
        columns, place = _columns("q.i", shown, measures), f"q.quarter = started_at_us / {QUARTER_US}"
        return [
            (f"SELECT {columns} FROM {source} CROSS JOIN quarters q ON {place} WHERE {where}", (*stretch, *bound))
            for source in found
        ]

    def _named(self) -> list[Condition]:
        return [(f"{name} = ?", (id_,)) for name, id_ in self.dimensions.items()]


def _days(low: int, high: int) -> range:
    """The UTC days that [low, high) is of."""
    return range(low // DAY_US * DAY_US, high, DAY_US)


def _too_long() -> InvalidInput:
    return InvalidInput(errors=(FieldError("$.from", "The range is too long for this filter"),))


def _union(quarters: str, arms: list[_Arm], shown: Sequence[str], measures: Sequence[str]) -> Rows:
    nothing = f"SELECT {_columns('0 AS i', [f'0 AS {d}' for d in shown], [f'0 AS {m}' for m in measures])} WHERE false"
    sql = " UNION ALL ".join(sql for sql, _ in arms) or nothing
    return Rows(quarters, sql, tuple(value for _, bound in arms for value in bound))


def _columns(index: str, shown: Sequence[str], measures: Sequence[str]) -> str:
    return ", ".join([index, *shown, *measures])


def _nowhere_else(kept: Kept, rollup: Rollup) -> list[Condition]:
    """What makes a seek of a filter: the dimensions that a roll-up does not keep are 0."""
    return [(f"{dimension} = 0", ()) for dimension in kept.dimensions if dimension not in rollup.dimensions]


def _before(kept: Kept, rollup: Rollup, first: str) -> list[Condition]:
    before = kept.dimensions[: kept.dimensions.index(first)]
    return [(f"{d} = 0", ()) for d in before if d not in rollup.dimensions]


def _billed(basis: Basis) -> list[Condition]:
    return [("correction = 0", ())] if basis == "billed" else []


def tail_quarters(db: apsw.Connection, kept: Kept, parts: Sequence[Part]) -> list[tuple[int, int]]:
    """The quarters of hours that the tail has calls in, each with the index of the part that it is of."""
    found, stretch = kept.tail(db)
    sql = " UNION ".join(f"SELECT DISTINCT started_at_us / {QUARTER_US} FROM {source}" for source in found)
    lows = [low for _, low, _ in parts]
    within: list[tuple[int, int]] = []
    for (quarter,) in cast("list[tuple[int]]", db.execute(sql, stretch * len(found)).fetchall()):
        at = bisect_right(lows, quarter * QUARTER_US) - 1
        if at >= 0 and quarter * QUARTER_US < parts[at][2]:
            within.append((parts[at][0], quarter))
    return within


def data_range(db: apsw.Connection, kept: Kept, dimensions: dict[Dimension, int]) -> Range:
    """The whole UTC days that have cells or a tail, of the filtered app if there is one; empty where none has.

    Nobody's calls may set the range of another app's statistics.
    """
    app = dimensions.get("app")
    names, where, bound = ((), "true", ()) if app is None else (("app",), "app = ?", (app,))
    rollup = kept.narrowest(DAY_US, frozenset(names))
    assert rollup is not None, f"{kept.table} has no days"
    found, stretch = kept.tail(db)
    day = f"started_at_us / {DAY_US} * {DAY_US}"
    cells = f"{kept.table} WHERE rollup = {rollup.code}"
    ends = [
        f"SELECT min(bucket) AS low, max(bucket) AS high FROM {cells} AND {where}",
        *(f"SELECT min({day}), max({day}) FROM {source} WHERE {where}" for source in found),
    ]
    bindings = (*bound, *(value for _ in found for value in (*stretch, *bound)))
    sql = f"SELECT min(low), max(high) FROM ({' UNION ALL '.join(ends)})"
    ((low, high),) = cast("list[tuple[int | None, int | None]]", db.execute(sql, bindings).fetchall())
    return (0, 0) if low is None or high is None else (low, high + DAY_US)


def stretched(db: apsw.Connection, ranges: list[Range]) -> list[Range]:
    """The same calls in ranges that are made of fewer parts: where none starts before or after, whole UTC days."""
    if not ranges:
        return ranges
    ends = [
        db.execute(f"SELECT {which}(started_at_us) FROM {table}").get
        for which in ("min", "max")
        for table in ("model_calls", "model_call_versions")
    ]
    lows, highs = [[end for end in pair if end is not None] for pair in (ends[:2], ends[2:])]
    found = list(ranges)
    start, end = found[0]
    if lows and start <= min(lows):
        found[0] = (start // DAY_US * DAY_US, end)
    start, end = found[-1]
    if highs and end > max(highs):
        found[-1] = (start, -(-end // DAY_US) * DAY_US)
    return found


def extent(call_filter: CallFilter, granularity: Granularity, tz: ZoneInfo, days: Callable[[], Range]) -> Range:
    """The asked range; an open end is that of the whole days or months of the zone where `days`, of UTC, have data."""
    from_us, to_us = call_filter.from_us, call_filter.to_us
    if from_us is not None and to_us is not None:
        return from_us, to_us
    low, high = days()
    if low == high:  # no calls: nothing lies between a given end and an open one
        end = from_us or to_us or 0
        return end, end
    low, high = widened(low, high, granularity, tz)
    return low if from_us is None else from_us, high if to_us is None else to_us


def whole_days(db: apsw.Connection, call_filter: CallFilter, dimensions: dict[Dimension, int]) -> Range:
    """The whole UTC days that have calls, or had at the position that is asked for."""
    if call_filter.as_of is None:
        return data_range(db, STATS, dimensions)
    known = known_range(db, call_filter, dimensions)
    return (0, 0) if known is None else (known[0] // DAY_US * DAY_US, (known[1] // DAY_US + 1) * DAY_US)


def clipped(parts: list[Part], low: int, high: int) -> list[Part]:
    """The parts of parts that lie in [low, high)."""
    return [(index, max(a, low), min(b, high)) for index, a, b in parts if max(a, low) < min(b, high)]
