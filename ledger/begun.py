"""What a call that ends began as."""

from collections.abc import Iterator
from typing import Any

from schema.model_call import FinishModelCall, ModelCallStart, ModelCallStarted, source_of


def begun(ws: Any, command: FinishModelCall) -> Iterator[ModelCallStart | ModelCallStarted]:  # noqa: ANN401 - a working set
    """The start that is in the file, or else those of the same group: one of them will have been it."""
    event = ws.find(source_of(command.app), command.id)
    if event is None:
        yield from ws.starting.get((command.app, command.id), ())
    elif isinstance(event.data, ModelCallStarted):
        yield event.data
