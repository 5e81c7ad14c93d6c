"""What a writer remembers of accounts between groups: as the file has it, or nothing."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from msgspec.structs import replace

from ledger.queue import CommandQueue
from ledger.writer import Appended, Writer
from projections import account_state, engine
from projections.account_balance import load, load_owned, owned_by
from projections.account_book import AccountState, Book
from projections.projection import Target
from schema.charge import Charge
from schema.entry import Recorded
from schema.errors import LedgerError
from schema.hold import HoldDeclined, HoldPlaced
from schema.model_call import ModelCallRecorded, RecordModelCall
from tests.accounts import change_account, create_account, credit, hold, remembered_as_stored, settle, sweep_accounts
from tests.changes import a_rate
from tests.histories import NOON_US, SECOND_US, call, open_book, reading, select
from tests.test_budget import done
from tests.test_correction import plan


def _called(id_: str, user: str | None = None) -> RecordModelCall:
    """A call that costs one credit."""
    return call(id_, user_id=user, model="gpt-4o", usage={"input_tokens": 10, "output_tokens": 0})


def _begun(writer: Writer) -> None:
    done(writer, a_rate("gpt-4o", "0.1", model="gpt-4o"), create_account(), credit("5"))


def _other(writer: Writer) -> Writer:
    """Another process's writer of the same file."""
    return Writer(writer.path, CommandQueue(), "os")


def _told(outcome: Appended | LedgerError) -> type:
    assert isinstance(outcome, Appended), outcome
    assert outcome.recorded is not None
    return type(outcome.recorded.data)


def test_what_the_last_group_left_is_not_read_again(tmp_path: Path) -> None:
    """Accounts, and that an owner has none, are asked for once; another writer's group is a reason to ask again."""
    with open_book(tmp_path) as book, closing(_Asked(book)) as asked:
        _begun(book)
        done(book, create_account("ann", "user", "ann"), _called("c-1", "eve"))
        assert asked.since() > 0
        done(book, _called("c-2", "eve"), hold("1"))
        first = asked.since()
        done(book, _called("c-3", "eve"), hold("1", "h-2"), settle("1"))
        assert (first, asked.since()) == (0, 0)
        other = _other(book)
        done(other, _called("c-4"))
        other.stop()
        done(book, _called("c-5", "eve"))
        assert asked.since() > 0
        assert remembered_as_stored(book) == 1


class _Asked:
    """Counts the statements that read accounts."""

    def __init__(self, writer: Writer) -> None:
        self._count = 0
        self._db, _ = writer._connect()
        self._db.exec_trace = self._take

    def _take(self, cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        self._count += "CROSS JOIN account_balances" in sql
        return True

    def since(self) -> int:
        """How many since the last time."""
        count, self._count = self._count, 0
        return count

    def close(self) -> None:
        self._db.exec_trace = None


def test_two_writers_do_not_spend_the_same_credit(tmp_path: Path) -> None:
    """In turn: each has remembered the account before the other spent of it."""
    with open_book(tmp_path) as book:
        _begun(book)
        writers = [book, _other(book)]
        told = [_told(writers[n % 2].write([hold("1", f"h-{n}")])[0]) for n in range(8)]
        assert told == [HoldPlaced] * 5 + [HoldDeclined] * 3
        done(writers[1], settle("0", "h-0"))
        assert _told(book.write([hold("1", "h-8")])[0]) is HoldPlaced
        writers[1].stop()


def test_an_account_that_another_writer_makes_pays(tmp_path: Path) -> None:
    """That its owner had none was remembered."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, create_account("ann", "user", "ann"))
        done(book, *[_called(f"c-{n}", "eve") for n in range(2)])
        other = _other(book)
        done(other, create_account("eve", "user", "eve"))
        other.stop()
        (paid,) = done(book, _called("c-3", "eve"))
        assert _charge(paid).account == "eve"


def test_an_account_made_by_the_same_writer_pays(tmp_path: Path) -> None:
    """Also in the group that remembered its owner as without one."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, create_account("ann", "user", "ann"))
        _, _, same = done(book, _called("c-1", "eve"), create_account("eve", "user", "eve"), _called("c-2", "eve"))
        (later,) = done(book, _called("c-3", "eve"))
        assert (_charge(same).account, _charge(later).account) == ("eve", "eve")


def _charge(outcome: Appended) -> Charge:
    assert outcome.recorded is not None
    assert isinstance(outcome.recorded.data, ModelCallRecorded)
    assert outcome.recorded.data.charge is not None
    return outcome.recorded.data.charge


def test_changed_rules_hold_at_once(tmp_path: Path) -> None:
    """Rules that another kind of command changes are not those that were remembered."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, hold("5"))
        (owed,) = done(book, _called("c-1"))
        done(book, change_account(overdraft="unheld"))
        (overdrawn,) = done(book, _called("c-2"))
        assert (_charge(owed).owed, _charge(overdrawn).owed) == ("1", "0")


def test_a_group_that_fails_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credit that was set aside in memory alone is there for the next."""
    projection = engine.registry()["names"]

    def apply(target: Target, events: Sequence[Recorded]) -> None:
        projection.apply(target, events)
        raise ZeroDivisionError

    with open_book(tmp_path) as book:
        _begun(book)
        done(book, hold("1"))
        with monkeypatch.context() as patch:
            patch.setitem(engine.registry(), "names", replace(projection, apply=apply, of=None))
            assert isinstance(book.write([hold("4", "h-2")])[0], LedgerError)
        assert _told(book.write([hold("4", "h-3")])[0]) is HoldPlaced
        assert _told(book.write([hold("1", "h-4")])[0]) is HoldDeclined
        assert remembered_as_stored(book) == 1


def test_a_commit_that_fails_is_not_remembered(tmp_path: Path) -> None:
    """Nor is anything that another connection remembered, when the file had to be opened anew."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, hold("1"))
        book._disconnect()
        other = _other(book)
        done(other, hold("4", "h-2"))
        other.stop()
        assert _told(book.write([hold("1", "h-3")])[0]) is HoldDeclined


def test_the_end_of_a_remembered_hold_is_seen(tmp_path: Path) -> None:
    """When its time comes it is told as over, one after the other, though the account is not read again."""
    with open_book(tmp_path) as book:
        _begun(book)
        holds = [hold("1", f"h-{n}", expires_in_s=10 * n) for n in range(1, 6)]
        done(book, *holds)
        for n in range(1, 6):
            at_us = NOON_US + (10 * n + 1) * SECOND_US
            assert _told(book.write([hold("1", f"late-{n}", at_us=at_us, expires_in_s=3_600)])[0]) is HoldPlaced
            assert _told(book.write([hold("1", f"too-late-{n}", at_us=at_us)])[0]) is HoldDeclined
        with reading(book.path) as db:
            assert select(db, "SELECT count(*) FROM holds WHERE status = 'expired'") == [(5,)]
        assert remembered_as_stored(book) == 1


def test_a_hold_that_ended_while_nobody_wrote_is_seen(tmp_path: Path) -> None:
    """A writer that begins reads when the first hold of each account ends."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, hold("2", expires_in_s=10), hold("3", "h-2", expires_in_s=20))
        other = _other(book)
        told = [
            _told(other.write([hold("2", f"h-{seconds}", at_us=NOON_US + seconds * SECOND_US)])[0])
            for seconds in (5, 11, 12, 21)
        ]
        assert told == [HoldDeclined, HoldPlaced, HoldDeclined, HoldPlaced]
        other.stop()


def test_a_grant_that_ends_is_seen_by_who_remembers_its_account(tmp_path: Path) -> None:
    """Its time is the account's too."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, credit("3", "g", kind="gift_register", expires_at="2026-11-22T12:00:10Z"), hold("1"))
        done(book, hold("1", "h-2"))
        told = [
            _told(book.write([hold("6", f"h-{seconds}", at_us=NOON_US + seconds * SECOND_US)])[0])
            for seconds in (5, 11)
        ]
        assert told == [HoldPlaced, HoldDeclined]


def test_more_than_can_be_remembered_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, and then begun anew."""
    monkeypatch.setattr(account_state, "REMEMBERED_MAX", 3)
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, *[create_account(f"u-{n}", "user", f"u-{n}") for n in range(6)])
        kept: list[int] = []
        for n in range(6):
            done(book, _called(f"c-{n}", f"u-{n}"))
            kept.append(remembered_as_stored(book))
        assert max(kept) <= 4
        assert kept[-1] > 0


def test_a_hold_that_is_settled_after_its_time_has_ended_before(tmp_path: Path) -> None:
    """Also by a writer that finds the hold by its id, before it has looked at the account."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, hold("2", expires_in_s=10))
        other = _other(book)
        done(other, settle("1", at_us=NOON_US + 11 * SECOND_US))
        other.stop()
        with reading(book.path) as db:
            kinds = [str(kind) for (kind,) in select(db, "SELECT type FROM events ORDER BY position DESC LIMIT 2")]
        assert [kind.rsplit(".", 1)[0] for kind in reversed(kinds)] == ["hold.expired", "hold.settled"]


def test_a_sweep_ends_no_more_holds_than_it_may(tmp_path: Path) -> None:
    """What ended first ends first, of whichever account; the next sweep goes on."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, create_account("ann", "user", "ann"), credit("5", "c-2", "ann"))
        accounts = ["acc", "ann", "acc", "acc", "ann"]
        done(book, *[hold("1", f"h-{n}", of, expires_in_s=10 + n) for n, of in enumerate(accounts)])
        ended: list[list[str]] = []
        while (told := done(book, sweep_accounts(NOON_US + 60 * SECOND_US, 2))[0]).events:
            assert told.recorded is not None
            since = told.recorded.position - told.events
            with reading(book.path) as db:
                over = select(db, f"SELECT id FROM holds WHERE closed_position > {since} ORDER BY closed_position")
            ended.append([str(id_) for (id_,) in over])
        assert ended == [["h-0", "h-1"], ["h-2", "h-3"], ["h-4"]]
        with reading(book.path) as db:
            assert select(db, "SELECT sum(balance_held_e10), sum(holds) FROM account_balances") == [(0, 0)]


@pytest.mark.parametrize("forgotten", [[], ["acc"], ["ann"], ["acc", "ann"]])
def test_a_sweep_goes_through_accounts_in_an_order_of_its_own(tmp_path: Path, forgotten: Sequence[str]) -> None:
    """What the journal holds must not depend on what a writer happens to remember."""
    with open_book(tmp_path) as book:
        done(book, create_account(), create_account("ann", "user", "ann"), credit("5"), credit("5", "cr-2", "ann"))
        done(book, hold("1", "h-1", "ann", expires_in_s=10), hold("1", "h-2", "acc", expires_in_s=10))
        remembered = book._connect()[1].accounts.kept
        for id_ in forgotten:
            del remembered.owners[remembered.states.pop(id_).owner]
        done(book, sweep_accounts(NOON_US + 20 * SECOND_US))
        with reading(book.path) as db:
            ended = select(db, "SELECT id FROM events WHERE type = 'hold.expired.v1' ORDER BY position")
        assert ended == [("h-2/expire",), ("h-1/expire",)]


def test_what_is_over_is_found_by_its_time_alone(tmp_path: Path) -> None:
    """Holds that are open and not over are not gone through, however many there are."""
    asked: dict[str, str] = {}

    def note(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        asked[sql] = ""
        return True

    with open_book(tmp_path) as book, open_book(tmp_path) as other:
        _begun(book)
        done(book, hold("1"), credit("1", "g", kind="gift_register", expires_at="2026-11-22T12:00:10Z"))
        db, _ = other._connect()
        db.exec_trace = note
        done(other, hold("1", "h-2"))
        done(other, sweep_accounts())
        db.exec_trace = None
        about = [sql for sql in asked if "FROM holds" in sql and "AND expires_at_us" in sql.replace("o.", "")]
        plans = [str(row[3]) for sql in about for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?"))]
        assert [plan for plan in plans if "holds_due" in plan] == [
            "SEARCH o USING COVERING INDEX holds_due (expires_at_us>? AND expires_at_us<?)",
            "SEARCH holds USING INDEX holds_due (expires_at_us<?)",
        ]
        assert not [plan for plan in plans if plan.startswith("SCAN") and "carray" not in plan]


@pytest.mark.parametrize("moved", ["version = version + 1", "version = version - 1", "position = position - 1"])
def test_nothing_is_decided_by_what_another_version_left(tmp_path: Path, moved: str) -> None:
    """Its accounts say nothing of what came since: every write is refused, also one that would remember better."""
    with open_book(tmp_path) as book:
        _begun(book)
        done(book, hold("1"))
        with closing(apsw.Connection(str(book.path))) as db:
            db.execute(f"UPDATE projections SET {moved} WHERE name = 'account_balances'")
        refused = book.write([hold("1", "h-2"), _called("c-1")])
        assert [each.code for each in refused if isinstance(each, LedgerError)] == ["rebuilding"] * 2
        with closing(apsw.Connection(str(book.path))) as db:
            back = moved.translate(str.maketrans("+-", "-+"))
            db.execute(f"UPDATE projections SET {back} WHERE name = 'account_balances'")
            assert db.execute("SELECT size FROM journal_head").get == 4
        done(book, hold("1", "h-2"))


def test_what_no_decision_reads_may_be_of_another_version(tmp_path: Path) -> None:
    """It is left to its rebuild, and writes go on."""
    with open_book(tmp_path) as book:
        _begun(book)
        with closing(apsw.Connection(str(book.path))) as db:
            db.execute("UPDATE projections SET version = version + 1 WHERE name = 'model_call_stats'")
        done(book, _called("c-1"), hold("1"))
        done(book, _called("c-2"))
        with reading(book.path) as db:
            rows = dict(select(db, "SELECT name, position FROM projections"))
        assert rows["model_call_stats"] == 3
        assert rows["account_balances"] == rows["model_calls"] == 6


def test_a_fork_leaves_the_links_of_others_alone() -> None:
    """A hold that is tried for a call which another account's hold was for is not in the book that it was tried on."""
    book = Book()
    for id_ in ("acc", "ann"):
        book.add(AccountState(id_, f"app//{id_}", "never", (), 1, balance_e10=10**11, issued_e10=10**11))
    held = HoldPlaced(id="h-1", amount="1", account="ann", call_id="c-1", expires_at="2026-11-22T12:00:10.000000Z")
    book.placed(held, 1)
    tried = book.fork("acc")
    tried.placed(replace(held, id="h-2", account="acc"), 2)
    assert [hold.id for hold in book.linked["", "c-1"]] == ["h-1"]
    assert [hold.id for hold in tried.linked["", "c-1"]] == ["h-1", "h-2"]


def test_accounts_are_read_by_seeks(tmp_path: Path) -> None:
    with open_book(tmp_path) as book:
        done(book, *(create_account(id_, "user", id_) for id_ in ("ann", "eve")))
        with reading(book.path) as db:

            def read() -> None:
                load(db, Book(), ["ann"])
                load_owned(db, Book(), ["user//eve"])
                assert owned_by(db, "user/")

            assert set(plan(db, read, "account_")) == {
                "SCAN c VIRTUAL TABLE INDEX 1:",
                "SEARCH o USING INDEX account_owners_by_account (account=?)",
                "SEARCH o USING INDEX account_owners_by_owner (owner=?)",
                "SEARCH b USING INTEGER PRIMARY KEY (rowid=?)",
                "SEARCH account_owners USING COVERING INDEX account_owners_by_owner (owner>? AND owner<?)",
            }
