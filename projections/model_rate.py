"""Rates by provider and model, with all that calls are priced by."""

from collections.abc import Sequence

import apsw
import msgspec
from msgspec import Struct

from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.model_rate import ModelRateDeprecated, ModelRateSet
from schema.times import parse_time

_COLUMNS = """
    position          INTEGER PRIMARY KEY,
    id                TEXT NOT NULL,
    provider          TEXT NOT NULL,
    model             TEXT NOT NULL,
    type              TEXT,
    mode              TEXT NOT NULL,
    effective_from_us INTEGER NOT NULL,
    recorded_at_us    INTEGER NOT NULL,
    deprecated        INTEGER NOT NULL,
    deprecated_reason TEXT,
    data              TEXT NOT NULL
"""
ANY_POSITION = 2**62  # above every one

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ModelRateSet).decode


class RateRow(Struct, frozen=True):
    """A rate and what the journal says about it."""

    position: int
    effective_from_us: int
    recorded_at_us: int
    deprecated: bool
    deprecated_reason: str | None
    rate: ModelRateSet


class RateFilter(Struct, frozen=True, kw_only=True):
    """Which rates; None means any."""

    provider: str | None = None
    model: str | None = None
    type: str | None = None
    mode: str | None = None
    deprecated: bool | None = None

    def takes(self, row: RateRow) -> bool:
        """Whether a row is wanted."""
        pairs = (
            (self.provider, row.rate.provider), (self.model, row.rate.model), (self.type, row.rate.type),
            (self.mode, row.rate.mode), (self.deprecated, row.deprecated),
        )  # fmt: skip
        return all(wanted is None or wanted == found for wanted, found in pairs)


class Selection(Struct, frozen=True, kw_only=True):
    """Rates of a provider and of models, set below a position; None means any, and -1 is no limit."""

    provider: str | None = None
    models: Sequence[str] | None = None
    below: int = ANY_POSITION
    limit: int = -1


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    table = target.table("model_rates")
    rows: list[Row] = [_row(event, event.data) for event in events if isinstance(event.data, ModelRateSet)]
    if rows:
        insert(target.db, f"INSERT INTO {table}", rows)
    for event in events:
        if isinstance(event.data, ModelRateDeprecated):
            data = event.data
            target.db.execute(
                f"UPDATE {table} SET deprecated = ?, deprecated_reason = ? WHERE id = ?",
                (data.deprecated, data.reason, data.id),
            )


def _row(event: Recorded, rate: ModelRateSet) -> Row:
    return (
        event.position, rate.id, rate.provider, rate.model, rate.type, rate.mode, parse_time(rate.effective_from or ""),
        event.recorded_at_us, 0, None, _encode(rate).decode(),
    )  # fmt: skip


_SELECT = "SELECT position, effective_from_us, recorded_at_us, deprecated, deprecated_reason, data FROM model_rates"


def last_position(db: apsw.Connection) -> int:
    """The position of the latest rate, 0 where there is none."""
    return db.execute("SELECT max(position) FROM model_rates").get or 0


def rates_after(db: apsw.Connection, position: int) -> list[RateRow]:
    """The rates set after a position, in order."""
    return _found(db, "position > ? ORDER BY position", (position,))


def rates_of(db: apsw.Connection, provider: str) -> list[RateRow]:
    """A provider's rates, in order."""
    return _found(db, "provider = ? ORDER BY position", (provider,))


def find(db: apsw.Connection, id_: str) -> RateRow | None:
    """A rate by its id."""
    return next(iter(_found(db, "id = ?", (id_,))), None)


def list_rates(db: apsw.Connection, wanted: RateFilter, below: int, limit: int) -> list[RateRow]:
    """Rates under a filter, latest first, below a position."""
    where = f"position < ?1 AND {_WANTED} ORDER BY position DESC LIMIT ?7"
    return _found(db, where, (below, *_bound(wanted), limit))


def dated_rates(db: apsw.Connection, wanted: RateFilter, limit: int) -> list[RateRow]:
    """Rates under a filter, in the order in which they take effect."""
    where = f"position < ?1 AND {_WANTED} ORDER BY effective_from_us, position LIMIT ?7"
    return _found(db, where, (ANY_POSITION, *_bound(wanted), limit))


def rates_in_force(db: apsw.Connection, at_us: int, among: Selection) -> list[RateRow]:
    """The rates that hold at an instant, in the order of names and effect.

    One for each provider, model, type and daily window, whatever the time of the day; see `unshadowed`.
    """
    within = "effective_from_us <= ?1 AND position < ?2 AND (?3 IS NULL OR provider = ?3)"
    named = "(?4 IS NULL OR model IN (SELECT value FROM json_each(?4)))"
    ranked = (
        "SELECT position, row_number() OVER (PARTITION BY provider, model, type, data -> 'daily_window' "
        f"ORDER BY effective_from_us DESC, position DESC) AS nth FROM model_rates WHERE {within} AND {named}"
    )
    where = f"position IN (SELECT position FROM ({ranked}) WHERE nth = 1)"
    order = "ORDER BY provider, model, type, effective_from_us, position LIMIT ?5"
    names = None if among.models is None else _encode(among.models).decode()
    bound = (at_us, among.below, among.provider, names, among.limit)
    return unshadowed(_found(db, f"{where} {order}", bound))


def unshadowed(rows: Sequence[RateRow]) -> list[RateRow]:
    """Rows in the order of names and effect, without those that a later one without a daily window covers."""
    found: list[RateRow] = []
    covered: tuple[str, str, str | None] | None = None
    for row in reversed(rows):
        key = key_of(row.rate)
        if key != covered:
            found.append(row)
            covered = key if row.rate.daily_window is None else None
    return found[::-1]


def key_of(rate: ModelRateSet) -> tuple[str, str, str | None]:
    """What a rate is for."""
    return rate.provider, rate.model, rate.type


_WANTED = (
    "(?2 IS NULL OR provider = ?2) AND (?3 IS NULL OR model = ?3) AND (?4 IS NULL OR type = ?4) "
    "AND (?5 IS NULL OR mode = ?5) AND (?6 IS NULL OR deprecated = ?6)"
)


def _bound(wanted: RateFilter) -> tuple[str | bool | None, ...]:
    return wanted.provider, wanted.model, wanted.type, wanted.mode, wanted.deprecated


def _found(db: apsw.Connection, where: str, bound: tuple[str | int | None, ...]) -> list[RateRow]:
    rows = db.execute(f"{_SELECT} WHERE {where}", bound)
    return [RateRow(p, from_us, at_us, bool(d), why, _decode(data)) for p, from_us, at_us, d, why, data in rows]


PROJECTION = Projection(
    name="model_rates",
    version=1,
    tables=(
        Table(
            "model_rates",
            _COLUMNS,
            key="position",
            indexes=(
                ("model_rates_provider_model", "(provider, model, effective_from_us)"),
                ("model_rates_id", "(id)"),
            ),
        ),
    ),
    apply=_apply,
    blocking=True,
    of=(ModelRateSet, ModelRateDeprecated),
)
