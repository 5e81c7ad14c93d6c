"""Errors on the wire: application/problem+json (RFC 9457), from one table of class and status."""

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import Struct

from api.metrics import count_response
from schema import errors, payment_errors
from schema.budget import BudgetExceeded
from schema.call_export import MissingExtra
from schema.errors import FieldError, LedgerError
from schema.usage_report import NoPaymentSystem, PaymentFailed, ReportSettled

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"

# The nearest class in an error's ancestry decides.
STATUSES: dict[type[LedgerError], int] = {
    LedgerError: 500,
    errors.InvalidInput: 400,
    errors.Unauthenticated: 401,
    errors.InsufficientCredit: 402,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.IdConflict: 409,
    errors.AlreadyFinished: 409,
    errors.NotFinished: 409,
    errors.CallVoided: 409,
    errors.RerateUnfinished: 409,
    errors.AlreadyReported: 409,
    errors.HoldClosed: 409,
    errors.LeaseEnded: 409,
    payment_errors.PaymentMismatch: 409,
    payment_errors.OrderClosed: 409,
    payment_errors.RefundExceedsPaid: 409,
    payment_errors.NotForSale: 409,
    payment_errors.CouponUnusable: 409,
    errors.NameTaken: 409,
    errors.InUse: 409,
    ReportSettled: 409,
    NoPaymentSystem: 409,
    errors.LinkSpent: 410,
    errors.LastActiveCredential: 409,
    errors.LimitReached: 409,
    errors.SecretUnreadable: 500,
    errors.PreconditionFailed: 412,
    errors.EntryTooLarge: 413,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.QueryTooExpensive: 422,
    errors.PreconditionRequired: 428,
    errors.TooManyRequests: 429,
    MissingExtra: 501,
    errors.VendorFailed: 502,
    PaymentFailed: 502,
    errors.NoCredential: 503,
    errors.Overloaded: 503,
    errors.StorageUnavailable: 503,
    errors.OutcomeUnknown: 503,
    errors.Rebuilding: 503,
    errors.Stopping: 503,
    errors.LedgerBusy: 503,
}
RETRY_AFTER_S = 1


class Problem(Struct, kw_only=True, omit_defaults=True):
    """A problem document. `code` is stable; `retryable` tells whether the same request may succeed later."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    hint: str = ""
    errors: tuple[FieldError, ...] = ()
    missing: str | None = None  # credits, of a 402
    budget: str | None = None  # that has no room, of a 402


def status_of(error: LedgerError) -> int:
    """The HTTP status of an error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem(error: LedgerError) -> Problem:
    """An error as a problem document."""
    kind = type(error)
    return Problem(
        type=f"urn:usage-ledger:problem:{kind.code}",
        title=(kind.__doc__ or "").partition(".")[0],
        status=status_of(error),
        detail=error.detail,
        code=kind.code,
        retryable=kind.retryable,
        hint=kind.hint,
        errors=error.errors,
        missing=error.missing if isinstance(error, errors.InsufficientCredit) else None,
        budget=error.budget if isinstance(error, BudgetExceeded) else None,
    )


def respond(error: LedgerError, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    """The response of an error; retryable ones say after how many seconds."""
    document = problem(error)
    extra = dict(headers or {})
    if error.retryable:
        extra["Retry-After"] = str(error.retry_after_s or RETRY_AFTER_S)
    if isinstance(error, errors.Unauthenticated):
        extra["WWW-Authenticate"] = "Bearer"
    body = msgspec.json.encode(document)
    return Response(body, status_code=document.status, media_type=PROBLEM_JSON, headers=extra)


def on_ledger_error(request: Request[Any, Any, Any], error: LedgerError) -> Response[bytes]:
    """A rule said no."""
    return _counted(request, respond(error))


def _counted(request: Request[Any, Any, Any], response: Response[bytes]) -> Response[bytes]:
    count_response(request.scope, response.status_code or STATUSES[LedgerError])
    return response


_FRAMEWORK: dict[int, type[LedgerError]] = {
    400: errors.InvalidInput,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
}


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The framework said no."""
    kind = _FRAMEWORK.get(error.status_code)
    if kind is None:
        return on_exception(request, error)
    detail = f"{request.method} {request.scope['path']}: {(kind.__doc__ or '').strip()}"
    return _counted(request, respond(kind(detail), error.headers))


def on_exception(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A fault of ours: logged with its cause, answered without it."""
    log.error("request_failed", method=request.method, path=request.scope["path"], exc_info=error)
    return _counted(request, respond(LedgerError()))
