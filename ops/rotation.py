"""Changing the master key beside a running service, in steps that can each be the last: run again, it goes on.

1. The new key is written in front of the old one, so that whoever needs either finds it.
2. The ledger is told to wrap new data keys with it; from that commit on no process uses another.
3. Every data key is wrapped anew, a bounded number a transaction.
4. Keys that wrap nothing any more are dropped from the file.
"""

from collections.abc import Callable

from msgspec import Struct

from ledger import data_keys
from ledger.keyring import Keyring, MasterKey
from ledger.ledger import Ledger
from ledger.rebuild import Progress
from ops import master_key
from ops.keys import ACTOR
from ops.settings import Settings
from schema.data_key import AdoptMasterKey, RewrapDataKeys, Rewrapped
from schema.errors import InvalidSetting

STEP_DATA_KEYS = 200
UNREADABLE_NAMED_MAX = 20


class Wanted(Struct, frozen=True, kw_only=True):
    """What to do with keys that wrap nothing any more, and with secrets whose key is not at hand."""

    keep_old: bool = False
    abandon: bool = False


class Rotated(Struct, kw_only=True):
    """What was done. `resumed`: a rotation that had been cut short was finished, and no other key made."""

    master_key_id: str
    resumed: bool
    rewrapped: int
    unreadable: list[str]
    dropped: list[str]


def rotate(settings: Settings, ledger: Ledger, wanted: Wanted, clock: Callable[[], int], progress: Progress) -> Rotated:
    """Change the master key, or finish changing it. Raises InvalidSetting, SecretUnreadable, LedgerBusy."""
    with master_key.rotating(settings.directory):
        resumed, target = _target(settings, ledger)
        _run(ledger, AdoptMasterKey(actor=ACTOR, received_at_us=clock(), id=target.id, abandon=wanted.abandon))
        rewrapped, unreadable = _rewrap(ledger, clock, progress)
        dropped = [] if wanted.keep_old or settings.secret_key else _drop(settings, ledger, target)
    return Rotated(
        master_key_id=target.id, resumed=resumed, rewrapped=rewrapped, dropped=dropped,
        unreadable=unreadable[:UNREADABLE_NAMED_MAX],
    )  # fmt: skip


def _target(settings: Settings, ledger: Ledger) -> tuple[bool, MasterKey]:
    """The key to change to: the first that is written down, where the ledger has not come to it, else a new one."""
    keys = list(master_key.reader(settings)())
    adopted, used = ledger.readers.now(data_keys.master_key_id), ledger.readers.now(data_keys.by_master_key)
    if adopted not in {None, keys[0].id} or set(used) - {keys[0].id} & {each.id for each in keys}:
        return True, keys[0]
    if settings.secret_key:
        raise InvalidSetting(
            "USAGE_LEDGER_SECRET_KEY has no new key in front: set it to NEW,OLD for every process, restart, "
            "run this again, and then take OLD away"
        )
    target = master_key.new()
    master_key.replace(settings.directory / master_key.SECRET_KEY_FILE, [target, *keys])
    return False, target


def _rewrap(ledger: Ledger, clock: Callable[[], int], progress: Progress) -> tuple[int, list[str]]:
    total = sum(ledger.readers.now(data_keys.by_master_key).values())
    keyring, after, seen, rewrapped, unreadable = ledger.require_keyring(), "", 0, 0, list[str]()
    while True:
        command = RewrapDataKeys(actor=ACTOR, received_at_us=clock(), after=after, nonces=_nonces(keyring))
        step = _run(ledger, command)
        assert isinstance(step, Rewrapped)
        rewrapped += step.rewrapped
        unreadable += step.unreadable
        seen += STEP_DATA_KEYS
        progress("data keys", min(seen, total), total)
        if step.last is None:
            return rewrapped, unreadable
        after = step.last


def _nonces(keyring: Keyring) -> tuple[bytes, ...]:
    return tuple(keyring.nonce() for _ in range(STEP_DATA_KEYS))


def _drop(settings: Settings, ledger: Ledger, target: MasterKey) -> list[str]:
    """Take keys that wrap nothing out of the file; returns their ids."""
    path = settings.directory / master_key.SECRET_KEY_FILE
    used = {target.id, *ledger.readers.now(data_keys.by_master_key)}
    keys = master_key.read(path)
    kept = [each for each in keys if each.id in used]
    if len(kept) < len(keys):
        master_key.replace(path, kept)
    return [each.id for each in keys if each.id not in used]


def _run(ledger: Ledger, command: AdoptMasterKey | RewrapDataKeys) -> Struct | None:
    return ledger.execute_one_now(command).report
