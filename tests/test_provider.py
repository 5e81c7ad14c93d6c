"""Providers over HTTP: created once, changed on a condition, deleted softly, and who changed what."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from schema.times import HOUR_US
from tests.catalogue import a_model, a_provider
from tests.serving import APP, NOW_US, Json, Service, at, serving

PROVIDERS = "/v1/providers"
OPENAI = f"{PROVIDERS}/openai"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def create(service: Service, id_: str = "openai", **fields: object) -> httpx.Response:
    return service.post(PROVIDERS, a_provider(id_, **fields), "admin")


def change(service: Service, tag: object, path: str = OPENAI, **fields: object) -> httpx.Response:
    """A PATCH with `If-Match`; no tag, no header."""
    headers = {} if tag is None else {"If-Match": str(tag)}
    return service.request("PATCH", path, json=fields, headers=headers)


def remove(service: Service, tag: object, path: str = OPENAI) -> httpx.Response:
    return service.request("DELETE", path, headers={} if tag is None else {"If-Match": str(tag)})


def problem(response: httpx.Response) -> tuple[int, str, set[str]]:
    document = response.json()
    return response.status_code, document["code"], {error["path"] for error in document.get("errors", [])}


def ids(service: Service, query: str = "") -> list[str]:
    return [item["id"] for item in service.get(f"{PROVIDERS}{query}").json()["items"]]


# Creating


def test_a_provider_is_created_and_read(service: Service) -> None:
    """Every field is shown, the defaults too; the ETag is the position of its latest event."""
    response = create(service, region=None, config={"timeout_s": 5})
    position = service.position()
    shown = {
        **a_provider(), "region": None, "sort": 0, "logo": None, "website": None, "description": None,
        "config": {"timeout_s": 5}, "auto_sync": False, "sync_interval_s": 86_400, "model_sync": None,
        "price_list_id": None, "fallback_providers": None, "deleted": False, "position": position,
        "created_at": at(NOW_US), "changed_at": at(NOW_US),
    }  # fmt: skip
    assert (response.status_code, response.json()) == (201, {**shown, "duplicate": False})
    found = service.get(OPENAI)
    assert (found.status_code, found.json()) == (200, shown)
    assert response.headers["etag"] == found.headers["etag"] == f'"{position}"'


def test_the_same_again_gets_the_first_answer(service: Service) -> None:
    """Later and after changes too; it stores nothing."""
    first = create(service)
    change(service, first.headers["etag"], sort=5)
    position = service.position()
    service.clock.now_us += HOUR_US
    again = create(service, sort=0, website=None)
    assert (again.status_code, again.json()) == (200, {**first.json(), "duplicate": True})
    assert service.position() == position


def test_other_content_under_the_same_id_is_refused(service: Service) -> None:
    """409 names every field that differs."""
    create(service)
    position = service.position()
    assert problem(create(service, enabled=False, name="other")) == (409, "id_conflict", {"$.enabled", "$.name"})
    assert service.position() == position


def test_a_name_is_one_providers(service: Service) -> None:
    """At creation and at a change; it is free again when its provider is deleted."""
    tag = create(service).headers["etag"]
    other = create(service, "b", name="other").headers["etag"]
    assert problem(create(service, "c", name="openai")) == (409, "name_taken", {"$.name"})
    assert problem(change(service, other, f"{PROVIDERS}/b", name="openai")) == (409, "name_taken", {"$.name"})
    assert change(service, tag, name="openai", sort=1).status_code == 200
    assert remove(service, "*").status_code == 200
    assert create(service, "c", name="openai").status_code == 201


@pytest.mark.parametrize(
    ("path", "code", "fields"),
    [
        ("$.region", "invalid_input", {"type": "bedrock"}),
        ("$.type", "invalid_input", {"type": "unheard_of"}),
        ("$.name", "out_of_range", {"name": ""}),
        ("$.name", "out_of_range", {"name": "n" * 201}),
        ("$.name", "invalid_input", {"name": "a\nb"}),
        ("$.description", "invalid_input", {"description": "a\u0000b"}),
        ("$.description", "out_of_range", {"description": "d" * 1_001}),
        ("$.base_url", "invalid_input", {"base_url": "ftp://example.com"}),
        ("$.base_url", "invalid_input", {"base_url": "https://user:password@example.com/"}),
        ("$.base_url", "invalid_input", {"base_url": "https://example.com/\u0007"}),
        ("$.sort", "out_of_range", {"sort": 1_000_001}),
        ("$.sync_interval_s", "out_of_range", {"sync_interval_s": 59}),
        ("$.fallback_providers", "out_of_range", {"fallback_providers": ["p"] * 17}),
        ("$.config", "out_of_range", {"config": {"a": "x" * 16_384}}),
        ("$.config", "invalid_input", {"config": []}),
        ("$.enabled", "invalid_input", {"enabled": None}),
        ("$.id", "invalid_input", {"id": "a/b"}),
        ("$", "invalid_input", {"position": 5}),
        ("$", "invalid_input", {"secret": "x"}),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_path(service: Service, path: str, code: str, fields: Json) -> None:
    """When posted, and most of it when changed; nothing is stored."""
    position = service.position()
    assert problem(create(service, **fields)) == (400, code, {path})
    assert service.position() == position
    tag = create(service).headers["etag"]
    if "id" not in fields:
        assert problem(change(service, tag, **fields)) == (400, code, {path})


def test_values_at_their_bounds_are_taken(service: Service) -> None:
    """The greatest of everything reads back as it was sent."""
    fields = {
        "name": "n" * 200, "description": "line\n\t" + "d" * 994, "type": "bedrock", "region": "r" * 200,
        "base_url": "https://" + "h" * 255 + "/" + "p" * 480, "sort": -1_000_000, "sync_interval_s": 31_536_000,
        "fallback_providers": ["p" * 128] * 16, "config": {"a": "x" * 16_376},
    }  # fmt: skip
    assert create(service, "i" * 128, **fields).status_code == 201
    shown = service.get(f"{PROVIDERS}/{'i' * 128}").json()
    assert {name: shown[name] for name in fields} == fields


# Changing


def test_a_change_sets_what_is_given(service: Service) -> None:
    """Null sets an optional field back; the answer is the provider as this change left it."""
    first = create(service).json()
    service.clock.now_us += HOUR_US
    response = change(service, f'"{first["position"]}"', enabled=False, display_name=None, sort=3)
    position = service.position()
    first.pop("duplicate")
    expected = {
        **first, "enabled": False, "display_name": None, "sort": 3, "position": position,
        "changed_at": at(NOW_US + HOUR_US),
    }  # fmt: skip
    assert (response.status_code, response.json()) == (200, expected)
    assert response.headers["etag"] == f'"{position}"'
    assert service.get(OPENAI).json() == expected


@pytest.mark.parametrize("fields", [{}, {"sort": 0}, {"enabled": True, "region": None, "name": "openai"}])
def test_a_change_of_nothing_adds_no_event(service: Service, fields: Json) -> None:
    first = create(service)
    position = service.position()
    service.clock.now_us += HOUR_US
    response = change(service, first.headers["etag"], **fields)
    assert (response.status_code, response.headers["etag"]) == (200, first.headers["etag"])
    assert {**response.json(), "duplicate": False} == first.json()
    assert service.position() == position


def test_a_change_needs_the_current_tag(service: Service) -> None:
    """428 without one, 412 with an old, foreign or malformed one; `*` takes whatever is there."""
    tag = create(service).headers["etag"]
    assert change(service, tag, sort=1).status_code == 200
    position = service.position()
    assert problem(change(service, None, sort=2)) == (428, "precondition_required", set())
    assert problem(remove(service, None)) == (428, "precondition_required", set())
    for wrong in (tag, '"0"', '"99999999999999999999"', 'W/"x"', "x", '"' + "9" * 17 + '"'):
        assert problem(change(service, wrong, sort=2)) == (412, "precondition_failed", set()), wrong
        assert problem(remove(service, wrong)) == (412, "precondition_failed", set())
    assert service.position() == position
    assert change(service, "*", sort=2).json()["sort"] == 2


def test_of_writers_with_one_tag_one_wins(service: Service) -> None:
    """The others are told, and nothing of theirs is there."""
    tag = create(service).headers["etag"]

    def patch(sort: int) -> httpx.Response:
        return change(service, tag, sort=sort)

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(patch, range(1, 9)))
    assert sorted(response.status_code for response in responses) == [200] + [412] * 7
    [won] = [response.json() for response in responses if response.status_code == 200]
    assert service.get(OPENAI).json() == won
    assert won["position"] == service.position()


def test_a_change_keeps_what_the_whole_needs(service: Service) -> None:
    """The type bedrock needs a region, whichever of the two is changed."""
    tag = create(service).headers["etag"]
    assert problem(change(service, tag, type="bedrock")) == (400, "invalid_input", {"$.region"})
    tag = change(service, tag, type="bedrock", region="eu-west-1").headers["etag"]
    assert problem(change(service, tag, region=None)) == (400, "invalid_input", {"$.region"})


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-ndjson", ""])
def test_a_body_is_json(service: Service, content_type: str) -> None:
    response = service.send(b"{}", "admin", content_type=content_type, path=PROVIDERS)
    assert problem(response) == (415, "unsupported_media_type", set())


# Deleting


def test_a_deleted_provider_stays_readable(service: Service) -> None:
    """Lists leave it out unless asked, its id stays taken, and a repeated deletion changes nothing."""
    first = create(service)
    create(service, "b", name="b")
    service.clock.now_us += HOUR_US
    gone = remove(service, first.headers["etag"])
    position = service.position()
    assert (gone.status_code, gone.json()["deleted"], gone.json()["position"]) == (200, True, position)
    assert service.get(OPENAI).json() == gone.json()
    assert gone.json()["changed_at"] == at(NOW_US + HOUR_US)
    assert (ids(service), ids(service, "?deleted=true")) == (["b"], ["b", "openai"])
    assert remove(service, first.headers["etag"]).json() == gone.json()
    assert remove(service, gone.headers["etag"]).json() == gone.json()
    assert problem(create(service))[:2] == (409, "id_conflict")
    assert problem(change(service, gone.headers["etag"], sort=1))[:2] == (404, "not_found")
    assert service.position() == position


def test_a_provider_in_use_is_not_deleted(service: Service) -> None:
    """Not while a model that is not deleted refers to it."""
    tag = create(service).headers["etag"]
    service.post("/v1/models", a_model(), "admin")
    response = remove(service, tag)
    assert problem(response) == (409, "in_use", set())
    assert "gpt-4o" in response.json()["detail"]
    remove(service, "*", "/v1/models/gpt-4o")
    assert remove(service, tag).status_code == 200


# Reading


def test_lists_filter(service: Service) -> None:
    create(service)
    create(service, "Bed", name="Amazon", type="bedrock", region="r", enabled=False, display_name=None)
    create(service, "c", name="50%_", type="custom", display_name="Its own")
    assert ids(service) == ["Bed", "c", "openai"]
    assert ids(service, "?type=bedrock") == ["Bed"]
    assert ids(service, "?enabled=true") == ["c", "openai"]
    assert ids(service, "?enabled=false") == ["Bed"]
    assert ids(service, "?q=OPEN") == ["openai"]
    assert ids(service, "?q=amazon") == ["Bed"]
    assert ids(service, "?q=its%20OWN") == ["c"]
    assert ids(service, "?q=%25_") == ["c"]
    assert ids(service, "?q=bed&enabled=true") == []
    for bad in ("?type=none", "?enabled=null", "?enabled=2", "?q=", "?kind=x", "?cursor=x", "?limit=0"):
        assert service.get(f"{PROVIDERS}{bad}").status_code == 400, bad


def test_lists_page_by_sort_and_id(service: Service) -> None:
    """Inserts before the cursor change nothing behind it."""
    for n, sort in enumerate((5, -5, 0, 0, 0, 1_000_000, -1_000_000)):
        create(service, f"p{n}", name=f"p{n}", sort=sort)
    seen: list[str] = []
    cursor, page = "", 0
    while cursor is not None:
        found = service.get(f"{PROVIDERS}?limit=2{cursor and f'&cursor={cursor}'}").json()
        seen += [item["id"] for item in found["items"]]
        cursor, page = found["next_cursor"], page + 1
        create(service, f"a{page}", name=f"a{page}", sort=-1_000_000)
    assert seen == ["p6", "p1", "p2", "p3", "p4", "p0", "p5"]


def test_config_is_the_admins(service: Service) -> None:
    """Others see null, in the list, the provider and its history."""
    tag = create(service, config={"proxy": "canary"}).headers["etag"]
    change(service, tag, config={"proxy": "canary-2"})
    for caller in ("auditor", "dashboard"):
        for path in (OPENAI, PROVIDERS, f"{OPENAI}/history"):
            response = service.get(path, caller)
            assert response.status_code == 200
            assert "canary" not in response.text
    assert "canary-2" in service.get(PROVIDERS).text
    assert "canary-2" in service.get(f"{OPENAI}/history").text
    for path in (OPENAI, PROVIDERS, f"{OPENAI}/history"):
        assert service.get(path, APP).status_code == 403


def test_history_tells_who_changed_what(service: Service) -> None:
    """Each event with the fields that it changed, before and after."""
    tag = create(service).headers["etag"]
    tag = change(service, tag, sort=4, display_name=None).headers["etag"]
    service.request("DELETE", f"{OPENAI}?reason=moved%20away", headers={"If-Match": tag})
    items = service.get(f"{OPENAI}/history").json()["items"]
    head = service.position()
    assert [(item["position"], item["type"], item["actor"], item["at"]) for item in items] == [
        (head - 2, "provider.created.v1", "key:admin", at(NOW_US)),
        (head - 1, "provider.changed.v1", "key:admin", at(NOW_US)),
        (head, "provider.deleted.v1", "key:admin", at(NOW_US)),
    ]
    created, changed, deleted = (item["changes"] for item in items)
    assert {"field": "name", "before": None, "after": "openai"} in created
    assert {"field": "sort", "before": 0, "after": 4} in changed
    assert {"field": "display_name", "before": "A vendor", "after": None} in changed
    assert len(changed) == 2
    assert deleted == [{"field": "deleted", "before": False, "after": True}]
    assert [item["reason"] for item in items] == [None, None, "moved away"]
    assert service.get(f"{PROVIDERS}/none/history").status_code == 404


def test_history_pages(service: Service) -> None:
    """A page's first item still tells what was before it; an id that begins with another's is its own."""
    create(service)
    create(service, "openai.2", name="two")
    for sort in range(1, 8):
        change(service, "*", sort=sort)
    whole = service.get(f"{OPENAI}/history").json()
    assert (len(whole["items"]), whole["next_cursor"]) == (8, None)
    for limit in (1, 3, 4, 8):
        items: list[Json] = []
        cursor = ""
        while cursor is not None:
            page = service.get(f"{OPENAI}/history?limit={limit}{cursor and f'&cursor={cursor}'}").json()
            assert len(page["items"]) <= limit
            items, cursor = items + page["items"], page["next_cursor"]
        assert items == whole["items"]


def test_what_is_not_there_is_not_found(service: Service) -> None:
    for response in (service.get(f"{PROVIDERS}/none"), change(service, "*", f"{PROVIDERS}/none")):
        assert problem(response) == (404, "not_found", set())
    assert problem(remove(service, '"1"', f"{PROVIDERS}/none")) == (404, "not_found", set())


def test_reasons_are_printable(service: Service) -> None:
    create(service)
    response = service.request("DELETE", f"{OPENAI}?reason=a%0Ab", headers={"If-Match": "*"})
    assert problem(response) == (400, "invalid_input", {"$.reason"})
