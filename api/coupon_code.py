"""Commands that name a coupon's code. One that there is not is counted by the ledger, and told here."""

from typing import Any

from litestar import Request

from api import catalogue
from ledger.code_guesses import WrongCode
from ledger.decision import Command
from schema.entry import Recorded
from schema.payment_errors import UnknownCode


async def execute(request: Request[Any, Any, Any], command: Command) -> tuple[Recorded, bool]:
    """The event that a command made, or found to be there already; raises what the ledger answered, or UnknownCode."""
    outcome = await catalogue.outcome_of(request, command)
    if isinstance(outcome.report, WrongCode):
        raise UnknownCode
    assert outcome.recorded is not None
    return outcome.recorded, outcome.duplicate
