"""Credentials: the secrets of providers, sealed when they come in and only ever shown masked."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api import catalogue, query, secret_body
from api.auth import ADMINS, OPERATORS
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.respond import Answer, json
from api.services import services_of
from ledger import catalogue_reads, credential_reads, lease_reads
from ledger.decision import Command
from projections import credential as rows
from projections.bucket import zone
from schema.catalogue import HistoryItem, Stand
from schema.credential import (
    CREDENTIAL,
    ChangeCredential,
    CreateCredential,
    Credential,
    CredentialChange,
    CredentialFilter,
    CredentialPost,
    CredentialReceipt,
    CredentialView,
    DeleteCredential,
    EraseCredential,
    check_credential,
)
from schema.ids import ClientId, Name
from schema.lease import CredentialDetails
from schema.paging import Page, bounded_limit
from schema.provider import PROVIDER
from schema.sealed import Drawn
from schema.times import format_time

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(CredentialPost)
_patches = msgspec.json.Decoder(CredentialChange)


class ProviderCredentialListParams(CredentialFilter, kw_only=True, forbid_unknown_fields=True):
    """A provider's credentials by priority and id."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


class CredentialListParams(ProviderCredentialListParams, kw_only=True, forbid_unknown_fields=True):
    """Credentials by priority and id."""

    provider: ClientId | None = None


class ForceParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Whether the provider's last active credential may go out of use."""

    force: bool = False


class PostedErasure(Struct, kw_only=True, forbid_unknown_fields=True):
    """Why, as kept in the journal. The body may be left out."""

    reason: Name | None = None


class RemovalParams(ForceParams, kw_only=True, forbid_unknown_fields=True):
    """Why, as kept in the journal."""

    reason: Name | None = None


_erasures = msgspec.json.Decoder(PostedErasure)


@post(
    "/v1/providers/{provider_id:str}/credentials",
    **documented(
        ADMINS, "Create a credential", body=CredentialPost, responses={200: CredentialReceipt, 201: CredentialReceipt},
        query=query.NoParams, sends=TAGGED,
    ),
)  # fmt: skip
async def create_credential(request: AnyRequest, provider_id: FromPath[str]) -> ASGIApp:
    """The same content again gets the first answer. The secret is sealed, and never given out by this API's reads."""
    query.parse(request, query.NoParams)
    content = await secret_body.read(request, _posts)
    check_credential(content)
    _check_zone(content)
    services = services_of(request.app)
    command = CreateCredential(
        actor=actor_of(request), received_at_us=services.clock(), provider=provider_id, content=content,
        timezone=services.settings.quota_timezone, drawn=_drawn(request),
    )  # fmt: skip
    event, duplicate = await catalogue.execute(request, command)
    stand = Stand(event.data, False, event.position, event.recorded_at_us, event.recorded_at_us)
    answer = CredentialReceipt(**_fields(stand), duplicate=duplicate)
    return catalogue.tagged(answer, stand, 200 if duplicate else 201)


@get(
    "/v1/providers/{provider_id:str}/credentials",
    **documented(
        OPERATORS, "List a provider's credentials", query=ProviderCredentialListParams,
        responses={200: Page[CredentialDetails]},
    ),
)  # fmt: skip
async def list_provider_credentials(request: AnyRequest, provider_id: FromPath[str]) -> ASGIApp:
    """By priority and id, secrets masked; deleted ones only with `deleted=true`."""
    params = query.parse(request, ProviderCredentialListParams)
    await catalogue.show(request, PROVIDER, provider_id)
    return await _listed(request, params, provider_id)


@get(
    "/v1/credentials",
    **documented(OPERATORS, "List credentials", query=CredentialListParams, responses={200: Page[CredentialDetails]}),
)
async def list_credentials(request: AnyRequest) -> ASGIApp:
    """By priority and id, secrets masked; deleted ones only with `deleted=true`."""
    params = query.parse(request, CredentialListParams)
    return await _listed(request, params, params.provider)


@get(
    "/v1/credentials/{credential_id:str}",
    **documented(
        OPERATORS, "Read one credential", query=query.NoParams, responses={200: CredentialDetails}, sends=TAGGED
    ),
)
async def get_credential(request: AnyRequest, credential_id: FromPath[str]) -> ASGIApp:
    """As it is now, its secret masked; deleted ones too. An erased one has none any more."""
    query.parse(request, query.NoParams)
    stand = await catalogue.show(request, CREDENTIAL, credential_id)
    [details] = await _detailed(request, [stand])
    return catalogue.tagged(details, stand)


@patch(
    "/v1/credentials/{credential_id:str}",
    **documented(
        ADMINS, "Change a credential", body=CredentialChange, query=ForceParams, responses={200: CredentialView},
        headers=CONDITION, sends=TAGGED,
    ),
)  # fmt: skip
async def change_credential(request: AnyRequest, credential_id: FromPath[str]) -> ASGIApp:
    """Fields that are given; null sets one back, a secret is replaced whole. What changes nothing adds no event."""
    position = catalogue.expected_position(request)
    force = query.parse(request, ForceParams).force
    change = await secret_body.read(request, _patches)
    check_credential(change)
    _check_zone(change)
    command = ChangeCredential(
        actor=actor_of(request), received_at_us=services_of(request.app).clock(), id=credential_id, position=position,
        change=change, drawn=_drawn(request), force=force,
    )  # fmt: skip
    return await _changed(request, command)


@delete(
    "/v1/credentials/{credential_id:str}",
    status_code=200,
    **documented(
        ADMINS, "Delete a credential", query=RemovalParams, responses={200: CredentialView}, headers=CONDITION,
        sends=TAGGED,
    ),
)  # fmt: skip
async def delete_credential(request: AnyRequest, credential_id: FromPath[str]) -> ASGIApp:
    """It is used no more and can still be read, masked. Its secret stays in the file, sealed, until it is erased."""
    position, params = catalogue.expected_position(request), query.parse(request, RemovalParams)
    actor, now_us = actor_of(request), services_of(request.app).clock()
    command = DeleteCredential(actor, now_us, credential_id, position, params.reason, force=params.force)
    return await _changed(request, command)


@post(
    "/v1/credentials/{credential_id:str}/erase",
    status_code=200,
    **documented(
        ADMINS, "Erase a credential", body=PostedErasure, query=ForceParams, responses={200: CredentialView},
        headers=CONDITION, sends=TAGGED,
    ),
)  # fmt: skip
async def erase_credential(request: AnyRequest, credential_id: FromPath[str]) -> ASGIApp:
    """Destroys its data key: none of its secrets, old ones too, can be read again by anyone. Deletes it as well."""
    position, force = catalogue.wanted_position(request), query.parse(request, ForceParams).force
    services = services_of(request.app)
    data = await bodies.read(request, services.settings.body_bytes_max)
    reason = bodies.decode(data, _erasures).reason if data.strip() else None
    actor, now_us = actor_of(request), services.clock()
    return await _changed(request, EraseCredential(actor, now_us, credential_id, position, reason, force=force))


@get(
    "/v1/credentials/{credential_id:str}/history",
    **documented(OPERATORS, "Read a credential's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_credential_history(request: AnyRequest, credential_id: FromPath[str]) -> ASGIApp:
    """Who changed what, when, and what happened to it, oldest first; secrets masked."""
    params = query.parse(request, query.PageParams)
    readers = services_of(request.app).ledger.readers
    limit = bounded_limit(params.limit)
    return json(await readers.run(credential_reads.changes, credential_id, params.cursor, limit))


async def _listed(request: AnyRequest, params: ProviderCredentialListParams, provider: str | None) -> ASGIApp:
    readers, limit = services_of(request.app).ledger.readers, bounded_limit(params.limit)
    conditions = rows.conditions(params, provider)
    found = await readers.run(catalogue_reads.page, CREDENTIAL, conditions, params.cursor, limit)
    return json(Page(items=await _detailed(request, found.items), next_cursor=found.next_cursor))


async def _detailed(request: AnyRequest, stands: Sequence[Stand]) -> list[CredentialDetails]:
    services = services_of(request.app)
    contents = [stand.content for stand in stands]
    figures = await services.ledger.readers.run(lease_reads.figures, contents, services.clock())
    return [
        CredentialDetails(**_fields(stand), **msgspec.structs.asdict(figure))
        for stand, figure in zip(stands, figures, strict=True)
    ]


async def _changed(request: AnyRequest, command: Command) -> Answer:
    event, _ = await catalogue.execute(request, command)
    stand = await services_of(request.app).ledger.readers.run(credential_reads.left_by, event)
    return catalogue.tagged(_shown(stand), stand)


def _drawn(request: AnyRequest) -> Drawn:
    return services_of(request.app).ledger.require_keyring().draw()


def _check_zone(content: CredentialPost | CredentialChange) -> None:
    if isinstance(content.timezone, str):
        zone(content.timezone)


def _shown(stand: Stand) -> CredentialView:
    return CredentialView(**_fields(stand))


def _fields(stand: Stand) -> dict[str, Any]:
    content: Credential = stand.content
    fields = {name: getattr(content, name) for name in Credential.__struct_fields__}
    return {
        **fields,
        "secret": credential_reads.secret_of(content),
        "deleted": stand.deleted,
        "erased": content.secret is None,
        "position": stand.position,
        "created_at": format_time(stand.created_at_us),
        "changed_at": format_time(stand.changed_at_us),
    }


ROUTES = (
    create_credential,
    list_provider_credentials,
    list_credentials,
    get_credential,
    change_credential,
    delete_credential,
    erase_credential,
    get_credential_history,
)
