"""Faults that a verification found, bounded in number and each with its place."""

from collections import Counter

from msgspec import Struct

FAULTS_PER_TABLE_MAX = 20


class Fault(Struct, frozen=True, kw_only=True):
    """Something is not as it was written. `key` names a row by its table's key."""

    table: str
    position: int | None = None
    key: str | None = None
    problem: str

    def __str__(self) -> str:
        """`events, position 7: the entry does not hash to its leaf_hash`."""
        place = self.table
        if self.position is not None:
            place += f", position {self.position}"
        elif self.key is not None:
            place += f", {self.key}"
        return f"{place}: {self.problem}"


class Faults:
    """Collects the first faults of each table and counts the others."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self._seen: Counter[str] = Counter()

    def add(self, table: str, problem: str, *, position: int | None = None, key: str | None = None) -> None:
        """Note a fault."""
        self._seen[table] += 1
        if self._seen[table] <= FAULTS_PER_TABLE_MAX:
            self.found.append(Fault(table=table, position=position, key=key, problem=problem))

    def full(self, table: str) -> bool:
        """Whether further faults of a table would only be counted."""
        return self._seen[table] >= FAULTS_PER_TABLE_MAX

    def notes(self) -> list[str]:
        """What was left out."""
        return [f"{table}: more faults follow" for table in self._seen if self.full(table)]
