"""What a call costs: one look at a rate, integer arithmetic, one rounding.

Prices are integers of 1e-12 credits a unit, durations of 1e-6 seconds; a cost is added up exactly, at 1e-18, and
rounded once, half up, to ten decimals. A quantity counts once, in the most specific unit that has a price:
`input_tokens` less what is priced as cache, audio, … apart. Nothing here reads anything but its arguments.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

from msgspec import Struct

from schema.model_call import Usage
from schema.model_rate import NAMED, PriceBook, Prices, TieredPrices
from schema.money import COST_DECIMALS, RATE_DECIMALS, SECONDS_DECIMALS, parse_scaled
from schema.unit import REQUESTS, UNITS, includes, is_duration, is_input, join

EXACT_DECIMALS = RATE_DECIMALS + SECONDS_DECIMALS
CONTEXTS_MAX = 256  # combinations of variants kept ready, for one rate
PLANS_MAX = 256  # sets of reported units kept ready, for one table
_ROUND = 10 ** (EXACT_DECIMALS - COST_DECIMALS)
_HALF = _ROUND // 2
_COUNTED = 10**SECONDS_DECIMALS  # a count's price, on the scale of a duration's

# Units that a usage always tells, by being left out where they are 0: none of them needs another to be told too.
_FIELD_UNITS = frozenset(
    {
        REQUESTS, "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens",
        "images", "seconds",
    }
)  # fmt: skip

Quantities = Mapping[str, int]
Context = Mapping[str, str]


class UnclearUsageError(ValueError):
    """The reported quantities contradict each other, or leave open what a priced unit needs."""


class Line(Struct, frozen=True):
    """A part of a cost. `quantity` is a count, or microseconds of a duration; `amount_e18` is exact."""

    unit: str
    quantity: int
    rate_e12: int
    amount_e18: int


class Cost(Struct, frozen=True):
    """A cost in 1e-10 credits, and its input part; `uncovered` tells whether something used has no price."""

    cost_e10: int
    input_cost_e10: int
    uncovered: bool


def rounded(amount_e18: int) -> int:
    """1e-18 credits to 1e-10, half up."""
    return (amount_e18 + _HALF) // _ROUND


def quantities(usage: Usage | None) -> dict[str, int]:
    """What a call used, by unit: counts, and microseconds of durations. The call itself is one request."""
    found = {REQUESTS: 1}
    if usage is None:
        return found
    found["input_tokens"] = usage.input_tokens or 0
    found["output_tokens"] = usage.output_tokens or 0
    if usage.cache_read_tokens:
        found["cache_read_tokens"] = usage.cache_read_tokens
    if usage.cache_write_tokens:
        found["cache_write_tokens"] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        found["output_reasoning_tokens"] = usage.reasoning_tokens
    if usage.images:
        found["images"] = usage.images
    if usage.seconds != "0" and usage.seconds is not None:
        found["seconds"] = parse_scaled(usage.seconds, SECONDS_DECIMALS)
    if usage.units:
        for unit, amount in usage.units.items():
            found[unit] = amount * _COUNTED if is_duration(unit) else amount
    return found


class _Plan(Struct, frozen=True):
    """What a table makes of usages that report the same units: sums of quantities times whole numbers.

    `input` and `other` are (unit, 1e-18 credits), and a cost is the sum of both; no sum of `parts` may be negative;
    `unreported` are priced units whose absence may leave the usage unclear; `uncovered` are reported ones without a
    price.
    """

    input: tuple[tuple[str, int], ...]
    other: tuple[tuple[str, int], ...]
    parts: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    unreported: tuple[str, ...]
    uncovered: tuple[str, ...]


class _Table:
    """Prices of one tier: units from the most specific on, with the priced units inside each."""

    __slots__ = ("covered", "is_free", "lines", "plans")

    def __init__(self, prices: Mapping[str, int]) -> None:
        units = sorted(prices, key=lambda unit: (-len(UNITS[unit]), unit))
        self.lines = [
            (
                unit,
                prices[unit] * (1 if is_duration(unit) else _COUNTED),
                is_input(unit),
                tuple(n for n, other in enumerate(units[:at]) if includes(unit, other)),
            )
            for at, unit in enumerate(units)
        ]
        self.covered = {REQUESTS, *(unit for unit in UNITS if any(includes(priced, unit) for priced in units))}
        self.is_free = not any(prices.values())
        self.plans: dict[tuple[str, ...], _Plan] = {}

    def plan(self, used: Quantities) -> _Plan:
        """Make the plan for usages that report these units."""
        if len(self.plans) >= PLANS_MAX:
            self.plans.clear()
        units = tuple(used)
        plan = self.plans[units] = self._planned(units)
        return plan

    def _planned(self, units: tuple[str, ...]) -> _Plan:
        of_input, other = dict.fromkeys(units, 0), dict.fromkeys(units, 0)
        leaves: list[dict[str, int]] = []
        for unit, rate, input_, inside in self.lines:
            leaf = {unit: 1} if unit in of_input else {}
            for n in inside:
                for part, times in leaves[n].items():
                    leaf[part] = leaf.get(part, 0) - times
            leaves.append(leaf)
            prices = of_input if input_ else other
            for part, times in leaf.items():
                prices[part] += times * rate
        plain = frozenset(units) <= _FIELD_UNITS
        return _Plan(
            input=tuple((unit, price) for unit, price in of_input.items() if price),
            other=tuple((unit, price) for unit, price in other.items() if price),
            parts=tuple(
                (line[0], tuple(leaf.items()))
                for line, leaf in zip(self.lines, leaves, strict=True)
                if min(leaf.values(), default=0) < 0
            ),
            unreported=() if plain else tuple(line[0] for line in self.lines if line[0] not in of_input),
            uncovered=tuple(unit for unit in units if unit not in self.covered),
        )


class CompiledPrices:
    """A price book made ready: for a context and a number of input tokens, the table that prices a call."""

    def __init__(self, book: PriceBook, minimums: Mapping[str, str] | None = None) -> None:
        self._book = book
        self._minimums = {unit: parse_scaled(text, SECONDS_DECIMALS) for unit, text in (minimums or {}).items()}
        self.has_minimums = bool(minimums)
        self._by_context: dict[tuple[int, ...], list[tuple[int, _Table]]] = {}
        self._plain = _tiers([book])
        self._only = self._plain[0][1] if len(self._plain) == 1 else None  # the table of whatever has no context

    @cached_property
    def prices_nothing(self) -> bool:
        """Whether there is no price at all."""
        return not any(table.lines for _, table in self._plain) and not self._book.variants

    @cached_property
    def is_free(self) -> bool:
        """Whether every price is 0."""
        variants = [table for variant in self._book.variants or () for _, table in _tiers([variant])]
        return all(table.is_free for table in (*variants, *(table for _, table in self._plain)))

    def cost(self, used: Quantities, context: Context | None = None) -> Cost:
        """The cost of quantities. Raises UnclearUsageError."""
        table = self._only if self._only is not None and context is None else self._table(used, context)
        if self._minimums or "seconds" in used:
            used = self._adjusted(used, table)
        plan = table.plans.get(tuple(used)) or table.plan(used)
        for unit in plan.unreported:
            _unreported(unit, used)
        for unit, part in plan.parts:
            if sum(used[other] * times for other, times in part) < 0:
                raise UnclearUsageError(f"what is inside {unit} exceeds it")
        of_input = other = 0
        for unit, price in plan.input:
            of_input += used[unit] * price
        for unit, price in plan.other:
            other += used[unit] * price
        uncovered = any(used[unit] for unit in plan.uncovered) if plan.uncovered else False
        # `rounded`, twice
        return Cost((of_input + other + _HALF) // _ROUND, (of_input + _HALF) // _ROUND, uncovered)

    def at(self, tokens: int) -> _Table:
        """The table of calls with that much input, more than any negative number, and no context."""
        return next(table for above, table in self._plain if tokens > above)

    @property
    def steps(self) -> list[int]:
        """The inputs above which another table holds, falling; the last is below 0."""
        return [above for above, _ in self._plain]

    def lines(self, used: Quantities, context: Context | None = None) -> list[Line]:
        """The parts of a cost, the most specific units first. Raises UnclearUsageError."""
        table = self._table(used, context)
        used = self._adjusted(used, table)
        leaves: list[int] = []
        found: list[Line] = []
        for unit, rate, _, inside in table.lines:
            leaf = (used[unit] if unit in used else _unreported(unit, used)) - sum(leaves[n] for n in inside)
            if leaf < 0:
                raise UnclearUsageError(f"what is inside {unit} exceeds it")
            leaves.append(leaf)
            found.append(Line(unit, leaf, rate if is_duration(unit) else rate // _COUNTED, leaf * rate))
        return found

    def _table(self, used: Quantities, context: Context | None) -> _Table:
        tiers = self._tiers_of(context) if context else self._plain
        if len(tiers) > 1:
            tokens = used["input_tokens"] if "input_tokens" in used else _unreported("input_tokens", used)
            for above, table in tiers:
                if tokens > above:
                    return table
        return tiers[-1][1]

    def _tiers_of(self, context: Context) -> list[tuple[int, _Table]]:
        variants = self._book.variants or ()
        fitting = [v for v in variants if all(context.get(name) == value for name, value in v.when.items())]
        if not fitting:
            return self._plain
        key = tuple(n for n, v in enumerate(variants) if v in fitting)
        cached = self._by_context.get(key)
        if cached is None:
            if len(self._by_context) >= CONTEXTS_MAX:
                self._by_context.clear()
            cached = self._by_context[key] = _tiers([*fitting, self._book])
        return cached

    def _adjusted(self, used: Quantities, table: _Table) -> Quantities:
        """Plain seconds are those of audio where only these have a price; a vendor's minimum is applied."""
        found = dict(used)
        if "seconds" in found and "seconds" not in table.covered and "audio_seconds" in table.covered:
            found.setdefault("audio_seconds", found.pop("seconds"))
        for unit, least in self._minimums.items():
            if found.get(unit):
                found[unit] = max(found[unit], least)
        return found


class _Joint(Struct, frozen=True):
    """Two plans for the same units: (unit, charged, vendor's) in 1e-18 credits; no sum of `parts` may be negative."""

    input: tuple[tuple[str, int, int], ...]
    other: tuple[tuple[str, int, int], ...]
    parts: tuple[tuple[tuple[str, int], ...], ...]


class BothPrices:
    """What is charged and what the vendor asks, in one pass, wherever nothing about a usage is open.

    It only ever says what the two would say apart, and most calls are such.
    """

    def __init__(self, charged: CompiledPrices, vendor: CompiledPrices) -> None:
        self._able = not (charged.has_minimums or vendor.has_minimums)
        steps = sorted({*charged.steps, *vendor.steps}, reverse=True)
        # One more than the step is the least input that is above it.
        self._tiers = [(step, charged.at(step + 1), vendor.at(step + 1)) for step in steps]
        self._plans: list[dict[tuple[str, ...], _Joint | None]] = [{} for _ in steps]

    def cost(self, used: Quantities) -> tuple[int, int, int] | None:
        """The cost, its input part, and the vendor's cost, in 1e-10 credits; None where they must be told apart."""
        if not self._able or "seconds" in used or "input_tokens" not in used:
            return None
        tokens = used["input_tokens"]
        at = 0
        while tokens <= self._tiers[at][0]:
            at += 1
        units = tuple(used)
        plans = self._plans[at]
        plan = plans[units] if units in plans else self._plan(at, used)
        if plan is None:
            return None
        for part in plan.parts:
            if sum(used[unit] * times for unit, times in part) < 0:
                return None
        of_input = charged = vendor = 0
        for unit, price, vendor_price in plan.input:
            amount = used[unit]
            of_input += amount * price
            vendor += amount * vendor_price
        for unit, price, vendor_price in plan.other:
            amount = used[unit]
            charged += amount * price
            vendor += amount * vendor_price
        charged += of_input
        return (charged + _HALF) // _ROUND, (of_input + _HALF) // _ROUND, (vendor + _HALF) // _ROUND

    def _plan(self, at: int, used: Quantities) -> _Joint | None:
        plans, (_, charged, vendor) = self._plans[at], self._tiers[at]
        if len(plans) >= PLANS_MAX:
            plans.clear()
        found = plans[tuple(used)] = _joint(charged.plan(used), vendor.plan(used))
        return found


def _joint(charged: _Plan, vendor: _Plan) -> _Joint | None:
    if charged.unreported or vendor.unreported or charged.uncovered or vendor.uncovered:
        return None
    parts = dict.fromkeys(part for _, part in (*charged.parts, *vendor.parts))
    return _Joint(_paired(charged.input, vendor.input), _paired(charged.other, vendor.other), tuple(parts))


def _paired(charged: Sequence[tuple[str, int]], vendor: Sequence[tuple[str, int]]) -> tuple[tuple[str, int, int], ...]:
    ours, theirs = dict(charged), dict(vendor)
    return tuple((unit, ours.get(unit, 0), theirs.get(unit, 0)) for unit in {**ours, **theirs})


def _unreported(unit: str, used: Quantities) -> int:
    """A priced unit that was not reported counts 0, unless what was reported says it cannot."""
    reported = sorted(other for other, amount in used.items() if amount and other not in {unit, REQUESTS})
    for other in reported:
        if includes(unit, other):
            raise UnclearUsageError(f"{other} is reported and {unit}, which includes it, is not")
    wanted = frozenset(UNITS[unit].items())
    for n, first in enumerate(reported):
        for second in reported[n + 1 :]:
            if join(first, second) == wanted:
                raise UnclearUsageError(f"{first} and {second} overlap, and {unit} is not reported")
    return 0


def _tiers(books: Sequence[TieredPrices]) -> list[tuple[int, _Table]]:
    """(above, table) from the highest tier down; each unit's price is of the first book that has one."""
    tiered = [_by_unit(book) for book in books]
    # -1 always, for a call below the lowest tier where only tiers have prices.
    steps = sorted({-1, *(above for book in tiered for tiers in book.values() for above, _ in tiers)}, reverse=True)
    found: list[tuple[int, _Table]] = []
    for step in steps:
        prices: dict[str, int] = {}
        for book in tiered:
            for unit, tiers in book.items():
                price = next((rate for above, rate in reversed(tiers) if above <= step), None)
                if price is not None:
                    prices.setdefault(unit, price)
        found.append((step, _Table(prices)))
    return found


def _by_unit(book: TieredPrices) -> dict[str, list[tuple[int, int]]]:
    """Each unit's prices as (above, 1e-12 credits), rising; the base price is above -1."""
    found = {unit: [(-1, rate)] for unit, rate in prices_of(book).items()}
    for tier in sorted(book.tiers or (), key=lambda tier: tier.above):
        for unit, rate in prices_of(tier).items():
            found.setdefault(unit, []).append((tier.above, rate))
    return found


def prices_of(prices: Prices) -> dict[str, int]:
    """A set of prices by unit, in 1e-12 credits."""
    named = {unit: getattr(prices, name) for name, unit in NAMED.items()}
    given = {unit: text for unit, text in named.items() if text is not None} | (prices.lines or {})
    return {unit: parse_scaled(text, RATE_DECIMALS) for unit, text in given.items()}
