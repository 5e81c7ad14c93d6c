"""Providers, their credentials and models, ready for choosing. Refreshed under the write lock, as the rate book is.

Only what earlier groups changed is here. What reports of the same group have disabled shows in the state, as `failed`.
"""

from collections import defaultdict
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from ledger import data_keys
from projections import catalogue
from schema.credential import CREDENTIAL, Credential, subject_of
from schema.model import MODEL
from schema.provider import PROVIDER
from schema.sealed import WrappedKey


class Line(Struct, frozen=True):
    """A credential that is not deleted, the position of its latest change and of its creation.

    `wrapped` is its data key as it was when that change was read: whoever finds it outdated reads it anew.
    """

    content: Credential
    position: int
    created: int
    wrapped: WrappedKey | None = None


class ProviderLine(Struct, frozen=True):
    """A provider that is not deleted."""

    id: str
    enabled: bool
    sort: int
    type: str
    base_url: str | None


_PROVIDER = "id, deleted, enabled, sort, type, data ->> 'base_url'"


class CredentialBook:
    """What choosing a credential looks at."""

    def __init__(self) -> None:
        self._position = 0
        self._lines: dict[str, Line] = {}
        self._by_provider: defaultdict[str, dict[str, Line]] = defaultdict(dict)
        self._providers: dict[str, ProviderLine] = {}
        self._models: dict[str, tuple[str, str]] = {}  # by id: model and provider
        self._offering: defaultdict[str, set[str]] = defaultdict(set)

    def refresh(self, db: apsw.Connection) -> None:
        """Take in what was changed since the last time; call inside the write transaction, before deciding."""
        position = catalogue.latest_position(db, CREDENTIAL, PROVIDER, MODEL)
        if position == self._position:
            return
        for row in _changed(db, _PROVIDER, "providers", self._position):
            self._take_provider(*row)
        for row in _changed(db, "id, deleted OR NOT active, model, provider", "models", self._position):
            self._take_model(*row)
        columns = "id, deleted, data, position, created_position"
        for id_, deleted, data, *at in _changed(db, columns, "credentials", self._position):
            self._take_credential(id_, deleted, data, (at[0], at[1]), data_keys.find(db, subject_of(id_)))
        self._position = position

    def _take_provider(self, id_: str, deleted: int, *columns: Any) -> None:  # noqa: ANN401 - a row's rest
        self._providers.pop(id_, None)
        if not deleted:
            self._providers[id_] = ProviderLine(id_, *columns)

    def _take_model(self, id_: str, withdrawn: int, model: str, provider: str) -> None:
        before = self._models.pop(id_, None)
        if before is not None:
            self._offering[before[0]].discard(before[1])
        if not withdrawn:
            self._models[id_] = (model, provider)
            self._offering[model].add(provider)

    def _take_credential(self, id_: str, deleted: int, data: str, at: tuple[int, int], key: WrappedKey | None) -> None:
        line = Line(msgspec.json.decode(data, type=Credential), *at, key)
        of_provider = self._by_provider[line.content.provider]
        of_provider.pop(id_, None)
        self._lines.pop(id_, None)
        if not deleted:
            self._lines[id_] = line
            of_provider[id_] = line
            # Ties go to the one that was created first.
            ordered = sorted(of_provider.values(), key=lambda each: each.created)
            self._by_provider[line.content.provider] = {each.content.id: each for each in ordered}

    def find(self, id_: str) -> Line | None:
        """A credential that is not deleted."""
        return self._lines.get(id_)

    def of(self, provider: str) -> list[Line]:
        """A provider's credentials, those created first before the others."""
        return list(self._by_provider[provider].values()) if provider in self._by_provider else []

    def provider(self, id_: str) -> ProviderLine | None:
        """A provider that is not deleted."""
        return self._providers.get(id_)

    def with_credentials(self) -> list[str]:
        """Providers that have any."""
        return [provider for provider, lines in self._by_provider.items() if lines and provider in self._providers]

    def offering(self, model: str) -> set[str]:
        """Providers for which a model of this name is registered and active."""
        return self._offering.get(model, set())


def _changed(db: apsw.Connection, columns: str, table: str, position: int) -> list[Any]:
    return db.execute(f"SELECT {columns} FROM {table} WHERE position > ? ORDER BY position", (position,)).fetchall()
