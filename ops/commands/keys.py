"""`usage-ledger keys …`: make, list and revoke API keys, beside a running service too."""

import click
import msgspec

from ledger.ledger import Ledger
from ops import keys
from ops.bootstrap import clock_us, opened, require_ledger
from ops.initialise import add_key
from ops.settings import Settings
from ops.terminal import answer, note, takes_json, takes_settings
from projections.key import list_keys
from schema.ids import AppId, Name
from schema.key import KeyView, RevokeKey, Role

PAGE_KEYS = 1_000


@click.group("keys")
def keys_group() -> None:
    """API keys: made, listed and revoked; each takes effect at the next request."""


@keys_group.command("create")
@click.option("--role", type=click.Choice(["admin", "auditor", "dashboard", "app"]), required=True)
@click.option("--app", metavar="ID", help="The application that a key of role app posts for.")
@click.option("--name", metavar="TEXT", help="What the key is for.")
@takes_json
@takes_settings
def create(settings: Settings, *, role: Role, app: str | None, name: str | None, as_json: bool) -> None:
    """Make a key and print it alone on stdout. It is shown this once."""
    require_ledger(settings)
    _check(role, app, name)
    key = keys.new_key()
    with opened(settings) as ledger:
        add_key(ledger, keys.command(key, role, clock_us(), app=app, name=name))
    answer({"id": key.id, "role": role, "app": app, "name": name, "key": key.text}, key.text, as_json=as_json)


def _check(role: Role, app: str | None, name: str | None) -> None:
    if (role == "app") != (app is not None):
        raise click.UsageError("--app ID goes with --role app, and with no other role")
    for option, value, type_ in (("--app", app, AppId), ("--name", name, Name)):
        try:
            if value is not None:
                msgspec.convert(value, type_)
        except msgspec.ValidationError as error:
            raise click.UsageError(f"{option}: {error}") from None


@keys_group.command("list")
@takes_json
@takes_settings
def list_command(settings: Settings, *, as_json: bool) -> None:
    """List all keys by id, revoked ones too. Nobody can show their text."""
    require_ledger(settings)
    with opened(settings) as ledger:
        found = all_keys(ledger)
    answer({"items": found}, "\n".join(_line(key) for key in found), as_json=as_json)


def all_keys(ledger: Ledger) -> list[KeyView]:
    """Every key of the ledger."""
    found: list[KeyView] = []
    while page := ledger.readers.now(list_keys, found[-1].id if found else "", PAGE_KEYS):
        found.extend(page)
    return found


def _line(key: KeyView) -> str:
    state = f"revoked {key.revoked_at}" if key.revoked_at else "valid"
    columns = (key.id.ljust(13), key.role.ljust(9), (key.app or "-").ljust(16), key.created_at, state, key.name or "")
    return "  ".join(columns)


@keys_group.command("revoke")
@click.argument("key_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help="Kept in the journal.")
@takes_json
@takes_settings
def revoke(settings: Settings, key_id: str, *, reason: str | None, as_json: bool) -> None:
    """End a key, from the next request on. Ending it again changes nothing."""
    require_ledger(settings)
    with opened(settings) as ledger:
        command = RevokeKey(actor=keys.ACTOR, received_at_us=clock_us(), id=key_id, reason=reason)
        outcome = ledger.execute_one_now(command)
    note(f"Key {key_id} {'was revoked before' if outcome.duplicate else 'is revoked'}")
    if as_json:
        answer({"id": key_id, "duplicate": outcome.duplicate}, "", as_json=True)


COMMAND = keys_group
