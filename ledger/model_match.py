"""Which names a model answers to, as a price list tells it.

Clauses are equals, starts_with, ends_with, contains, regex, and `or`, `and` of these. Letters' case does not count.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any, cast

from schema.errors import FieldError, InvalidInput

DEPTH_MAX = 8
CLAUSES_MAX = 200
TEXT_CHARS_MAX = 200
REPEATS_MAX = 2

Clause = dict[str, Any]

_REPEATS = re.compile(r"(?<!\\)(?:[*+]|\{[0-9]*,)")  # `{4}` has one way to match
_REPEATED_GROUP = re.compile(r"\)[*+{]|\\[0-9]")
_COMPACT_DATE = re.compile(r"-(20\d\d)(\d\d)(\d\d)(?=[-:]|\Z)", re.ASCII)


@lru_cache(maxsize=4_096)
def _compiled(pattern: str) -> "re.Pattern[str]":
    return re.compile(pattern, re.IGNORECASE)


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "equals": lambda name, wanted: name == wanted.lower(),
    "starts_with": lambda name, wanted: name.startswith(wanted.lower()),
    "ends_with": lambda name, wanted: name.endswith(wanted.lower()),
    "contains": lambda name, wanted: wanted.lower() in name,
    "regex": lambda name, wanted: _compiled(wanted).search(name) is not None,
}


def matches(clause: Clause, name: str) -> bool:
    """Whether a model with this clause is meant by a name, which must be in lower case."""
    ((kind, wanted),) = clause.items()
    if kind == "or":
        return any(matches(part, name) for part in wanted)
    if kind == "and":
        return all(matches(part, name) for part in wanted)
    return _TESTS[kind](name, wanted)


def dashed(name: str) -> str:
    """`gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: lists know the second form, some gateways send the first."""
    return _COMPACT_DATE.sub(_with_dashes, name)


def _with_dashes(found: "re.Match[str]") -> str:
    year, month, day = found.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return found[0]
    return f"-{year}-{month}-{day}"


def check(clause: object, path: str = "$.match") -> None:
    """Raise InvalidInput, naming the place, unless this is a clause that `matches` understands."""
    if _size(clause, path, DEPTH_MAX) > CLAUSES_MAX:
        raise InvalidInput(errors=(FieldError(path, f"Expected at most {CLAUSES_MAX} clauses"),))


def _size(clause: object, path: str, depth: int) -> int:
    message = None
    if not isinstance(clause, dict) or len(cast("Clause", clause)) != 1:
        message = "Expected an object with one of equals, starts_with, ends_with, contains, regex, or, and"
    elif depth == 0:
        message = f"Expected at most {DEPTH_MAX} levels"
    else:
        ((kind, wanted),) = cast("Clause", clause).items()
        if kind in {"or", "and"} and isinstance(wanted, list):
            parts = cast("list[object]", wanted)
            return 1 + sum(_size(part, f"{path}.{kind}[{n}]", depth - 1) for n, part in enumerate(parts))
        if kind in _TESTS and isinstance(wanted, str):
            message = _text_problem(kind, wanted)
        else:
            message = f"{kind!r} is not a clause, or not with this value"[:TEXT_CHARS_MAX]
    if message is not None:
        raise InvalidInput(errors=(FieldError(path, message),))
    return 1


def _text_problem(kind: str, wanted: str) -> str | None:
    if not 1 <= len(wanted) <= TEXT_CHARS_MAX:
        return f"Expected 1 to {TEXT_CHARS_MAX} characters"
    if kind == "regex":
        # Names come from callers: an expression that can take exponential time would stall every writer.
        if _REPEATED_GROUP.search(wanted) or len(_REPEATS.findall(wanted)) > REPEATS_MAX:
            return f"Expected no repeated group, and at most {REPEATS_MAX} repetitions"
        try:
            _compiled(wanted)
        except (re.error, OverflowError, RecursionError) as error:
            return f"Expected a regular expression: {error}"
    return None
