"""Accounts told plainly: what every command must do to them, in code that shares nothing with the ledger's."""

from dataclasses import dataclass, field
from typing import Any

CREDIT = 10**10
NEVER = 10**30
OVERDRAFT_MAX = 100_000_000 * CREDIT


@dataclass
class PlainGrant:
    id: str
    left: int
    held: int
    ends: int
    priority: int
    model: str | None
    order: int


@dataclass
class PlainHold:
    account: str
    amount: int
    balance: int
    free: dict[str, int]
    ends: int
    call: str | None
    order: int
    status: str = "open"
    content: Any = None
    settled: int = 0
    legs: "Legs | None" = None


@dataclass
class Legs:
    """Where an amount came from."""

    free: dict[str, int] = field(default_factory=dict[str, int])
    balance: int = 0
    owed: int = 0

    def total(self) -> int:
        return sum(self.free.values()) + self.balance + self.owed


@dataclass
class PlainCall:
    content: Any
    cost: int
    tokens: int
    user: str | None
    model: str
    account: str | None
    legs: Legs
    voided: bool = False


class PlainAccount:
    def __init__(self) -> None:
        self.overdraft = "never"
        self.balance = self.owed = self.spent = self.tokens = self.balance_held = 0
        self.grants: dict[str, PlainGrant] = {}
        self.lines: list[tuple[str, int, int]] = []  # kind, amount, total afterwards

    @property
    def free(self) -> int:
        return sum(grant.left for grant in self.grants.values())

    @property
    def held(self) -> int:
        return self.balance_held + sum(grant.held for grant in self.grants.values())

    def line(self, kind: str, amount: int) -> None:
        if amount:
            self.lines.append((kind, amount, self.balance + self.free))

    def spendable(self, now: int, model: str | None) -> list[PlainGrant]:
        scoped = [g for g in self.grants.values() if g.model is not None and g.model == model]
        plain = [g for g in self.grants.values() if g.model is None]
        ordered = sorted(scoped, key=lambda g: (g.priority, g.ends, g.order)) + sorted(
            plain, key=lambda g: (g.ends, g.order)
        )
        return [g for g in ordered if g.ends > now and g.left > g.held]

    def find(self, amount: int, now: int, model: str | None, *, overdraft: bool) -> Legs:
        """Credit by credit: free first, then balance; what is not there is owed."""
        grants, legs = self.spendable(now, model), Legs()
        own = self.balance - self.balance_held
        there = max(0, own + sum(g.left - g.held for g in grants))
        can = amount if overdraft else min(amount, there)
        for grant in grants:
            part = min(can, grant.left - grant.held)
            if part:
                legs.free[grant.id] = part
            can -= part
        legs.balance = max(0, min(can, own + OVERDRAFT_MAX)) if overdraft else can
        legs.owed = amount - legs.balance - sum(legs.free.values())
        return legs

    def take(self, legs: Legs, sign: int = 1) -> None:
        self.balance -= sign * legs.balance
        for id_, part in legs.free.items():
            self.grants[id_].left -= sign * part
        self.owed += sign * legs.owed
        self.spent += sign * legs.total()
        paid = sign * (legs.total() - legs.owed)
        self.line("consumption" if paid > 0 else "refund", -paid)


class PlainAccounts:
    """All accounts, and the answer to each command."""

    def __init__(self, ids: dict[str, str]) -> None:
        self.accounts = {id_: PlainAccount() for id_ in ids}
        self.owners = {owner: id_ for id_, owner in ids.items()}
        self.credits: dict[tuple[str, str], Any] = {}
        self.holds: dict[str, PlainHold] = {}
        self.calls: dict[str, PlainCall] = {}
        self.order = 0

    def due(self, id_: str, now: int) -> PlainAccount:
        """What is over ends; what is owed is paid."""
        account = self.accounts[id_]
        for hold in sorted(self.holds.values(), key=lambda h: (h.ends, h.order)):
            if hold.account == id_ and hold.status == "open" and hold.ends <= now:
                self.let_go(hold, "expired")
        for grant in sorted(account.grants.values(), key=lambda g: (g.ends, g.order)):
            if grant.ends <= now and grant.left > grant.held:
                gone = grant.left - grant.held
                grant.left = grant.held
                account.line("expiry", -gone)
        pays = min(account.owed, account.balance - account.balance_held)
        if pays > 0:
            account.balance -= pays
            account.owed -= pays
            account.line("consumption", -pays)
        return account

    def let_go(self, hold: PlainHold, status: str) -> None:
        account = self.accounts[hold.account]
        account.balance_held -= hold.balance
        for id_, part in hold.free.items():
            account.grants[id_].held -= part
        hold.status = status

    def credit(self, now: int, account: str, id_: str, content: tuple[Any, ...]) -> str:
        kind, amount, free, ends, model, priority = content
        if (account, id_) in self.credits:
            return "duplicate" if self.credits[account, id_] == content else "id_conflict"
        self.credits[account, id_] = content
        found = self.due(account, now)
        self.order += 1
        if amount < 0 and -amount > max(found.balance - found.balance_held, 0):
            return "declined"
        if free:
            found.grants[id_] = PlainGrant(id_, amount, 0, ends or NEVER, priority, model, self.order)
        else:
            found.balance += amount
        found.line(kind, amount)
        self.due(account, now)
        return "accepted"

    def place(self, now: int, account: str, id_: str, content: tuple[Any, ...]) -> str:
        amount, seconds, call, model = content
        if id_ in self.holds:
            first = self.holds[id_]
            if first.content != (account, content):
                return "id_conflict"
            return "declined again" if first.status == "declined" else "duplicate"
        if call and self.hold_for(call, now):
            return "id_conflict"  # and then nothing is told, not even what is over
        found = self.due(account, now)
        self.order += 1
        legs = found.find(amount, now, model, overdraft=False)
        hold = PlainHold(account, amount, legs.balance, legs.free, now + seconds * 10**6, call, self.order)
        hold.content = (account, content)
        self.holds[id_] = hold
        if legs.owed:
            hold.status, hold.call, hold.balance, hold.free = "declined", None, 0, {}
            return "declined"
        found.balance_held += legs.balance
        for grant, part in legs.free.items():
            found.grants[grant].held += part
        return "accepted"

    def hold_for(self, call: str, now: int) -> PlainHold | None:
        held = [h for h in self.holds.values() if h.call == call]
        binding = [h for h in held if h.status == "open" and h.ends > now]
        return min(binding or [h for h in held if h.status == "settled"], key=lambda h: h.order, default=None)

    def settle(self, now: int, id_: str, amount: int) -> str:
        hold = self.holds.get(id_)
        if hold is None:
            return "not_found"
        if hold.status == "settled":
            return "duplicate" if hold.settled == amount else "hold_closed"
        if hold.status in {"declined", "released"} or hold.call in self.calls:
            return "hold_closed"
        self.spend(now, hold, amount, None)
        return "accepted"

    def spend(self, now: int, hold: PlainHold, amount: int, model: str | None) -> None:
        account = self.due(hold.account, now)
        legs, left = Legs(), amount
        if hold.status == "open":
            for grant, part in hold.free.items():
                taken = min(left, part)
                left -= taken
                if taken:
                    legs.free[grant] = taken
            legs.balance = min(left, hold.balance)
            left -= legs.balance
        more = account.find(left, now, model, overdraft=account.overdraft == "unheld")
        if hold.status == "open":
            self.let_go(hold, "settled")
        hold.status, hold.settled = "settled", amount
        for grant, part in more.free.items():
            legs.free[grant] = legs.free.get(grant, 0) + part
        legs.balance += more.balance
        legs.owed = more.owed
        hold.legs = legs
        account.take(legs)
        self.due(hold.account, now)

    def release(self, now: int, id_: str) -> str:
        hold = self.holds.get(id_)
        if hold is None:
            return "not_found"
        if hold.status in {"declined", "settled"}:
            return "hold_closed"
        if hold.status in {"released", "expired"}:
            return "duplicate"
        self.due(hold.account, now)
        if hold.status == "open":
            self.let_go(hold, "released")
            self.due(hold.account, now)
        return "accepted"

    def payer(self, account: str | None, user: str | None) -> str | None:
        if account is not None and account in self.accounts and account != "strange":
            return account
        return self.owners.get(f"user:{user}") or self.owners.get("app")

    def call(self, now: int, id_: str, content: tuple[Any, ...]) -> str:
        account, user, model, tokens, cost = content
        if id_ in self.calls:
            return "duplicate" if self.calls[id_].content == content else "id_conflict"
        hold = self.hold_for(id_, now)
        if hold is not None:
            payer: str | None = hold.account
            if hold.status == "open":
                self.spend(now, hold, cost, model)
            assert hold.legs is not None
            legs = Legs(dict(hold.legs.free), hold.legs.balance, hold.legs.owed)
            self.accounts[hold.account].tokens += tokens
        else:
            payer, legs = self.payer(account, user), Legs()
            if payer is not None:
                found = self.due(payer, now)
                legs = found.find(cost, now, model, overdraft=found.overdraft == "unheld")
                found.take(legs)
                found.tokens += tokens
        self.calls[id_] = PlainCall(content, cost, tokens, user, model, payer, legs)
        return "accepted"

    def give_back(self, now: int, call: PlainCall, amount: int) -> None:
        """What is owed first, then balance, then grants from the last; a debt paid since returns as balance."""
        assert call.account is not None
        account = self.due(call.account, now)
        legs = call.legs
        back = Legs()
        owed = min(legs.owed, amount)
        balance = min(legs.balance, amount - owed)
        left = amount - owed - balance
        for grant in reversed(list(legs.free)):
            part = min(left, legs.free[grant])
            left -= part
            legs.free[grant] -= part
            if part:
                back.free[grant] = part
        legs.owed -= owed
        legs.balance -= balance
        back.owed = min(owed, account.owed)
        back.balance = balance + owed - back.owed
        account.take(back, -1)

    def void(self, now: int, id_: str) -> str:
        call = self.calls.get(id_)
        if call is None:
            return "not_found"
        if call.voided:
            return "duplicate"
        call.voided = True
        if call.account is not None:
            self.give_back(now, call, call.legs.total())
            self.accounts[call.account].tokens -= call.tokens
            self.due(call.account, now)
        return "accepted"

    def correct(self, now: int, id_: str, tokens: int, cost: int, user: str | None) -> str:
        """Other tokens, and perhaps another user's."""
        call = self.calls.get(id_)
        if call is None:
            return "not_found"
        if call.voided:
            return "call_voided"
        before = call.account
        account, _, model, *_ = call.content
        after = before if user == call.user else self.payer(account, user)
        touched = [each for each in dict.fromkeys((before, after)) if each is not None]
        if before is not None and before == after:
            self.change_by(now, call, max(cost - call.cost, -call.legs.total()), model)
            moved = cost != call.cost or tokens != call.tokens
            self.accounts[before].tokens += tokens - call.tokens
            touched = touched if moved else []
        else:
            if before is not None:
                self.give_back(now, call, call.legs.total())
                self.accounts[before].tokens -= call.tokens
            call.legs = Legs()
            if after is not None:
                found = self.due(after, now)
                call.legs = found.find(cost, now, model, overdraft=found.overdraft == "unheld")
                found.take(call.legs)
                found.tokens += tokens
        for each in touched:
            self.due(each, now)
        call.account, call.user, call.cost, call.tokens = after, user, cost, tokens
        return "accepted"

    def change_by(self, now: int, call: PlainCall, delta: int, model: str) -> None:
        assert call.account is not None
        if delta < 0:
            self.give_back(now, call, -delta)
        elif delta > 0:
            found = self.due(call.account, now)
            more = found.find(delta, now, model, overdraft=found.overdraft == "unheld")
            found.take(more)
            for grant, part in more.free.items():
                call.legs.free[grant] = call.legs.free.get(grant, 0) + part
            call.legs.balance += more.balance
            call.legs.owed += more.owed
