"""`usage-ledger migrate …`."""

import click

from ledger import lock, migrate
from ledger.database import open_reader, open_writer
from ledger.ledger import LEDGER_FILE
from ops.bootstrap import clock_us, require_ledger
from ops.settings import Settings
from ops.terminal import answer, table, takes_json, takes_settings


@click.group("migrate")
def migrate_group() -> None:
    """The schema of the ledger's file. The service applies what is pending when it starts."""


@migrate_group.command("status")
@takes_json
@takes_settings
def status(settings: Settings, *, as_json: bool) -> None:
    """List the migrations and when each ran."""
    require_ledger(settings)
    db = open_reader(settings.directory / LEDGER_FILE)
    try:
        found = migrate.status(db)
    finally:
        db.close()
    rows = [(f"{each.number:04d} {each.name}", each.applied_at or "pending") for each in found]
    answer({"items": found}, table(rows), as_json=as_json)


@migrate_group.command("apply")
@takes_json
@takes_settings
def apply(settings: Settings, *, as_json: bool) -> None:
    """Run what is pending, each migration in one transaction."""
    require_ledger(settings)
    with lock.shared(settings.directory):
        db = open_writer(settings.directory / LEDGER_FILE, settings.durability)
        try:
            done = migrate.migrate(db, clock_us())
        finally:
            db.close()
    names = [f"{each.number:04d} {each.name}" for each in done]
    answer({"applied": names}, f"applied {', '.join(names)}" if names else "nothing is pending", as_json=as_json)


COMMAND = migrate_group
