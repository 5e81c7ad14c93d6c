"""Parquet files: the rows of the CSV with types, exact, in groups, and a clear answer where the extra is missing."""

import sys
from decimal import Decimal
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from arro3.core import Table
from arro3.io import read_parquet

from api import parquet
from api.services import services_of
from ledger import call_export
from ledger.call_export import PAGE_CALLS
from schema.errors import QueryTooExpensive
from tests.serving import APP, CALLS, Json, Service, a_call, record, serving
from tests.test_export import RATE, STRANGE, rows_of

FORMS = tuple(f"/v1/{name}" for name in ("model-calls", "focus"))


def table_of(content: bytes, path: Path) -> list[Json]:
    (path / "file.parquet").write_bytes(content)
    table = Table.from_arrow(read_parquet(path / "file.parquet"))
    columns: list[list[Any]] = [cast("Any", table.column(name)).to_pylist() for name in table.column_names]
    return [dict(zip(table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


def plain(value: Any) -> str:  # noqa: ANN401 - a cell
    """A value as the CSV has it, but for the quotes that it puts before formulas."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            text = f"{value:f}"
            return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
        case int() | str():
            return str(value)
        case _:
            return f"{value:%Y-%m-%dT%H:%M:%S.%f}Z"


@pytest.mark.parametrize("path", FORMS)
def test_it_holds_what_the_csv_holds(tmp_path: Path, path: str) -> None:
    """Over more than a page: every cell, decimals to the last digit, and what its manifest says."""
    count = PAGE_CALLS + 7
    with serving(tmp_path) as service:
        service.post("/v1/model-rates", RATE, "admin")
        record(
            service.ledger,
            (a_call(f"c-{n}", app=APP, usage={"input_tokens": n, "seconds": "0.000001"}) for n in range(count)),
        )
        texts = [
            a_call(f"s-{n}", status="failed", error={"code": "x", "message": text}) for n, text in enumerate(STRANGE)
        ]
        service.post(CALLS, texts)
        answer = service.get(f"{path}.parquet")
        assert answer.headers["content-type"] == parquet.MEDIA_TYPE
        found = table_of(answer.content, tmp_path)
        expected = rows_of(service.get(f"{path}.csv").text)
        manifest = service.get(f"{path}.parquet/manifest?as_of={answer.headers['export-position']}").json()
        own = table_of(service.get(f"{path}.parquet", APP).content, tmp_path)
    assert len(found) == len(expected) == manifest["rows"] == count + len(STRANGE)
    for row, other in zip(found, expected, strict=True):
        for name, text in other.items():
            assert text in {plain(row[name]), f"'{plain(row[name])}"}, name
    cost = "cost" if "cost" in found[0] else "BilledCost"
    assert sum((row[cost] or 0) for row in found) == Decimal(manifest["totals"]["cost"]) > 0
    assert (manifest["sha256"], manifest["bytes"]) == (sha256(answer.content).hexdigest(), len(answer.content))
    assert {row["vendor_cost" if cost == "cost" else "x_VendorCost"] for row in own} == {None}


def test_no_call_is_a_file_of_no_rows(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        answer = service.get("/v1/model-calls.parquet?model=nowhere")
        assert answer.status_code == 200
        assert table_of(answer.content, tmp_path) == []


def test_without_the_extra_it_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arro3", cast("Any", None))
    with serving(tmp_path) as service:
        for path, more in product(FORMS, ("", "/manifest")):
            answer = service.get(f"{path}.parquet{more}")
            assert (answer.status_code, answer.json()["code"]) == (501, "missing_extra")
            assert "parquet" in answer.json()["hint"]
            assert service.get(f"{path}.csv{more}").status_code == 200
        assert exports(service) == 0
        assert 'data-forms="csv"' in service.get("/").text  # by which the dashboard has no link to it


def exports(service: Service) -> int:
    return services_of(cast("Any", service.client).app).exports


def test_a_read_that_fails_ends_the_file_and_lets_the_next_one_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing whole is answered, nothing hangs, and the place among the exports is free again."""
    read, pages = call_export.calls_page, 0

    def failing(*args: Any) -> Any:  # noqa: ANN401 - as the read
        nonlocal pages
        pages += 1
        if pages > 1:
            raise QueryTooExpensive("later")
        return read(*args)

    with serving(tmp_path) as service:
        record(service.ledger, (a_call(f"c-{n}", app=APP) for n in range(PAGE_CALLS + 1)))
        monkeypatch.setattr(call_export, "calls_page", failing)
        assert service.get("/v1/model-calls.parquet/manifest").json()["code"] == "query_too_expensive"
        assert exports(service) == 0
        monkeypatch.setattr(call_export, "calls_page", read)
        assert service.get("/v1/model-calls.parquet").status_code == 200
