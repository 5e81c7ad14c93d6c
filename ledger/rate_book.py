"""The rates of a ledger, made ready for pricing. Refreshed under the write lock, so every process sees the same."""

from collections import defaultdict

import apsw
from msgspec import Struct

from ledger.model_match import dashed, matches
from ledger.rating import BothPrices, CompiledPrices
from projections import model_rate, provider
from projections.catalogue import latest_position
from projections.model_rate import RateRow
from schema.model_rate import Billing, DailyWindow
from schema.provider import PROVIDER
from schema.times import DAY_US, SECOND_US

RESOLVED_MAX = 20_000


class Rate(Struct, frozen=True):
    """A rate ready to price calls that start from `effective_from_us` on, in its window of the day if it has one."""

    position: int
    id: str
    effective_from_us: int
    window_us: tuple[int, int] | None
    billing: Billing
    charged: CompiledPrices
    vendor: CompiledPrices | None
    both: BothPrices  # what is charged twice, where nobody knows what the vendor asks

    def holds(self, started_at_us: int) -> bool:
        """Whether a call that starts then may take it."""
        if self.effective_from_us > started_at_us:
            return False
        if self.window_us is None:
            return True
        start, end = self.window_us
        time = started_at_us % DAY_US
        return start <= time < end if start <= end else time >= start or time < end


class _Model:
    """A model's rates, by the type they are for, each list newest first."""

    def __init__(self) -> None:
        self.clause: dict[str, object] | None = None
        self.by_type: defaultdict[str | None, list[Rate]] = defaultdict(list)


class RateBook:
    """Finds the rate of a call."""

    def __init__(self) -> None:
        self._position = 0
        self._providers_position = 0
        self._providers: defaultdict[str, dict[str, _Model]] = defaultdict(dict)
        self._fallbacks: dict[str, list[str]] = {}
        self._resolved: dict[tuple[str, str, str], list[Rate]] = {}

    def refresh(self, db: apsw.Connection) -> None:
        """Take in what was set since the last time; call inside the write transaction, before anything is decided."""
        if model_rate.last_position(db) != self._position:
            for row in model_rate.rates_after(db, self._position):
                self._add(row)
                self._position = row.position
            self._resolved.clear()
        position = latest_position(db, PROVIDER)
        if position != self._providers_position:
            self._fallbacks = provider.fallbacks(db)
            self._providers_position = position
            self._resolved.clear()

    def _add(self, row: RateRow) -> None:
        models = self._providers[row.rate.provider]
        model = models.setdefault(row.rate.model, _Model())
        model.clause = row.rate.match or model.clause
        rates = model.by_type[row.rate.type]
        rates.append(compiled(row))
        rates.sort(key=lambda rate: (rate.effective_from_us, rate.position), reverse=True)

    def find(self, provider: str, model: str, type_: str, started_at_us: int) -> Rate | None:
        """The rate of a call: of its very model before one that matches, of its type before one for any."""
        key = (provider, model, type_)
        rates = self._resolved.get(key)
        if rates is None:
            if len(self._resolved) >= RESOLVED_MAX:
                self._resolved.clear()
            models = self._resolve(provider, model)
            rates = [rate for found in models for kind in (type_, None) for rate in found.by_type.get(kind, ())]
            self._resolved[key] = rates
        for rate in rates:
            if rate.holds(started_at_us):
                return rate
        return None

    def _resolve(self, provider: str, model: str) -> list[_Model]:
        """The models that a name may mean, best first: itself, one that matches, one of a fallback provider."""
        own = self._providers.get(provider, {})
        found = [own[model]] if model in own else []
        name = model.lower()
        for spelling in dict.fromkeys((name, dashed(name))):
            for models in (own, *(self._providers.get(p, {}) for p in self._fallbacks.get(provider, ()))):
                matching = _first_match(models, spelling)
                if matching is not None:
                    return found if matching in found else [*found, matching]
        return found


def _first_match(models: dict[str, _Model], name: str) -> _Model | None:
    """In the order of the models' names, as the list has them."""
    for key in sorted(models):
        clause = models[key].clause
        if clause is not None and matches(clause, name):
            return models[key]
    return None


def compiled(row: RateRow) -> Rate:
    """A stored rate made ready."""
    rate = row.rate
    charged = CompiledPrices(rate, rate.minimums)
    vendor = charged if rate.mode == "auto" else None
    if vendor is None and rate.vendor is not None:
        vendor = CompiledPrices(rate.vendor, rate.minimums)
    window = None if rate.daily_window is None else _window_us(rate.daily_window)
    both = BothPrices(charged, vendor or charged)
    return Rate(row.position, rate.id, row.effective_from_us, window, rate.billing, charged, vendor, both)


def _window_us(window: DailyWindow) -> tuple[int, int]:
    return _time_us(window.start), _time_us(window.end)


def _time_us(text: str) -> int:
    hours, minutes, *seconds = (int(part) for part in text.split(":"))
    return ((hours * 60 + minutes) * 60 + sum(seconds)) * SECOND_US
