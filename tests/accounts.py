"""Builders of account, credit and hold commands."""

from typing import Any

import msgspec

from schema.account import AccountChange, AccountCreated, ChangeAccount, CreateAccount, check_account
from schema.credit import CreditAccount, PostedCredit, SweepAccounts, accept_credit
from schema.hold import PlaceHold, PostedHold, ReleaseHold, SettleHold, accept_hold
from tests.histories import ACTOR, APP, NOON_US


def create_account(
    id_: str = "acc",
    kind: str = "app",
    owner: str = APP,
    *,
    app: str | None = None,
    at_us: int = NOON_US,
    **fields: Any,  # noqa: ANN401
) -> CreateAccount:
    content = msgspec.convert({"id": id_, "owner": {"kind": kind, "id": owner, "app": app}, **fields}, AccountCreated)
    check_account(content)
    return CreateAccount(ACTOR, at_us, content)


def change_account(id_: str = "acc", *, at_us: int = NOON_US, **fields: Any) -> ChangeAccount:  # noqa: ANN401
    return ChangeAccount(ACTOR, at_us, id_, None, msgspec.convert(fields, AccountChange))


def credit(
    amount: str,
    id_: str = "cr-1",
    account: str = "acc",
    *,
    kind: str = "recharge",
    at_us: int = NOON_US,
    **fields: Any,  # noqa: ANN401
) -> CreditAccount:
    posted = msgspec.convert({"id": id_, "kind": kind, "amount": amount, **fields}, PostedCredit)
    accept_credit(posted)
    return CreditAccount(actor=ACTOR, received_at_us=at_us, account=account, credit=posted)


def hold(
    amount: str,
    id_: str = "h-1",
    account: str = "acc",
    *,
    app: str | None = APP,
    at_us: int = NOON_US,
    **fields: Any,  # noqa: ANN401
) -> PlaceHold:
    posted = msgspec.convert({"id": id_, "amount": amount, "app": app, **fields}, PostedHold)
    accept_hold(posted)
    return PlaceHold(actor=ACTOR, received_at_us=at_us, account=account, hold=posted)


def settle(amount: str, id_: str = "h-1", *, app: str | None = APP, at_us: int = NOON_US) -> SettleHold:
    return SettleHold(actor=ACTOR, received_at_us=at_us, app=app, id=id_, amount=amount)


def release(id_: str = "h-1", *, app: str | None = APP, at_us: int = NOON_US) -> ReleaseHold:
    return ReleaseHold(actor=ACTOR, received_at_us=at_us, app=app, id=id_)


def sweep_accounts(at_us: int = NOON_US, limit: int = 500) -> SweepAccounts:
    return SweepAccounts(at_us, limit)
