"""What an outcome means for a credential and its provider, as a table; and when a failed credential is looked at again.

Only what a vendor's answer says about the credential counts against it: a refusal of content says nothing, and what
was never sent gives its reservation back.
"""

from msgspec import Struct

from schema.lease import Outcome
from schema.times import DAY_US, SECOND_US

ERRORS_MAX = 5  # errors in a row, at which a credential is disabled
PENALTY_US = 180 * SECOND_US
PENALTY_US_MAX = DAY_US
COOL_DOWN_US = 90 * SECOND_US
LONG_COOL_DOWN_US = 180 * SECOND_US
LONG_COOL_DOWN_FAILURES = 3  # failures in a row, from which on a provider cools down longer
UNREADABLE_US = 60 * SECOND_US  # then a secret that could not be opened is tried again: the key may be back
RECHECK_FIRST_S = 5
RECHECK_S_MAX = 10_800
RECHECK_PAYMENT = 12  # where looks begin after `payment`: at more than an hour, for a list of models costs nothing
_DOUBLINGS_MAX = RECHECK_S_MAX.bit_length()


class Effect(Struct, frozen=True, kw_only=True):
    """What an outcome does, to the credential and, for leases by model, to its provider.

    `clears`: the credential's errors and the provider's failures are over. `disables`: the credential goes out of use
    at once; `counts`: it does after ERRORS_MAX in a row. `penalises`: it gets less of the traffic. `returns`: its
    quotas get the lease back. `cools`: the provider is passed over for a while.
    """

    clears: bool = False
    disables: bool = False
    counts: bool = False
    penalises: bool = False
    returns: bool = False
    cools: bool = False


EFFECTS: dict[Outcome, Effect] = {
    "success": Effect(clears=True),
    "auth": Effect(disables=True),
    "payment": Effect(disables=True),
    "content": Effect(),
    "rate_limited": Effect(penalises=True, cools=True),
    "server": Effect(counts=True, cools=True),
    "timeout": Effect(counts=True, cools=True),
    "not_sent": Effect(returns=True),
}


def recheck_delay_us(failures: int) -> int:
    """How long to wait before a disabled credential is looked at again: 5 + 2ⁿ seconds after n looks, at most 3 h."""
    doublings = min(failures, _DOUBLINGS_MAX)
    return min(RECHECK_FIRST_S + (1 << doublings), RECHECK_S_MAX) * SECOND_US


def first_look(outcome: Outcome, before: int) -> int:
    """Where a series of looks begins, `before` being where the last one ended."""
    return max(before, RECHECK_PAYMENT if outcome == "payment" else 0)


def penalty_us(retry_after_s: int | None) -> int:
    """How long a rate-limited credential has a tenth of its weight: as the vendor says, at most a day, else 3 min."""
    return min(retry_after_s * SECOND_US, PENALTY_US_MAX) if retry_after_s is not None else PENALTY_US


def goes_on(until_us: int, now_us: int, longest_us: int) -> bool:
    """Whether a wait is not over. One that ends later than any can was begun by a clock that ran ahead, and is."""
    return now_us < until_us <= now_us + longest_us


def cool_down_us(failures: int) -> int:
    """How long a provider is passed over after so many failures in a row."""
    return LONG_COOL_DOWN_US if failures >= LONG_COOL_DOWN_FAILURES else COOL_DOWN_US
