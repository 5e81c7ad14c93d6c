"""Random orders, payments, refunds and coupons, over restarts, give what a plain book of them says."""

import os
from fractions import Fraction
from pathlib import Path
from random import Random

import msgspec
import pytest

from ledger.decision import Command
from ledger.ledger import LEDGER_FILE
from ledger.writer import Outcome, Writer
from ops.verify import verify
from schema.conversion import ConversionCreated, CreateConversion
from schema.coupon import ChangeCoupon, CouponChange, CouponCreated, CreateCoupon, RedeemCoupon, code_mask, digest
from schema.credit import CreditDeclined
from schema.errors import LedgerError
from schema.money import amount_text
from schema.order import (
    CancelOrder,
    OrderRefundDeclined,
    PlaceOrder,
    PostedOrder,
    PostedRefund,
    RefundOrder,
    SweepOrders,
    accept_refund,
)
from schema.package import CreatePackage, PackageCreated
from schema.payment import Payment, PaymentReceived, RecordPayment
from schema.times import SECOND_US
from tests.accounts import create_account, credit
from tests.histories import ACTOR, NOON_US, open_book, reading, select
from tests.plain_recharge import CREDIT, LIFETIME_S, PlainCoupon, PlainRecharge

STEPS = int(os.environ.get("TORTURE_STEPS", "5000"))
ACCOUNTS = {"app": ("app", "support-bot"), "ann": ("user", "ann"), "bob": ("user", "bob")}
# Percent of an order (None: five credits by itself), limit in all, limit by account.
COUPONS: dict[str, tuple[str | None, int | None, int | None]] = {
    "more": ("12.5", 3, None), "third": ("33.33", None, 1), "gift": (None, 4, 2),
}  # fmt: skip


def prepared() -> list[Command]:
    made: list[Command] = [create_account(id_, *owner) for id_, owner in ACCOUNTS.items()]
    package = {"id": "p", "name": "P", "currency": "USD", "price_minor": 333, "credits": "10", "bonus_credits": "1"}
    made.append(CreatePackage(ACTOR, NOON_US, msgspec.convert(package, PackageCreated)))
    conversion = {"id": "USD", "credits": "1", "per_minor": 3}
    made.append(CreateConversion(ACTOR, NOON_US, msgspec.convert(conversion, ConversionCreated)))
    for id_, (percent, limit, own) in COUPONS.items():
        gift = {"credits": "5"} if percent is None else {"bonus_percent": percent}
        terms = {"id": id_, "limit": limit, "limit_per_account": own, **gift}
        kept = {**terms, "code_sha256": digest(f"CODE-{id_}"), "code_mask": code_mask(id_)}
        made.append(CreateCoupon(ACTOR, NOON_US, msgspec.convert(kept, CouponCreated), drawn=False))
    return made


class Play:
    """Random commands, and what the plain book says of each."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.now = NOON_US
        coupons = {
            id_: PlainCoupon(None if percent is None else Fraction(percent), limit, own)
            for id_, (percent, limit, own) in COUPONS.items()
        }
        self.plain = PlainRecharge(list(ACCOUNTS), coupons)
        self.spent = 0

    def step(self) -> tuple[Command, str]:
        dice = self.dice
        if dice.random() < 0.3:
            self.now += dice.choice((1, 10, 40)) * SECOND_US
        pick = dice.choice((
            self.place, self.place, self.pay, self.pay, self.pay, self.refund, self.refund, self.cancel, self.redeem,
            self.spend, self.sweep, self.seldom,
        ))  # fmt: skip
        return pick()

    @property
    def second(self) -> int:
        return (self.now - NOON_US) // SECOND_US

    def order_id(self) -> str:
        return f"o-{self.second // 300 + self.dice.randrange(6)}"  # few at a time, so that much happens to each

    def place(self) -> tuple[Command, str]:
        dice, id_ = self.dice, self.order_id()
        account, amount = dice.choice(list(ACCOUNTS)), dice.choice((None, None, 7, 100))
        coupon = dice.choice((None, "more", "more", *COUPONS))
        posted = PostedOrder(id=id_, package="p") if amount is None else PostedOrder(
            id=id_, amount_minor=amount, currency="USD"
        )  # fmt: skip
        command = PlaceOrder(
            actor=ACTOR, received_at_us=self.now, account=account, order=posted, app=None,
            code_sha256=None if coupon is None else digest(f"code-{coupon}"), lifetime_us=LIFETIME_S * SECOND_US,
        )  # fmt: skip
        return command, self.plain.place(self.second, id_, account, amount, coupon)

    def pay(self) -> tuple[Command, str]:
        dice = self.dice
        late = self.plain.late_with_coupon(self.second) if dice.random() < 0.3 else []
        id_ = dice.choice(late) if late else self.order_id()
        known = self.plain.orders.get(id_)
        price = 333 if known is None else known.price
        amount = dice.choice((price, price, price, price, price + 1))
        payment = f"pay-{id_}-{dice.randrange(2)}" if dice.random() < 0.9 else f"pay-{dice.randrange(5)}"
        told = Payment(payment=payment, order=id_, amount_minor=amount, currency="USD")
        command = RecordPayment(actor="payment-client:bank", received_at_us=self.now, client="bank", payment=told)
        return command, self.plain.pay(self.second, payment, id_, amount)

    def refund(self) -> tuple[Command, str]:
        dice, id_ = self.dice, self.order_id()
        known = self.plain.orders.get(id_)
        amount = dice.choice((1, 50, 111, 333, 333 if known is None else known.price))
        taken = dice.choice((None, None, None, 0, CREDIT, 20 * CREDIT))
        asked = None if taken is None else amount_text(taken)
        refund = PostedRefund(id=f"r-{dice.randrange(5)}", amount_minor=amount, credits=asked, reason="wrong")
        accept_refund(refund)
        command = RefundOrder(actor=ACTOR, received_at_us=self.now, order=id_, refund=refund)
        return command, self.plain.refund(id_, refund.id, amount, taken)

    def cancel(self) -> tuple[Command, str]:
        id_ = self.order_id()
        command = CancelOrder(actor=ACTOR, received_at_us=self.now, id=id_, reason=None, app=None)
        return command, self.plain.cancel(self.second, id_)

    def redeem(self) -> tuple[Command, str]:
        account, coupon = self.dice.choice(list(ACCOUNTS)), self.dice.choice(list(COUPONS))
        id_ = f"x-{self.dice.randrange(4)}"
        command = RedeemCoupon(
            actor=ACTOR, received_at_us=self.now, account=account, id=id_, code_sha256=digest(f"CODE{coupon}"), app=None
        )
        return command, self.plain.redeem(account, id_, coupon)

    def spend(self) -> tuple[Command, str]:
        account, amount = self.dice.choice(list(ACCOUNTS)), self.dice.randrange(1, 12) * CREDIT
        self.spent += 1
        id_ = f"spent-{self.spent}"
        command = credit(
            amount_text(-amount), id_, account, kind="adjustment", reason="used", at_us=self.now
        )  # fmt: skip
        return command, self.plain.spend(account, amount)

    def seldom(self) -> tuple[Command, str]:
        return self.raised() if self.dice.random() < 0.3 else self.sweep()

    def raised(self) -> tuple[Command, str]:
        """One more use of a coupon: in all where it has such a limit, else by account."""
        id_ = self.dice.choice(list(COUPONS))
        limit, own = self.plain.raised(id_)
        change = CouponChange(limit=limit, limit_per_account=own)
        return ChangeCoupon(ACTOR, self.now, id_, None, change), "accepted"

    def sweep(self) -> tuple[Command, str]:
        return SweepOrders(self.now, 1_000), f"swept {self.plain.sweep(self.second)}"


def fate(outcome: Outcome, command: Command) -> str:
    """An outcome in the plain book's words."""
    if isinstance(outcome, LedgerError):
        return outcome.code
    if isinstance(command, SweepOrders):
        return f"swept {outcome.events}"
    assert outcome.recorded is not None
    data, again = outcome.recorded.data, " again" if outcome.duplicate else ""
    if isinstance(data, PaymentReceived):
        return f"{data.outcome}{'' if data.why is None else f' {data.why}'}{again}"
    if isinstance(command, RefundOrder):
        return ("declined" if isinstance(data, OrderRefundDeclined) else "accepted") + again
    if isinstance(data, CreditDeclined):
        return "declined"
    return "duplicate" if outcome.duplicate else "accepted"


def check(path: Path, plain: PlainRecharge) -> None:
    """What the tables say is what the plain book says."""
    with reading(path) as db:
        balances = select(db, "SELECT account, balance_e10, free_e10 FROM account_balances_named ORDER BY account")
        orders = select(db, "SELECT id, status, credited_e10, refunded_minor, refunded_e10 FROM orders ORDER BY id")
        uses = select(db, "SELECT coupon, account, uses FROM coupon_uses WHERE uses <> 0 ORDER BY coupon, account")
        totals = dict(select(db, "SELECT coupon, uses FROM coupon_totals WHERE uses <> 0"))
    assert balances == [(id_, plain.balance[id_], plain.free[id_]) for id_ in sorted(plain.balance)]
    assert orders == [
        (id_, o.status, o.credited, o.refunded, o.taken) for id_, o in sorted(plain.orders.items())
    ]  # fmt: skip
    told = {id_: coupon.used_by for id_, coupon in plain.coupons.items()}
    assert uses == sorted((id_, who, by.count(who)) for id_, by in told.items() for who in set(by))
    assert totals == {id_: len(by) for id_, by in told.items() if by}


def play(data_dir: Path, seed: int, steps: int, lives: int) -> None:
    """A history in groups, cut into as many lives of the writer."""
    game = Play(seed)
    seen: set[str] = set()
    for life in range(lives):
        with open_book(data_dir) as writer:
            if not life:
                assert [each for each in writer.write(prepared()) if isinstance(each, LedgerError)] == []
            _live(writer, game, steps // lives, seen)
            check(writer.path, game.plain)
    report = verify(data_dir / LEDGER_FILE)
    assert report.ok, report.faults
    if steps >= 600:
        assert {"credited", "credited again", "declined", "coupon_unusable", "refund_exceeds_paid"} <= seen
        assert "with its coupon" in game.plain.late


def _live(writer: Writer, game: Play, steps: int, seen: set[str]) -> None:
    for _ in range(steps // 4):
        pairs = [game.step() for _ in range(game.dice.randrange(1, 8))]
        outcomes = writer.write([command for command, _ in pairs])
        fates = [fate(outcome, command) for outcome, (command, _) in zip(outcomes, pairs, strict=True)]
        told = [expected for _, expected in pairs]
        assert fates == told, [*zip(pairs, fates, strict=True)]
        seen.update(told)


@pytest.mark.parametrize("seed", range(4))
def test_any_history_agrees_with_a_plain_book(tmp_path: Path, seed: int) -> None:
    """Some hundred commands over three lives of the writer."""
    play(tmp_path, seed, 1_500, 3)


@pytest.mark.torture
def test_long_histories_agree_with_a_plain_book(tmp_path: Path) -> None:
    """TORTURE_STEPS commands."""
    play(tmp_path, 99, STEPS, 10)
