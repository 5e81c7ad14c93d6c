"""Webhooks: addresses that are told of events, in order, until they take each; signed as Standard Webhooks has it."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import Change, Delete, Kind, Text, Url
from schema.correction import Reason
from schema.errors import FieldError, InvalidInput
from schema.event import event, event_types
from schema.ids import ClientId, Name, ledger_source
from schema.sealed import Drawn, Sealed
from schema.times import DAY_US
from schema.webhook_signature import key_of

NOUN = "webhook"
SOURCE = ledger_source(NOUN)
WEBHOOKS_MAX = 50
DEAD_MAX = 10_000  # of one webhook; with so many it waits rather than passing over more
PREVIOUS_KEPT_US = DAY_US  # a secret that was replaced signs for so long, beside the new one
ERROR_CHARS_MAX = 300

EventPattern = Annotated[
    str,
    Meta(
        pattern=r"^(\*|[a-z_]{1,64}\.(\*|[a-z_]{1,64}))\Z",
        description="A type without its version, all of a noun, or all: `credential.disabled`, `account.*`, `*`.",
        examples=["credential.disabled"],
    ),
]
Patterns = Annotated[list[EventPattern], Meta(min_length=1, max_length=64)]
SigningSecret = Annotated[
    str, Meta(max_length=128, description="`whsec_` and 24 to 64 bytes in Base64.", examples=["whsec_…"])
]


class WebhookPost(Struct, kw_only=True, forbid_unknown_fields=True):
    """A webhook as posted. It is told of what happens from then on."""

    id: ClientId
    url: Url
    events: Patterns
    secret: SigningSecret
    enabled: bool = True
    description: Text | None = None

    def __repr__(self) -> str:
        return f"WebhookPost({self.id!r})"


class WebhookChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes. A secret that is replaced goes on signing for a day, beside the new one."""

    url: Url | UnsetType = UNSET
    events: Patterns | UnsetType = UNSET
    secret: SigningSecret | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET

    def __repr__(self) -> str:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]
        return f"WebhookChange({', '.join(given)})"


class Webhook(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook as kept. The sealed secret has `key`, and `previous`, which signs too until `previous_until`."""

    id: ClientId
    url: Url
    events: Patterns
    secret: Sealed
    previous_until: str | None = None
    enabled: bool = True
    description: Text | None = None

    @property
    def sort(self) -> int:
        """Lists are by id."""
        return 0


@event("webhook.created", 1)
class WebhookCreated(Webhook, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook came into being."""


@event("webhook.changed", 1)
class WebhookChanged(Webhook, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook as it is after a change; `replaces` is the position of its event before."""

    replaces: int


@event("webhook.deleted", 1)
class WebhookDeleted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook is told nothing more, and the data key of its secrets was destroyed."""

    id: ClientId
    replaces: int
    reason: Name | None = None


@event("webhook.dead_lettered", 1)
class WebhookDeadLettered(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event was given up; told for the first one since the webhook last took any. `position` is the event's."""

    id: ClientId
    position: int
    attempts: int
    error: str


@event("webhook.recovered", 1)
class WebhookRecovered(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook takes events again."""

    id: ClientId
    position: int


@event("webhook.replayed", 1)
class WebhookReplayed(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook is told again of what came after a position, or from there on of what it had not come to yet."""

    id: ClientId
    after: int
    reason: Reason | None = None


@event("webhook.retried", 1)
class WebhookRetried(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event that was given up is to be told again; `position` is the event's."""

    id: ClientId
    position: int
    reason: Reason | None = None


WEBHOOK = Kind(
    noun=NOUN, source=SOURCE, table="webhooks", content=Webhook, created=WebhookCreated, changed=WebhookChanged,
    deleted=WebhookDeleted,
)  # fmt: skip


class CreateWebhook(Struct, kw_only=True):
    """Command: a webhook comes into being. Its content was checked."""

    actor: str
    received_at_us: int
    content: WebhookPost
    drawn: Drawn


class ChangeWebhook(Change[WebhookChange], kw_only=True):
    """Command: change a webhook. The change was checked."""

    drawn: Drawn


class DeleteWebhook(Delete):
    """Command: a webhook is told nothing more."""


class ClaimWebhook(Struct):
    """Command: take on the telling of a webhook, for a while, unless another process has it."""

    received_at_us: int
    id: str
    claim_us: int


class Failure(Struct, frozen=True):
    """What an attempt came to that failed: at which event, and when to come back as the other side asked."""

    position: int
    error: str
    retry_after_s: int | None = None


class AdvanceWebhook(Struct):
    """Command: how far a webhook was told under a claim, and what failed then.

    `version` is the position of the change of the webhook that it was told by. With `done` it is let go, for there is
    nothing more to tell. `jitter_ppm` was drawn, in millionths of the wait.
    """

    received_at_us: int
    id: str
    claim: int
    version: int
    until: int
    delivered: int
    failure: Failure | None
    done: bool
    claim_us: int
    attempts_max: int
    jitter_ppm: int
    actor: str = "ledger:webhook"


class FinishDead(Struct):
    """Command: what telling a dead letter again came to."""

    received_at_us: int
    id: str
    claim: int
    version: int
    position: int
    error: str | None


class RetryDead(Struct):
    """Command: tell a dead letter again, soon."""

    actor: str
    received_at_us: int
    id: str
    position: int
    reason: str | None


class ReplayWebhook(Struct):
    """Command: tell a webhook of what came after a position."""

    actor: str
    received_at_us: int
    id: str
    after: int
    reason: str | None


class PostedReplay(Struct, kw_only=True, forbid_unknown_fields=True):
    """From where: the first event that is told is the next one after this position."""

    after: Annotated[int, Meta(ge=0, le=2**62)]
    reason: Reason | None = None


class PostedRetry(Struct, kw_only=True, forbid_unknown_fields=True):
    """Why, as kept in the journal. The body may be left out."""

    reason: Reason | None = None


class Delivery(Struct, kw_only=True):
    """How far a webhook is: told of all its events until `position`; `behind` is how many of any type follow.

    `attempts` are those at the next one. `failing`: an event was given up, and none taken since.
    """

    position: int
    behind: int
    delivered: int
    attempts: int
    due_at: str | None
    failing: bool
    dead_letters: int
    last_delivered_at: str | None
    last_error: str | None


class WebhookView(Struct, kw_only=True):
    """A webhook as read, without its secret. `position` is that of its latest change, and its ETag."""

    id: str
    url: str
    events: list[str]
    enabled: bool
    description: str | None
    previous_until: str | None
    deleted: bool
    position: int
    created_at: str
    changed_at: str
    delivery: Delivery | None = None


class WebhookReceipt(WebhookView, kw_only=True):
    """A webhook as it was created; a duplicate gets the first one."""

    duplicate: bool


class DeadLetter(Struct, kw_only=True):
    """An event that a webhook did not take. `retrying`: it is about to be told again."""

    position: int
    attempts: int
    failed_at: str
    error: str
    retrying: bool


def subject_of(id_: str) -> str:
    """What a webhook's data key is for."""
    return f"{NOUN}/{id_}"


def check_webhook(content: WebhookPost | WebhookChange) -> None:
    """Check what types cannot say of a posted webhook or change; raises InvalidInput."""
    patterns: Any = content.events
    unmet = [] if patterns is UNSET else [n for n, each in enumerate(patterns) if not takes([each], event_types())]
    if unmet:  # a mistyped one would never be told of anything
        message = "Expected a type of event that there is, all of a noun, or all: `account.credited`, `account.*`, `*`"
        raise InvalidInput(errors=tuple(FieldError(f"$.events[{n}]", message) for n in unmet))
    description: Any = content.description
    if isinstance(description, str) and not description.replace("\n", "").replace("\t", "").isprintable():
        raise InvalidInput(errors=(FieldError("$.description", "Expected printable characters only"),))
    secret: Any = content.secret
    if secret is not UNSET and key_of(secret) is None:
        raise InvalidInput(errors=(FieldError("$.secret", "Expected whsec_ and 24 to 64 bytes in Base64"),))


def takes(patterns: list[str], stored_types: tuple[str, ...]) -> list[str]:
    """The stored types that patterns mean."""
    return [each for each in stored_types if any(_means(pattern, each) for pattern in patterns)]


def _means(pattern: str, stored: str) -> bool:
    name = stored.rpartition(".")[0]
    return pattern in {"*", name, f"{name.partition('.')[0]}.*"}
