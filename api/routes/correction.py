"""Corrections of finished calls."""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api.auth import POSTERS, own_app, principal_of
from api.openapi import documented
from api.respond import JSON, json
from api.services import services_of
from schema.correction import CallCorrection, CorrectModelCall, ModelCallVoided, PostedCorrection
from schema.errors import FieldError, InvalidInput
from schema.model_call import CostStatus
from schema.model_call_view import rating_of
from schema.times import format_time

_posted = msgspec.json.Decoder(PostedCorrection)


class CorrectionReceipt(Struct, kw_only=True):
    """What the ledger promises about a correction: its place, and what the call costs by it."""

    id: str
    call_id: str
    position: int
    recorded_at: str
    duplicate: bool
    voided: bool
    cost: str | None
    cost_status: CostStatus
    cost_reason: str | None


@post(
    "/v1/model-calls/{call_id:str}/corrections",
    **documented(
        POSTERS, "Correct or void a call", body=PostedCorrection,
        responses={200: CorrectionReceipt, 201: CorrectionReceipt},
    ),
)  # fmt: skip
async def correct_model_call(request: Request[Any, Any, Any], call_id: FromPath[str]) -> ASGIApp:
    """`set` names what should have been posted, `void` takes the call out of every sum. Nothing is edited."""
    services, principal = services_of(request.app), principal_of(request)
    bodies.content_type(request, JSON)
    data = await bodies.read(request, services.settings.body_bytes_max)
    posted = bodies.decode(data, _posted)
    app = own_app(principal, posted.app)
    if app is None:
        raise InvalidInput(errors=(FieldError("$.app", "Expected an app: an admin names the one that called"),))
    if posted.void == (posted.set is not None):
        raise InvalidInput(errors=(FieldError("$.set", "Expected either `set` or `void`: true"),))
    if posted.set == CallCorrection():
        raise InvalidInput(errors=(FieldError("$.set", "Expected at least one field; to price anew, use a re-rate"),))
    command = CorrectModelCall(
        actor=principal.actor, received_at_us=services.clock(), id=call_id, app=app, correction=posted,
        policy=services.settings.rating_policy,
    )  # fmt: skip
    outcome = await services.ledger.execute_one(command, len(data))
    recorded = outcome.recorded
    assert recorded is not None
    rating = rating_of(recorded.data)
    voided = isinstance(recorded.data, ModelCallVoided)
    receipt = CorrectionReceipt(
        id=posted.id, call_id=call_id, position=recorded.position, recorded_at=format_time(recorded.recorded_at_us),
        duplicate=outcome.duplicate, voided=voided, cost="0" if voided else rating.cost,
        cost_status="free" if voided else rating.status, cost_reason="voided" if voided else rating.reason,
    )  # fmt: skip
    return json(receipt, 200 if outcome.duplicate else 201)


ROUTES = (correct_model_call,)
