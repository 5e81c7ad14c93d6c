"""`usage-ledger backup`."""

from pathlib import Path

import click

from ledger.ledger import LEDGER_FILE
from ops.backup import backup
from ops.bootstrap import require_ledger
from ops.settings import Settings
from ops.terminal import answer, progress_bar, takes_json, takes_settings


@click.command("backup")
@click.argument("to", type=click.Path(path_type=Path))
@takes_json
@takes_settings
def backup_command(settings: Settings, to: Path, *, as_json: bool) -> None:
    """Copy the ledger to the new file TO while it is in use, and read the copy back. It never holds the master key."""
    require_ledger(settings)
    with progress_bar() as progress:
        done = backup(settings.directory / LEDGER_FILE, to, progress)
    answer(done, f"{done.path}: {done.size} entries, root {done.root}, {done.bytes} bytes, verified", as_json=as_json)


COMMAND = backup_command
