"""Backup while calls arrive, restore with the old ledger kept, and refusal of anything that does not verify."""

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from ledger import lock
from ledger.database import open_reader
from ledger.ledger import LEDGER_FILE, Ledger
from ops import backup as module
from ops.backup import RESTORING, Backup, backup, restore
from ops.bootstrap import clock_us, opened
from ops.call_import import import_calls, into_ledger
from ops.sample_traffic import Traffic
from ops.seal import SEAL_BYTES
from ops.settings import Settings
from ops.verify import open_copy, verify, verify_copy
from schema.errors import BadBackup, FileExists, LedgerBusy, NotFound
from schema.times import DAY_US
from tests.console import answer, fill, run, settings_of

CALLS = 200
NOW_US = 1_795_000_000_000_000
Entries = list[tuple[Any, ...]]


def entries(path: Path) -> Entries:
    db = open_copy(path) if path.name != LEDGER_FILE else open_reader(path)
    try:
        return db.execute("SELECT position, entry FROM events ORDER BY position").fetchall()
    finally:
        db.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data directory and a backup of it, to be copied."""
    directory = tmp_path_factory.mktemp("made")
    fill(settings_of(directory / "data"), CALLS)
    backup(directory / "data" / LEDGER_FILE, directory / "copy.db")
    return directory / "data", directory / "copy.db"


@pytest.fixture
def copy(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(made[1], tmp_path / "copy.db"))


@pytest.fixture
def data_dir(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """The ledger that was backed up, with calls that have come since."""
    directory = Path(shutil.copytree(made[0], tmp_path / "data"))
    fill(settings_of(directory), 30, seed=2)
    return directory


def files(data_dir: Path) -> set[str]:
    return {each.name for each in data_dir.iterdir()} - {"lock"}


def write_until(stop: threading.Event, settings: Settings, ledger: Ledger) -> None:
    end_us = clock_us()
    calls = Traffic(3, apps=["busy"]).history(end_us - DAY_US, end_us, 50_000)
    import_calls(itertools.takewhile(lambda _: not stop.is_set(), calls), into_ledger(ledger, clock_us), lambda _: None)


def test_a_backup_under_constant_load_ends_and_restores_to_a_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied eight pages a step with commits between the steps: it neither starts over nor mixes two moments."""
    monkeypatch.setattr(module, "PAGES_PER_STEP", 8)
    settings = settings_of(tmp_path / "data")
    fill(settings, 500)
    stop = threading.Event()
    steps: list[int] = []

    def progress(what: str, done: int, total: int) -> None:
        if what == "pages":
            time.sleep(0.01)
            steps.append(ledger.readers.now(lambda db: db.execute("SELECT size FROM journal_head").get))

    with opened(settings) as ledger:
        writer = threading.Thread(target=write_until, args=(stop, settings, ledger))
        writer.start()
        done = backup(ledger.path, tmp_path / "copy.db", progress)
        stop.set()
        writer.join()
    assert len(set(steps)) > 3, "nothing was written meanwhile"
    assert 500 <= done.size < steps[-1]
    restored = restore(tmp_path / "copy.db", tmp_path / "other", NOW_US)
    assert (restored.size, restored.root, restored.before) == (done.size, done.root, None)
    live = entries(tmp_path / "data" / LEDGER_FILE)
    assert entries(tmp_path / "other" / LEDGER_FILE) == live[: done.size]
    with opened(settings_of(tmp_path / "other")):
        assert verify(tmp_path / "other" / LEDGER_FILE).ok


def test_a_backup_is_one_file_that_verifies_and_holds_no_master_key(tmp_path: Path) -> None:
    run("init", "--data-dir", tmp_path / "data")
    secret = (tmp_path / "data" / "secret.key").read_bytes().strip()
    done = backup(tmp_path / "data" / LEDGER_FILE, tmp_path / "copies.db")
    assert {each.name for each in tmp_path.iterdir()} == {"data", "copies.db"}
    assert secret not in (tmp_path / "copies.db").read_bytes()
    report = verify_copy(tmp_path / "copies.db")
    assert (report.ok, report.size, report.root) == (True, done.size, done.root)


def test_a_backup_overwrites_nothing_and_clears_what_a_killed_one_left(data_dir: Path, tmp_path: Path) -> None:
    to = tmp_path / "to.db"
    to.write_bytes(b"precious")
    with pytest.raises(FileExists):
        backup(data_dir / LEDGER_FILE, to)
    assert to.read_bytes() == b"precious"
    to.unlink()
    (tmp_path / "to.db.part").write_bytes(b"half of an earlier one")
    assert backup(data_dir / LEDGER_FILE, to).size == CALLS + 30


def test_a_copy_that_does_not_read_back_is_no_backup(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that loses a byte between writing and reading back."""
    sync = module.sync_file

    def damaged(path: Path) -> None:
        sync(path)
        flip(path, b'"feature":"', 5)

    monkeypatch.setattr(module, "sync_file", damaged)
    with pytest.raises(BadBackup, match="events, position"):
        backup(data_dir / LEDGER_FILE, tmp_path / "to.db")
    assert not (tmp_path / "to.db").exists()


def flip(path: Path, after: bytes, occurrence: int) -> None:
    """Flip a bit of the byte that follows some occurrence of a text."""
    content = bytearray(path.read_bytes())
    place = -1
    for _ in range(occurrence):
        place = content.index(after, place + 1)
    content[place + len(after)] ^= 1
    path.write_bytes(content)


def refused(copy: Path, data_dir: Path, match: str) -> None:
    """A restore is refused, and the directory is as it was."""
    before, had = entries(data_dir / LEDGER_FILE), files(data_dir)
    with pytest.raises(BadBackup, match=match):
        restore(copy, data_dir, NOW_US)
    assert files(data_dir) == had
    assert entries(data_dir / LEDGER_FILE) == before


@pytest.mark.parametrize("text", [b'"feature":"', b'"recordedtime":"2', b'"model":"', b'"input_tokens":'])
@pytest.mark.parametrize("occurrence", [100, 200])
def test_a_flipped_bit_in_an_entry_is_refused_naming_the_position(
    copy: Path, data_dir: Path, text: bytes, occurrence: int
) -> None:
    flip(copy, text, occurrence)
    refused(copy, data_dir, "events, position")


def test_a_flipped_bit_anywhere_is_refused(copy: Path, data_dir: Path) -> None:
    """Also where no entry and no row is, and in the seal that finds those."""
    content = copy.read_bytes()
    tail = range(len(content) - SEAL_BYTES, len(content), 7)
    for place in [*Random(1).sample(range(len(content)), 25), *tail]:
        copy.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        refused(copy, data_dir, "copy.db")


def test_a_copy_of_the_file_that_backup_did_not_make_is_taken_if_it_verifies(
    made: tuple[Path, Path], data_dir: Path
) -> None:
    assert restore(made[0] / LEDGER_FILE, data_dir, NOW_US).size == CALLS


def test_a_flipped_bit_in_a_projection_is_refused_naming_the_table(copy: Path, data_dir: Path) -> None:
    db = apsw.Connection(str(copy))
    db.execute("UPDATE model_calls SET duration_ms = 1 WHERE position = 9")
    db.close()
    refused(copy, data_dir, "model_calls, position 9")


@pytest.mark.parametrize("size", [0, 100, 4096, 20_000])
def test_a_truncated_backup_is_refused(copy: Path, data_dir: Path, size: int) -> None:
    os.truncate(copy, size)
    refused(copy, data_dir, "copy.db")


def test_a_backup_without_its_last_page_is_refused(copy: Path, data_dir: Path) -> None:
    os.truncate(copy, copy.stat().st_size - 4096)
    refused(copy, data_dir, "copy.db")


@pytest.mark.parametrize("content", [b"garbage" * 5_000, b"SQLite format 3\x00" + bytes(50_000)])
def test_garbage_is_refused(copy: Path, data_dir: Path, content: bytes) -> None:
    copy.write_bytes(content)
    refused(copy, data_dir, "copy.db")


def test_a_database_of_something_else_is_refused(copy: Path, data_dir: Path) -> None:
    copy.unlink()
    db = apsw.Connection(str(copy))
    db.execute("CREATE TABLE t (a)")
    db.close()
    refused(copy, data_dir, "no such table")


def test_a_file_without_its_wal_is_not_taken_for_a_backup(copy: Path, data_dir: Path) -> None:
    copy.with_name("copy.db-wal").write_bytes(b"something")
    refused(copy, data_dir, "usage-ledger backup")


def test_a_missing_file_is_told(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        restore(tmp_path / "nowhere.db", data_dir, NOW_US)


def test_a_restore_keeps_the_old_ledger_and_says_what_only_it_has(copy: Path, data_dir: Path) -> None:
    old, new = entries(data_dir / LEDGER_FILE), entries(copy)
    restored = restore(copy, data_dir, NOW_US)
    assert (restored.size, restored.size_before) == (CALLS, CALLS + 30)
    assert entries(data_dir / LEDGER_FILE) == new
    assert restored.before is not None
    assert entries(Path(restored.before)) == old
    again = restore(copy, data_dir, NOW_US)
    assert again.before == f"{restored.before}-2", "two within a second must not meet"
    assert files(data_dir) == {LEDGER_FILE, Path(restored.before).name, Path(again.before or "").name}


def test_a_restore_takes_along_what_a_crash_left_in_the_wal(copy: Path, data_dir: Path, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    with opened(settings_of(data_dir)):
        fill(settings_of(data_dir), 10, seed=5)
        shutil.copytree(data_dir, crashed)  # as a killed process would leave it
    assert (crashed / f"{LEDGER_FILE}-wal").stat().st_size
    restored = restore(copy, crashed, NOW_US)
    assert restored.size_before == CALLS + 40
    assert len(entries(Path(restored.before or ""))) == CALLS + 40
    assert not (crashed / f"{LEDGER_FILE}-wal").exists()


def test_a_restore_over_an_unreadable_ledger_keeps_all_its_files(copy: Path, data_dir: Path) -> None:
    (data_dir / LEDGER_FILE).write_bytes(b"ruin" * 3_000)
    (data_dir / f"{LEDGER_FILE}-wal").write_bytes(b"its wal")
    restored = restore(copy, data_dir, NOW_US)
    before = Path(restored.before or "")
    assert before.read_bytes() == b"ruin" * 3_000
    assert before.with_name(f"{before.name}-wal").read_bytes() == b"its wal"
    assert entries(data_dir / LEDGER_FILE) == entries(copy)


def test_a_restore_is_refused_while_anyone_uses_the_directory(copy: Path, data_dir: Path) -> None:
    had = files(data_dir)
    with lock.shared(data_dir):
        with pytest.raises(LedgerBusy):
            restore(copy, data_dir, NOW_US)
        assert files(data_dir) == had
        result = run("restore", copy, "--data-dir", data_dir)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "[ledger_busy]" in result.stderr
    assert restore(copy, data_dir, NOW_US).size == CALLS


class Killed(BaseException):
    """Stands for a kill: nothing handles it."""


def dying_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Every call that changes the directory counts as a step; at this one the process dies before it is done."""
    taken = itertools.count()
    last = [0]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def act(*arguments: object) -> object:
            last[0] = next(taken)
            if last[0] == step:
                raise Killed
            return call(*arguments)

        return act

    for owner, name in (
        (module, "sync_file"),
        (module, "sync_directory"),
        (module, "verify_copy"),
        (module.shutil, "copyfile"),
        (module.os, "link"),
        (Path, "rename"),
        (Path, "unlink"),
    ):
        call = getattr(owner, name)
        monkeypatch.setattr(owner, name, counted(call) if owner is not Path else _method(counted, call))
    return lambda: last[0]


def _method(counted: Callable[..., Callable[..., object]], call: Callable[..., object]) -> Callable[..., object]:
    def act(self: Path, *arguments: object, **options: object) -> object:
        return counted(lambda: call(self, *arguments, **options))()

    return act


def test_a_restore_killed_anywhere_loses_nothing_and_can_be_run_again(copy: Path, data_dir: Path) -> None:
    old, new = entries(data_dir / LEDGER_FILE), entries(copy)
    for step in itertools.count():
        directory = Path(shutil.copytree(data_dir, data_dir.with_name(f"at-{step}")))
        with pytest.MonkeyPatch.context() as patch:
            steps = dying_at(step, patch)
            try:
                restore(copy, directory, NOW_US)
            except Killed:
                finished = False
            else:
                finished = True
        in_place = entries(directory / LEDGER_FILE)
        assert in_place in (old, new)
        kept = [entries(each) for each in directory.glob(f"{LEDGER_FILE}.before-restore-*")]
        assert in_place == old or old in kept
        assert restore(copy, directory, NOW_US).size == CALLS
        assert entries(directory / LEDGER_FILE) == new
        assert old in [entries(each) for each in directory.glob(f"{LEDGER_FILE}.before-restore-*")]
        assert not (directory / RESTORING).exists()
        if finished:
            assert steps() > 5
            return


def test_the_commands_answer_for_scripts(data_dir: Path, tmp_path: Path) -> None:
    done = answer("backup", tmp_path / "to.db", "--data-dir", data_dir)
    assert set(done) == set(Backup.__struct_fields__)
    assert done["size"] == CALLS + 30
    fill(settings_of(data_dir), 5, seed=8)
    result = run("restore", tmp_path / "to.db", "--data-dir", data_dir)
    assert result.exit_code == 0
    assert "restored 230 entries" in result.stdout
    assert "only there: positions 231 to 235" in result.stderr
    assert answer("restore", tmp_path / "to.db", "--data-dir", data_dir)["size"] == CALLS + 30


def test_a_backup_that_fails_leaves_nothing_behind(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not stay full of a copy that nobody can use."""

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "sync_file", full)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(OSError, match="No space"):
        backup(data_dir / LEDGER_FILE, target / "to.db")
    assert list(target.iterdir()) == []
