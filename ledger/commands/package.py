"""Packages: created, changed, deleted; orders that were placed keep what theirs was."""

from collections.abc import Sequence

import apsw

from ledger import catalogue
from ledger.decision import Decision, WorkingSet, handles
from schema.package import PACKAGE, ChangePackage, CreatePackage, DeletePackage, check_total


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreatePackage]) -> None:
    for command in commands:
        catalogue.load(db, ws, PACKAGE, command.content.id)


@handles(CreatePackage, _load_created, alone=True)
def create(ws: WorkingSet, command: CreatePackage) -> Decision:
    """A package comes into being."""
    return catalogue.repeated(ws, PACKAGE, command) or catalogue.created(PACKAGE, command)


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangePackage | DeletePackage]) -> None:
    for command in commands:
        catalogue.load(db, ws, PACKAGE, command.id)


@handles(ChangePackage, _load, alone=True)
def change(ws: WorkingSet, command: ChangePackage) -> Decision:
    """A package is changed, if anything differs."""
    package = catalogue.changed(ws, PACKAGE, command)
    check_total(package)
    return catalogue.replaced(ws, PACKAGE, command, package)


@handles(DeletePackage, _load, alone=True)
def delete(ws: WorkingSet, command: DeletePackage) -> Decision:
    """A package is no longer offered."""
    return catalogue.deleted(ws, PACKAGE, command)
