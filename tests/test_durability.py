"""Power cuts, simulated: one run's writes and syncs are recorded, then disks are built as a cut would leave them.

At a cut everything synced is there; of the rest nothing, the first part, a torn part, or any of it in any order.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from shutil import rmtree

import apsw
import pytest

from ledger.database import Durability, open_writer
from ledger.decision import Command, groups
from ledger.queue import CommandQueue
from ledger.writer import Writer
from tests.disk import Disk, Operation
from tests.histories import create_file, random_history, reading
from tests.strategies import TORTURE_EXAMPLES

COMMANDS = 240
GROUP_COMMANDS_MAX = 6
# Small, so that a short run has many checkpoints, and the WAL is begun anew.
CHECKPOINT_PAGES = 60
IMAGES = 150
IMAGES_OF_A_RUN = 1_000
CONTINUED_EVERY_IMAGES = 10
SECTOR_BYTES = 512
LEFT = ("nothing", "prefix", "torn", "any")

Files = dict[str, bytearray]


@dataclass
class Run:
    """What was done to the disk, None where a group was acknowledged; and the ledger's state after each group."""

    before: Files
    groups: list[Sequence[Command]]
    log: list[Operation | None]
    states: list[str]
    path: Path


def record(directory: Path, seed: int, durability: Durability) -> Run:
    """Write a random history in groups, on a disk that records."""
    directory.mkdir(parents=True)
    path = create_file(directory)
    disk = Disk()

    def connect(path: Path, durability: Durability) -> apsw.Connection:
        db = disk.open_connection(path, durability)
        db.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        return db

    written = in_groups(random_history(seed, COMMANDS), Random(seed))
    run = Run({str(path): bytearray(path.read_bytes())}, written, disk.log, [], path)
    writer = Writer(path, CommandQueue(), durability, open_connection=connect)
    with reading(path) as db:
        run.states.append(state(db))
        for group in written:
            writer.write(deepcopy(group))
            disk.log.append(None)
            run.states.append(state(db))
    writer.stop()
    disk.unregister()
    return run


def in_groups(commands: Sequence[Command], dice: Random) -> list[Sequence[Command]]:
    """The commands, cut at random and where the writer would cut: each group is one transaction."""
    found: list[Sequence[Command]] = []
    first = 0
    while first < len(commands):
        last = first + dice.randint(1, GROUP_COMMANDS_MAX)
        found += groups(commands[first:last])
        first = last
    return found


def state(db: apsw.Connection) -> str:
    """A hash over every row of every table."""
    tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    rows = [(name, db.execute(f'SELECT * FROM "{name}"').fetchall()) for (name,) in tables]
    return sha256(repr(rows).encode()).hexdigest()


@dataclass
class Platter:
    """What is stable, what may be, and how many groups were acknowledged by now."""

    synced: Files
    pending: list[Operation] = field(default_factory=list[Operation])
    acknowledged: int = 0

    def meet(self, operation: Operation | None) -> None:
        if operation is None:
            self.acknowledged += 1
        elif not operation.sync:
            self.pending.append(operation)
        else:
            for each in self.pending:
                if each.path == operation.path:
                    each.change(self.synced.setdefault(each.path, bytearray()))
            self.pending = [each for each in self.pending if each.path != operation.path]

    def cut(self, left: str, dice: Random) -> Files:
        """The files after a power cut that leaves this much of what was not stable."""
        files = {path: bytearray(image) for path, image in self.synced.items()}
        for operation in kept(self.pending, left, dice):
            operation.change(files.setdefault(operation.path, bytearray()))
        return files


def kept(pending: list[Operation], left: str, dice: Random) -> list[Operation]:
    number = dice.randint(0, len(pending))
    match left:
        case "nothing":
            return []
        case "prefix":
            return pending[:number]
        case "torn":
            return [*pending[:number], *(part for each in pending[number : number + 1] for part in torn(each, dice))]
        case _:
            return [each for each in pending if dice.random() < 0.5]


def torn(operation: Operation, dice: Random) -> Iterator[Operation]:
    """Some of the sectors of a write, each whole."""
    end = operation.offset + len(operation.data or b"")
    at = operation.offset
    while operation.data is not None and at < end:
        after = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if dice.random() < 0.5:
            yield Operation(operation.path, at, operation.data[at - operation.offset : after - operation.offset])
        at = after


def check_cuts(directory: Path, seed: int, durability: Durability, images: int) -> Counter[str]:
    """Cut the power at that many instants of a run; returns how many images there were, and how many lost something."""
    run = record(directory / "run", seed, durability)
    assert any(each is not None and each.sync and each.path == str(run.path) for each in run.log), "no checkpoint"
    dice, met = Random(seed), Counter[str]()
    cuts = Counter(dice.choices(range(len(run.log)), k=images))
    platter = Platter(run.before)
    for n, operation in enumerate(run.log):
        platter.meet(operation)
        for _ in range(cuts[n]):
            met["images"] += 1
            place = directory / f"image-{met['images']}"
            found = check_image(run, platter.cut(dice.choice(LEFT), dice), place)
            met["lost"] += found < platter.acknowledged
            assert durability == "os" or found >= platter.acknowledged, f"lost at operation {n} of seed {seed}"
            if met["images"] % CONTINUED_EVERY_IMAGES == 0:
                go_on(run, place / run.path.name, found)
            rmtree(place)
    return met


def check_image(run: Run, files: Files, place: Path) -> int:
    """Open a disk as a cut left it: sound, and exactly as after one of the groups; returns the last it can be."""
    place.mkdir()
    for path, image in files.items():
        (place / Path(path).name).write_bytes(image)
    db = open_writer(place / run.path.name, "os")
    assert db.pragma("integrity_check") == "ok"
    found = state(db)
    size, last = db.execute("SELECT count(*), max(position) FROM events").fetchall()[0]
    assert size == (last or 0)
    db.close()
    assert found in run.states, "neither before nor after any group"
    return len(run.states) - 1 - run.states[::-1].index(found)


def go_on(run: Run, path: Path, done: int) -> None:
    """What comes after the cut gives the same ledger as if there had been none."""
    writer = Writer(path, CommandQueue(), "os")
    for group in run.groups[done:]:
        writer.write(deepcopy(group))
    writer.stop()
    with reading(path) as db:
        assert state(db) == run.states[-1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """After a cut at any instant the ledger is sound and as after some group, none earlier than the last acknowledged.

    And it goes on from there as if nothing had happened.
    """
    assert check_cuts(tmp_path, seed, "full", IMAGES // 3) == Counter(images=IMAGES // 3, lost=0)


def test_a_power_cut_may_take_what_the_operating_system_had_not_synced(tmp_path: Path) -> None:
    """With durability `os` acknowledged groups may be lost, the last ones only, and nothing is damaged.

    It shows as well that the test above is able to fail.
    """
    assert check_cuts(tmp_path, 1, "os", IMAGES // 3)["lost"] > 0


@pytest.mark.torture
def test_power_cuts_all_day_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """The same for as many images as asked for, a thousand of each history."""
    for seed in range(-(-TORTURE_EXAMPLES // IMAGES_OF_A_RUN)):
        images = min(IMAGES_OF_A_RUN, TORTURE_EXAMPLES)
        print(f"seed {seed}")  # noqa: T201
        assert check_cuts(tmp_path / str(seed), seed, "full", images)["lost"] == 0
