"""`usage-ledger rebuild`."""

import click

from ledger import lock, rebuild
from ledger.database import open_writer
from ledger.ledger import LEDGER_FILE
from ledger.migrate import migrate
from ops.bootstrap import clock_us, require_ledger
from ops.settings import Settings
from ops.terminal import answer, progress_bar, takes_json, takes_settings
from projections.engine import Engine, registry


@click.command("rebuild")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@takes_json
@takes_settings
def rebuild_command(settings: Settings, names: tuple[str, ...], *, as_json: bool) -> None:
    """Rebuild projections from position 1 and swap them in, beside a running service; all where none is named."""
    known = registry()
    strange = [name for name in names if name not in known]
    if strange:
        raise click.UsageError(f"there is no projection {', '.join(strange)}; there are {', '.join(known)}")
    require_ledger(settings)
    wanted = [known[name] for name in known if not names or name in names]
    with lock.shared(settings.directory), progress_bar() as progress:
        db = open_writer(settings.directory / LEDGER_FILE, settings.durability)
        try:
            migrate(db, clock_us())
            engine = Engine(db)
            rebuild.prepare(db, engine, progress)
            rebuild.rebuild_together(db, engine, wanted, progress)
        finally:
            db.close()
    rebuilt = [projection.name for projection in wanted]
    answer({"rebuilt": rebuilt}, f"rebuilt {', '.join(rebuilt)}", as_json=as_json)


COMMAND = rebuild_command
