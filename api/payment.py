"""The payment system that usage is reported to, as the service knows it."""

from typing import Protocol

from msgspec import Struct

from schema.usage_report import SendOutcome


class UsageBatch(Struct, frozen=True, kw_only=True):
    """What is sent: `value` units of ten to the minus `decimals` credits, for a customer, once under this id.

    The same each time it is sent, `created_at_us` too.
    """

    id: str
    customer: str
    app: str
    user_id: str | None
    value: str
    decimals: int
    amount: str
    calls: int
    tokens: int
    after: int
    until: int
    created_at_us: int


class Sent(Struct, frozen=True, kw_only=True):
    """What became of it. `error` has nothing secret in it."""

    outcome: SendOutcome
    error: str | None = None
    retry_after_s: int | None = None


class PaymentSystem(Protocol):
    """Takes batches. Must answer, or give up, within 30 seconds; what it raises counts as failed."""

    name: str
    resend_us: int | None  # for so long it knows an id again; None: for ever

    async def send(self, batch: UsageBatch) -> Sent:
        """Send a batch, or send it again."""
        ...

    async def total_e10(self, customer: str, app: str) -> int | None:
        """What it has of a customer, in 1e-10 credits; None where it cannot be asked. Raises PaymentFailed."""
        ...
