"""Deciding: what a command does, seen only through the working set that its group loaded.

A module in `ledger/commands` registers its commands here. `load` brings in, set-wise, what a group's commands touch;
`decide` reads nothing but the working set and the command.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from typing import Any

import apsw
from msgspec import Struct

import ledger.commands
from ledger import journal, watch_load
from ledger.changed_call import KnownCall
from ledger.credential_book import CredentialBook
from ledger.keyring import Keyring
from ledger.rate_book import RateBook
from ledger.state import State, Write
from ledger.watch import Watch
from projections.account_book import Book
from projections.account_state import Remembered
from projections.model_rate import RateRow
from schema.charge import Charge
from schema.correction import Counted
from schema.entry import NewEvent, Recorded
from schema.errors import SecretUnreadable
from schema.model_call import ModelCallStart, StartModelCall
from schema.sealed import WrappedKey

Command = Struct
Key = tuple[str, str]


class Decision(Struct):
    """The events of a command, all or none; or, for a repeated command, the event it got the first time.

    `report` is for the caller alone: what was found while deciding and is in no event. `state` are the rows of state
    tables as they are to be, `writes` changes of state that are no rows of such a table; a command that changes state
    alone says whether that was `repeated`. `answer` is the index of the event that the caller is told of.
    """

    events: list[NewEvent]
    first: Recorded | None = None
    report: Struct | None = None
    state: Sequence[Struct] = ()
    writes: Sequence[Write] = ()
    repeated: bool = False
    answer: int = -1


class WorkingSet:
    """The part of the ledger that a group of commands sees; it grows by the events decided in the group.

    What queries find does not grow, and is for commands that have a group for themselves: `due` calls, the `latest`
    event of a thing by its source and id, and the `holders`, ids of the live things that have a name or refer to one.
    """

    def __init__(
        self,
        rates: RateBook | None = None,
        keyring: Keyring | None = None,
        credentials: CredentialBook | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        self.rates = rates or RateBook()
        self.credentials = credentials or CredentialBook()
        self._keyring = keyring
        self.commands: Sequence[Command] = ()  # the whole group
        self.events: dict[Key, Recorded] = {}
        self.due: list[Recorded] = []
        self.known: list[Any] = []  # for a command that is alone: what its load found
        self.latest: dict[Key, Recorded] = {}
        self.holders: dict[tuple[str, ...], str] = {}
        self.rate_rows: list[RateRow] = []
        self.book = Book(remembered)  # accounts; empty where none is touched
        self.watch: Watch | None = None  # budgets and alerts; None where the ledger has none
        self.charges: dict[int, Charge] = {}  # what calls that are changed have been charged, by first position
        # What a load read from projections, by table and key.
        self.read: dict[Key, Any] = {}
        self.state = State()
        # Data keys by subject, and the master key that wraps new ones.
        self.data_keys: dict[str, WrappedKey] = {}
        self.master_key_id: str | None = None

    @property
    def keyring(self) -> Keyring:
        """What seals and opens secrets; raises SecretUnreadable where the ledger was opened without one."""
        if self._keyring is None:
            raise SecretUnreadable("the ledger was opened without a master key")
        return self._keyring

    @cached_property
    def starting(self) -> dict[Key, list[ModelCallStart]]:
        """The calls that begin in this very group, by app and id: in the file there is nothing of them to load."""
        found: dict[Key, list[ModelCallStart]] = {}
        for command in self.commands:
            if isinstance(command, StartModelCall):
                found.setdefault((command.call.app or "", command.call.id or ""), []).append(command.call)
        return found

    def find(self, source: str, id_: str) -> Recorded | None:
        """The event with this identity, if it exists."""
        return self.events.get((source, id_))

    def evolve(self, event: Recorded) -> None:
        """Take in an event that was decided."""
        self.events[event.source, event.id] = event
        if self.book.accounts or self.book.collects:
            self.book.evolve(event)
        if self.watch is not None:
            self.watch.evolve(event)

    def follow(self, watch: Watch, command: Command, decision: Decision) -> None:
        """Add to a decision what is to be told because of it."""
        if decision.events:
            now_us: int = getattr(command, "received_at_us")  # noqa: B009 - every command has it
            told = watch.follow(self.book, decision.events, now_us)
            if told:
                decision.answer %= len(decision.events)
                decision.events = [*decision.events, *told]

    def counted(self, known: KnownCall) -> Counted:
        """What a call was counted as before a change; by budgets too, where there are any."""
        if self.watch is None:
            return known.counted()
        return known.counted(self.charges.get(known.row.position), self.watch.budgets.tag_keys)

    def load(self, db: apsw.Connection, keys: Iterable[Key]) -> None:
        """Bring in the events with these identities."""
        for event in journal.lookup(db, list(keys)):
            self.events[event.source, event.id] = event


Load = Callable[[apsw.Connection, WorkingSet, Sequence[Any]], None]
Decide = Callable[[WorkingSet, Any], Decision]


class Handler(Struct, frozen=True):
    """How one kind of command is decided."""

    load: Load
    decide: Decide
    alone: bool


_handlers: dict[type[Command], Handler] = {}


def handles(command: type[Command], load: Load, *, alone: bool = False) -> Callable[[Decide], Decide]:
    """Register a decide function for a kind of command; a second one raises at import.

    `alone`: what it touches is found by a query, which cannot see what the group before it decided, so it has a group
    for itself.
    """

    def register(decide: Decide) -> Decide:
        if command in _handlers:
            message = f"{command.__name__} is handled twice"
            raise ValueError(message)
        _handlers[command] = Handler(load, decide, alone)
        return decide

    return register


@cache
def handlers() -> dict[type[Command], Handler]:
    """Every handler of `ledger/commands`."""
    for module in pkgutil.iter_modules(ledger.commands.__path__):
        importlib.import_module(f"ledger.commands.{module.name}")
    return _handlers


def groups(commands: Sequence[Command]) -> list[Sequence[Command]]:
    """The commands in order, cut around those that must be alone."""
    if not any(handlers()[kind].alone for kind in set(map(type, commands))):
        return [commands]
    cut: list[list[Command]] = [[]]
    for command in commands:
        if handlers()[type(command)].alone:
            cut += [[command], []]
        else:
            cut[-1].append(command)
    return [group for group in cut if group]


def load_group(db: apsw.Connection, commands: Sequence[Command], working_set: WorkingSet) -> None:
    """Bring in what a group touches: one load a kind of command, whatever their number."""
    working_set.commands = commands
    for kind in dict.fromkeys(map(type, commands)):
        handlers()[kind].load(db, working_set, [command for command in commands if type(command) is kind])
    working_set.watch = watch_load.load(db, working_set, commands)


def preview(db: apsw.Connection, command: Command) -> Decision:
    """What a command would do now; nothing is written."""
    working_set = WorkingSet()
    load_group(db, [command], working_set)
    return handlers()[type(command)].decide(working_set, command)
