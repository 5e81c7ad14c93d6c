"""The state of webhooks: how far each was told, and what it did not take."""

from msgspec import Struct

from ledger.state import state_table


class DeliveryRow(Struct, frozen=True):
    """A webhook: told of all its events until `position`. Only the holder of `claim` moves it on, until its time ends.

    `attempts` are those at the next event, which is not told before `due_at_us`. `events` counts what the journal was
    told of it, and names the next such event.
    """

    webhook: str
    position: int
    claim: int = 0
    claimed_until_us: int = 0
    attempts: int = 0
    due_at_us: int = 0
    delivered: int = 0
    delivered_at_us: int | None = None
    failing: bool = False
    error: str | None = None
    events: int = 0


class DeadRow(Struct, frozen=True):
    """An event that a webhook did not take; `retrying`: it is to be told again."""

    webhook: str
    position: int
    attempts: int
    failed_at_us: int
    error: str
    retrying: bool = False


DELIVERIES = state_table("webhook_deliveries", DeliveryRow)
DEAD_LETTERS = state_table("webhook_dead_letters", DeadRow, key_width=2)
