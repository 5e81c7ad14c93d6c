"""What must be true of leases at every commit, and that a break of it is found."""

from pathlib import Path

import pytest

from ledger.database import open_writer
from ops.faults import Faults
from ops.verify_leases import check_leases
from tests.histories import DAY_US, NOON_US, create_file, open_book, scratch
from tests.leases import a_credential, lend, prune, report, reset, set_up


def ledger(directory: Path) -> Path:
    with open_book(directory) as book:
        set_up(book, a_credential("a", 5, daily_limit=9), a_credential("b", 1))
        book.write([lend(f"old-{n}") for n in range(4)])
        later_us = NOON_US + 36 * DAY_US
        book.write([lend(f"l{n}", at_us=later_us) for n in range(6)])
        book.write([report("l0", "not_sent"), report("l1", "auth"), reset("a", "daily", at_us=later_us)])
        book.write([prune(later_us), lend("last", at_us=later_us)])
        return book.path


def faults_of(path: Path, damage: str = "") -> list[str]:
    db = open_writer(path, "os")
    if damage:
        db.execute(damage)
    faults = Faults()
    check_leases(db, faults, [])
    db.close()
    return [f"{fault.table} {fault.problem}" for fault in faults.found]


def test_what_the_rules_made_is_sound(tmp_path: Path) -> None:
    assert faults_of(ledger(tmp_path)) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE credential_usage SET used = used + 1 WHERE credential = 'b' AND period > '2026-12'", "used is not"),
        ("UPDATE leases SET outcome = 'not_sent' WHERE id = 'last'", "used is not"),
        ("DELETE FROM leases WHERE id = 'l3'", "some are missing"),
        ("UPDATE credential_rotation SET current = current + 1 WHERE credential = 'a'", "come to nothing"),
        ("UPDATE credential_rotation SET recheck_at_us = 1 WHERE credential = 'b'", "no error disabled it"),
        ("UPDATE lease_head SET sequence = 3", "behind the last lease"),
        ("UPDATE lease_head SET last_us = 3", "behind the last lease"),
        ("UPDATE leases SET credential = 'c' WHERE id = 'l0'", "never made"),
    ],
)
def test_damage_is_found(tmp_path: Path, damage: str, found: str) -> None:
    assert any(found in fault for fault in faults_of(ledger(tmp_path), damage))


def test_a_ledger_without_leases_is_sound(tmp_path: Path) -> None:
    assert faults_of(create_file(tmp_path)) == []


def test_a_file_of_before_is_left_alone() -> None:
    with scratch() as db:
        db.execute("DROP TABLE leases")
        notes: list[str] = []
        check_leases(db, Faults(), notes)
        assert len(notes) == 1
