"""Accounts: created, changed, credited; read now or as of any position."""

from typing import Annotated, Any

import msgspec
from litestar import Request, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from api import catalogue, query
from api.as_of import AsOf, position_of
from api.auth import ADMINS, OPERATORS, READERS, own_app, principal_of
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import account_figures, account_reads
from ledger.forecast import forecast
from projections import account as rows
from schema.account import (
    ACCOUNT,
    Account,
    AccountChange,
    AccountCreated,
    AccountFilter,
    ChangeAccount,
    CreateAccount,
    Owner,
    check_account,
)
from schema.account_alert import FORECAST_DAYS_DEFAULT, FORECAST_DAYS_MAX, Forecast
from schema.account_view import AccountFigures, AccountView, TransactionView
from schema.catalogue import HistoryItem, Stand
from schema.credit import AccountCredited, CreditAccount, CreditDeclined, CreditReceipt, PostedCredit, accept_credit
from schema.entry import Recorded
from schema.errors import InsufficientCredit
from schema.money import amount_e10, amount_text
from schema.paging import Page, bounded_limit
from schema.times import format_time

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(AccountCreated)
_patches = msgspec.json.Decoder(AccountChange)
_credits = msgspec.json.Decoder(PostedCredit)


class AccountListParams(AccountFilter, kw_only=True, forbid_unknown_fields=True):
    """Accounts by id. `figures` adds what each holds; a page then has 100 of them at most."""

    figures: bool = False
    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


class AsOfParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """As it was known then."""

    as_of: AsOf | None = None


class ForecastParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Over how many days back, at most; 30 unless given."""

    days: Annotated[int, Meta(ge=1, le=FORECAST_DAYS_MAX)] = FORECAST_DAYS_DEFAULT


class AccountItem(Struct, kw_only=True):
    """An account in a list: its rules."""

    id: str
    owner: Owner
    overdraft: str
    low_balance: str | None
    name: str | None
    apps: list[str]
    metadata: dict[str, Any] | None
    position: int
    created_at: str
    changed_at: str


class AccountListed(AccountItem, kw_only=True):
    """An account in a list; `figures` is null unless asked for."""

    figures: AccountFigures | None = None


@post(
    "/v1/accounts",
    **documented(
        ADMINS, "Create an account", body=Account, responses={200: AccountItem, 201: AccountItem}, sends=TAGGED
    ),
)
async def create_account(request: AnyRequest) -> ASGIApp:
    """An owner has one account. It is empty; credits fill it."""
    content = await catalogue.read_body(request, _posts)
    check_account(content)
    command = CreateAccount(actor_of(request), services_of(request.app).clock(), content)
    outcome = await services_of(request.app).ledger.execute_one(command)
    event = outcome.recorded
    assert event is not None
    stand = Stand(event.data, False, event.position, event.recorded_at_us, event.recorded_at_us)
    return catalogue.tagged(_item(stand), stand, 200 if outcome.duplicate else 201)


@get(
    "/v1/accounts",
    **documented(READERS, "List accounts", query=AccountListParams, responses={200: Page[AccountListed]}),
)
async def list_accounts(request: AnyRequest) -> ASGIApp:
    """By id, with their rules. An app sees its own, those of its users and those granted to it."""
    params = query.parse(request, AccountListParams)
    conditions = rows.conditions(params, own_app(principal_of(request), None))
    services, limit = services_of(request.app), bounded_limit(params.limit)
    readers, cursor = services.ledger.readers, params.cursor
    if params.figures:
        page = await readers.run(account_figures.page, conditions, cursor, limit, services.clock())
        items = [_listed(stand, figures) for stand, figures in page.items]
        return json(Page(items=items, next_cursor=page.next_cursor))
    return json(await catalogue.listed(request, ACCOUNT, conditions, (cursor, limit), _listed))


@get(
    "/v1/accounts/{account_id:str}",
    **documented(READERS, "Read an account", query=AsOfParams, responses={200: AccountView}, sends=TAGGED),
)
async def get_account(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """What it holds now, or as the ledger knew it `as_of` a position or a time. An app sees those it may charge."""
    services = services_of(request.app)
    position = await position_of(request, query.parse(request, AsOfParams).as_of)
    app, readers = own_app(principal_of(request), None), services.ledger.readers
    if position is None:
        view, stand = await readers.run(account_reads.account, account_id, app, services.clock())
    else:
        view, stand = await readers.run(account_reads.account_as_of, account_id, app, position)
    return catalogue.tagged(view, stand)


@patch(
    "/v1/accounts/{account_id:str}",
    **documented(
        ADMINS, "Change an account", body=AccountChange, responses={200: AccountItem}, headers=CONDITION, sends=TAGGED
    ),
)
async def change_account(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """Its rules; the owner stays. A change that changes nothing adds no event."""
    position = catalogue.expected_position(request)
    change = await catalogue.read_body(request, _patches)
    check_account(change)
    services = services_of(request.app)
    command = ChangeAccount(actor_of(request), services.clock(), account_id, position, change)
    outcome = await services.ledger.execute_one(command)
    assert outcome.recorded is not None
    _, stand = await services.ledger.readers.run(
        account_reads.account_as_of, account_id, None, outcome.recorded.position
    )
    return catalogue.tagged(_item(stand), stand)


@get(
    "/v1/accounts/{account_id:str}/history",
    **documented(OPERATORS, "Read an account's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_account_history(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """Who changed its rules, when, oldest first; what moved on it are its transactions."""
    params = query.parse(request, query.PageParams)
    readers = services_of(request.app).ledger.readers
    limit = bounded_limit(params.limit)
    return json(await readers.run(account_reads.account_history, account_id, params.cursor, limit))


@get(
    "/v1/accounts/{account_id:str}/transactions",
    **documented(
        READERS, "Read an account's transactions", query=query.PageParams, responses={200: Page[TransactionView]}
    ),
)
async def get_account_transactions(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """Every movement in order, without gaps: what one leaves is what the next finds."""
    params = query.parse(request, query.PageParams)
    readers, app = services_of(request.app).ledger.readers, own_app(principal_of(request), None)
    limit = bounded_limit(params.limit)
    return json(await readers.run(account_reads.transactions, account_id, app, params.cursor, limit))


@get(
    "/v1/accounts/{account_id:str}/forecast",
    **documented(READERS, "Forecast an account", query=ForecastParams, responses={200: Forecast}),
)
async def get_account_forecast(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """How many days it lasts by its use of late; grants that expire before are counted as if they did not."""
    days = query.parse(request, ForecastParams).days
    services, app = services_of(request.app), own_app(principal_of(request), None)
    return json(await services.ledger.readers.run(forecast, account_id, app, days, services.clock()))


@post(
    "/v1/accounts/{account_id:str}/credits",
    **documented(ADMINS, "Credit an account", body=PostedCredit, responses={200: CreditReceipt, 201: CreditReceipt}),
)
async def credit_account(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """Balance, or free quota that may expire and have a scope. What the account owes is paid from balance at once."""
    posted = await catalogue.read_body(request, _credits)
    accept_credit(posted)
    services = services_of(request.app)
    command = CreditAccount(actor=actor_of(request), received_at_us=services.clock(), account=account_id, credit=posted)
    outcome = await services.ledger.execute_one(command)
    assert outcome.recorded is not None
    receipt = credit_receipt(outcome.recorded, duplicate=outcome.duplicate)
    return json(receipt, 200 if outcome.duplicate else 201)


def credit_receipt(event: Recorded, *, duplicate: bool) -> CreditReceipt:
    """The receipt of a credit, from its event alone; raises InsufficientCredit where it was declined."""
    data = event.data
    if isinstance(data, CreditDeclined):
        raise InsufficientCredit.by(data.missing)
    assert isinstance(data, AccountCredited)
    before = amount_text(amount_e10(data.after) - amount_e10(data.amount))
    return CreditReceipt(
        id=data.id, account=data.account, kind=data.kind, amount=data.amount, free=bool(data.free),
        expires_at=data.expires_at, sequence=data.sequence, before=before, after=data.after, position=event.position,
        recorded_at=format_time(event.recorded_at_us), duplicate=duplicate,
    )  # fmt: skip


def _listed(stand: Stand, figures: AccountFigures | None = None) -> AccountListed:
    return AccountListed(**msgspec.structs.asdict(_item(stand)), figures=figures)


def _item(stand: Stand) -> AccountItem:
    content = stand.content
    return AccountItem(
        id=content.id, owner=content.owner, overdraft=content.overdraft, low_balance=content.low_balance,
        name=content.name, apps=list(content.apps or ()), metadata=content.metadata,
        position=stand.position, created_at=format_time(stand.created_at_us),
        changed_at=format_time(stand.changed_at_us),
    )  # fmt: skip


ROUTES = (
    create_account,
    list_accounts,
    get_account,
    change_account,
    get_account_history,
    get_account_transactions,
    get_account_forecast,
    credit_account,
)
