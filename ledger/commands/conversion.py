"""Conversions: created and changed; one that is not to be used any more is made inactive."""

from collections.abc import Sequence

import apsw

from ledger import catalogue
from ledger.decision import Decision, WorkingSet, handles
from schema.conversion import CONVERSION, ChangeConversion, CreateConversion, check_limits


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateConversion]) -> None:
    for command in commands:
        catalogue.load(db, ws, CONVERSION, command.content.id)


@handles(CreateConversion, _load_created, alone=True)
def create(ws: WorkingSet, command: CreateConversion) -> Decision:
    """A currency can be paid with; its code is the id."""
    return catalogue.repeated(ws, CONVERSION, command) or catalogue.created(CONVERSION, command)


def _load_changed(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangeConversion]) -> None:
    for command in commands:
        catalogue.load(db, ws, CONVERSION, command.id)


@handles(ChangeConversion, _load_changed, alone=True)
def change(ws: WorkingSet, command: ChangeConversion) -> Decision:
    """A conversion is changed, if anything differs; orders keep theirs."""
    conversion = catalogue.changed(ws, CONVERSION, command)
    check_limits(conversion)
    return catalogue.replaced(ws, CONVERSION, command, conversion)
