"""Files of calls and statistics: whole, exact, and safe to open in a spreadsheet."""

import csv
import io
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest

from api.exports import EXPORTS_AT_ONCE_MAX
from api.services import services_of
from ledger.call_export import PAGE_CALLS
from ledger.csv_text import csv_text
from schema.money import parse_scaled
from tests.serving import APP, CALLS, OTHER_APP, Json, a_call, record, serving

FILE, MANIFEST, STATS = f"{CALLS}.csv", f"{CALLS}.csv/manifest", "/v1/model-call-stats"
RATE = {"id": "r", "provider": "openai", "model": "gpt-4o", "input": "0.0000025", "output": "0.00001",
        "effective_from": "2020-01-01T00:00:00Z", "vendor": {"input": "0.000001"}}  # fmt: skip
STRANGE = ("=1+2", "+1", "-1", "@x", 'a "b", c', "two\nlines", "\tx", "中文", "plain")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_cells_are_quoted_and_no_formula() -> None:
    """RFC 4180, and what a spreadsheet would calculate is text."""
    text = csv_text([("a", "b"), ('say "x", y', "=1+2"), (None, True), (-5, "line\r\nbreak")])
    assert text == 'a,b\r\n"say ""x"", y",\'=1+2\r\n,true\r\n-5,"line\r\nbreak"\r\n'


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_survive(tmp_path: Path, name: str) -> None:
    with serving(tmp_path) as service:
        printable = name.replace("\n", " ").replace("\t", " ")
        call = a_call(user_id=printable, error={"code": "x", "message": name}, status="failed")
        assert service.post(CALLS, call).status_code == 201
        [row] = rows_of(service.get(FILE).text)
        [stats] = rows_of(service.get(f"{STATS}.csv?group_by=user_id").text)
    for found, given in ((row["user_id"], printable), (row["error_message"], name), (stats["user_id"], printable)):
        assert found in {given, f"'{given}"}
        assert not found.startswith(("=", "+", "-", "@", "\t"))


def test_the_file_holds_every_call_and_the_manifest_says_so(tmp_path: Path) -> None:
    """Over more than one page, with the sums of its rows, byte for byte; calls that come later are not in it."""
    count = PAGE_CALLS * 2 + 7
    with serving(tmp_path) as service:
        service.post("/v1/model-rates", RATE, "admin")
        record(service.ledger, (a_call(f"c-{n}", app=APP if n % 2 else OTHER_APP) for n in range(count)))
        answer = service.get(FILE)
        rows = rows_of(answer.text)
        position = answer.headers["export-position"]
        service.post(CALLS, a_call("later"))
        manifest = service.get(f"{MANIFEST}?as_of={position}").json()
        own = rows_of(service.get(FILE, APP).text)
        assert service.get(FILE).text.count("\r\n") == count + 2
    assert {row["id"] for row in rows} == {f"c-{n}" for n in range(count)}
    assert len(rows) == manifest["rows"] == count
    assert (manifest["sha256"], manifest["bytes"]) == (sha256(answer.content).hexdigest(), len(answer.content))
    assert manifest["totals"]["input_tokens"] == sum(int(row["input_tokens"]) for row in rows)
    for name in ("cost", "vendor_cost"):
        total = sum(parse_scaled(row[name], 10) for row in rows if row[name])
        assert parse_scaled(manifest["totals"][name], 10) == total > 0
    assert {(row["app"], row["vendor_cost"]) for row in own} == {(APP, "")}


def test_an_export_takes_the_filters_of_the_list(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        service.post(CALLS, [a_call(f"c-{n}", model=f"m-{n % 3}", status="success") for n in range(9)])
        for query in ("model=m-1", "from=2026-11-22T11:00:00Z", "q=c-4", "model=nowhere", "min_duration_ms=1"):
            listed = [call["id"] for call in service.get(f"{CALLS}?{query}").json()["items"]]
            assert [row["id"] for row in rows_of(service.get(f"{FILE}?{query}").text)] == listed
        assert service.get(f"{FILE}?limit=1").status_code == 400


def test_exports_at_once_are_bounded(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        services = services_of(cast("Any", service.client).app)
        services.exports = EXPORTS_AT_ONCE_MAX
        assert service.get(FILE).json()["code"] == "overloaded"
        services.exports = EXPORTS_AT_ONCE_MAX - 1
        assert service.get(FILE).status_code == 200
        assert services.exports == EXPORTS_AT_ONCE_MAX - 1


def buckets(answer: Json) -> list[tuple[object, int]]:
    return [(bucket["group"].get("model", "rest"), bucket["calls"]) for bucket in answer["buckets"]]


def test_the_top_groups_and_a_remainder_add_up(tmp_path: Path) -> None:
    """By what is asked; the remainder says how many groups it is."""
    with serving(tmp_path) as service:
        each = [(m, n) for m in range(5) for n in range(m + 1)]
        usage = {m: {"input_tokens": 10 ** (4 - m)} for m in range(5)}
        service.post(CALLS, [a_call(f"c-{m}-{n}", model=f"m-{m}", usage=usage[m]) for m, n in each])
        for top, by in product((1, 2, 4, 5, 9), ("calls", "input_tokens")):
            answer = service.get(f"{STATS}?group_by=model&top={top}&top_by={by}").json()
            assert sum(calls for _, calls in buckets(answer)) == answer["totals"]["calls"] == 15
            assert answer["groups"] == 5
            order = range(4, -1, -1) if by == "calls" else range(5)
            assert {name for name, _ in buckets(answer)} - {"rest"} == {f"m-{m}" for m in list(order)[:top]}
            assert [each["others"] for each in answer["buckets"] if "others" in each] == ([5 - top] if top < 5 else [])
        plain = service.get(f"{STATS}?group_by=model").json()
        assert "groups" not in plain
        assert service.get(f"{STATS}?top=0").status_code == 400


def test_the_previous_period_is_as_long_and_just_before(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        times = ("07:59:59.999999", "08:00:00", "09:59:59.999999", "10:00:00", "11:59:59", "12:00:00")
        service.post(CALLS, [a_call(f"c-{n}", started_at=f"2026-11-22T{at}Z") for n, at in enumerate(times)])
        query = "from=2026-11-22T10:00:00Z&to=2026-11-22T12:00:00Z&compare=previous"
        for more in ("", "&granularity=hour&group_by=model", "&q=c-"):
            answer = service.get(f"{STATS}?{query}{more}").json()
            assert (answer["totals"]["calls"], answer["previous"]["calls"]) == (2, 2)
        assert service.get(f"{STATS}?{query}&model=nowhere").json()["previous"]["calls"] == 0
        assert "previous" not in service.get(STATS).json()


def test_errors_are_counted_by_reason(tmp_path: Path) -> None:
    """In the buckets of the zone, the most frequent first, the rest together."""
    codes = ["busy"] * 4 + ["timeout"] * 3 + ["odd", "rare", None]
    with serving(tmp_path) as service:
        service.post(CALLS, [a_call("fine"), *(
            a_call(f"c-{n}", status="failed", error=code and {"code": code}, started_at=f"2026-11-22T{n:02}:30:00Z")
            for n, code in enumerate(codes))])  # fmt: skip
        answer = service.get("/v1/model-call-errors?top=2&granularity=day&timezone=America/New_York").json()
        assert [(each["reason"], each["calls"], each["others"]) for each in answer["reasons"]] == [
            ("busy", 4, 0), ("timeout", 3, 0), (None, 3, 3)]  # fmt: skip
        assert (answer["failed"], answer["since"]) == (10, None)
        days: dict[str, int] = {}
        for each in answer["buckets"]:
            days[each["start"]] = days.get(each["start"], 0) + each["calls"]
        assert sorted(days.values()) == [5, 5]
        narrow = service.get("/v1/model-call-errors?q=busy").json()
        assert (narrow["failed"], len(narrow["reasons"])) == (4, 1)
