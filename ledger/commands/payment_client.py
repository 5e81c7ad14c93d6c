"""Payment clients: created, changed, deleted; secrets are sealed on the way in, and destroyed with their client."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import UNSET

from ledger import catalogue, data_keys, sealing
from ledger.decision import Decision, WorkingSet, handles
from ledger.sealing import Sealing
from ledger.state import Write
from schema.acceptance import differing_fields
from schema.entry import Recorded
from schema.errors import FieldError, IdConflict
from schema.payment_client import (
    PAYMENT_CLIENT,
    ChangePaymentClient,
    CreatePaymentClient,
    DeletePaymentClient,
    PaymentClient,
    PaymentClientChanged,
    PaymentClientCreated,
    subject_of,
)


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreatePaymentClient]) -> None:
    for command in commands:
        catalogue.load(db, ws, PAYMENT_CLIENT, command.content.id)
        sealing.load(db, ws, [subject_of(command.content.id)])


@handles(CreatePaymentClient, _load_created, alone=True)
def create(ws: WorkingSet, command: CreatePaymentClient) -> Decision:
    """A payment client comes into being."""
    posted = command.content
    first = ws.find(PAYMENT_CLIENT.source, posted.id)
    if first is not None:
        return _same_or_conflict(ws, command, first)
    kept = sealing.sealed(ws, Sealing(subject_of(posted.id), posted.secret, command.drawn, command.received_at_us))
    data = PaymentClientCreated(**_posted(command), secret=kept.sealed)
    return Decision([catalogue.event_of(PAYMENT_CLIENT, command, posted.id, posted.id, data)], writes=kept.writes)


def _posted(command: CreatePaymentClient) -> dict[str, Any]:
    """All of a posted payment client but its secret."""
    posted = command.content
    return {name: getattr(posted, name) for name in posted.__struct_fields__ if name != "secret"}


def _same_or_conflict(ws: WorkingSet, command: CreatePaymentClient, first: Recorded) -> Decision:
    id_ = command.content.id
    latest = ws.latest[PAYMENT_CLIENT.source, id_]
    if isinstance(latest.data, PAYMENT_CLIENT.deleted):
        raise IdConflict(f"the payment client with this id was deleted, at position {latest.position}")
    data = first.data
    assert isinstance(data, PaymentClient)
    before = PaymentClient(**catalogue.fields(PAYMENT_CLIENT, data))
    different = list(differing_fields(PaymentClient(**_posted(command), secret=data.secret), before))
    if not sealing.is_same(ws, subject_of(id_), command.content.secret, data.secret):
        different.append("secret")
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(f"this id was used before, at position {first.position}", errors=errors)
    return Decision([], first)


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangePaymentClient | DeletePaymentClient]) -> None:
    for command in commands:
        catalogue.load(db, ws, PAYMENT_CLIENT, command.id)
        sealing.load(db, ws, [subject_of(command.id)])


@handles(ChangePaymentClient, _load, alone=True)
def change(ws: WorkingSet, command: ChangePaymentClient) -> Decision:
    """A payment client is changed, if anything differs."""
    latest = catalogue.live(ws, PAYMENT_CLIENT, command.id)
    catalogue.require_position(latest, command.position)
    assert isinstance(latest.data, PaymentClient)
    sealed, writes = latest.data.secret, list[Write]()
    if command.change.secret is not UNSET:
        wanted = Sealing(subject_of(command.id), command.change.secret, command.drawn, command.received_at_us)
        kept = sealing.resealed(ws, wanted, sealed)
        sealed, writes = kept.sealed, kept.writes
    fields: dict[str, Any] = {
        **catalogue.fields(PAYMENT_CLIENT, latest.data),
        **catalogue.given(command.change),
        "secret": sealed,
    }
    after = PaymentClientChanged(**fields, replaces=latest.position)
    decision = catalogue.replaced(ws, PAYMENT_CLIENT, command, after)
    decision.writes = writes if decision.events else []
    return decision


@handles(DeletePaymentClient, _load, alone=True)
def delete(ws: WorkingSet, command: DeletePaymentClient) -> Decision:
    """A payment client's word counts no more, and its data key is destroyed."""
    decision = catalogue.deleted(ws, PAYMENT_CLIENT, command)
    wrapped = ws.data_keys.get(subject_of(command.id))
    if decision.events and wrapped is not None:
        decision.writes = [data_keys.erase(wrapped)]
    return decision
