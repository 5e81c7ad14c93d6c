"""Whether a caller may use an account, where a command is decided."""

from ledger.payer import may_use
from projections.account_book import AccountState, Book
from schema.errors import Forbidden, NotFound


def require_use(book: Book, account: str, app: str | None) -> AccountState:
    """An account that an app may use, or that there is where no app asks; raises NotFound, Forbidden."""
    found = book.accounts.get(account)
    if found is None:
        raise NotFound(f"there is no account {account}")
    if app is not None and not may_use(found, app):
        raise Forbidden(f"account {account} is not this app's, nor granted to it")
    return found
