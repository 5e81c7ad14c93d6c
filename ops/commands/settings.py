"""`usage-ledger settings`."""

import os

import click
from msgspec import Struct

from ops.settings import SETTINGS, Settings, unknown
from ops.terminal import answer, note, takes_json, takes_settings


class Shown(Struct, kw_only=True):
    """A setting as listed; a secret's value is masked."""

    name: str
    default: str
    value: str
    help: str


@click.command("settings")
@takes_json
@takes_settings
def settings_command(settings: Settings, *, as_json: bool) -> None:
    """List each setting with its default, its value now and its meaning."""
    shown = [
        Shown(name=each.variable, default=each.default, value=each.shown(getattr(settings, each.name)), help=each.help)
        for each in SETTINGS
    ]
    answer({"items": shown}, "\n\n".join(map(_text, shown)), as_json=as_json)
    for name in unknown(os.environ):
        note(f"{name} is set and is no setting")


def _text(setting: Shown) -> str:
    return f"{setting.name}={setting.value}  (default: {setting.default or 'none'})\n    {setting.help}"


COMMAND = settings_command
