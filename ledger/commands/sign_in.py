"""Sign-in links: each is used once, for the life of the ledger, because its event's id is taken then."""

from collections.abc import Sequence

import apsw

from ledger.decision import Decision, WorkingSet, handles
from schema.entry import NewEvent
from schema.errors import LinkSpent
from schema.ids import ledger_source
from schema.sign_in import NOUN, UseSignInLink
from schema.times import format_time

SOURCE = ledger_source(NOUN)


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[UseSignInLink]) -> None:
    ws.load(db, [(SOURCE, command.link.id) for command in commands])


@handles(UseSignInLink, _load)
def use(ws: WorkingSet, command: UseSignInLink) -> Decision:
    """The first one wins; there is no repeat that gets the first answer, because that answer is a session."""
    link, now_us = command.link, command.received_at_us
    if ws.find(SOURCE, link.id) is not None:
        raise LinkSpent
    return Decision([NewEvent(SOURCE, link.id, f"{NOUN}/{link.id}", format_time(now_us), now_us, command.actor, link)])
