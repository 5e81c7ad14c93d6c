"""Smooth weighted round robin: which of several candidates is next, and what each has saved up since.

As nginx spreads requests over upstreams: every candidate gains its weight, the one with the most is taken and pays what
all have gained. A cycle of Σw/gcd picks takes each exactly w/gcd times, as evenly spread as its weight allows; what all
hold together stays what it was, so nobody's turn is lost when weights are edited or candidates come and go.

What was saved up under greater weights would be owed for hundreds of picks under smaller ones. So before a pick nobody
owes more than a cycle, measured from the middle of those that take part; without edits nobody ever does.
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
    total = sum(candidate.weight for candidate in among)
    held = levelled([candidate.current for candidate in among], total)
    currents = {each.id: current + each.weight for each, current in zip(among, held, strict=True)}
    winner = max(currents, key=currents.__getitem__)  # the first of equals
    currents[winner] -= total
    return Pick(winner, currents)


def levelled(currents: Sequence[int], owed_max: int) -> list[int]:
    """What each holds where nobody is to be further below the middle than that; the sum stays the same.

    What is let off those who owe more is taken from those above the middle, in proportion.
    """
    middle = sum(currents) // len(currents)
    held = [current - middle for current in currents]
    let_off = sum(max(0, -owed_max - each) for each in held)
    if let_off == 0:
        return list(currents)
    above = sum(max(0, each) for each in held)
    seen, levelled = 0, list[int]()
    for each in held:
        taken_before = seen * let_off // above
        seen += max(0, each)
        levelled.append(middle + max(each, -owed_max) - (seen * let_off // above - taken_before))
    return levelled


def effective(weight: int, *, is_penalised: bool) -> int:
    """What a weight counts: ten times itself, so that one that is rate limited counts exactly a tenth of it."""
    return weight if is_penalised else weight * PENALTY_DIVISOR
