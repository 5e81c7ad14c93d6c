"""Bringing in what a group's leases touch: a handful of queries, whatever the number of commands."""

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from ledger.credential_health import RECHECK_S_MAX
from ledger.decision import WorkingSet
from ledger.lease_choice import head_of, pinned
from ledger.lease_state import (
    HEAD,
    LEASE_HEAD,
    LEASES,
    MODEL_ROTATIONS,
    PROVIDER_ROTATIONS,
    ROTATIONS,
    USAGES,
    LeaseRow,
)
from projections.quota_period import KINDS, calendar
from schema.lease import LeaseRequest
from schema.times import SECOND_US

# A look that is further off than any can be was put off by a clock that ran ahead.
DUE = "(recheck_at_us <= ? OR recheck_at_us > ?)"


def due(now_us: int) -> tuple[int, int]:
    """The bindings of `DUE`."""
    return now_us, now_us + RECHECK_S_MAX * SECOND_US


def load_base(db: apsw.Connection, ws: WorkingSet) -> None:
    """What every command about leases needs: credentials as they are, and where leases are."""
    ws.credentials.refresh(db)
    ws.state.load(db, LEASE_HEAD, [(HEAD,)])


def load_choice(db: apsw.Connection, ws: WorkingSet, wanted: Sequence[LeaseRequest], times_us: Iterable[int]) -> None:
    """What choosing looks at: the credentials of every provider that may be chosen, in the periods of these times."""
    models = list(dict.fromkeys(each.model for each in wanted if each.model is not None))
    providers = {each.provider: None for each in wanted if each.provider is not None}
    turned: list[str] = []
    for model in models:
        provider = pinned(ws, model)
        if provider is None:
            turned.append(model)
            providers.update(dict.fromkeys(_load_offers(db, ws, model)))
        else:
            providers[provider] = None
    ws.state.load(db, MODEL_ROTATIONS, [(model,) for model in turned])
    ws.state.load(db, PROVIDER_ROTATIONS, [(provider,) for provider in providers])
    load_standings(db, ws, [line.content.id for p in providers for line in ws.credentials.of(p)], times_us)


def _load_offers(db: apsw.Connection, ws: WorkingSet, model: str) -> set[str]:
    """Providers that may offer a model: one is registered, or a rate names it, from an instant on."""
    query = (
        "SELECT k.value, min(r.effective_from_us) FROM json_each(?) k CROSS JOIN model_rates r "
        "ON r.provider = k.value AND r.model = ? AND NOT r.deprecated GROUP BY k.value"
    )
    holders = msgspec.json.encode(ws.credentials.with_credentials()).decode()
    found: list[Any] = db.execute(query, (holders, model)).fetchall()
    dated: dict[str, int] = dict(found)
    ws.read["offers", model] = dated
    return {*dated, *ws.credentials.offering(model)}


def load_standings(db: apsw.Connection, ws: WorkingSet, credentials: Sequence[str], times_us: Iterable[int]) -> None:
    """The turns and health of credentials, and what they have used in the periods of any of these times."""
    ws.state.load(db, ROTATIONS, [(id_,) for id_ in credentials])
    nows_us = {max(head_of(ws).last_us, time_us) for time_us in times_us}
    lines = [line for id_ in credentials if (line := ws.credentials.find(id_)) is not None]
    periods = {
        timezone: {(kind, calendar(timezone).period(kind, now_us).text) for kind in KINDS for now_us in nows_us}
        for timezone in {line.content.timezone for line in lines}
    }
    ws.state.load(db, USAGES, [(line.content.id, *each) for line in lines for each in periods[line.content.timezone]])


def load_ended(db: apsw.Connection, ws: WorkingSet, ids: Sequence[str]) -> None:
    """What reports on leases touch."""
    ws.state.load(db, LEASES, [(id_,) for id_ in ids])
    found = [lease for id_ in ids if (lease := ws.state.get(LeaseRow, id_)) is not None]
    ws.state.load(db, ROTATIONS, [(lease.credential,) for lease in found])
    ws.state.load(db, PROVIDER_ROTATIONS, [(lease.provider,) for lease in found])
    keys: list[tuple[Any, ...]] = []
    for lease in found:
        keys += [(lease.credential, "day", lease.day), (lease.credential, "month", lease.month)]
    ws.state.load(db, USAGES, keys)
