"""Models over HTTP: of a provider that there is, one a name, changed on a condition, listed for applications."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.catalogue import a_model, a_provider
from tests.serving import APP, CALLS, NOW_US, Json, Service, a_call, at, serving

MODELS = "/v1/models"
GPT = f"{MODELS}/gpt-4o"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        for id_ in ("openai", "azure"):
            assert service.post("/v1/providers", a_provider(id_), "admin").status_code == 201
        yield service


def create(service: Service, id_: str = "gpt-4o", **fields: object) -> httpx.Response:
    return service.post(MODELS, a_model(id_, **fields), "admin")


def change(service: Service, tag: object, path: str = GPT, **fields: object) -> httpx.Response:
    return service.request("PATCH", path, json=fields, headers={} if tag is None else {"If-Match": str(tag)})


def remove(service: Service, tag: object, path: str = GPT) -> httpx.Response:
    return service.request("DELETE", path, headers={} if tag is None else {"If-Match": str(tag)})


def problem(response: httpx.Response) -> tuple[int, str, set[str]]:
    document = response.json()
    return response.status_code, document["code"], {error["path"] for error in document.get("errors", [])}


def ids(service: Service, query: str = "") -> list[str]:
    return [item["id"] for item in service.get(f"{MODELS}{query}", APP).json()["items"]]


def test_a_model_is_created_and_read(service: Service) -> None:
    """Every field is shown, and any role may read it."""
    response = create(service)
    position = service.position()
    shown = {
        **a_model(), "description": None, "max_tokens": None, "logo": None, "sort": 0, "active": True,
        "metadata": None, "source": "hand", "missing_since": None, "deleted": False, "position": position,
        "created_at": at(NOW_US), "changed_at": at(NOW_US),
    }  # fmt: skip
    assert (response.status_code, response.json()) == (201, {**shown, "duplicate": False})
    for caller in ("admin", "auditor", "dashboard", APP):
        found = service.get(GPT, caller)
        assert (found.status_code, found.json(), found.headers["etag"]) == (200, shown, f'"{position}"')
    assert response.headers["etag"] == f'"{position}"'


def test_the_same_again_gets_the_first_answer(service: Service) -> None:
    first = create(service)
    position = service.position()
    again = create(service, sort=0)
    assert (again.status_code, again.json()) == (200, {**first.json(), "duplicate": True})
    other = create(service, group="O", capabilities=["vision", "stream"])
    assert problem(other) == (409, "id_conflict", {"$.group", "$.capabilities"})
    assert service.position() == position


def test_fifty_at_once_with_one_id_make_one_model(service: Service) -> None:

    def post(_: int) -> httpx.Response:
        return create(service)

    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(post, range(50)))
    assert sorted(response.status_code for response in responses) == [200] * 49 + [201]
    assert len({response.json()["position"] for response in responses}) == 1


def test_a_models_provider_exists(service: Service) -> None:
    """And is not deleted; a call may name what it likes."""
    assert problem(create(service, provider="nobody")) == (400, "invalid_input", {"$.provider"})
    remove(service, "*", "/v1/providers/azure")
    assert problem(create(service, provider="azure")) == (400, "invalid_input", {"$.provider"})
    assert service.post(CALLS, a_call(provider="nobody", model="nothing")).status_code == 201


def test_a_provider_has_a_model_once(service: Service) -> None:
    """Among live ones; another provider may have one of the same name."""
    create(service)
    assert problem(create(service, "b", model="gpt-4o")) == (409, "name_taken", {"$.model"})
    assert create(service, "c", model="gpt-4o", provider="azure").status_code == 201
    remove(service, "*")
    assert create(service, "b", model="gpt-4o").status_code == 201


@pytest.mark.parametrize(
    ("path", "code", "fields"),
    [
        ("$.category", "invalid_input", {"category": "chats"}),
        ("$.capabilities[1]", "invalid_input", {"capabilities": ["stream", "steam"]}),
        ("$.capabilities", "out_of_range", {"capabilities": ["stream"] * 17}),
        ("$.context_window", "out_of_range", {"context_window": 1_000_000_001}),
        ("$.max_tokens", "out_of_range", {"max_tokens": -1}),
        ("$.group", "invalid_input", {"group": "a\u2028b"}),
        ("$.metadata", "out_of_range", {"metadata": {"a": "x" * 16_384}}),
        ("$.logo", "invalid_input", {"logo": "javascript:alert(1)"}),
        ("$", "invalid_input", {"contextwindow": 5}),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_path(service: Service, path: str, code: str, fields: Json) -> None:
    assert problem(create(service, **fields)) == (400, code, {path})
    tag = create(service).headers["etag"]
    assert problem(change(service, tag, **fields)) == (400, code, {path})


def test_a_model_is_changed_on_a_condition(service: Service) -> None:
    """Its provider and name stay: they are what calls name."""
    tag = create(service).headers["etag"]
    assert problem(change(service, None, active=False))[:2] == (428, "precondition_required")
    assert problem(change(service, tag, provider="azure"))[:2] == (400, "invalid_input")
    assert problem(change(service, tag, model="gpt-5"))[:2] == (400, "invalid_input")
    changed = change(service, tag, active=False, group=None, metadata={"tier": 1})
    assert (changed.status_code, changed.json()["active"], changed.json()["group"]) == (200, False, None)
    assert service.get(GPT).json() == changed.json()
    assert problem(change(service, tag, active=True))[:2] == (412, "precondition_failed")
    assert change(service, changed.headers["etag"], active=False).headers["etag"] == changed.headers["etag"]


def test_of_two_writers_one_wins(service: Service) -> None:
    tag = create(service).headers["etag"]

    def patch(sort: int) -> httpx.Response:
        return change(service, tag, sort=sort)

    with ThreadPoolExecutor(2) as pool:
        responses = list(pool.map(patch, (1, 2)))
    assert sorted(response.status_code for response in responses) == [200, 412]


def test_a_deleted_model_stays_readable(service: Service) -> None:
    tag = create(service).headers["etag"]
    gone = remove(service, tag)
    assert gone.json() == service.get(GPT, APP).json()
    assert gone.json()["deleted"] is True
    assert (ids(service), ids(service, "?deleted=true")) == ([], ["gpt-4o"])
    assert problem(create(service))[:2] == (409, "id_conflict")
    assert remove(service, tag).json() == gone.json()


def test_lists_filter(service: Service) -> None:
    create(service)
    create(service, "dall-e", group="Image", category="image", capabilities=["image_generation"], sort=-1)
    create(service, "own", provider="azure", group=None, category=None, capabilities=None, active=False)
    assert ids(service) == ["dall-e", "gpt-4o", "own"]
    assert ids(service, "?provider=openai") == ["dall-e", "gpt-4o"]
    assert ids(service, "?group=GPT") == ["gpt-4o"]
    assert ids(service, "?category=image") == ["dall-e"]
    assert ids(service, "?capability=vision") == ["gpt-4o"]
    assert ids(service, "?active=false") == ["own"]
    assert ids(service, "?active=true&q=A") == ["dall-e", "gpt-4o"]
    assert ids(service, "?provider=azure&active=true") == []
    for bad in ("?category=none", "?capability=steam", "?active=null", "?provider=", "?group=", "?models=x"):
        assert service.get(f"{MODELS}{bad}").status_code == 400, bad


def test_groups_are_counted(service: Service) -> None:
    """Of models that are not deleted; null counts those that have none."""
    for n in range(3):
        create(service, f"m{n}")
    create(service, "other", group=None, category="image")
    remove(service, "*", f"{MODELS}/m0")
    assert service.get("/v1/model-groups", APP).json() == {
        "groups": [{"name": None, "models": 1}, {"name": "GPT", "models": 2}],
        "categories": [{"name": "chat", "models": 2}, {"name": "image", "models": 1}],
    }


def test_history_tells_who_changed_what(service: Service) -> None:
    tag = create(service).headers["etag"]
    change(service, tag, capabilities=["stream"], metadata={"a": 1})
    created, changed = service.get(f"{GPT}/history", APP).json()["items"]
    assert (created["type"], changed["type"]) == ("model.created.v1", "model.changed.v1")
    assert changed["changes"] == [
        {"field": "capabilities", "before": ["stream", "vision"], "after": ["stream"]},
        {"field": "metadata", "before": None, "after": {"a": 1}},
    ]


def test_only_admins_write(service: Service) -> None:
    position = service.position()
    for caller in ("auditor", "dashboard", APP):
        assert service.post(MODELS, a_model(), caller).status_code == 403
        for method in ("PATCH", "DELETE"):
            response = service.request(method, GPT, caller, headers={"If-Match": "*"})
            assert response.status_code == 403
    assert service.position() == position
