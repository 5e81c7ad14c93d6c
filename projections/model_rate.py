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


def list_rates(db: apsw.Connection, provider: str | None, model: str | None, below: int, limit: int) -> list[RateRow]:
    """Rates of a provider and model, latest first, below a position."""
    where = "position < ?1 AND (?2 IS NULL OR provider = ?2) AND (?3 IS NULL OR model = ?3)"
    return _found(db, f"{where} ORDER BY position DESC LIMIT ?4", (below, provider, model, limit))


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
)
