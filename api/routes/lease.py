"""Leases: a credential lent for a call, and how the call went. The one answer that holds a credential's secret."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import lending, query
from api.auth import ADMINS, POSTERS, REPLAYERS, TRAIL_READERS, own_app, principal_of
from api.catalogue import actor_of, read_body
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import lease_reads
from schema.errors import FieldError, InvalidInput
from schema.lease import (
    CredentialResetRequest,
    LeaseAnswer,
    LeaseCredential,
    LeaseFilter,
    LeaseReport,
    LeaseRequest,
    LeaseView,
    ReportLease,
    ResetCredential,
)
from schema.paging import Page, bounded_limit

AnyRequest = Request[Any, Any, Any]

_leases = msgspec.json.Decoder(LeaseRequest)
_reports = msgspec.json.Decoder(LeaseReport)
_resets = msgspec.json.Decoder(CredentialResetRequest)
# A secret must not stay in a cache on its way.
PRIVATE = {"Cache-Control": "no-store"}


class LeaseListParams(LeaseFilter, kw_only=True, forbid_unknown_fields=True):
    """Leases, newest first."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/credentials/lease",
    **documented(POSTERS, "Lease a credential", body=LeaseRequest, responses={200: LeaseAnswer, 201: LeaseAnswer}),
)
async def lease_credential(request: AnyRequest) -> ASGIApp:
    """The next in turn of a provider, or of the providers that offer a model. The same id again gets the same lease."""
    wanted = await read_body(request, _leases)
    if (wanted.provider is None) == (wanted.model is None):
        raise InvalidInput(errors=(FieldError("$.provider", "Expected either a provider or a model"),))
    services = services_of(request.app)
    now_us = services.clock()
    id_ = wanted.id or lending.new_id(services, now_us)
    app = own_app(principal_of(request), None)
    answer = await lending.lend(services, LeaseCredential(actor_of(request), now_us, app, id_, wanted))
    return json(answer, 200 if answer.duplicate else 201, PRIVATE)


@post(
    "/v1/leases/{lease_id:str}/report",
    status_code=200,
    **documented(POSTERS, "Report how a lease ended", body=LeaseReport, responses={200: LeaseView}),
)
async def report_lease(request: AnyRequest, lease_id: FromPath[str]) -> ASGIApp:
    """Once: the same again gets the same answer. What was not sent is given back to the quotas."""
    said = await read_body(request, _reports)
    services, app = services_of(request.app), own_app(principal_of(request), None)
    ended = await lending.end(services, ReportLease(actor_of(request), services.clock(), app, lease_id, said))
    return json(lease_reads.view(ended.lease))


@get(
    "/v1/leases",
    **documented(REPLAYERS, "List leases, newest first", query=LeaseListParams, responses={200: Page[LeaseView]}),
)
async def list_leases(request: AnyRequest) -> ASGIApp:
    """Those that are kept. Under filters a page may be short and still have a next_cursor."""
    params = query.parse(request, LeaseListParams)
    readers = services_of(request.app).ledger.readers
    return json(await readers.run(lease_reads.leases, params, params.cursor, bounded_limit(params.limit)))


@get(
    "/v1/leases/{lease_id:str}",
    **documented(TRAIL_READERS, "Read one lease", query=query.NoParams, responses={200: LeaseView}),
)
async def get_lease(request: AnyRequest, lease_id: FromPath[str]) -> ASGIApp:
    """Without the secret; an app sees its own."""
    query.parse(request, query.NoParams)
    app = own_app(principal_of(request), None)
    return json(await services_of(request.app).ledger.readers.run(lease_reads.lease, app, lease_id))


@post(
    "/v1/credentials/{credential_id:str}/reset",
    status_code=200,
    **documented(
        ADMINS, "Reset a credential's counters", body=CredentialResetRequest, responses={200: CredentialResetRequest}
    ),
)
async def reset_credential(request: AnyRequest, credential_id: FromPath[str]) -> ASGIApp:
    """What its day, its month or its errors have counted; `reactivate` enables it as well."""
    wanted = await read_body(request, _resets)
    services = services_of(request.app)
    await lending.run(services, ResetCredential(actor_of(request), services.clock(), credential_id, wanted))
    return json(wanted)


ROUTES = (lease_credential, report_lease, list_leases, get_lease, reset_credential)
