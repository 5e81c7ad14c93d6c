"""`usage-ledger rotate-key`."""

import click

from ops.bootstrap import clock_us, opened, require_ledger
from ops.rotation import Rotated, Wanted, rotate
from ops.settings import Settings
from ops.terminal import answer, note, progress_bar, takes_json, takes_settings


@click.command("rotate-key")
@click.option("--keep-old", is_flag=True, help="Keep the old key, for backups from before.")
@click.option("--abandon-unreadable", "abandon", is_flag=True, help="Go on although keys of some secrets are lost.")
@takes_json
@takes_settings
def rotate_key(settings: Settings, *, keep_old: bool, abandon: bool, as_json: bool) -> None:
    """Change the master key, beside a running service too. Cut short, it can be run again and goes on."""
    require_ledger(settings)
    with opened(settings) as ledger, progress_bar() as progress:
        done = rotate(settings, ledger, Wanted(keep_old=keep_old, abandon=abandon), clock_us, progress)
    answer(done, _text(done), as_json=as_json)
    for subject in done.unreadable:
        note(f"unreadable: {subject}; set its secret anew")


def _text(done: Rotated) -> str:
    what = "finished changing to" if done.resumed else "changed to"
    dropped = f", dropped {', '.join(done.dropped)}" if done.dropped else ""
    return f"{what} master key {done.master_key_id}: {done.rewrapped} data keys wrapped anew{dropped}"


COMMAND = rotate_key
