"""Webhooks: created, changed, deleted; secrets are sealed on the way in, and replaced with an overlap."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import UNSET

from ledger import catalogue, data_keys, journal, sealing
from ledger.decision import Decision, WorkingSet, handles
from ledger.sealing import Kept, Sealing
from ledger.state import Removed, Write
from ledger.webhook_state import DEAD_LETTERS, DELIVERIES, DeliveryRow
from projections import webhook as rows
from schema.acceptance import differing_fields
from schema.entry import Recorded
from schema.errors import FieldError, IdConflict, LimitReached, SecretUnreadable
from schema.times import format_time
from schema.webhook import (
    PREVIOUS_KEPT_US,
    WEBHOOK,
    WEBHOOKS_MAX,
    ChangeWebhook,
    CreateWebhook,
    DeleteWebhook,
    Webhook,
    WebhookCreated,
    subject_of,
)

_LIVE, _HEAD = ("webhooks", "live"), ("webhooks", "head")


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateWebhook]) -> None:
    for command in commands:
        catalogue.load(db, ws, WEBHOOK, command.content.id)
        sealing.load(db, ws, [subject_of(command.content.id)])
    ws.read[_LIVE] = rows.count_live(db)
    ws.read[_HEAD] = journal.head_position(db)


@handles(CreateWebhook, _load_created, alone=True)
def create(ws: WorkingSet, command: CreateWebhook) -> Decision:
    """It is told of what comes after; its own creation is the first of that."""
    posted = command.content
    first = _repeated(ws, command)
    if first is not None:
        return Decision([], first)
    if ws.read[_LIVE] >= WEBHOOKS_MAX:
        raise LimitReached(f"there are {WEBHOOKS_MAX} webhooks")
    wanted = Sealing(subject_of(posted.id), {"key": posted.secret}, command.drawn, command.received_at_us)
    kept = sealing.sealed(ws, wanted)
    data = WebhookCreated(**_posted(command), secret=kept.sealed)
    event = catalogue.event_of(WEBHOOK, command, posted.id, posted.id, data)
    return Decision([event], writes=kept.writes, state=[DeliveryRow(posted.id, ws.read[_HEAD])])


def _posted(command: CreateWebhook) -> dict[str, Any]:
    posted = command.content
    return {name: getattr(posted, name) for name in posted.__struct_fields__ if name != "secret"}


def _repeated(ws: WorkingSet, command: CreateWebhook) -> Recorded | None:
    """The first event of an id that was used before with the same content; raises IdConflict with any other."""
    posted = command.content
    first = ws.find(WEBHOOK.source, posted.id)
    if first is None:
        return None
    latest = ws.latest[WEBHOOK.source, posted.id]
    if isinstance(latest.data, WEBHOOK.deleted):
        raise IdConflict(f"the webhook with this id was deleted, at position {latest.position}")
    data: Any = first.data
    before = Webhook(**catalogue.fields(WEBHOOK, data))
    different = list(differing_fields(Webhook(**_posted(command), secret=before.secret), before))
    if not sealing.is_same(ws, subject_of(posted.id), {"key": posted.secret}, before.secret):
        different.append("secret")
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        names = ", ".join(different)
        raise IdConflict(f"this id was used before, at position {first.position}, with other {names}", errors=errors)
    return first


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangeWebhook | DeleteWebhook]) -> None:
    for command in commands:
        catalogue.load(db, ws, WEBHOOK, command.id)
        sealing.load(db, ws, [subject_of(command.id)])
        ws.state.load(db, DELIVERIES, [(command.id,)])


@handles(ChangeWebhook, _load, alone=True)
def change(ws: WorkingSet, command: ChangeWebhook) -> Decision:
    """A webhook is changed, if anything differs; another secret leaves the one before in force for a while."""
    latest = catalogue.live(ws, WEBHOOK, command.id)
    catalogue.require_position(latest, command.position)
    before = Webhook(**catalogue.fields(WEBHOOK, latest.data))
    given = catalogue.given(command.change)
    secret: Any = given.pop("secret", UNSET)
    kept, until = (
        (Kept(before.secret, []), before.previous_until) if secret is UNSET else _resealed(ws, command, before)
    )
    fields: dict[str, Any] = {**catalogue.fields(WEBHOOK, before), **given}
    fields |= {"secret": kept.sealed, "previous_until": until}
    decision = catalogue.replaced(ws, WEBHOOK, command, WEBHOOK.changed(**fields, replaces=latest.position))
    decision.writes = kept.writes if decision.events else []
    return decision


def _resealed(ws: WorkingSet, command: ChangeWebhook, before: Webhook) -> tuple[Kept, str | None]:
    """The secrets after a change, and until when the former one signs; as they were where it is the same."""
    subject, secret = subject_of(command.id), command.change.secret
    assert isinstance(secret, str)
    try:
        former = ws.keyring.open(before.secret, subject, ws.data_keys.get(subject)).get("key")
    except SecretUnreadable:  # as when its master key was lost: the new one alone signs
        former = None
    if former == secret:
        return Kept(before.secret, []), before.previous_until
    secrets = {"key": secret} if former is None else {"key": secret, "previous": former}
    kept = sealing.resealed(ws, Sealing(subject, secrets, command.drawn, command.received_at_us), before.secret)
    until = None if former is None else format_time(command.received_at_us + PREVIOUS_KEPT_US)
    return kept, until


@handles(DeleteWebhook, _load, alone=True)
def delete(ws: WorkingSet, command: DeleteWebhook) -> Decision:
    """It is told nothing more; nobody needs its secrets, so their data key goes."""
    decision = catalogue.deleted(ws, WEBHOOK, command)
    if decision.events:
        wrapped = ws.data_keys.get(subject_of(command.id))
        gone = Write(f"DELETE FROM {DEAD_LETTERS.name} WHERE webhook = ?", (command.id,))
        decision.writes = [gone] if wrapped is None else [gone, data_keys.erase(wrapped)]
        decision.state = [Removed(DELIVERIES, (command.id,))]
    return decision
