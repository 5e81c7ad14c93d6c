"""Sign-in links: an operator prints one, whoever opens it first is signed in as a key, and nobody is after that."""

from msgspec import Struct

from schema.event import event
from schema.ids import ClientId

NOUN = "sign_in_link"


@event("sign_in_link.used", 1)
class SignInLinkUsed(Struct, kw_only=True, omit_defaults=True):
    """A link was opened; `key` is the id of the key that its session acts as."""

    id: ClientId
    key: ClientId


class UseSignInLink(Struct):
    """Command: use a link up."""

    actor: str
    received_at_us: int
    link: SignInLinkUsed
