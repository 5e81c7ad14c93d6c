"""A fresh data directory: the master key and the first admin key. Safe to run twice."""

from ledger.ledger import Ledger
from ops import keys, master_key
from ops.bootstrap import clock_us, opened
from ops.keys import NewKey
from ops.settings import Settings
from schema.errors import IdConflict

# A fixed id, so that the ledger itself refuses a second first key, also when two commands race.
FIRST_KEY_ID = "initial-admin"


def initialise(settings: Settings) -> NewKey | None:
    """Make what is missing. Returns the first admin key the first time, None ever after."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    master_key.ensure(settings)
    with opened(settings) as ledger:
        key = keys.new_key(FIRST_KEY_ID)
        try:
            add_key(ledger, keys.command(key, "admin", clock_us(), name="first admin key"))
        except IdConflict:
            return None
    return key


def add_key(ledger: Ledger, command: keys.CreateKey) -> None:
    """Make a drawn key valid; raises what the ledger answered."""
    ledger.execute_one_now(command)
