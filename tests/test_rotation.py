"""`rotate-key`: a new master key beside whoever writes, finished by the next run wherever it was cut short."""

import os
import secrets
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger import data_keys, keyring
from ledger.keyring import Keyring, MasterKey
from ledger.ledger import LEDGER_FILE, Ledger
from ledger.rebuild import quiet
from ops import master_key, rotation
from ops.backup import backup, restore
from ops.bootstrap import clock_us, make_ledger, opened
from ops.master_key import SECRET_KEY_FILE, make_keyring
from ops.rotation import Wanted, rotate
from ops.settings import Settings
from ops.verify import verify
from schema.credential import (
    ChangeCredential,
    CreateCredential,
    Credential,
    CredentialChange,
    CredentialPost,
    EraseCredential,
    subject_of,
)
from schema.errors import InvalidSetting, LedgerBusy, SecretUnreadable
from tests.catalogue import create_provider
from tests.console import answer, run, settings_of
from tests.histories import ACTOR, NOON_US
from tests.sources import ROOT

PROVIDER = "openai"


def secret_of(id_: str) -> dict[str, str]:
    return {"api_key": f"sk-secret-of-{id_}"}


def create(ledger: Ledger, id_: str) -> None:
    post = CredentialPost(id=id_, secret=secret_of(id_))
    command = CreateCredential(
        actor=ACTOR, received_at_us=NOON_US, provider=PROVIDER, content=post, timezone="UTC",
        drawn=ledger.require_keyring().draw(),
    )  # fmt: skip
    ledger.execute_one_now(command)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data directory with a master key and a few credentials."""
    settings = settings_of(tmp_path / "data")
    settings.directory.mkdir()
    master_key.ensure(settings)
    with opened(settings) as ledger:
        ledger.execute_one_now(create_provider(PROVIDER))
        for n in range(5):
            create(ledger, f"key-{n}")
    return settings


def keys_of(settings: Settings) -> list[MasterKey]:
    return master_key.read(settings.directory / SECRET_KEY_FILE)


def rotated(settings: Settings, **wanted: bool) -> rotation.Rotated:
    with opened(settings) as ledger:
        return rotate(settings, ledger, Wanted(**wanted), clock_us, quiet)


def opened_secrets(settings: Settings, keys: Keyring | None = None) -> dict[str, dict[str, str]]:
    """Every secret that was not erased, opened with the keys that are written down."""
    keys = keys or make_keyring(settings)
    ledger = make_ledger(settings)
    rows: list[Any] = ledger.readers.now(
        lambda db: [
            (id_, msgspec.json.decode(str(data), type=Credential), data_keys.find(db, subject_of(str(id_))))
            for id_, data in db.execute("SELECT id, data FROM credentials WHERE NOT erased ORDER BY id")
        ]
    )
    ledger.readers.close()
    return {id_: keys.open(content.secret, subject_of(id_), wrapped) for id_, content, wrapped in rows}


def sound(settings: Settings) -> None:
    """Every secret opens with the one key that is left, and `verify` has nothing to say."""
    [only] = keys_of(settings)
    found = opened_secrets(settings)
    assert found == {id_: secret_of(id_) for id_ in found}
    ledger = make_ledger(settings)
    assert ledger.readers.now(data_keys.by_master_key) == {only.id: len(found)}
    ledger.readers.close()
    report = verify(settings.directory / LEDGER_FILE, keyring=make_keyring(settings))
    assert (report.faults, report.notes) == ([], [])


def test_a_rotation_leaves_one_new_key_and_every_secret(settings: Settings) -> None:
    """Twice in a row: each time another key, the old one gone, events untouched; the file stays its owner's alone."""
    [before] = keys_of(settings)
    for _ in range(2):
        [before] = keys_of(settings)
        size = verify(settings.directory / LEDGER_FILE).size
        done = rotated(settings)
        assert (done.resumed, done.rewrapped, done.dropped, done.unreadable) == (False, 5, [before.id], [])
        assert [each.id for each in keys_of(settings)] == [done.master_key_id] != [before.id]
        assert verify(settings.directory / LEDGER_FILE).size == size
        sound(settings)
    assert (settings.directory / SECRET_KEY_FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(SecretUnreadable):
        opened_secrets(settings, Keyring(lambda: [before], secrets.token_bytes))


def test_the_command_says_what_it_did(settings: Settings) -> None:
    """For scripts and for people; no key is in the answer."""
    done = answer("rotate-key", "--data-dir", settings.directory)
    assert (done["rewrapped"], done["resumed"]) == (5, False)
    shown = run("rotate-key", "--data-dir", settings.directory)
    assert shown.stdout.startswith("changed to master key ")
    assert b64encode(keys_of(settings)[0].key).decode() not in shown.output
    assert run("rotate-key", "--data-dir", settings.directory.parent / "none").exit_code == 1


# The file, the adoption, a step for each of five data keys and one that finds no more, the file.
@pytest.mark.parametrize("steps", range(9))
def test_cut_short_anywhere_it_is_finished_by_the_next_run(
    settings: Settings, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each command and each write of the file: secrets are readable at once, and again after the next run."""
    monkeypatch.setattr(rotation, "STEP_DATA_KEYS", 1)
    done = 0

    def cut(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the step takes and gives
            nonlocal done
            if done == steps:
                raise KeyboardInterrupt
            done += 1
            return real(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(rotation, "_run", cut(rotation._run))
        patch.setattr(master_key, "replace", cut(master_key.replace))
        with pytest.raises(KeyboardInterrupt):
            rotated(settings)
    assert len(opened_secrets(settings)) == 5
    with opened(settings) as ledger:
        create(ledger, "between")
    rotated(settings)
    assert len(opened_secrets(settings)) == 6
    sound(settings)


CUT = """
import os, sys
from ops import master_key, rotation
left = int(sys.argv[2])
def dying(real):
    def step(*args, **kwargs):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return real(*args, **kwargs)
    return step
os.fsync, os.replace, os.rename = dying(os.fsync), dying(os.replace), dying(os.rename)
rotation._run = dying(rotation._run)
from ops.cli import main
main(["rotate-key", "--data-dir", sys.argv[1]], standalone_mode=False)
"""


@pytest.mark.parametrize("steps", range(9))
def test_killed_between_steps_the_next_run_goes_on(settings: Settings, steps: int) -> None:
    """A process that dies at a sync, a rename or before a command leaves what the next one finishes."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "USAGE_LEDGER_DURABILITY": "os"}
    command = (sys.executable, "-c", CUT, str(settings.directory), str(steps))
    killed = subprocess.run(command, cwd=ROOT, env=environ, check=False, capture_output=True)
    assert killed.returncode in {0, 9}, killed.stderr
    assert len(opened_secrets(settings)) == 5
    rotated(settings)
    sound(settings)


def test_rotations_beside_threads_that_create_change_and_erase(settings: Settings) -> None:
    """Another ledger over the same file writes all the while, with a keyring that knew the old key only."""
    stop = threading.Event()
    failed: list[BaseException] = []
    created: list[str] = []

    def work(ledger: Ledger, name: str) -> None:
        try:
            n = 0
            while not stop.is_set() or n < 10:
                id_ = f"{name}-{n}"
                create(ledger, id_)
                if n % 3 == 1:
                    drawn = ledger.require_keyring().draw()
                    change = CredentialChange(secret=secret_of(id_), weight=n)
                    ledger.execute_one_now(ChangeCredential(
                        actor=ACTOR, received_at_us=NOON_US, id=id_, position=None, change=change, drawn=drawn,
                    ))  # fmt: skip
                if n % 3 == 2:
                    ledger.execute_one_now(EraseCredential(ACTOR, NOON_US, id_, None))
                else:
                    created.append(id_)
                n += 1
                if n > 150:
                    break
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    with opened(settings) as busy:
        threads = [threading.Thread(target=work, args=(busy, name)) for name in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        rotations = [rotated(settings) for _ in range(3)]
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert len({each.master_key_id for each in rotations}) == 3
    assert set(opened_secrets(settings)) == {*created, *(f"key-{n}" for n in range(5))}
    sound(settings)


def test_two_rotations_at_once_are_refused(settings: Settings) -> None:
    with master_key.rotating(settings.directory), pytest.raises(LedgerBusy, match="rotate-key"):
        rotated(settings)


def test_an_old_key_can_be_kept_for_backups_from_before(settings: Settings, tmp_path: Path) -> None:
    """With it a restored backup reads; without it the restore says what stays unreadable, and the ledger works on."""
    [before] = keys_of(settings)
    backup(settings.directory / LEDGER_FILE, tmp_path / "copy.db")
    assert before.key not in (tmp_path / "copy.db").read_bytes()
    assert b64encode(before.key) not in (tmp_path / "copy.db").read_bytes()
    kept = rotated(settings, keep_old=True)
    assert [each.id for each in keys_of(settings)] == [kept.master_key_id, before.id]
    done = restore(tmp_path / "copy.db", settings.directory, NOON_US, keyring=make_keyring(settings))
    assert (done.unreadable, len(opened_secrets(settings))) == ([], 5)
    rotated(settings)
    sound(settings)
    done = restore(tmp_path / "copy.db", settings.directory, NOON_US, keyring=make_keyring(settings))
    assert done.unreadable == [f"5 secrets cannot be read: their master key {before.id} is not at hand"]
    with pytest.raises(SecretUnreadable):
        opened_secrets(settings)
    assert verify(settings.directory / LEDGER_FILE, keyring=make_keyring(settings)).ok


def test_after_a_lost_key_secrets_are_set_anew(settings: Settings) -> None:
    """Nothing is taken for readable that is not; abandoning is said aloud, and a PATCH then makes each one whole."""
    (settings.directory / SECRET_KEY_FILE).unlink()
    with opened(settings) as ledger, pytest.raises(SecretUnreadable, match=r"secret\.key is missing"):
        create(ledger, "new")
    master_key.ensure(settings)
    with pytest.raises(SecretUnreadable, match="5 under master key"):
        rotated(settings)
    done = rotated(settings, abandon=True)
    assert (done.rewrapped, sorted(done.unreadable)) == (0, [subject_of(f"key-{n}") for n in range(5)])
    with opened(settings) as ledger:
        for n in range(5):
            change = CredentialChange(secret=secret_of(f"key-{n}"))
            drawn = ledger.require_keyring().draw()
            ledger.execute_one_now(ChangeCredential(
                actor=ACTOR, received_at_us=NOON_US, id=f"key-{n}", position=None, change=change, drawn=drawn,
            ))  # fmt: skip
    sound(settings)


def test_keys_of_the_environment_are_put_in_front_by_hand(settings: Settings) -> None:
    """The command says what to do, and wraps anew once a new key is in front; the file is left alone."""
    [old] = keys_of(settings)
    (settings.directory / SECRET_KEY_FILE).unlink()
    new = keyring.master_key(secrets.token_bytes(32))

    def with_keys(*keys: MasterKey) -> Settings:
        return settings_of(settings.directory, secret_key=",".join(b64encode(each.key).decode() for each in keys))

    with pytest.raises(InvalidSetting, match="NEW,OLD"):
        rotated(with_keys(old))
    done = rotated(with_keys(new, old))
    assert (done.master_key_id, done.rewrapped) == (new.id, 5)
    assert len(opened_secrets(with_keys(new))) == 5
    with pytest.raises(InvalidSetting, match="NEW,OLD"):
        rotated(with_keys(new, old))
    assert not (settings.directory / SECRET_KEY_FILE).exists()


def test_the_file_never_holds_more_keys_than_can_be_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_key, "MASTER_KEYS_MAX", 2)
    rotated(settings, keep_old=True)
    with pytest.raises(InvalidSetting, match="more than 2"):
        rotated(settings, keep_old=True)
    assert len(keys_of(settings)) == 2
    assert len(opened_secrets(settings)) == 5
