"""Verification: a sound ledger passes, and whatever was tampered with is named by table, position and key."""

import json
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from ledger import tree
from ledger.database import open_reader
from ledger.journal import Head
from ledger.ledger import LEDGER_FILE
from ops import verify_projections
from ops.bootstrap import clock_us, opened
from ops.call_import import import_calls, into_ledger
from ops.faults import FAULTS_PER_TABLE_MAX, Faults
from ops.keys import command, new_key
from ops.sample_traffic import Traffic
from ops.verify import Report, verify, verify_copy
from ops.verify_journal import _Walk
from projections import model_call_stat, state_hash
from projections.engine import registry
from schema.times import DAY_US
from tests.console import APPS, fill, run, settings_of

CALLS = 300
TRIGGERS = ("events_append_only", "events_no_update", "events_no_delete")


@pytest.fixture(scope="module", autouse=True)
def short_tail() -> Generator[None, None, None]:
    """So few calls are folded only where a tail is shorter than they."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_call_stat, "TAIL_EVENTS", 32)
        yield


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, short_tail: None) -> Path:
    """A sound ledger, copied by each test that tampers with it."""
    directory = tmp_path_factory.mktemp("sound")
    settings = settings_of(directory)
    fill(settings, CALLS)
    with opened(settings) as ledger:
        ledger.execute_now([command(new_key("k-1"), "auditor", clock_us())])
    return directory


@pytest.fixture
def data_dir(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


@contextmanager
def tampering(data_dir: Path) -> Generator[apsw.Connection, None, None]:
    """The file without its guards, which are put back: only what was done in between remains."""
    db = apsw.Connection(str(data_dir / LEDGER_FILE))
    guards = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")]
    for trigger in TRIGGERS:
        db.execute(f"DROP TRIGGER {trigger}")
    yield db
    for sql in guards:
        db.execute(sql)
    db.close()


def check(data_dir: Path) -> Report:
    return verify(data_dir / LEDGER_FILE)


def first(data_dir: Path) -> tuple[str, int | None]:
    """The table and position of the first fault."""
    report = check(data_dir)
    assert not report.ok
    return report.faults[0].table, report.faults[0].position


def test_a_sound_ledger_verifies(data_dir: Path) -> None:
    report = check(data_dir)
    assert (report.ok, report.faults, report.notes) == (True, [], [])
    assert report.size == CALLS + 1
    assert {each.name: each.status for each in report.projections} == dict.fromkeys(registry(), "ok")


def test_an_empty_ledger_verifies(tmp_path: Path) -> None:
    with opened(settings_of(tmp_path)):
        pass
    report = check(tmp_path)
    assert (report.ok, report.size, report.root) == (True, 0, tree.EMPTY_ROOT.hex())


def test_an_entry_changed_where_no_projection_reads_is_found(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("""UPDATE events SET entry = replace(entry, '"feature":"', '"feature":"x') WHERE position = 123""")
        assert db.changes() == 1
    report = check(data_dir)
    assert [(each.table, each.position) for each in report.faults] == [("events", 123)]
    assert "does not hash" in report.faults[0].problem
    assert {each.status for each in report.projections} == {"ok"}


def test_an_entry_changed_together_with_its_leaf_hash_is_found_to_a_subtree(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        entry = db.execute("SELECT entry FROM events WHERE position = 290").get.replace('"feature":"', '"feature":"x')
        leaf = tree.leaf_hash(entry.encode())
        db.execute("UPDATE events SET entry = ?, leaf_hash = ? WHERE position = 290", (entry, leaf))
    [fault] = check(data_dir).faults
    # 301 = 256 + 32 + 8 + 4 + 1: position 290 is under the third root.
    assert (fault.table, fault.position) == ("journal_head", 289)
    assert "289 to 296" in fault.problem


def test_changed_tokens_are_found_in_the_journal_and_in_what_derives_from_it(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute(
            """UPDATE events SET entry = replace(entry, '"input_tokens":', '"input_tokens":1') WHERE position = 50"""
        )
    report = check(data_dir)
    assert (report.faults[0].table, report.faults[0].position) == ("events", 50)
    assert ("model_calls", 50) in {(each.table, each.position) for each in report.faults}
    faulty = {each.name for each in report.projections if each.status == "faulty"}
    assert faulty == {"model_calls", "model_call_stats"}


@pytest.mark.parametrize(("position", "named"), [(1, 1), (77, 77), (CALLS + 1, CALLS + 1)])
def test_a_removed_row_is_found(data_dir: Path, position: int, named: int) -> None:
    with tampering(data_dir) as db:
        db.execute("DELETE FROM events WHERE position = ?", (position,))
    report = check(data_dir)
    assert (report.faults[0].table, report.faults[0].position) == ("events", named)
    assert "missing" in report.faults[0].problem


def test_several_removed_rows_are_one_range(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("DELETE FROM events WHERE position BETWEEN 10 AND 12")
    fault = check(data_dir).faults[0]
    assert (fault.position, fault.problem) == (10, "rows up to 12 are missing")


@pytest.mark.parametrize("position", [CALLS + 2, 10**6, 0, -5])
def test_an_extra_row_is_found(data_dir: Path, position: int) -> None:
    with tampering(data_dir) as db:
        db.execute(
            "INSERT INTO events SELECT ?, source, 'forged', type, subject, time, entry, leaf_hash "
            "FROM events WHERE position = 9",
            (position,),
        )
    report = check(data_dir)
    assert ("events", position, True) in {(f.table, f.position, "extra" in f.problem) for f in report.faults}
    assert report.faults[0].position == position


@pytest.mark.parametrize(
    ("column", "value"), [("source", "'/apps/x/model_call'"), ("id", "'x'"), ("subject", "'x'"), ("time", "time + 1")]
)
def test_a_column_that_differs_from_its_entry_is_found(data_dir: Path, column: str, value: str) -> None:
    with tampering(data_dir) as db:
        db.execute(f"UPDATE events SET {column} = {value} WHERE position = 200")
    report = check(data_dir)
    assert (report.faults[0].table, report.faults[0].position) == ("events", 200)
    assert f"column {column}" in report.faults[0].problem


def test_two_swapped_entries_are_found(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        rows = db.execute("SELECT entry, leaf_hash, position FROM events WHERE position IN (20, 21)").fetchall()
        for (entry, leaf, _), position in zip(rows, (21, 20), strict=True):
            db.execute("UPDATE events SET entry = ?, leaf_hash = ? WHERE position = ?", (entry, leaf, position))
    assert first(data_dir) == ("events", 20)


def test_a_head_that_does_not_fit_is_found(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("UPDATE journal_head SET recorded_at_us = recorded_at_us + 1")
    assert first(data_dir) == ("journal_head", CALLS + 1)


def test_a_type_that_nobody_knows_is_found_where_it_is(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("UPDATE events SET type = 'model_call.guessed.v1' WHERE position = 30")
    report = check(data_dir)
    assert (report.faults[0].table, report.faults[0].position) == ("events", 30)
    assert {each.status for each in report.projections} == {"skipped"}


def test_a_changed_projection_row_is_named_by_its_key(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("UPDATE model_calls SET input_tokens = input_tokens + 1 WHERE position = 42")
    report = check(data_dir)
    [fault] = report.faults
    assert (fault.table, fault.position, fault.key) == ("model_calls", 42, "position=42")
    assert "input_tokens is" in fault.problem
    assert {each.name: each.status for each in report.projections}["model_calls"] == "faulty"


def test_a_removed_and_an_extra_projection_row_are_named(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("DELETE FROM model_calls WHERE position = 5")
        db.execute("INSERT INTO names (id, name) VALUES (9999, 'forged')")
    faults = {(each.table, each.key): each.problem for each in check(data_dir).faults}
    assert faults == {
        ("model_calls", "position=5"): "the row is missing",
        ("names", "id=9999"): "an extra row: the journal does not give it",
    }


def test_a_changed_statistic_is_found(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        table = registry()["model_call_stats"].tables[0].name
        db.execute(f"UPDATE {table} SET calls = calls + 1")
    report = check(data_dir)
    assert {each.table for each in report.faults} == {table}
    assert len(report.faults) == FAULTS_PER_TABLE_MAX
    assert report.notes == [f"{table}: more faults follow"]


def test_a_digest_is_not_shown(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        digest = db.execute("SELECT sha256 FROM keys").get
        db.execute("UPDATE keys SET sha256 = 'forged'")
    [fault] = check(data_dir).faults
    assert fault.problem == "sha256 differs"
    assert digest not in str(fault)


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_missing_guard_is_found(data_dir: Path, trigger: str) -> None:
    db = apsw.Connection(str(data_dir / LEDGER_FILE))
    db.execute(f"DROP TRIGGER {trigger}")
    db.close()
    [fault] = check(data_dir).faults
    assert (fault.table, fault.key, fault.problem) == ("sqlite_schema", trigger, "the trigger is missing")


@pytest.mark.parametrize(
    ("statement", "name", "problem"),
    [
        ("DROP VIEW account_transactions", "account_transactions", "the view is missing"),
        ("DROP INDEX account_owners_by_owner", "account_owners_by_owner", "the index is missing"),
        (
            "DROP VIEW account_balances_named; CREATE VIEW account_balances_named AS SELECT 1",
            "account_balances_named",
            "the view is not as it was made",
        ),
        (
            "DROP INDEX holds_due; CREATE INDEX holds_due ON holds (expires_at_us)", "holds_due",
            "the index is not as it was made",
        ),
    ],
)  # fmt: skip
def test_views_and_indexes_that_were_tampered_with_are_found(
    data_dir: Path, statement: str, name: str, problem: str
) -> None:
    db = apsw.Connection(str(data_dir / LEDGER_FILE))
    db.execute(statement)
    db.close()
    [fault] = check(data_dir).faults
    assert (fault.table, fault.key, fault.problem) == ("sqlite_schema", name, problem)


def test_a_projection_said_to_be_elsewhere_is_compared_there(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("UPDATE projections SET position = 100 WHERE name = 'model_calls'")
    assert first(data_dir) == ("model_calls", 101)


def test_a_projection_without_a_checkpoint_or_ahead_of_the_journal_is_found(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("DELETE FROM projections WHERE name = 'keys'")
        db.execute("UPDATE projections SET position = 9999 WHERE name = 'names'")
    faults = {(each.table, each.key) for each in check(data_dir).faults}
    assert faults == {("projections", "keys"), ("projections", "names")}


def test_a_projection_under_rebuild_is_skipped_and_said_to_be(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("UPDATE projections SET version = 99 WHERE name = 'model_call_stats'")
    report = check(data_dir)
    skipped = {each.name: each.detail for each in report.projections if each.status == "skipped"}
    assert report.ok
    assert list(skipped) == ["model_call_stats"]
    assert "version 99 is in place" in skipped["model_call_stats"]


def test_a_file_that_is_no_database_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(b"garbage " * 1_000)
    assert first(tmp_path) == ("file", None)
    assert verify_copy(tmp_path / LEDGER_FILE).faults[0].table == "file"


def test_what_is_written_meanwhile_is_neither_waited_for_nor_mistaken(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is checked, then calls arrive, then projections are compared: all as of the first moment."""
    settings, replay = settings_of(data_dir), verify_projections.check_projections
    with opened(settings) as ledger:

        def write_first(*arguments: object) -> None:
            end_us = clock_us()
            history = Traffic(9, apps=APPS).history(end_us - DAY_US, end_us, 100)
            assert import_calls(history, into_ledger(ledger, clock_us), lambda _: None).accepted == 100
            replay(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr("ops.verify.check_projections", write_first)
        report = check(data_dir)
        assert (report.ok, report.size) == (True, CALLS + 1)
    monkeypatch.undo()
    assert check(data_dir).size == CALLS + 101


def test_the_command_exits_0_with_a_summary(data_dir: Path) -> None:
    result = run("verify", "--data-dir", data_dir)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "verified"


def test_the_command_exits_1_naming_the_first_fault(data_dir: Path) -> None:
    with tampering(data_dir) as db:
        db.execute("DELETE FROM events WHERE position = 7")
    result = run("verify", "--data-dir", data_dir)
    assert result.exit_code == 1
    assert "events, position 7: the row is missing" in result.stdout
    report = json.loads(run("verify", "--data-dir", data_dir, "--json").stdout)
    assert (report["ok"], report["faults"][0]["table"], report["faults"][0]["position"]) == (False, "events", 7)


def test_the_hash_in_c_is_the_hash_in_python(data_dir: Path) -> None:
    db = open_reader(data_dir / LEDGER_FILE)
    state_hash.prepare(db)
    for projection in registry().values():
        assert state_hash.state_hash(db, projection) == state_hash.state_hash(db, projection, in_c=False)
    db.close()


def test_a_hash_cut_short_by_a_deadline_raises(data_dir: Path) -> None:
    """The extension takes an interrupted query for a finished one: a wrong hash must not come out of that."""
    db = open_reader(data_dir / LEDGER_FILE)
    state_hash.prepare(db)
    steps: list[int] = []

    def late() -> bool:
        steps.append(1)
        return len(steps) > 2

    db.set_progress_handler(late, 500)
    with pytest.raises(apsw.InterruptError):
        state_hash.state_hash(db, registry()["model_calls"])
    db.set_progress_handler(None)
    db.close()


def test_a_rebuilt_projection_has_the_same_hash(data_dir: Path) -> None:
    def hashes() -> dict[str, str]:
        return {each.name: each.state_hash or "" for each in check(data_dir).projections}

    before = hashes()
    assert run("rebuild", "--data-dir", data_dir).exit_code == 0
    assert hashes() == before
    assert all(before.values())


def test_a_damaged_row_is_a_fault_and_no_crash() -> None:
    """A page of zeros reads as NULL where text should be; the position is named."""
    faults = Faults()
    walk = _Walk(Head(1, 0, []), faults)
    walk.take((1, b"s", b"i", b"t", b"u", 0, None, b"h"))
    assert [(fault.position, fault.problem) for fault in faults.found][:1] == [(1, "the entry is not text")]
