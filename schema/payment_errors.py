"""What can go wrong with orders, payments and coupons; as `schema/errors.py`."""

from schema.errors import InvalidInput, LedgerError, NotFound


class BadSignature(InvalidInput):
    """This callback is not signed by the payment client's secret, or not in time."""

    code = "bad_signature"
    hint = "Send the body byte for byte as it was signed, now; the runbook tells how a secret is replaced."


class PaymentMismatch(LedgerError):
    """The payment is not what the order asks for: it was recorded, and nothing was credited."""

    code = "payment_mismatch"
    hint = "GET /v1/payments?status=refused lists it; give the money back, or credit it by hand, and resolve it."


class OrderClosed(LedgerError):
    """This order cannot be changed like that any more."""

    code = "order_closed"
    hint = "GET /v1/orders/{id} tells its status; make another order, or refund a paid one."


class RefundExceedsPaid(LedgerError):
    """All refunds of an order together are at most what was paid."""

    code = "refund_exceeds_paid"
    hint = "Refund at most what is left; the detail says how much that is."


class NotForSale(LedgerError):
    """This cannot be bought now."""

    code = "not_for_sale"
    hint = "GET /v1/packages?active=true and GET /v1/conversions list what can be bought."


class CouponUnusable(LedgerError):
    """This coupon cannot be redeemed here and now."""

    code = "coupon_unusable"
    hint = "The detail says why: its time, its limits, or what it is for."


class UnknownCode(NotFound):
    """There is no coupon with this code."""

    code = "unknown_code"
    hint = "Check the code; letters may be in either case, and hyphens do not count."
