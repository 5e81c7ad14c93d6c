"""Which credential a lease gets: what each one's standing is, whose turn it is, which provider a model goes to."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from ledger.credential_book import Line
from ledger.credential_health import LONG_COOL_DOWN_US, PENALTY_US_MAX, UNREADABLE_US, goes_on
from ledger.decision import WorkingSet
from ledger.lease_state import HEAD, LeaseHead, ModelRotationRow, ProviderRotationRow, RotationRow, UsageRow
from ledger.round_robin import Candidate, Pick, effective, pick
from projections.quota_period import KINDS, Period, PeriodKind, calendar
from schema.errors import NoCredential, NotFound
from schema.times import SECOND_US

Hindrance = Literal["disabled", "drained", "unreadable", "exhausted"]
RETRY_AFTER_S_UNKNOWN = 60


class Standing(Struct, frozen=True):
    """A credential, its turn and what it has used; `hindrance`: why it is not lent, `until_us`: how long."""

    line: Line
    rotation: RotationRow
    day: UsageRow
    month: UsageRow
    hindrance: Hindrance | None
    until_us: int | None


class Choice(Struct, frozen=True):
    """The credential that is lent, what those of its tier hold then, and where the model's next search begins."""

    taken: Standing
    others: list[RotationRow]
    pick: Pick
    model: ModelRotationRow | None = None


def head_of(ws: WorkingSet) -> LeaseHead:
    """Where leases are."""
    return ws.state.get(LeaseHead, HEAD) or LeaseHead()


def now_of(ws: WorkingSet, received_at_us: int) -> int:
    """The time by which a command about leases chooses days and months: never before that of a lease that was made."""
    return max(received_at_us, head_of(ws).last_us)


class Moment(Struct, frozen=True):
    """When a lease is asked for: by the clock, and for choosing days and months, which never run back."""

    clock_us: int
    period_us: int


def moment_of(ws: WorkingSet, received_at_us: int) -> Moment:
    """That of a command. A clock that once ran ahead holds days and months there; waits are by the clock as it is."""
    return Moment(received_at_us, now_of(ws, received_at_us))


def is_penalised(rotation: RotationRow, now_us: int) -> bool:
    """Whether it gets a tenth of its traffic."""
    return goes_on(rotation.penalised_until_us, now_us, PENALTY_US_MAX)


def is_unreadable(rotation: RotationRow, now_us: int) -> bool:
    """Whether it is passed over, for its secret could not be opened."""
    return goes_on(rotation.unreadable_until_us, now_us, UNREADABLE_US)


def is_cooling(row: ProviderRotationRow, now_us: int) -> bool:
    """Whether a provider is passed over."""
    return goes_on(row.cool_until_us, now_us, LONG_COOL_DOWN_US)


def rotation_of(ws: WorkingSet, line: Line) -> RotationRow:
    """A credential's turn and health."""
    return ws.state.get(RotationRow, line.content.id) or RotationRow(line.content.id, line.content.provider)


def usage_of(ws: WorkingSet, credential: str, period: Period) -> UsageRow:
    """What a credential was lent in a period."""
    found = ws.state.get(UsageRow, credential, period.kind, period.text)
    return found or UsageRow(credential, period.kind, period.text, period.start_us, period.end_us)


def period_of(line: Line, kind: PeriodKind, now_us: int) -> Period:
    """The day or month that a credential's lease belongs to."""
    return calendar(line.content.timezone).period(kind, now_us)


def standing(ws: WorkingSet, line: Line, at: Moment) -> Standing:
    """How a credential stands."""
    credential, rotation = line.content, rotation_of(ws, line)
    # A row's own bounds are those of the zone that the credential had when it was begun.
    periods = [period_of(line, kind, at.period_us) for kind in KINDS]
    day, month = (usage_of(ws, credential.id, period) for period in periods)
    limits = (credential.daily_limit, credential.monthly_limit)
    used_up = [
        period.end_us
        for period, usage, limit in zip(periods, (day, month), limits, strict=True)
        if limit is not None and usage.used >= limit
    ]
    hindrance: Hindrance | None = None
    until_us: int | None = None
    if not credential.enabled or rotation.failed:
        hindrance, until_us = "disabled", rotation.recheck_at_us
    elif credential.weight == 0:
        hindrance = "drained"
    elif is_unreadable(rotation, at.clock_us):
        hindrance, until_us = "unreadable", rotation.unreadable_until_us
    elif used_up:
        hindrance, until_us = "exhausted", max(used_up)
    return Standing(line, rotation, day, month, hindrance, until_us)


def of_provider(ws: WorkingSet, provider: str, at: Moment) -> Choice | list[Standing]:
    """The credential whose turn it is; or, where none can be lent, how they all stand."""
    standings = [standing(ws, line, at) for line in ws.credentials.of(provider)]
    usable = {each.line.content.id: each for each in standings if each.hindrance is None}
    found = pick([_candidate(each, at) for each in usable.values()])
    if found is None:
        return standings
    others = [usable[id_].rotation for id_ in found.currents if id_ != found.id]
    return Choice(usable[found.id], others, found)


def _candidate(usable: Standing, at: Moment) -> Candidate:
    credential, rotation = usable.line.content, usable.rotation
    weight = effective(credential.weight, is_penalised=is_penalised(rotation, at.clock_us))
    return Candidate(credential.id, weight, rotation.current, credential.priority)


def of_one_provider(ws: WorkingSet, provider: str, at: Moment) -> Choice:
    """From the provider that was named; raises NotFound, NoCredential."""
    line = ws.credentials.provider(provider)
    if line is None:
        raise NotFound(f"there is no provider {provider}")
    if not line.enabled:
        raise NoCredential(f"provider {provider} is disabled", retry_after_s=RETRY_AFTER_S_UNKNOWN)
    found = of_provider(ws, provider, at)
    if isinstance(found, Choice):
        return found
    raise _none_left(f"provider {provider}", found, at.clock_us)


def pinned(ws: WorkingSet, model: str) -> str | None:
    """The provider that `provider/model` names, where the part before the first slash is one."""
    prefix, slash, _ = model.partition("/")
    return prefix if slash and ws.credentials.provider(prefix) is not None else None


def offers_of(ws: WorkingSet, model: str, now_us: int) -> list[str]:
    """The enabled providers that offer a model, in the order of sort and id; raises NotFound, NoCredential."""
    dated: dict[str, int] = ws.read["offers", model]
    names = ws.credentials.offering(model) | {name for name, from_us in dated.items() if from_us <= now_us}
    lines = [line for name in names if (line := ws.credentials.provider(name)) is not None]
    if not lines:
        raise NotFound(f"no provider offers {model}")
    enabled = [line.id for line in sorted(lines, key=lambda each: (each.sort, each.id)) if line.enabled]
    if not enabled:
        raise NoCredential(f"every provider that offers {model} is disabled", retry_after_s=RETRY_AFTER_S_UNKNOWN)
    return enabled


def of_model(ws: WorkingSet, model: str, at: Moment) -> Choice:
    """From the next provider in turn that offers a model, has a credential to lend and does not cool down.

    Where all cool down, from the one that does so first no more. Raises NotFound, NoCredential.
    """
    provider = pinned(ws, model)
    if provider is not None:
        return of_one_provider(ws, provider, at)
    offers = offers_of(ws, model, at.clock_us)
    last = ws.state.get(ModelRotationRow, model)
    cooling: list[tuple[int, Choice]] = []
    hindered: list[Standing] = []
    for name in _from_after(offers, ws, last):
        found = of_provider(ws, name, at)
        if not isinstance(found, Choice):
            hindered += found
            continue
        turned = Choice(found.taken, found.others, found.pick, ModelRotationRow(model, name))
        row = ws.state.get(ProviderRotationRow, name) or ProviderRotationRow(name)
        if not is_cooling(row, at.clock_us):
            return turned
        cooling.append((row.cool_until_us, turned))
    if cooling:
        return min(cooling, key=lambda each: each[0])[1]
    raise _none_left(f"model {model}", hindered, at.clock_us)


def _from_after(offers: Sequence[str], ws: WorkingSet, last: ModelRotationRow | None) -> list[str]:
    """The providers in their order, beginning behind the one that was taken last."""
    if last is None:
        return list(offers)
    if last.provider in offers:
        at = offers.index(last.provider) + 1
        return [*offers[at:], *offers[:at]]
    line = ws.credentials.provider(last.provider)
    if line is None:
        return list(offers)
    lines = {name: ws.credentials.provider(name) for name in offers}
    later = [name for name in offers if (each := lines[name]) and (each.sort, each.id) > (line.sort, line.id)]
    return [*later, *(name for name in offers if name not in later)]


def _none_left(of: str, standings: Sequence[Standing], now_us: int) -> NoCredential:
    """Why, and when that may change."""
    if not standings:
        return NoCredential(f"{of} has no credentials", retry_after_s=RETRY_AFTER_S_UNKNOWN)
    counts = Counter(each.hindrance for each in standings)
    told = ", ".join(
        f"{counts[why]} {why}" for why in ("disabled", "drained", "unreadable", "exhausted") if counts[why]
    )
    known = [each.until_us for each in standings if each.until_us is not None]
    wait_s = max(1, -(-(min(known) - now_us) // SECOND_US)) if known else RETRY_AFTER_S_UNKNOWN
    return NoCredential(f"of the credentials of {of} none can be lent: {told}", retry_after_s=wait_s)
