"""`usage-ledger init`."""

import click

from ops.initialise import initialise
from ops.settings import Settings
from ops.terminal import answer, note, takes_json, takes_settings


@click.command("init")
@takes_json
@takes_settings
def init(settings: Settings, *, as_json: bool) -> None:
    """Create the ledger and print its first admin key, this once, alone on stdout. Safe to run twice."""
    key = initialise(settings)
    if key is not None:
        note(f"The ledger is in {settings.directory}. This admin key is shown once; keep it safe:")
        answer({"created": True, "key_id": key.id, "key": key.text}, key.text, as_json=as_json)
        return
    note(f"{settings.directory} is already initialised; `usage-ledger keys create` makes more keys")
    if as_json:
        answer({"created": False, "key_id": None, "key": None}, "", as_json=True)


COMMAND = init
