"""`usage-ledger restore`."""

from pathlib import Path

import click

from ops.backup import restore
from ops.bootstrap import clock_us
from ops.master_key import make_keyring
from ops.settings import Settings
from ops.terminal import answer, note, progress_bar, takes_json, takes_settings


@click.command("restore")
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@takes_json
@takes_settings
def restore_command(settings: Settings, source: Path, *, as_json: bool) -> None:
    """Verify the backup FROM and put it in the ledger's place, which is kept. Stop the service first."""
    with progress_bar() as progress:
        done = restore(source, settings.directory, clock_us(), progress, make_keyring(settings))
    answer(done, f"restored {done.size} entries, root {done.root}", as_json=as_json)
    if done.before is not None:
        note(f"the ledger that was there is {done.before}")
    if done.size_before is not None and done.size_before > done.size:
        note(f"only there: positions {done.size + 1} to {done.size_before}")
    for text in done.unreadable:
        note(text)


COMMAND = restore_command
