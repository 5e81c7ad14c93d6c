"""Several processes on one file: positions without a gap, nothing lost, nothing counted twice."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import apsw
import msgspec
import pytest

from ledger import journal
from ledger.database import write
from ledger.tree import extend, leaf_hash
from tests.histories import (
    NOON_US,
    SECOND_US,
    call,
    entries,
    journal_rows,
    kind_of,
    open_ledger,
    reading,
    replayed,
    stat_cells,
    tables,
)
from tests.sources import ROOT

GROUP = 20
SHARED = 50  # calls that every process posts


def post(data_dir: Path, name: str, groups: int) -> Counter[str]:
    """One process's work: its own calls in groups, with the shared ones in between, in an order of its own."""
    met: Counter[str] = Counter()
    with open_ledger(data_dir) as ledger:
        for n in range(groups):
            own = [
                call(
                    f"{name}-{n}-{i}",
                    at_us=NOON_US + n * SECOND_US,
                    model=f"m-{name}-{n % 3}",
                    usage={"input_tokens": n},
                )
                for i in range(GROUP)
            ]
            id_ = f"shared-{(n * (7 if name == 'a' else 11)) % SHARED}"
            met.update(map(kind_of, ledger.execute_now([*own, call(id_)])))
    return met


def child() -> None:
    """What a spawned process runs: it waits for a line, so that all begin together."""
    print("ready", flush=True)  # noqa: T201 - the parent listens
    sys.stdin.readline()
    met = post(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    print(msgspec.json.encode(met).decode())  # noqa: T201


def spawn(data_dir: Path, names: str, groups: int) -> list[subprocess.Popen[bytes]]:
    """A process a name, all at their start."""
    code = "from tests.test_processes import child; child()"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(data_dir), name, str(groups)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name in names
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    return started


def results(processes: list[subprocess.Popen[bytes]]) -> Counter[str]:
    """What all of them met together; each has ended."""
    ended = [(process.communicate(), process.returncode) for process in processes]
    assert [err.decode() for (_, err), code in ended if code] == []
    return sum((Counter(msgspec.json.decode(out, type=dict[str, int])) for (out, _), _ in ended), Counter[str]())


def check_processes(data_dir: Path, groups: int) -> None:
    met = results(spawn(data_dir, "abc", groups))
    shared = len({(n * factor) % SHARED for n in range(groups) for factor in (7, 11)})
    stored = 3 * groups * GROUP + shared
    assert met == Counter(accepted=stored, duplicate=3 * groups - shared)
    with reading(data_dir / "ledger.db") as db:
        rows = journal_rows(db)
        assert [row[0] for row in rows] == list(range(1, stored + 1))
        assert len({(row[1], row[2]) for row in rows}) == stored
        edge: list[bytes] = []
        extend(0, edge, [leaf_hash(entry.encode()) for entry in entries(db)])
        assert journal.read_head(db).edge == edge
        total = [cell for key, cell in stat_cells(db).items() if key[0] == 1]
        assert [sum(measure) for measure in zip(*total, strict=True)][:3:2] == [stored, 3 * GROUP * sum(range(groups))]
        assert tables(db) == replayed(journal.read(db, 0, stored), 500)


def test_three_processes_write_one_ledger(tmp_path: Path) -> None:
    """Processes that open a new ledger at once and write concurrently lose nothing and agree on every row."""
    check_processes(tmp_path, 30)


@pytest.mark.torture
def test_three_processes_write_one_ledger_for_long(tmp_path: Path) -> None:
    """The same with many more groups."""
    check_processes(tmp_path, 1_000)


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """A process killed in the middle of its work leaves whole groups, and another one goes on after it."""
    with open_ledger(tmp_path) as ledger:
        (process,) = spawn(tmp_path, "a", 10_000)
        while ledger.readers.now(journal.head_position) < 200:
            assert process.poll() is None
        process.kill()
        process.communicate()
        assert kind_of(ledger.execute_now([call("after")])[0]) == "accepted"
        with reading(ledger.path) as db:
            rows = journal_rows(db)
            assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
            own = Counter(row[2].split("-")[1] for row in rows if row[2].startswith("a-"))
            assert set(own.values()) == {GROUP}
            assert tables(db) == replayed(journal.read(db, 0, len(rows)), 500)


def test_a_reader_of_another_connection_never_blocks_a_writer(tmp_path: Path) -> None:
    """While a read transaction of another connection is open, writes go on."""
    with open_ledger(tmp_path) as ledger:
        other = apsw.Connection(str(ledger.path))
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchall()
        assert kind_of(ledger.execute_now([call()])[0]) == "accepted"
        assert other.execute("SELECT count(*) FROM events").get == 0
        other.execute("ROLLBACK")
        with write(other):
            pass
        other.close()
