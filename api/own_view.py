"""What a caller may see of an answer: what the vendor asks is the operator's business, not an app's."""

from typing import Any, TypeVar, cast

from msgspec import Struct

from schema.key import Principal

OPERATORS_FIELDS = frozenset({"vendor_cost", "margin"})
T = TypeVar("T")


def own_view(principal: Principal, answer: T) -> T:
    """An answer made for one request, as its caller may see it: for role app `vendor_cost` and `margin` are null."""
    if principal.role == "app":
        _hide(answer)
    return answer


def _hide(part: object) -> None:
    if isinstance(part, list):
        for each in cast("list[Any]", part):
            _hide(each)
    elif isinstance(part, Struct):
        for name in part.__struct_fields__:
            if name in OPERATORS_FIELDS:
                setattr(part, name, None)
            else:
                _hide(getattr(part, name))
