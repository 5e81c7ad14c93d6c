"""`usage-ledger sign-in-link`."""

import click

from ops import sign_in
from ops.bootstrap import opened, require_ledger
from ops.serve import url
from ops.settings import Settings
from ops.terminal import answer, takes_json, takes_settings

LIFETIME_S = 600
LIFETIME_S_MAX = 86_400


@click.command("sign-in-link")
@click.argument("key_id", metavar="KEY_ID")
@click.option("--address", metavar="URL", help="Where people reach the service [http://HOST:PORT of the settings].")
@click.option(
    "--lifetime-s",
    type=click.IntRange(1, LIFETIME_S_MAX),
    default=LIFETIME_S,
    show_default=True,
    help="How long.",
)
@takes_json
@takes_settings
def sign_in_link(settings: Settings, *, key_id: str, address: str | None, lifetime_s: int, as_json: bool) -> None:
    """Print a link that signs in to the dashboard as a key, once. `keys list` shows the ids of keys."""
    require_ledger(settings)
    with opened(settings) as ledger:
        found = sign_in.link(settings, ledger, (address or url(settings)).rstrip("/"), key_id, lifetime_s)
    answer({"link": found, "key": key_id, "lifetime_s": lifetime_s}, found, as_json=as_json)


COMMAND = sign_in_link
