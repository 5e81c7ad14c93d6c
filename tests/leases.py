"""Builders for leases: credentials in use, commands about them, and what the state then is."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from ledger.commands.lease import Lent
from ledger.decision import Command, Decision, WorkingSet, handles
from ledger.lease_state import RotationRow, UsageRow
from ledger.writer import Appended, Outcome, Writer
from projections import catalogue
from schema.credential import CREDENTIAL, SOURCE, Counters, CredentialChanged, CredentialCreated
from schema.entry import NewEvent
from schema.lease import (
    ClaimRechecks,
    CredentialResetRequest,
    LeaseCredential,
    LeaseReport,
    LeaseRequest,
    PruneLeases,
    RecheckCredential,
    ReportLease,
    ResetCredential,
)
from schema.times import format_time
from tests.catalogue import create_provider
from tests.histories import ACTOR, APP, NOON_US, Fields, reading

numbers = count(1)


class TellCredential(Struct):
    """Command of these tests: what becomes of a credential, past the rules and without a secret."""

    data: CredentialCreated | CredentialChanged
    received_at_us: int


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[TellCredential]) -> None:
    ws.known = [catalogue.find(db, CREDENTIAL, command.data.id) for command in commands]


@handles(TellCredential, _load, alone=True)
def tell(ws: WorkingSet, command: TellCredential) -> Decision:
    data, (stand,) = command.data, ws.known
    id_ = data.id if isinstance(data, CredentialCreated) else f"{data.id}/edit/{stand.position}"
    now_us = command.received_at_us
    return Decision([NewEvent(SOURCE, id_, f"credential/{data.id}", format_time(now_us), now_us, ACTOR, data)])


def a_credential(id_: str, weight: int = 100, *, provider: str = "openai", **fields: Any) -> TellCredential:  # noqa: ANN401
    made = {"id": id_, "provider": provider, "weight": weight, **fields}
    return TellCredential(msgspec.convert(made, CredentialCreated), NOON_US)


def an_edit(id_: str, weight: int = 100, *, provider: str = "openai", **fields: Any) -> TellCredential:  # noqa: ANN401
    made = {"id": id_, "provider": provider, "weight": weight, "replaces": 1, **fields}
    return TellCredential(msgspec.convert(made, CredentialChanged), NOON_US)


def lend(
    id_: str | None = None,
    *,
    at_us: int = NOON_US,
    app: str | None = APP,
    model: str | None = None,
    **fields: Any,  # noqa: ANN401
) -> LeaseCredential:
    """A lease from a provider, openai unless named, or for a model."""
    wanted = {"model": model} if model is not None else {"provider": "openai"}
    request = msgspec.convert({**wanted, **fields}, LeaseRequest)
    return LeaseCredential(ACTOR, at_us, app, id_ or f"l-{next(numbers)}", request)


def report(
    id_: str, outcome: str = "success", *, at_us: int = NOON_US, app: str | None = APP, retry_after_s: int | None = None
) -> ReportLease:
    said = {"outcome": outcome, "retry_after_s": retry_after_s}
    return ReportLease(ACTOR, at_us, app, id_, msgspec.convert(said, LeaseReport))


def reset(id_: str, counters: Counters = "all", *, at_us: int = NOON_US, reactivate: bool = False) -> ResetCredential:
    return ResetCredential(ACTOR, at_us, id_, CredentialResetRequest(counters=counters, reactivate=reactivate))


def claim(at_us: int, limit: int = 100, per_provider: int = 100, busy: tuple[str, ...] = ()) -> ClaimRechecks:
    return ClaimRechecks(at_us, limit, per_provider, busy)


def looked(id_: str, until_us: int, *, works: bool, at_us: int) -> RecheckCredential:
    return RecheckCredential(at_us, id_, until_us, works)


def prune(at_us: int, limit: int = 100) -> PruneLeases:
    return PruneLeases(at_us, limit)


def set_up(writer: Writer, *credentials: TellCredential, provider: str = "openai", **fields: Any) -> None:  # noqa: ANN401
    """A provider and credentials, those named first created first."""
    for outcome in writer.write([create_provider(provider, **fields), *credentials]):
        assert isinstance(outcome, Appended), outcome


def lent(outcome: Outcome) -> Lent:
    assert isinstance(outcome, Appended), outcome
    assert isinstance(outcome.report, Lent)
    return outcome.report


def credential_of(outcome: Outcome) -> str:
    """Which credential was lent, or the code of what came instead."""
    return lent(outcome).lease.credential if isinstance(outcome, Appended) else outcome.code


def taken(writer: Writer, commands: Sequence[Command]) -> str:
    """The credentials lent, in turn, in one group; their ids have one letter."""
    return "".join(credential_of(each) for each in writer.write(commands))


def one(writer: Writer, command: Command) -> Outcome:
    [outcome] = writer.write([command])
    return outcome


def rotation(writer: Writer, id_: str) -> RotationRow:
    with reading(writer.path) as db:
        row: Any = db.execute("SELECT * FROM credential_rotation WHERE credential = ?", (id_,)).fetchone()
    return RotationRow(*row) if row else RotationRow(id_, "")


def usage(writer: Writer, id_: str, period: str) -> UsageRow:
    with reading(writer.path) as db:
        query = "SELECT * FROM credential_usage WHERE credential = ? AND period = ?"
        row: Any = db.execute(query, (id_, period)).fetchone()
    return UsageRow(*row) if row else UsageRow(id_, "", period, 0, 0)


def told(writer: Writer) -> list[tuple[str, Fields]]:
    """What the journal was told of credentials beside their making and editing: verb and data."""
    with reading(writer.path) as db:
        query = "SELECT id, entry ->> 'data' FROM events WHERE source = ? ORDER BY position"
        rows: list[Any] = db.execute(query, (SOURCE,)).fetchall()
    return [(id_.split("/")[1], msgspec.json.decode(data)) for id_, data in rows if "/" in id_ and "/edit/" not in id_]
