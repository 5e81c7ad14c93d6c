"""Smooth weighted round robin: which of several candidates is next, and what each has saved up since.

As nginx spreads requests over upstreams: every candidate gains its weight, the one with the most is taken and pays what
all have gained. A cycle of Σw/gcd picks takes each exactly w/gcd times, as evenly spread as its weight allows; what all
hold together stays what it was, so nobody's turn is lost when weights are edited or candidates come and go.
"""

from collections.abc import Sequence

from msgspec import Struct

PENALTY_DIVISOR = 10


class Candidate(Struct, frozen=True):
    """One that may be taken: its weight as it counts now, and what it has saved up."""

    id: str
    weight: int
    current: int
    priority: int = 0


class Pick(Struct, frozen=True):
    """Who is taken, and what each of its tier holds afterwards."""

    id: str
    currents: dict[str, int]


def pick(candidates: Sequence[Candidate]) -> Pick | None:
    """The next of the candidates, which come in the order in which ties are broken; None where there is none.

    Only those of the lowest priority number take part; the others keep what they hold. Weights are at least 1.
    """
    if not candidates:
        return None
    tier = min(candidate.priority for candidate in candidates)
    among = [candidate for candidate in candidates if candidate.priority == tier]
    currents = {candidate.id: candidate.current + candidate.weight for candidate in among}
    winner = max(currents, key=currents.__getitem__)  # the first of equals
    currents[winner] -= sum(candidate.weight for candidate in among)
    return Pick(winner, currents)


def penalised(weight: int) -> int:
    """What a weight counts while its holder is rate limited: a tenth, yet never nothing."""
    return max(1, weight // PENALTY_DIVISOR)
