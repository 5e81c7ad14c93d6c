"""Master keys change: the new one is adopted, then data keys are wrapped anew, a bounded number a transaction."""

from collections.abc import Sequence

import apsw

from ledger import data_keys, sealing
from ledger.decision import Decision, WorkingSet, handles
from ledger.state import Write
from schema.data_key import AdoptMasterKey, RewrapDataKeys, Rewrapped
from schema.errors import SecretUnreadable
from schema.sealed import WrappedKey


def _load_adopted(db: apsw.Connection, ws: WorkingSet, _commands: Sequence[AdoptMasterKey]) -> None:
    ws.known = list(data_keys.by_master_key(db).items())


@handles(AdoptMasterKey, _load_adopted, alone=True)
def adopt(ws: WorkingSet, command: AdoptMasterKey) -> Decision:
    """New data keys are wrapped with another master key. Every process that makes one reads here which."""
    if not ws.keyring.knows(command.id):
        raise SecretUnreadable(f"master key {command.id} is not at hand")
    lost = [f"{count} under master key {id_}" for id_, count in ws.known if not ws.keyring.knows(id_)]
    if lost and not command.abandon:
        raise SecretUnreadable(f"secrets are sealed with keys that are not at hand: {', '.join(lost)}")
    return Decision([], writes=[data_keys.adopt(command.id)])


def _load_rewrapped(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RewrapDataKeys]) -> None:
    [command] = commands  # it is alone
    sealing.load(db, ws, [])
    ws.known = data_keys.page(db, command.after, len(command.nonces))


@handles(RewrapDataKeys, _load_rewrapped, alone=True)
def rewrap(ws: WorkingSet, command: RewrapDataKeys) -> Decision:
    """The next data keys are wrapped with the current master key; those that are already are left alone."""
    writes: list[Write] = []
    unreadable: list[str] = []
    rows: list[WrappedKey] = ws.known
    for row, nonce in zip(rows, command.nonces, strict=False):
        if ws.master_key_id is None or row.master_key_id == ws.master_key_id:
            continue
        try:
            writes.append(data_keys.replace(ws.keyring.rewrap(row, ws.master_key_id, nonce)))
        except SecretUnreadable:
            unreadable.append(row.subject)
    last = rows[-1].id if len(rows) == len(command.nonces) else None
    report = Rewrapped(rewrapped=len(writes), unreadable=tuple(unreadable), last=last)
    return Decision([], report=report, writes=writes)
