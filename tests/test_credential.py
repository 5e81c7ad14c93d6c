"""Credentials as commands: deterministic, guarded, and as sound after a failing disk or on an older file."""

from pathlib import Path
from random import Random

import pytest
from msgspec import UNSET

from ledger import data_keys
from ledger.commands import credential as commands
from ledger.database import open_writer
from ledger.decision import Command, WorkingSet
from ledger.lease_state import ROTATIONS
from ledger.ledger import LEDGER_FILE, Ledger
from ledger.queue import CommandQueue
from ledger.writer import Appended, Writer
from ops.verify import verify
from projections.credential import content_of
from schema.credential import (
    CREDENTIAL,
    SOURCE,
    ChangeCredential,
    CreateCredential,
    Credential,
    CredentialChange,
    CredentialChanged,
    CredentialDisabled,
    CredentialPost,
    CredentialRestored,
    DeleteCredential,
    EraseCredential,
)
from schema.data_key import AdoptMasterKey, RewrapDataKeys
from schema.entry import Recorded
from schema.event import type_of
from schema.sealed import Drawn, Sealed
from tests.catalogue import create_provider, delete_provider
from tests.disk import Disk
from tests.histories import ACTOR, NOON_US, create_file, entries, kind_of, kinds, open_ledger, reading, scratch, select
from tests.serving import OTHER_KEY, TEST_KEY, a_keyring

PROVIDERS = ("p", "q")


def drawn(n: int) -> Drawn:
    """Randomness that is none, so that a history can be written twice."""
    dice = Random(n)
    return Drawn(
        key=dice.randbytes(8).hex(), data_key=dice.randbytes(32), wrap_nonce=dice.randbytes(12),
        nonce=dice.randbytes(12),
    )  # fmt: skip


def create(id_: str, n: int = 0, *, provider: str = "p", secret: str = "first", **fields: object) -> CreateCredential:
    post = CredentialPost(id=id_, secret={"api_key": secret}, **fields)  # pyright: ignore[reportArgumentType]
    return CreateCredential(
        actor=ACTOR, received_at_us=NOON_US, provider=provider, content=post, timezone="UTC", drawn=drawn(n)
    )


def change(
    id_: str, n: int = 0, *, position: int | None = None, force: bool = False, **fields: object
) -> ChangeCredential:
    secret = fields.pop("secret", None)
    given = CredentialChange(**fields, secret={"api_key": secret} if secret else UNSET)  # pyright: ignore[reportArgumentType]
    return ChangeCredential(
        actor=ACTOR, received_at_us=NOON_US, id=id_, position=position, change=given, drawn=drawn(n), force=force
    )


def random_credentials(seed: int, size: int) -> list[Command]:
    """Commands of every kind over few ids and secrets; the seed is all."""
    dice = Random(seed)
    return [create_provider(each) for each in PROVIDERS] + [_random_command(dice, n) for n in range(size)]


def _random_command(dice: Random, n: int) -> Command:
    id_, provider, secret = dice.choice("abcdefgh"), dice.choice(PROVIDERS), dice.choice(("first", "second"))
    position, force = dice.choice((None, None, dice.randrange(1, 40))), dice.random() < 0.3
    match dice.randrange(12):
        case 0 | 1 | 2 | 3:
            return create(id_, n, provider=provider, secret=secret, weight=dice.choice((0, 100)))
        case 4 | 5:
            return change(id_, n, position=position, secret=secret, force=force)
        case 6 | 7:
            return change(id_, n, position=position, enabled=dice.random() < 0.5, force=force)
        case 8:
            return change(id_, n, position=position, weight=dice.choice((0, 5)), priority=dice.randrange(3))
        case 9:
            return DeleteCredential(ACTOR, NOON_US, id_, position, force=force)
        case 10:
            return EraseCredential(ACTOR, NOON_US, id_, position, force=force)
        case _:
            return delete_provider(provider)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_commands_give_the_same_bytes(tmp_path: Path, seed: int) -> None:
    """Randomness comes with the command: on a second ledger entries and state are the same, byte for byte.

    After each history `verify` finds every projection as its rebuild, and each secret with its data key.
    """
    written: list[object] = []
    for name in ("one", "two"):
        with open_ledger(tmp_path / name, keyring=a_keyring()) as ledger:
            outcomes = ledger.execute_now(random_credentials(seed, 250))
        with reading(tmp_path / name / LEDGER_FILE) as db:
            state = select(db, "SELECT * FROM data_keys ORDER BY id")
            written.append(([kind_of(each) for each in outcomes], entries(db), state))
        assert not kinds(outcomes).keys() & {"internal_error", "secret_unreadable"}
        assert kinds(outcomes).keys() >= {"last_active_credential", "id_conflict", "not_found", "in_use"}
    assert written[0] == written[1]
    report = verify(tmp_path / "one" / LEDGER_FILE, keyring=a_keyring())
    assert (report.faults, report.notes) == ([], [])


def test_without_force_a_provider_keeps_one_in_use(tmp_path: Path) -> None:
    """Whatever is tried in whatever order, what was in use does not go out of use altogether."""
    dice = Random(7)
    with open_ledger(tmp_path, keyring=a_keyring()) as ledger:
        ledger.execute_now([create_provider("p"), *(create(id_, n) for n, id_ in enumerate("abcd"))])
        for n in range(120):
            id_ = dice.choice("abcd")
            ledger.execute_now(
                [
                    dice.choice(
                        (
                            change(id_, n, enabled=dice.random() < 0.5),
                            change(id_, n, weight=dice.choice((0, 9))),
                            EraseCredential(ACTOR, NOON_US, id_, None) if n > 100 else change(id_, n, priority=n),
                        )
                    )
                ]
            )
            active = "SELECT count(*) FROM credentials WHERE enabled AND weight > 0 AND NOT deleted"
            with reading(ledger.path) as db:
                assert select(db, active)[0][0] >= 1


def test_enabling_by_hand_what_failed_restores_it() -> None:
    """What its failures disabled is `restored` by hand; what a person disabled is only changed; new is manual."""
    sealed = Sealed(key="k", nonce=bytes(12), ciphertext=b"", same=bytes(32), mask={"api_key": "****"})

    def decided(reason: str, *, enabled: bool) -> object:
        data = CredentialDisabled(
            id="a", provider="p", secret=sealed, enabled=False, disabled_reason=reason, replaces=1, errors=1  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        ws = WorkingSet()
        ws.latest[SOURCE, "a"] = Recorded(2, 0, SOURCE, "a/disable/1", type_of(data), "credential/a", 0, ACTOR, data)
        ws.read[CREDENTIAL.table, "a"] = content_of(data)
        with scratch() as db:
            ws.state.load(db, ROTATIONS, [("a",)])
        [event] = commands.change(ws, change("a", enabled=enabled)).events
        return event.data

    restored = decided("auth", enabled=True)
    assert isinstance(restored, CredentialRestored)
    assert (restored.by, restored.enabled, restored.disabled_reason, restored.replaces) == ("hand", True, None, 2)
    assert isinstance(decided("manual", enabled=True), CredentialChanged)
    manual = decided("auth", enabled=False)
    assert isinstance(manual, CredentialChanged)
    assert manual.disabled_reason == "manual"


def test_there_are_at_most_so_many_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit one is refused; one deleted makes room."""
    monkeypatch.setattr(commands, "CREDENTIALS_PER_PROVIDER_MAX", 2)
    with open_ledger(tmp_path, keyring=a_keyring()) as ledger:
        done = ledger.execute_now([create_provider("p"), *(create(id_, n) for n, id_ in enumerate("abc"))])
        assert [kind_of(each) for each in done[1:]] == ["accepted", "accepted", "limit_reached"]
        done = ledger.execute_now([DeleteCredential(ACTOR, NOON_US, "a", None), create("c", 9)])
        assert [kind_of(each) for each in done] == ["accepted", "accepted"]


def test_an_older_file_learns_to_keep_credentials(tmp_path: Path) -> None:
    """A file from before the tables of state takes a credential once it was opened, and its history stays."""
    with open_ledger(tmp_path) as ledger:
        ledger.execute_one_now(create_provider("p"))
    db = open_writer(tmp_path / LEDGER_FILE, "os")
    for table in ("credentials", "data_keys", "master_key"):
        db.execute(f"DROP TABLE {table}")
    db.execute("DELETE FROM projections WHERE name = 'credentials'")
    db.execute("DELETE FROM migrations WHERE number > 1")
    db.close()
    assert any("earlier version" in note for note in verify(tmp_path / LEDGER_FILE).notes)
    with open_ledger(tmp_path, keyring=a_keyring()) as ledger:
        assert isinstance(ledger.execute_now([create("a")])[0], Appended)
    assert verify(tmp_path / LEDGER_FILE, keyring=a_keyring()).faults == []


@pytest.mark.parametrize(("operation", "first"), [("write", 1), ("write", 2), ("write", 3), ("sync", 1)])
def test_a_failing_commit_leaves_secrets_and_keys_together(tmp_path: Path, operation: str, first: int) -> None:
    """Creating, erasing, adopting and wrapping anew on a disk that fails: retried, each is done once and whole."""
    disk = Disk()
    keyring = a_keyring(OTHER_KEY, TEST_KEY)
    path = create_file(tmp_path)
    writer = Writer(path, CommandQueue(), "full", open_connection=disk.open_connection, keyring=keyring)
    nonces = tuple(bytes([n]) * 12 for n in range(10))
    history: list[Command] = [
        create_provider("p"),
        create("a", 1),
        create("b", 2),
        EraseCredential(ACTOR, NOON_US, "a", None),
        AdoptMasterKey(actor=ACTOR, received_at_us=NOON_US, id=TEST_KEY.id),
        RewrapDataKeys(actor=ACTOR, received_at_us=NOON_US, after="", nonces=nonces),
        create("c", 3),
    ]
    try:
        for command in history:
            disk.fail_wal(operation, first, 1)
            outcomes = [kind_of(writer.write([command])[0]) for _ in range(3)]
            assert set(outcomes[:-1]) <= {"accepted", "duplicate", "storage_unavailable", "outcome_unknown"}
            assert outcomes[-1] in {"accepted", "duplicate"}
    finally:
        disk.heal()
        writer.stop()
        disk.unregister()
    assert disk.failed >= len(history) - 1
    report = verify(path, keyring=keyring)
    assert (report.faults, report.notes) == ([], [])
    with reading(path) as db:
        assert data_keys.by_master_key(db) == {TEST_KEY.id: 2}
        assert select(db, "SELECT subject FROM data_keys ORDER BY 1") == [("credential/b",), ("credential/c",)]


def test_nothing_prints_a_secret() -> None:
    """Neither posts, changes nor commands repeat what they carry."""
    for command in (create("a", secret="sk-canary"), change("a", secret="sk-canary")):
        assert "sk-canary" not in repr(command)
        assert repr(command.drawn.data_key) not in repr(command)


def test_a_ledger_remembers_its_keyring(tmp_path: Path) -> None:
    keyring = a_keyring()
    assert Ledger(tmp_path, keyring=keyring).require_keyring() is keyring
    assert Credential(id="a", provider="p", weight=0).active is False
