"""Taking a callback: whose it is, whether it is signed, what it tells, and what the ledger made of it."""

from collections.abc import Mapping

import structlog

from api.body import translate
from api.payment_scheme import Callback, PaymentScheme, admit
from api.services import Services
from api.standard_webhook import StandardWebhooks
from api.stripe_webhook import StripeWebhooks
from ledger import order_reads
from schema.entry import Recorded
from schema.errors import FieldError, InvalidInput, NotFound, SecretUnreadable
from schema.payment import CallbackReceipt, PaymentReceived, RecordPayment
from schema.payment_client import PaymentClient, subject_of
from schema.payment_errors import BadSignature, PaymentMismatch

log = structlog.get_logger()

CALLBACK_BYTES_MAX = 65_536
SCHEMES: Mapping[str, PaymentScheme] = {"standard_webhooks": StandardWebhooks(), "stripe": StripeWebhooks()}


def require_scheme(schemes: Mapping[str, PaymentScheme], name: str, secret: Mapping[str, str]) -> None:
    """Raise InvalidInput unless there is this scheme, and every value of a secret can be one of its secrets."""
    scheme = schemes.get(name)
    if scheme is None:
        raise InvalidInput(errors=(FieldError("$.scheme", f"Expected one of {', '.join(sorted(schemes))}"),))
    bad = [field for field, value in secret.items() if not scheme.usable(value)]
    if bad:
        message = f"Expected a secret of scheme {name}: {(scheme.usable.__doc__ or '').strip()}"
        raise InvalidInput(errors=tuple(FieldError(f"$.secret.{field}", message) for field in bad))


async def take(services: Services, client_id: str, callback: Callback) -> CallbackReceipt:
    """What became of a callback; raises NotFound, BadSignature, InvalidInput, PaymentMismatch."""
    client, secrets = await _opened(services, client_id)
    now_us = services.clock()
    scheme = services.payment_schemes[client.scheme]
    try:
        admit(scheme, callback, secrets, now_us, client.tolerance_s)
    except BadSignature as error:
        log.warning("payment_callback_refused", client=client_id, detail=error.detail)
        raise
    try:
        payment = scheme.payment(callback.body)
    except (ValueError, RecursionError) as error:
        log.warning("payment_callback_unreadable", client=client_id)
        raise translate(error) from None
    if payment is None:
        return CallbackReceipt(status="ignored")
    command = RecordPayment(
        actor=f"payment-client:{client_id}", received_at_us=now_us, client=client_id, payment=payment
    )
    outcome = await services.ledger.execute_one(command, len(callback.body))
    assert outcome.recorded is not None
    return _receipt(outcome.recorded, duplicate=outcome.duplicate)


def _receipt(event: Recorded, *, duplicate: bool) -> CallbackReceipt:
    data = event.data
    assert isinstance(data, PaymentReceived)
    if data.outcome != "credited" and not duplicate:
        log.warning("payment_waits", payment=data.id, order=data.order, outcome=data.outcome, why=data.why)
    if data.outcome == "refused":
        raise PaymentMismatch(f"payment {data.id} for order {data.order}: {data.why}; recorded at {event.position}")
    return CallbackReceipt(
        status=data.outcome, payment=data.id, order=data.order, why=data.why, position=event.position,
        duplicate=duplicate,
    )  # fmt: skip


async def _opened(services: Services, id_: str) -> tuple[PaymentClient, list[str]]:
    """A payment client in use, and its secrets."""
    readers, keyring = services.ledger.readers, services.ledger.require_keyring()
    stand, wrapped = await readers.run(order_reads.payment_client, id_)
    client: PaymentClient = stand.content
    if stand.deleted or not client.enabled or client.scheme not in services.payment_schemes:
        raise NotFound(f"there is no payment client {id_} in use")
    subject = subject_of(id_)
    try:
        return client, list(keyring.open(client.secret, subject, wrapped).values())
    except SecretUnreadable:  # its data key may have been wrapped anew since it was read
        _, wrapped = await readers.run(order_reads.payment_client, id_)
        return client, list(keyring.open(client.secret, subject, wrapped).values())
