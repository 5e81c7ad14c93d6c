"""Following a vendor's own list: new models are registered, what is not on it is flagged, what is set is not touched.

Two syncs at once are safe: each compares under the write lock, so what the first one did the second one finds done.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import apsw

from ledger import catalogue, journal
from ledger.decision import Decision, WorkingSet, handles
from projections import model as models
from projections import model_list_sync
from projections.model import Known
from schema.entry import NewEvent
from schema.errors import LimitReached
from schema.ids import CLIENT_ID_PATTERN
from schema.model import MODEL, ChangeModel, ModelChange, ModelChanged, ModelCreated
from schema.model_sync import (
    NOUN,
    PROVIDER_MODELS_MAX,
    SOURCE,
    ModelDiff,
    ModelListSynced,
    ModelSync,
    ModelSyncAction,
    ModelSyncReport,
    SyncModels,
)
from schema.provider import PROVIDER, Provider
from schema.times import format_time

ID_HEX_DIGITS = 32


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[SyncModels]) -> None:
    (command,) = commands
    provider = command.provider
    ws.read["providers", provider] = catalogue.load(db, ws, PROVIDER, provider)
    ws.read["model_list_syncs", provider] = model_list_sync.find(db, provider)
    ws.known = models.known(db, provider, PROVIDER_MODELS_MAX + 1)
    names = set(command.names)
    turned = [known for known in ws.known if not known.deleted and known.missing == (known.model in names)]
    for known, latest in zip(turned, journal.at(db, [known.position for known in turned]), strict=True):
        ws.latest[MODEL.source, known.id] = latest
    new = names.difference(known.model for known in ws.known)
    ws.load(db, [(MODEL.source, id_) for name in sorted(new) for id_ in _ids(provider, name)])


def _ids(provider: str, name: str) -> tuple[str, str]:
    """An id that tells what it is, and another where that cannot be had."""
    digest = sha256(f"{provider} {name}".encode()).hexdigest()
    return f"{provider}:{name}", f"{provider[:64]}:{digest[:ID_HEX_DIGITS]}"


@handles(SyncModels, _load, alone=True)
def sync(ws: WorkingSet, command: SyncModels) -> Decision:
    """A provider's models are brought up to date; where nothing has changed there is no event."""
    catalogue.live(ws, PROVIDER, command.provider)
    found = _Sync(ws, command)
    if len(ws.known) + found.report.created > PROVIDER_MODELS_MAX:
        raise LimitReached(f"{command.provider} would have more than {PROVIDER_MODELS_MAX} models, deleted ones too")
    if found.events:
        found.events.append(_synced(command, found.report, ws.read["model_list_syncs", command.provider]))
    return Decision(found.events, report=found.report)


class _Sync:
    """What a sync finds and does, model by model."""

    def __init__(self, ws: WorkingSet, command: SyncModels) -> None:
        self.ws = ws
        self.command = command
        self.events: list[NewEvent] = []
        self.report = ModelSyncReport(listed=len(command.names), complete=command.complete, items=[])
        provider: Provider = ws.read["providers", command.provider]
        self.active = provider.model_sync == "active" if command.activate is None else command.activate
        known: list[Known] = ws.known
        live = {each.model: each for each in known if not each.deleted}
        deleted = {each.model for each in known if each.deleted}
        for name in command.names:
            self._listed(name, live.get(name), deleted=name in deleted)
        if command.complete:
            for name in sorted(live.keys() - set(command.names)):
                self._missing(live[name])

    def _listed(self, name: str, known: Known | None, *, deleted: bool) -> None:
        if known is not None and known.missing:
            self.report.updated += 1
            self._turn(known, None)
            self._tell(known.id, name, "returned")
        elif known is not None or deleted:  # what was deleted here stays so
            self.report.skipped += 1
        else:
            self._create(name)

    def _missing(self, known: Known) -> None:
        self.report.missing += 1
        if not known.missing:
            self._turn(known, format_time(self.command.received_at_us))
        self._tell(known.id, known.model, "missing")

    def _create(self, name: str) -> None:
        command = self.command
        id_, other = _ids(command.provider, name)
        if not re.match(CLIENT_ID_PATTERN, id_) or self.ws.find(MODEL.source, id_) is not None:
            id_ = other
        if self.ws.find(MODEL.source, id_) is not None:  # somebody else's, by a client that made the very id
            self.report.skipped += 1
            return
        content = ModelCreated(id=id_, provider=command.provider, model=name, active=self.active, source="vendor")
        self.events.append(catalogue.event_of(MODEL, command, id_, id_, content))
        self.report.created += 1
        self._tell(id_, name, "created")

    def _turn(self, known: Known, missing_since: str | None) -> None:
        command, latest = self.command, self.ws.latest[MODEL.source, known.id]
        content: dict[str, Any] = {**catalogue.fields(MODEL, latest.data), "missing_since": missing_since}
        data = ModelChanged(**content, replaces=latest.position, by="vendor")
        change = ChangeModel(command.actor, command.received_at_us, known.id, None, ModelChange())
        self.events += catalogue.replaced(self.ws, MODEL, change, data).events

    def _tell(self, id_: str, name: str, action: ModelSyncAction) -> None:
        self.report.items.append(ModelDiff(id=id_, model=name, action=action))


def _synced(command: SyncModels, report: ModelSyncReport, last: ModelSync | None) -> NewEvent:
    id_, time_us = command.provider, command.received_at_us
    data = ModelListSynced(
        provider=id_, credential=command.credential, listed=report.listed, created=report.created,
        updated=report.updated, skipped=report.skipped, missing=report.missing,
    )  # fmt: skip
    event_id = id_ if last is None else f"{id_}/sync/{last.position}"
    return NewEvent(SOURCE, event_id, f"{NOUN}/{id_}", format_time(time_us), time_us, command.actor, data)
