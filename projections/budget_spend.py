"""What is spent and held of budgets, and which thresholds were crossed. Built from events alone; commands read it.

Sums that have no bound of their own are kept as two numbers, whole credits and the rest.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import apsw
import msgspec

from projections.account_part import HIGH, HoldKey
from projections.budget_book import COUNTING, ENDING, KINDS, BudgetBook, BudgetState, HeldFor
from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.budget import BudgetChanged, BudgetCreated, BudgetCrossed, BudgetRetired
from schema.entry import Recorded
from schema.hold import HoldPlaced
from schema.times import parse_time

_RULE_COLUMNS = """
    id              TEXT PRIMARY KEY,
    scope           TEXT NOT NULL,
    tag_key         TEXT,
    period          TEXT NOT NULL,
    timezone        TEXT NOT NULL,
    window_us       INTEGER NOT NULL,
    amount_e10      INTEGER NOT NULL,
    hard            INTEGER NOT NULL,
    thresholds      TEXT NOT NULL,
    counts_from_us  INTEGER NOT NULL,
    held_high       INTEGER NOT NULL,   -- credits
    held_e10        INTEGER NOT NULL    -- and the rest
"""
_SUM_COLUMNS = """
    budget          TEXT NOT NULL,
    start_us        INTEGER NOT NULL,   -- of the day, month or hour
    spent_high      INTEGER NOT NULL,
    spent_e10       INTEGER NOT NULL,
    PRIMARY KEY (budget, start_us)
"""
_CROSSING_COLUMNS = """
    budget          TEXT NOT NULL,
    end_us          INTEGER NOT NULL,   -- of the period
    threshold       INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    PRIMARY KEY (budget, end_us, threshold)
"""
_HOLD_COLUMNS = """
    app             TEXT NOT NULL,      -- empty: nobody's
    id              TEXT NOT NULL,
    budgets         TEXT NOT NULL,
    amount_e10      INTEGER NOT NULL,
    expires_at_us   INTEGER NOT NULL,
    PRIMARY KEY (app, id)
"""
_texts = msgspec.json.Decoder(tuple[str, ...])
_numbers = msgspec.json.Decoder(tuple[int, ...])

Span = tuple[str, int, int]  # a budget, and from and to which instant, both included


def exist(db: apsw.Connection, suffix: str = "") -> bool:
    """Whether there is anything to keep: without a budget, calls cost what they always did."""
    tables = (f"budget_rules{suffix}", f"budget_holds{suffix}")
    return bool(db.execute(f"SELECT {' OR '.join(f'EXISTS (SELECT 1 FROM {table})' for table in tables)}").get)


def counts(db: apsw.Connection) -> tuple[int, int]:
    """How many budgets are in force, and how many crossings there were."""
    query = "SELECT (SELECT count(*) FROM budget_rules), (SELECT count(*) FROM budget_crossings)"
    ((budgets, crossings),) = cast("list[tuple[int, int]]", db.execute(query).fetchall())
    return budgets, crossings


def tag_keys(db: apsw.Connection, suffix: str = "") -> dict[str, None]:
    """The keys of metadata that budgets in force ask for."""
    rows = db.execute(f"SELECT DISTINCT tag_key FROM budget_rules{suffix} WHERE tag_key IS NOT NULL ORDER BY tag_key")
    return {key: None for (key,) in rows}


def load_scopes(db: apsw.Connection, book: BudgetBook, keys: Iterable[str], suffix: str = "") -> None:
    """Bring in the budgets in force of these scopes, without their sums."""
    _take(db, book, f"SELECT b.* FROM json_each(?) k CROSS JOIN budget_rules{suffix} b ON b.scope = k.value", keys)


def load_ids(db: apsw.Connection, book: BudgetBook, ids: Iterable[str], suffix: str = "") -> None:
    """Bring in the budgets in force among these, without their sums."""
    _take(db, book, f"SELECT b.* FROM json_each(?) k CROSS JOIN budget_rules{suffix} b ON b.id = k.value", ids)


def _take(db: apsw.Connection, book: BudgetBook, query: str, values: Iterable[str]) -> None:
    wanted = list(values)
    if wanted:
        for row in db.execute(query, (msgspec.json.encode(wanted).decode(),)):
            book.add(_state(row))


def _state(row: Any) -> BudgetState:  # noqa: ANN401 - a row
    id_, scope, tag, period, timezone, window_us, amount, hard, thresholds, counts_from_us, held_high, held = row
    return BudgetState(
        id_, scope, tag, period, timezone, window_us, amount, bool(hard), _numbers.decode(thresholds), counts_from_us,
        held_high * HIGH + held,
    )  # fmt: skip


def load_sums(db: apsw.Connection, book: BudgetBook, spans: Sequence[Span]) -> None:
    """Bring in what is spent of budgets in their spans, and what was crossed in periods that end in or after them."""
    bound = (msgspec.json.encode(spans).decode(),)
    within = "s.budget = k.value ->> 0 AND s.start_us BETWEEN k.value ->> 1 AND k.value ->> 2"
    query = f"SELECT s.* FROM json_each(?) k CROSS JOIN budget_sums s ON {within}"
    for budget, start_us, high, rest in db.execute(query, bound) if spans else ():
        book.states[budget].spent[start_us] = high * HIGH + rest
    after = "c.budget = k.value ->> 0 AND c.end_us > k.value ->> 1"
    query = f"SELECT c.* FROM json_each(?) k CROSS JOIN budget_crossings c ON {after}"
    for budget, end_us, threshold, position in db.execute(query, bound) if spans else ():
        book.states[budget].crossed[end_us, threshold] = position


def load_holds(db: apsw.Connection, book: BudgetBook, keys: Iterable[HoldKey], suffix: str = "") -> None:
    """Bring in open holds by app and id."""
    wanted = list(keys)
    on = "h.app = k.value ->> 0 AND h.id = k.value ->> 1"
    query = f"SELECT h.* FROM json_each(?) k CROSS JOIN budget_holds{suffix} h ON {on}"
    for row in db.execute(query, (msgspec.json.encode(wanted).decode(),)) if wanted else ():
        book.holds[row[0], row[1]] = _hold(row)


def load_lapsed(db: apsw.Connection, book: BudgetBook, now_us: int) -> None:
    """Note, with the book's budgets, which holds count against them no more although no event says so yet."""
    query = "SELECT * FROM budget_holds WHERE expires_at_us <= ?"
    for row in db.execute(query, (now_us,)):
        hold = _hold(row)
        for state in (book.states[id_] for id_ in hold.budgets if id_ in book.states):
            state.lapsing[row[0], row[1]] = hold.expires_at_us, hold.amount_e10


def _hold(row: Any) -> HeldFor:  # noqa: ANN401 - a row
    return HeldFor(_texts.decode(row[2]), row[3], row[4])


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    if not exist(target.db, target.suffix) and not any(isinstance(event.data, BudgetCreated) for event in events):
        return
    book = _loaded(target, events)
    held = set(book.holds)
    crossings: list[Row] = []
    for event in events:
        if isinstance(event.data, KINDS):
            book.evolve(event.data, event.position)
            if isinstance(event.data, BudgetCrossed):
                data = event.data
                crossings.append((data.id, parse_time(data.period_end), data.threshold, event.position))
    db = target.db
    _write_sums(target, book)
    insert(db, f"INSERT INTO {target.table('budget_crossings')}", crossings)
    rules = [_rules_row(book.states[id_]) for id_ in book.changed if id_ in book.states]
    insert(db, f"REPLACE INTO {target.table('budget_rules')}", rules)
    for id_ in book.gone:
        db.execute(f"DELETE FROM {target.table('budget_rules')} WHERE id = ?", (id_,))
    for key in sorted(held - set(book.holds)):
        db.execute(f"DELETE FROM {target.table('budget_holds')} WHERE app = ? AND id = ?", key)
    rows = [_hold_row(key, hold) for key, hold in book.holds.items() if key not in held]
    insert(db, f"INSERT INTO {target.table('budget_holds')}", rows)


def _loaded(target: Target, events: Sequence[Recorded]) -> BudgetBook:
    """A book with the budgets and holds that the events touch, and none of the sums: they are added to."""
    db, suffix, book = target.db, target.suffix, BudgetBook()
    created = (event.data.scope.key for event in events if isinstance(event.data, BudgetCreated))
    book.tag_keys = {**tag_keys(db, suffix), **{key: None for key in created if key is not None}}
    scopes: dict[str, None] = {}
    ids: dict[str, None] = {}
    holds: dict[HoldKey, None] = {}
    for event in events:
        data = event.data
        if isinstance(data, COUNTING):
            for move in book.moves(data):
                scopes.update(dict.fromkeys(move.keys))
                ids.update(dict.fromkeys(move.budgets))
        if isinstance(data, ENDING):
            holds[data.app or "", data.id] = None
        elif isinstance(data, HoldPlaced):
            ids.update(dict.fromkeys(data.budgets or ()))
        elif isinstance(data, BudgetChanged | BudgetRetired):
            ids[data.id] = None
    load_holds(db, book, holds, suffix)
    ids.update((id_, None) for hold in book.holds.values() for id_ in hold.budgets)
    load_scopes(db, book, scopes, suffix)
    load_ids(db, book, ids, suffix)
    return book


def _write_sums(target: Target, book: BudgetBook) -> None:
    table = target.table("budget_sums")
    on = "s.budget = k.value ->> 0 AND s.start_us = k.value ->> 1"
    query = f"SELECT s.* FROM json_each(?) k CROSS JOIN {table} s ON {on}"
    rows = target.db.execute(query, (msgspec.json.encode(list(book.touched)).decode(),)) if book.touched else ()
    known = {(budget, start_us): high * HIGH + rest for budget, start_us, high, rest in rows}
    states = {**book.gone, **book.states}
    sums = {key: known.get(key, 0) + states[key[0]].spent[key[1]] for key in book.touched}
    insert(target.db, f"REPLACE INTO {table}", [(*key, total // HIGH, total % HIGH) for key, total in sums.items()])


def _rules_row(state: BudgetState) -> Row:
    return (
        state.id, state.key, state.tag_key, state.period, state.timezone, state.window_us, state.amount_e10,
        int(state.hard), msgspec.json.encode(state.thresholds).decode(), state.counts_from_us, state.held_e10 // HIGH,
        state.held_e10 % HIGH,
    )  # fmt: skip


def _hold_row(key: HoldKey, hold: HeldFor) -> Row:
    return (*key, msgspec.json.encode(hold.budgets).decode(), hold.amount_e10, hold.expires_at_us)


PROJECTION = Projection(
    name="budget_sums",
    version=2,
    tables=(
        Table(
            "budget_rules", _RULE_COLUMNS, key="id",
            indexes=(
                ("budget_rules_by_scope", "(scope)"),
                ("budget_rules_by_tag", "(tag_key) WHERE tag_key IS NOT NULL"),
            ),
        ),
        Table("budget_sums", _SUM_COLUMNS, key="budget, start_us", options="STRICT, WITHOUT ROWID"),
        Table("budget_crossings", _CROSSING_COLUMNS, key="budget, end_us, threshold", options="STRICT, WITHOUT ROWID"),
        Table(
            "budget_holds", _HOLD_COLUMNS, key="app, id", options="STRICT, WITHOUT ROWID",
            indexes=(("budget_holds_by_end", "(expires_at_us)"),),
        ),
    ),
    apply=_apply,
    blocking=True,
    of=KINDS,
)  # fmt: skip
