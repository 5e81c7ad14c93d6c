"""The journal: gapless, unchangeable, and found by the ids' own cost."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import pytest

from ledger import journal, tree
from ledger.database import open_writer
from schema.event import decode
from tests.histories import (
    APP,
    call,
    calls,
    entries,
    finish,
    journal_rows,
    open_book,
    random_history,
    reading,
    select,
    start,
    sweep,
    write_in_groups,
)

SOURCE = f"/apps/{APP}/model_call"
IMMUTABLE = "the journal is immutable"
APPEND_ONLY = "the journal takes only its next position, and each (source, id) once"
COLUMNS = "(position, source, id, type, subject, time, entry, leaf_hash)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with three calls, a long one among them that was ended."""
    with open_book(tmp_path) as book:
        book.write([call("a"), start("b"), finish("b"), call("b.c"), call("b0")])
        return book.path


def plan(db: apsw.Connection, query: str, bindings: Sequence[object]) -> list[str]:
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", tuple(bindings))]  # type: ignore[arg-type]


def traced(db: apsw.Connection, run: object) -> list[str]:
    """The plan steps of every statement that a call runs on `events`."""
    found: list[tuple[str, Sequence[object]]] = []

    def note(_: apsw.Cursor, sql: str, bindings: Any) -> bool:  # noqa: ANN401 - whatever was bound
        found.append((sql, bindings or ()))
        return True

    db.exec_trace = note
    assert callable(run)
    run()
    db.exec_trace = None
    return [step for sql, bindings in found if "events" in sql for step in plan(db, sql, bindings)]


def test_positions_have_no_gap(tmp_path: Path) -> None:
    """Positions are 1, 2, 3 … whatever was refused in between; the head knows the last one."""
    with open_book(tmp_path) as book:
        write_in_groups(book, random_history(2, 300), [13, 1, 40])
        with reading(book.path) as db:
            rows = journal_rows(db)
            assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
            assert journal.head_position(db) == len(rows) == journal.read_head(db).size


def test_columns_are_what_the_entry_says(tmp_path: Path) -> None:
    """The columns beside an entry are copies of its attributes, and the leaf hash is that of its bytes."""
    with open_book(tmp_path) as book:
        write_in_groups(book, random_history(4, 100), [30])
        with reading(book.path) as db:
            for position, source, id_, type_, subject, time_us, entry, leaf in journal_rows(db):
                event = decode(position, type_, entry)
                assert (event.source, event.id, event.type, event.subject, event.time_us) == (
                    source, id_, type_, subject, time_us,
                )  # fmt: skip
                assert f'"sequence":"{position}"' in entry
                assert leaf == sha256(b"\x00" + entry.encode()).digest()


def test_the_head_holds_the_edge_of_the_tree(path: Path) -> None:
    """The right edge kept beside the journal is that of a tree built from its entries."""
    with reading(path) as db:
        edge: list[bytes] = []
        size = tree.extend(0, edge, [tree.leaf_hash(entry.encode()) for entry in entries(db)])
        head = journal.read_head(db)
        assert (head.size, head.edge) == (size, edge)


NEW_ROW = "SELECT 6, '/apps/x/model_call', 'new', type, subject, time, entry, leaf_hash FROM events WHERE position = 1"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE events SET entry = '{}' WHERE position = 2", IMMUTABLE),
        ("UPDATE events SET position = 9 WHERE position = 5", IMMUTABLE),
        ("UPDATE OR REPLACE events SET id = 'a' WHERE position = 2", IMMUTABLE),
        ("DELETE FROM events WHERE position = 5", IMMUTABLE),
        ("DELETE FROM events", IMMUTABLE),
        (f"INSERT OR REPLACE INTO events {COLUMNS} {NEW_ROW.replace('6,', '5,')}", APPEND_ONLY),
        (
            f"REPLACE INTO events {COLUMNS} {NEW_ROW.replace('/apps/x/model_call', SOURCE).replace('new', 'a')}",
            APPEND_ONLY,
        ),
        (f"INSERT INTO events {COLUMNS} {NEW_ROW.replace('6,', '7,')}", APPEND_ONLY),
        (f"INSERT INTO events {COLUMNS} {NEW_ROW.replace('6,', '0,')}", APPEND_ONLY),
        (f"INSERT INTO events {COLUMNS} {NEW_ROW.replace('6,', '-1,')}", APPEND_ONLY),
        (f"INSERT INTO events {COLUMNS} {NEW_ROW.replace('6,', 'NULL,')}", APPEND_ONLY),
        (f"INSERT OR IGNORE INTO events {COLUMNS} {NEW_ROW.replace('6,', '3,')}", APPEND_ONLY),
        (
            f"INSERT INTO events {COLUMNS} {NEW_ROW.replace('/apps/x/model_call', SOURCE).replace('new', 'a')}",
            APPEND_ONLY,
        ),
    ],
)
def test_history_cannot_be_changed(path: Path, statement: str, message: str) -> None:
    """No statement of a writing connection changes, removes, replaces, skips or doubles an event."""
    db = open_writer(path, "os")
    before = journal_rows(db)
    with pytest.raises(apsw.ConstraintError) as raised:
        db.execute(statement)
    assert message in str(raised.value)
    assert journal_rows(db) == before
    db.close()


def test_the_next_position_is_taken(path: Path) -> None:
    """The guard lets pass what it should: the row that the refused ones were made from."""
    db = open_writer(path, "os")
    db.execute(f"INSERT INTO events {COLUMNS} {NEW_ROW}")
    assert journal_rows(db)[-1][0] == 6
    db.close()


def test_an_upsert_cannot_change_history(path: Path) -> None:
    """ON CONFLICT DO UPDATE meets the same guard."""
    db = open_writer(path, "os")
    with pytest.raises(apsw.ConstraintError):
        db.execute(
            f"INSERT INTO events {COLUMNS} {NEW_ROW.replace('6,', '5,')} AND true ON CONFLICT DO UPDATE SET entry = ''"
        )
    db.close()


def test_lookup_costs_what_its_ids_cost(path: Path) -> None:
    """A range of ids, bounded, then a search for each key that is there; history is never scanned."""
    with reading(path) as db:
        keys = [(SOURCE, "b"), (SOURCE, "none"), ("/ledger/key", "a"), (SOURCE, "a")]
        steps = traced(db, lambda: list(journal.lookup(db, keys)))
        assert [step.split(" VIRTUAL")[0] for step in steps] == [
            "SEARCH events USING COVERING INDEX events_id_source (id>? AND id<?)",
            "SCAN k",
            "SEARCH e USING INDEX events_id_source (id=? AND source=?)",
        ]
        assert [event.id for event in journal.lookup(db, keys)] == ["b", "a"]


@pytest.mark.parametrize("keys", [[(SOURCE, "zz"), (SOURCE, "zy")], [("/apps/nobody/model_call", "a")]])
def test_ids_with_nothing_between_them_are_not_sought(path: Path, keys: list[tuple[str, str]]) -> None:
    """Ids that grow with time need one seek together, however long the history; so do equal ids of other sources."""
    with reading(path) as db:
        steps = traced(db, lambda: list(journal.lookup(db, keys)))
        assert not [step for step in steps if step.startswith("SEARCH e ")]
        assert list(journal.lookup(db, keys)) == []


def test_ids_with_much_between_them_are_sought_each(path: Path) -> None:
    """Where a range holds more than a few times the keys it is not read to its end, and nothing is missed."""
    with reading(path) as db:
        keys = [("/ledger/nobody", "A"), (SOURCE, "b0")]
        between = select(db, "SELECT id FROM events WHERE id BETWEEN 'A' AND 'b0' ORDER BY id")
        assert len(between) > journal.RANGE_IDS_MAX * len(keys), "the range is to be too long"
        assert between[-1] == ("b0",), "what is looked for is to be behind the cut"
        assert [event.id for event in journal.lookup(db, keys)] == ["b0"]


def test_pages_run_along_the_journal(path: Path) -> None:
    """A page is a range of positions, without sorting, with or without a filter by type."""
    with reading(path) as db:
        for type_ in (None, "model_call.recorded.v2"):
            steps = traced(db, lambda type_=type_: journal.page(db, 1, 2, type_))
            assert steps == ["SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]
        assert traced(db, lambda: journal.read(db, 1, 2)) == ["SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"]


def test_a_subject_is_found_by_the_unique_index(path: Path) -> None:
    """A subject's events are found through (id, source), so no further index is needed."""
    with reading(path) as db:
        for run in (
            lambda: journal.page(db, 0, 10, None, f"model_call/{APP}/b"),
            lambda: journal.events_of(db, SOURCE, "b"),
        ):
            searches = [step for step in traced(db, run) if "events" in step]
            assert searches
            assert set(searches) == {
                "SEARCH events USING INDEX events_id_source (id=? AND source=?)",
                "SEARCH events USING INDEX events_id_source (id>? AND id<?)",
            }


def test_leaf_hashes_and_positions_are_searched(path: Path) -> None:
    """Looking for what a COMMIT left, and reading events by position, are searches too."""
    with reading(path) as db:
        events = journal.read(db, 0, 10)
        assert all("SEARCH" in step for step in traced(db, lambda: journal.leaf_hashes(db, events)))
        steps = traced(db, lambda: journal.at(db, [3, 1]))
        assert "SEARCH e USING INTEGER PRIMARY KEY (rowid=?)" in steps
        assert [event.position for event in journal.at(db, [3, 1])] == [3, 1]
        assert journal.at(db, []) == []


def test_the_events_of_one_thing(path: Path) -> None:
    """A thing's events are its own: ids that merely begin alike are other things."""
    with reading(path) as db:
        assert [event.id for event in journal.events_of(db, SOURCE, "b")] == ["b", "b/complete"]
        page = journal.page(db, 0, 10, None, f"model_call/{APP}/b")
        assert [line.position for line in page.lines] == [2, 3]
        assert journal.page(db, 2, 10, None, f"model_call/{APP}/b").lines[0].position == 3
        assert journal.page(db, 0, 10, "model_call.started.v1", f"model_call/{APP}/b").next_after == 2
        for subject in ("model_call/other/b", "key/b", "b", "a/b/c/d"):
            assert journal.page(db, 0, 10, None, subject).lines == []


def collected(db: apsw.Connection, limit: int, type_: str | None = None) -> list[int]:
    """Positions of all pages, each from where the last one ended."""
    found: list[int] = []
    after = 0
    while (page := journal.page(db, after, limit, type_)).next_after > after:
        assert len(page.lines) <= limit
        found += [line.position for line in page.lines]
        after = page.next_after
    assert after == journal.head_position(db)
    return found


def test_pages_cover_the_journal_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page after page gives every entry once and in order, byte for byte, under limits of number, bytes and scan."""
    monkeypatch.setattr(journal, "SCAN_EVENTS_MAX", 7)
    with open_book(tmp_path) as book:
        write_in_groups(book, [*random_history(6, 200), sweep(10**16)], [50])
        with reading(book.path) as db:
            rows = journal_rows(db)
            for limit in (1, 3, 1_000):
                assert collected(db, limit) == [row[0] for row in rows]
                for type_ in ("model_call.recorded.v2", "model_call.timed_out.v1", "none"):
                    assert collected(db, limit, type_) == [row[0] for row in rows if row[3] == type_]
            monkeypatch.setattr(journal, "PAGE_BYTES_MAX", 1_000)
            assert collected(db, 50) == [row[0] for row in rows]
            assert [line.entry for line in journal.page(db, 0, 2).lines] == [row[6] for row in rows[:2]]


def test_a_page_beyond_the_head_is_empty(path: Path) -> None:
    """Asking after the head, or far beyond it, gives nothing and stays there."""
    with reading(path) as db:
        for after in (5, 99):
            assert journal.page(db, after, 10) == journal.Page([], after)


def test_an_empty_journal(tmp_path: Path) -> None:
    """A new ledger's head is at 0, with the root of the empty tree."""
    with open_book(tmp_path) as book:
        book.write([])
        with reading(book.path) as db:
            assert journal.head_position(db) == 0
            assert tree.root(journal.read_head(db).edge) == sha256(b"").digest()
            assert journal.page(db, 0, 10) == journal.Page([], 0)


def test_a_group_larger_than_a_statement(tmp_path: Path) -> None:
    """Groups of any size around the statements' widths are appended whole."""
    with open_book(tmp_path) as book:
        for size in (1, 2, 255, 256, 257, 700):
            book.write(calls(size, prefix=f"s{size}"))
        with reading(book.path) as db:
            assert db.execute("SELECT count(*), max(position) FROM events").fetchall() == [(1471, 1471)]
            assert db.execute("SELECT count(*) FROM model_calls").get == 1471
