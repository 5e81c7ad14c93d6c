"""No binary fraction reaches money: not in the code that handles it, not in an answer that shows it."""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, cast

import pytest

from tests.serving import CALLS, Json, a_call, serving
from tests.sources import LAYERS, python_files, read

MONEY_WORDS = ("rate", "rating", "money", "price", "pricing", "cost", "rerate")
MONEY_FILES = [
    *("schema/money.py", "schema/model_rate.py", "schema/unit.py", "ledger/rating.py", "ledger/rate_book.py"),
    *("ledger/rate_acceptance.py", "ledger/commands/model_rate.py", "projections/model_rate.py"),
    *("schema/conversion.py", "schema/package.py", "schema/coupon.py", "schema/order.py", "schema/payment.py"),
    *("ledger/commands/order.py", "ledger/commands/order_refund.py", "ledger/commands/payment.py"),
    *("ledger/commands/coupon.py", "projections/order.py", "api/stripe_webhook.py", "api/standard_webhook.py"),
]
# Words in names that only look like those.
OTHER_WORDS = ("migrate", "generate", "operate", "integrate")
MONEY_KEYS = frozenset(
    {
        *("cost", "vendor_cost", "input", "output", "cache_read", "cache_write", "reasoning", "per_call", "per_second"),
        *("image", "input_cost", "output_cost", "total_cost", "margin_percent", "credit_price", "markup"),
    }
)
# Keys whose values are objects of amounts by name.
AMOUNTS = frozenset({"lines", "moved", "margin"})


def money_files() -> list[str]:
    found = [path for path in python_files(*LAYERS) if is_money_file(PurePath(path).stem) and "bench" not in path]
    return sorted({*MONEY_FILES, *found})


def is_money_file(stem: str) -> bool:
    return any(word in stem for word in MONEY_WORDS) and not any(word in stem for word in OTHER_WORDS)


def binary_fractions(source: str) -> list[int]:
    """Lines with a float literal, `float`, `round`, or true division."""
    return [getattr(node, "lineno", 0) for node in ast.walk(ast.parse(source)) if is_fraction(node)]


def is_fraction(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=float() | complex()):
            return True
        case ast.Name(id="float" | "round" | "complex"):
            return True
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            return True
        case ast.BinOp(op=ast.Pow(), right=ast.UnaryOp(op=ast.USub())):
            return True
        case _:
            return False


@pytest.mark.parametrize("path", money_files())
def test_code_of_money_has_no_float(path: str) -> None:
    assert binary_fractions(read(path)) == []


def test_files_of_money_are_found_by_name() -> None:
    found = money_files()
    assert {"ledger/rate_reads.py", "ledger/repricing.py", "api/routes/model_rate.py"} <= set(found)
    assert "ledger/migrate.py" not in found


@pytest.mark.parametrize(
    "source", ["x = 0.5", "x = float(y)", "def f(x: float) -> None: ...", "x = a / b", "x /= 2", "round(x)", "10 ** -2"]
)
def test_a_planted_float_is_found(source: str) -> None:
    assert binary_fractions(source)


@pytest.mark.parametrize("source", ["x = a // b", "x = 10 ** 2", "x = 'a / b'", "rounded(x)"])
def test_integers_are_let_be(source: str) -> None:
    assert binary_fractions(source) == []


def amounts(value: Any, path: str = "$") -> Iterator[tuple[str, object]]:  # noqa: ANN401 - any part of an answer
    """Every value that is money, with its path."""
    if isinstance(value, list):
        for n, part in enumerate(cast("list[Any]", value)):
            yield from amounts(part, f"{path}[{n}]")
    elif isinstance(value, dict):
        for key, part in cast("Json", value).items():
            if isinstance(part, dict) and key in AMOUNTS:
                yield from ((f"{path}.{key}.{name}", each) for name, each in cast("Json", part).items())
            elif key in MONEY_KEYS and not isinstance(part, dict):
                yield f"{path}.{key}", part
            else:
                yield from amounts(part, f"{path}.{key}")


def test_answers_show_money_as_plain_decimal_strings(tmp_path: Path) -> None:
    """Rates, histories, prices, re-pricings, calls and statistics: a string or null, without an exponent."""
    prices = {"input": "0.000000000001", "output": "99999.999999999999", "lines": {"web_searches": "0.01"}}
    rate = {"id": "r", "provider": "openai", "model": "gpt-4o", "mode": "upstream", "markup": "1", "vendor": prices}
    book = prices | {"tiers": [{"above": 10, "input": "0.1"}], "variants": [{"when": {"a": "b"}, "input": "0.2"}]}
    manual = {"id": "s", "provider": "openai", "model": "gpt-4o", "type": "embedding", **book, "vendor": {"input": "1"}}
    repricing = {"id": "q", "margin_percent": "0.5", "dry_run": True}
    with serving(tmp_path) as service:
        answers = [service.post("/v1/model-rates", each, "admin") for each in (rate, manual)]
        answers += [service.post(CALLS, a_call()), service.post("/v1/model-rates/reprice", repricing, "admin")]
        paths = ("/v1/model-rates", "/v1/model-rates/s", "/v1/model-prices", CALLS, "/v1/model-call-stats")
        history = "/v1/model-rates/history?provider=openai&model=gpt-4o"
        answers += [service.get(path) for path in (*paths, history)]
    assert [answer.status_code for answer in answers if answer.status_code >= 300] == []
    found = [pair for answer in answers for pair in amounts(answer.json())]
    assert len(found) > 100
    assert [pair for pair in found if not isinstance(pair[1], str | None)] == []
    assert [text for _, text in found if isinstance(text, str) and set(text) - set("-.0123456789")] == []
    assert any(text == "0.000000000001" for _, text in found)
