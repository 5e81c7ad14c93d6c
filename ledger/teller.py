"""What commands do to accounts: the events of one decision, each of which sees those before it."""

import msgspec
from msgspec import Struct

from ledger.account_draw import Drawn, draw, draw_held, texts, usable
from ledger.decision import Decision
from projections.account_book import AccountState, Book, HoldState
from schema import account as accounts
from schema import hold as holds
from schema.charge import BudgetSpend, Charge
from schema.correction import ChargeChange
from schema.credit import (
    EVER_CREDITS_MAX,
    GRANTS_LIVE_MAX,
    AccountCollected,
    AccountCredited,
    CreditDeclined,
    GrantExpired,
    PostedCredit,
    credit_id,
)
from schema.entry import NewEvent, Recorded
from schema.errors import LimitReached
from schema.hold import OPEN_HOLDS_MAX, HoldDeclined, HoldExpired, HoldPlaced, HoldReleased, HoldSettled, PostedHold
from schema.money import COST_DECIMALS, amount_e10, amount_text
from schema.times import SECOND_US, format_time

_EVER_E10_MAX = EVER_CREDITS_MAX * 10**COST_DECIMALS


class Cover(Struct, frozen=True):
    """The budgets that cover a hold, and the hard one that has no room for it, with how much it lacks."""

    budgets: list[str] | None = None
    lacking: tuple[str, int] | None = None


UNCOVERED = Cover()


class Teller:
    """The events of one decision about accounts; of one account's alone, if named.

    They are folded into a fork of the working set's book, and only when something looks at it after them: most
    decisions end with their one event.
    """

    def __init__(self, book: Book, now_us: int, actor: str, account: str | None = None) -> None:
        self.now_us = now_us
        self.actor = actor
        self.events: list[NewEvent] = []
        self.answer = -1  # which event the caller is told of; by default the last
        self._account = account
        self._book = book
        self._folded = 0

    @property
    def book(self) -> Book:
        """As the events so far leave it. What was read of it before an event is not changed by it: look again."""
        if self._folded < len(self.events):
            if not self._folded:
                self._book = self._book.fork(self._account)
            for new in self.events[self._folded :]:
                self._book.evolve(
                    Recorded(0, self.now_us, new.source, new.id, "", new.subject, new.time_us, new.actor, new.data)
                )
            self._folded = len(self.events)
        return self._book

    def decision(self) -> Decision:
        """What was done."""
        return Decision(self.events, answer=self.answer)

    def _answered(self) -> None:
        """The caller is told of the event made last; what follows it only tidies up."""
        self.answer = len(self.events) - 1

    def add(self, event: NewEvent) -> None:
        """An event; what follows sees it."""
        self.events.append(event)

    def _of_account(self, account: str, verb: str, data: Struct, time_us: int | None = None) -> None:
        at_us = self.now_us if time_us is None else time_us
        subject = f"{accounts.NOUN}/{account}"
        self.add(NewEvent(accounts.SOURCE, verb, subject, format_time(at_us), at_us, self.actor, data))

    def _of_hold(self, app: str | None, id_: str, verb: str, data: Struct, time_us: int | None = None) -> None:
        at_us = self.now_us if time_us is None else time_us
        source, subject = holds.source_of(app), holds.subject_of(app, id_)
        self.add(NewEvent(source, f"{id_}{verb}", subject, format_time(at_us), at_us, self.actor, data))

    def settle_due(self, account: str) -> AccountState:
        """End what is over, collect what is owed; the account after that."""
        state = self.book.accounts[account]
        if state.due_us <= self.now_us:
            self._expire_holds(account)
            self._expire_grants(account)
            state = self.book.accounts[account]
        if not state.owed_e10:
            return state
        self._collect(account)
        return self.book.accounts[account]

    def _expire_holds(self, account: str) -> None:
        due = [
            hold
            for hold in self.book.holds_of.get(account, ())
            if hold.status == "open" and hold.expires_at_us <= self.now_us
        ]
        for hold in sorted(due, key=lambda hold: (hold.expires_at_us, hold.position, hold.key)):
            app = hold.app or None
            data = HoldExpired(id=hold.id, app=app, account=account)
            self._of_hold(app, hold.id, "/expire", data, hold.expires_at_us)

    def _expire_grants(self, account: str) -> None:
        own = self.book.grants.get(account, {}).values()
        due = [grant for grant in own if grant.expires_at_us <= self.now_us and grant.unheld_e10 > 0]
        for grant in sorted(due, key=lambda grant: (grant.expires_at_us, grant.position, grant.id)):
            amount, state = grant.unheld_e10, self.book.accounts[account]
            data = GrantExpired(
                account=account, grant=grant.id, amount=amount_text(amount), sequence=state.sequence + 1,
                after=amount_text(state.total_e10 - amount),
            )  # fmt: skip
            id_ = f"{credit_id(account, grant.id)}/expire/{grant.expirations + 1}"
            self._of_account(account, id_, data, grant.expires_at_us)

    def _collect(self, account: str) -> None:
        """Pay what is owed from the balance, as far as that goes."""
        state = self.book.accounts[account]
        amount = min(state.owed_e10, state.unheld_balance_e10)
        if amount > 0:
            sequence = state.sequence + 1
            data = AccountCollected(
                account=account, amount=amount_text(amount), sequence=sequence,
                after=amount_text(state.total_e10 - amount),
            )  # fmt: skip
            self._of_account(account, f"{account}/collect/{sequence}", data)

    def credit(self, account: str, posted: PostedCredit) -> None:
        """Put credit in; a negative adjustment of more than is there is declined. Raises LimitReached."""
        state = self.settle_due(account)
        amount = amount_e10(posted.amount)
        fields = msgspec.structs.asdict(posted)
        missing = -amount - max(state.unheld_balance_e10, 0)
        if missing > 0 and amount < 0:
            data = CreditDeclined(**fields, account=account, missing=amount_text(missing))
            self._of_account(account, credit_id(account, posted.id), data)
            self._answered()
            return
        if state.issued_e10 + amount > _EVER_E10_MAX:
            raise LimitReached(f"account {account} would have been given more than {EVER_CREDITS_MAX:,} credits")
        if posted.free and state.grants >= GRANTS_LIVE_MAX:
            raise LimitReached(f"account {account} has {GRANTS_LIVE_MAX:,} grants with something left")
        after = amount_text(state.total_e10 + amount)
        credited = AccountCredited(**fields, account=account, sequence=state.sequence + 1, after=after)
        self._of_account(account, credit_id(account, posted.id), credited)
        self._answered()
        self.settle_due(account)

    def place(self, account: str, posted: PostedHold, cover: Cover = UNCOVERED) -> bool:
        """Set credit aside of an account that is settled; False where there is not enough, an event too.

        Raises LimitReached.
        """
        state = self.book.accounts[account]
        if state.holds >= OPEN_HOLDS_MAX:
            raise LimitReached(f"account {account} has {OPEN_HOLDS_MAX:,} open holds")
        amount = amount_e10(posted.amount)
        drawn = draw(state, usable(self.book, state, self.now_us, posted), amount, overdraft=False)
        if drawn.owed_e10:
            missing = drawn.owed_e10 + max(-state.unheld_balance_e10 - self._unheld_free(state, posted), 0)
            self._decline(account, posted, missing)
            return False
        if cover.lacking is not None:
            budget, lacks = cover.lacking
            self._decline(account, posted, lacks, budget)
            return False
        expires_at = format_time(self.now_us + posted.expires_in_s * SECOND_US)
        placed = HoldPlaced(
            id=posted.id, amount=posted.amount, expires_in_s=posted.expires_in_s, call_id=posted.call_id,
            app=posted.app, provider=posted.provider, model=posted.model, type=posted.type, user_id=posted.user_id,
            tags=posted.tags, account=account, expires_at=expires_at, free=texts(drawn.free) if drawn.free else None,
            budgets=cover.budgets,
        )  # fmt: skip
        self._of_hold(posted.app, posted.id, "", placed)
        return True

    def _decline(self, account: str, posted: PostedHold, missing_e10: int, budget: str | None = None) -> None:
        fields = msgspec.structs.asdict(posted)
        declined = HoldDeclined(**fields, account=account, missing=amount_text(missing_e10), budget=budget)
        self._of_hold(posted.app, posted.id, "", declined)

    def _unheld_free(self, state: AccountState, use: PostedHold) -> int:
        return sum(grant.unheld_e10 for grant in usable(self.book, state, self.now_us, use))

    def settle(
        self, hold: HoldState, amount: int, use: object = None, budget_spend: BudgetSpend | None = None
    ) -> Charge:
        """Charge what was held for. What exceeds the hold, or came after its time, is a charge that nobody held for."""
        self.settle_due(hold.account)
        hold = self.book.holds[hold.key]  # as it is now that what was over has ended
        open_ = hold.status == "open"
        held = draw_held(hold.free, hold.balance_e10, amount) if open_ else Drawn({}, 0, amount)
        drawn = Drawn(held.free, held.balance_e10, 0).plus(self.cover(hold.account, held.owed_e10, use))
        charge = self.charge(hold.account, drawn)
        app = hold.app or None
        data = HoldSettled(
            id=hold.id, app=app, account=hold.account, amount=amount_text(amount), charge=charge,
            budget_spend=budget_spend,
        )  # fmt: skip
        self._of_hold(app, hold.id, "/settle", data)
        self._answered()
        self.settle_due(hold.account)
        return charge

    def release(self, hold: HoldState, reason: str | None) -> None:
        """Give back what was held; nothing where its time is over."""
        self.settle_due(hold.account)
        app = hold.app or None
        if self.book.holds[hold.key].status == "open":
            self._of_hold(
                app, hold.id, "/release", HoldReleased(id=hold.id, app=app, account=hold.account, reason=reason)
            )
            self._answered()
            self.settle_due(hold.account)
        else:
            self.answer = next(n for n, event in enumerate(self.events) if event.id == f"{hold.id}/expire")

    def conclude(self, event: NewEvent, change: ChargeChange | None) -> None:
        """A call's change, and what its charges leave to be tidied up."""
        self.add(event)
        self._answered()
        for account in dict.fromkeys([] if change is None else [move.account for move in change.moves]):
            self.settle_due(account)

    def cover(self, account: str, amount: int, use: object) -> Drawn:
        """Where an amount that nobody held for comes from, by the account's policy."""
        state = self.book.accounts[account]
        grants = usable(self.book, state, self.now_us, use)
        return draw(state, grants, amount, overdraft=state.overdraft == "unheld")

    def charge(self, account: str, drawn: Drawn, tokens: int = 0) -> Charge:
        """A charge as an event has it; the account is as it was until that event is added."""
        return charge_of(self.book.accounts[account], drawn, tokens)


def charge_of(state: AccountState, drawn: Drawn, tokens: int) -> Charge:
    """What is drawn as an event has it, with the number of its transaction if money moves."""
    paid = drawn.paid_e10
    return Charge(
        account=state.id,
        amount=amount_text(paid + drawn.owed_e10),
        free=texts(drawn.free) if drawn.free else None,
        owed=amount_text(drawn.owed_e10),
        tokens=tokens,
        sequence=state.sequence + 1 if paid else None,
        after=amount_text(state.total_e10 - paid) if paid else None,
    )
