"""What the journal is told of a credential by its leases.

What changes the record is named by the event that it replaces, as all its changes are; anything else by a count that
the credential's state keeps.
"""

from msgspec import Struct
from msgspec.structs import replace

from ledger.lease_state import RotationRow
from schema.credential import NOUN, SOURCE
from schema.entry import NewEvent
from schema.times import format_time


class Told(Struct):
    """A credential's turn and health on their way to what they are to be, with the events that this makes."""

    rotation: RotationRow
    actor: str
    now_us: int
    events: list[NewEvent] = []

    def tell(self, verb: str, data: Struct, replaces: int | None = None) -> None:
        """Add an event `<credential>/<verb>/<n>`."""
        if replaces is None:
            self.set(events=self.rotation.events + 1)
        id_ = self.rotation.credential
        name = f"{id_}/{verb}/{self.rotation.events if replaces is None else replaces}"
        time = format_time(self.now_us)
        self.events.append(NewEvent(SOURCE, name, f"{NOUN}/{id_}", time, self.now_us, self.actor, data))

    def set(self, **fields: int | None) -> None:
        """Change the row."""
        self.rotation = replace(self.rotation, **fields)
