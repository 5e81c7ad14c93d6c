"""Checking the state of leases by invariants: what is neither event nor derived cannot be rebuilt and compared."""

from collections.abc import Iterator
from typing import Any

import apsw

from ledger.lease_state import LEASE_HEAD, LEASES, PROVIDER_ROTATIONS, ROTATIONS, USAGES
from ops.faults import Faults
from schema.credential import CREDENTIAL

FOUND_MAX = 1_000
_TABLES = (LEASE_HEAD, LEASES, ROTATIONS, USAGES, PROVIDER_ROTATIONS)

# What must never be: rows of a table, as key and detail.
_NO_CREDENTIAL = (
    "SELECT l.id, l.credential FROM leases l LEFT JOIN credentials c ON c.id = l.credential WHERE c.id IS NULL"
)
_BEHIND = (
    "SELECT h.sequence, h.last_us FROM lease_head h WHERE h.sequence < (SELECT max(sequence) FROM leases) "
    "OR h.last_us < (SELECT max(leased_at_us) FROM leases)"
)
_HOLES = (
    "SELECT h.sequence - h.pruned, count(l.sequence) FROM lease_head h LEFT JOIN leases l "
    "GROUP BY h.id HAVING count(l.sequence) <> h.sequence - h.pruned"
)
_UNEVEN = "SELECT provider, sum(current) FROM credential_rotation GROUP BY provider HAVING sum(current) <> 0"
_LOOKED_AT = (
    "SELECT r.credential, r.recheck_at_us FROM credential_rotation r JOIN credentials c ON c.id = r.credential "
    "WHERE r.recheck_at_us IS NOT NULL AND NOT c.deleted AND c.enabled"
)
# Of a period from which leases were forgotten, not all can be counted.
_USED = (
    "SELECT u.credential || ' ' || u.period, u.used FROM credential_usage u JOIN lease_head h LEFT JOIN leases l "
    "ON l.credential = u.credential AND l.{kind} = u.period AND l.sequence > u.reset AND l.outcome IS NOT 'not_sent' "
    "WHERE u.kind = '{kind}' AND u.starts_at_us > h.pruned_us "
    "GROUP BY u.credential, u.period HAVING count(l.sequence) <> u.used"
)
_UNUSED = "used is not the number of its leases that were sent, since the last reset"
_RULES: tuple[tuple[str, str, str], ...] = (
    (LEASES.name, "its credential was never made", _NO_CREDENTIAL),
    (LEASE_HEAD.name, "it is behind the last lease", _BEHIND),
    (LEASES.name, "between the first and the last lease that are kept, some are missing", _HOLES),
    (ROTATIONS.name, "what the credentials of a provider have saved up does not come to nothing", _UNEVEN),
    (ROTATIONS.name, "it is to be looked at, and no error disabled it", _LOOKED_AT),
    (USAGES.name, _UNUSED, _USED.format(kind="day")),
    (USAGES.name, _UNUSED, _USED.format(kind="month")),
)


def check_leases(db: apsw.Connection, faults: Faults, notes: list[str]) -> None:
    """Hold the rows against what must be true of them at every commit."""
    names = [table.name for table in _TABLES]
    if not all(db.table_exists("main", name) for name in (*names, CREDENTIAL.table)):
        notes.append("leases not checked: the file is of an earlier version")
        return
    for table, problem, query in _RULES:
        for key, detail in _rows(db, query):
            faults.add(table, problem, key=f"{key}: {detail}")


def _rows(db: apsw.Connection, query: str) -> Iterator[Any]:
    yield from db.execute(f"{query} LIMIT ?", (FOUND_MAX,))
