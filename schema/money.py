"""Exact decimals: integers of a named scale inside, plain decimal strings outside. Never a binary fraction."""

SECONDS_DECIMALS = 6
COST_DECIMALS = 10  # amounts are integers of 1e-10 credits
CREDIT_E10 = 10**COST_DECIMALS
RATE_DECIMALS = 12  # prices are integers of 1e-12 credits a unit
PERCENT_DECIMALS = 4
ZERO = "0"  # one object: a default is left out of an entry by identity
WRITTEN_MAX = 8_192  # a large group's worth: few are forgotten before they are read, and all stay near the processor
_written: dict[str, int] = {}


def parse_scaled(text: str, decimals: int) -> int:
    """`"12.5"` at two decimals is 1250. Expects digits with at most `decimals` of them after the point."""
    whole, _, fraction = text.partition(".")
    if len(fraction) > decimals:
        message = f"Expected at most {decimals} decimals"
        raise ValueError(message)
    return int(whole + fraction.ljust(decimals, "0"))


def half_up(numerator: int, denominator: int) -> int:
    """A quotient rounded to the nearest integer, exact halves up. Expects a positive denominator."""
    return (2 * numerator + denominator) // (2 * denominator)


def percent_moved(before: int, after: int) -> str | None:
    """By how many percent of `before` a number moved, to four decimals; None where it was 0."""
    if before == 0:
        return None
    return format_scaled(half_up((after - before) * 100 * 10**PERCENT_DECIMALS, before), PERCENT_DECIMALS)


def format_scaled(amount: int, decimals: int) -> str:
    """1250 at two decimals is `"12.5"`: no exponent, no trailing zeros."""
    digits = str(amount).zfill(decimals + 2 if amount < 0 else decimals + 1)
    fraction = digits[-decimals:].rstrip("0")
    return f"{digits[:-decimals]}.{fraction}" if fraction else digits[:-decimals]


def amount_text(amount_e10: int) -> str:
    """An amount of 1e-10 credits as a decimal string."""
    if 0 < amount_e10 < CREDIT_E10:  # as what nearly every call costs
        text = "0." + str(amount_e10).zfill(COST_DECIMALS).rstrip("0")
    elif amount_e10 > 0:  # as what an account has
        digits = str(amount_e10)
        fraction = digits[-COST_DECIMALS:].rstrip("0")
        text = f"{digits[:-COST_DECIMALS]}.{fraction}" if fraction else digits[:-COST_DECIMALS]
    elif amount_e10:
        text = format_scaled(amount_e10, COST_DECIMALS)
    else:
        return ZERO
    if len(_written) >= WRITTEN_MAX:
        _written.clear()
    _written[text] = amount_e10  # a call's amounts are written into its event and, a moment later, read into its row
    return text


def amount_e10(text: str) -> int:
    """A decimal string as 1e-10 credits."""
    amount = _written.get(text)
    return parse_scaled(text, COST_DECIMALS) if amount is None else amount
