"""How models do, told by the latest calls."""

import apsw

from ledger import journal
from projections.engine import require
from projections.model_status import Latest, latest_calls, offered
from schema.model_status import ITEMS_MAX, ModelStatus, ModelStatuses, ModelStatusFilter, tells_of_model
from schema.times import format_time

REGISTERED_MAX = 10_000

Key = tuple[str, str, str | None]


def model_statuses(db: apsw.Connection, app: str | None, wanted: ModelStatusFilter) -> ModelStatuses:
    """The status of each provider, model and type, by the calls of an app or of all; raises Rebuilding.

    The latest finished call decides, corrected and without voided ones; failures that say nothing of the model are
    passed over. Registered models without a call are unknown.
    """
    require(db, journal.head_position(db), "model_calls", "names", "models")
    calls, since_us = latest_calls(db, app)
    found: dict[Key, ModelStatus] = {}
    for call in calls:
        key = (call.provider, call.model, call.type)
        before = found.get(key)
        if (before is None or before.status == "unknown") and _is_wanted(wanted, call.provider, call.model, call.type):
            found[key] = _status(call)
    seen = {(provider, model) for provider, model, _ in found}
    for provider, model in offered(db, REGISTERED_MAX):
        if (provider, model) not in seen and _is_wanted(wanted, provider, model, None):
            found[provider, model, None] = ModelStatus(provider=provider, model=model, type=None, status="unknown")
    items = [found[key] for key in sorted(found, key=lambda key: (key[0], key[1], key[2] or ""))]
    since = None if since_us is None else format_time(since_us)
    return ModelStatuses(items=items[:ITEMS_MAX], since=since, omitted=max(0, len(items) - ITEMS_MAX))


def _is_wanted(wanted: ModelStatusFilter, provider: str, model: str, type_: str | None) -> bool:
    asked = ((wanted.provider, provider), (wanted.model, model), (wanted.type, type_))
    return all(want is None or want == has for want, has in asked)


def _status(call: Latest) -> ModelStatus:
    status = ModelStatus(provider=call.provider, model=call.model, type=call.type, status="unknown")
    failed = call.status != "success"
    if failed and call.status == "failed" and not tells_of_model(call.error_code):
        return status
    status.status = "error" if failed else "available"
    status.latency_ms, status.ttfb_ms = call.duration_ms, call.ttfb_ms
    status.error = (call.error_code or call.status) if failed else None
    status.at = format_time(call.started_at_us)
    return status
