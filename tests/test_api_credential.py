"""Credentials over HTTP: created once, changed on a condition, deleted, erased; masked wherever they are shown."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import apsw
import pytest

from ledger import data_keys
from ledger.database import open_writer
from ledger.ledger import LEDGER_FILE, Ledger
from ops.backup import backup
from ops.verify import verify
from projections import catalogue
from schema.credential import CREDENTIAL, Credential, subject_of
from schema.errors import SecretUnreadable
from schema.sealed import MASK
from tests.credentials import (
    CREDENTIALS,
    PROVIDER,
    SECRET,
    a_credential,
    change,
    create,
    erase,
    of,
    remove,
    with_provider,
)
from tests.serving import OTHER_KEY, Service, a_keyring, captured_log, serving

MASKED = {"api_key": "sk-c****c592"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        with_provider(service)
        yield service


def opened(service: Service, id_: str) -> dict[str, str]:
    """The secret of a credential, as a lease would read it."""

    def read(db: apsw.Connection) -> dict[str, str]:
        stand = catalogue.find(db, CREDENTIAL, id_)
        assert stand is not None
        content: Credential = stand.content
        if content.secret is None:
            raise SecretUnreadable(id_)
        return a_keyring().open(content.secret, subject_of(id_), data_keys.find(db, subject_of(id_)))

    return service.ledger.readers.now(read)


@pytest.mark.parametrize(
    ("type_", "secret", "shown"),
    [
        ("api_key", {"api_key": SECRET}, MASKED),
        (
            "access_key_pair",
            {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "12345678"},
            {"access_key_id": "AKIA****MPLE", "secret_access_key": MASK},
        ),
        ("custom", {"user": "me", "pem.text": "-----BEGIN\nKEY-----"}, {"user": MASK, "pem.text": "----****----"}),
    ],
)
def test_each_type_is_created_masked_and_kept_whole(
    service: Service, type_: str, secret: dict[str, str], shown: dict[str, str]
) -> None:
    """Every string is masked in every answer, and opens to what was posted."""
    answer = create(service, type=type_, secret=secret)
    assert answer.status_code == 201, answer.text
    assert answer.json()["secret"] == shown
    for path in (f"{CREDENTIALS}/key-1", CREDENTIALS, of()):
        found = service.get(path).json()
        assert (found["items"][0] if "items" in found else found)["secret"] == shown
    assert opened(service, "key-1") == secret


def test_defaults_are_what_the_readme_says(service: Service) -> None:
    """What is left out has its default, the zone that of the service."""
    found = create(service).json()
    wanted = {
        "provider": PROVIDER, "name": None, "weight": 100, "priority": 0, "daily_limit": None, "monthly_limit": None,
        "timezone": "UTC", "enabled": True, "disabled_reason": None, "deleted": False, "erased": False,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"secret": {}}, "$.secret"),
        ({"secret": {"api_key": ""}}, "$.secret[...]"),
        ({"secret": {"api_key": "x", "more": "y"}}, "$.secret"),
        ({"secret": {"api_key": "x"}, "type": "access_key_pair"}, "$.secret"),
        ({"secret": {f"f{n}": "x" for n in range(17)}, "type": "custom"}, "$.secret"),
        ({"secret": {"api_key": "x" * 8_193}}, "$.secret[...]"),
        ({"secret": {"a": "x" * 8_192, "b": "x" * 8_192}, "type": "custom"}, "$.secret"),
        ({"weight": -1}, "$.weight"),
        ({"weight": 1_000_001}, "$.weight"),
        ({"priority": -1}, "$.priority"),
        ({"daily_limit": 0}, "$.daily_limit"),
        ({"monthly_limit": 10**12 + 1}, "$.monthly_limit"),
        ({"timezone": "Mars/Olympus"}, "$.timezone"),
        ({"name": "a\nb"}, "$.name"),
    ],
)
def test_what_is_out_of_form_is_refused(service: Service, fields: dict[str, object], path: str) -> None:
    """Each bound, at one beyond it, with the place of the fault; nothing is stored."""
    answer = service.post(of(), {**a_credential(), **fields}, "admin")
    assert answer.status_code == 400, answer.text
    assert [each["path"] for each in answer.json()["errors"]] == [path]
    assert service.get(f"{CREDENTIALS}/key-1").status_code == 404


def test_the_greatest_secret_is_taken(service: Service) -> None:
    """At the bounds, in bytes that are longest when they are written down."""
    secret = {"a": "x" * 8_192, "b": "\\" * 4_088}
    assert create(service, type="custom", secret=secret).status_code == 201
    assert opened(service, "key-1") == secret


def test_the_same_content_again_gets_the_first_answer(service: Service) -> None:
    """A repeated post is known by its content, though each sealing has other bytes; other content is refused."""
    first = create(service, timezone="Europe/Berlin")
    create(service, "key-2")
    position = service.position()
    again = create(service, timezone="Europe/Berlin")
    assert (first.status_code, again.status_code, again.json()["duplicate"]) == (201, 200, True)
    assert {**again.json(), "duplicate": False} == first.json()
    other = create(service, secret={"api_key": "another"}, weight=7)
    assert other.status_code == 409
    assert {each["path"] for each in other.json()["errors"]} == {"$.weight", "$.secret"}
    assert service.position() == position
    sealed = service.read("SELECT json_extract(data, '$.secret.ciphertext') FROM credentials ORDER BY id")
    assert sealed[0] != sealed[1]


def test_a_provider_must_be_there_and_stays_while_it_has_credentials(service: Service) -> None:
    """No credential dangles: not of an unknown provider, and none is left behind by a deletion."""
    assert create(service, provider="nobody").status_code == 404
    create(service)
    refused = service.request("DELETE", f"/v1/providers/{PROVIDER}", headers={"If-Match": "*"})
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")
    remove(service, "key-1", "?force=true")
    assert service.request("DELETE", f"/v1/providers/{PROVIDER}", headers={"If-Match": "*"}).status_code == 200
    assert create(service, "key-2").status_code == 404


def test_a_change_needs_the_current_tag_and_a_secret_is_replaced_whole(service: Service) -> None:
    """Fields that are given change; the secret that was given before adds no event when it comes again."""
    tag = create(service).headers["ETag"]
    assert change(service, "key-1", position="1", weight=5).status_code == 412
    new = {"api_key": "sk-another-9876543210"}
    changed = change(service, "key-1", position=tag, weight=5, secret=new, name="main")
    assert (changed.status_code, changed.json()["secret"]) == (200, {"api_key": "sk-a****3210"})
    position = service.position()
    assert change(service, "key-1", secret=new, weight=5).status_code == 200
    assert service.position() == position
    assert opened(service, "key-1") == new
    assert change(service, "key-1", secret={"user": "x"}).status_code == 400


@pytest.mark.parametrize("how", ["disable", "drain", "delete", "erase"])
def test_the_last_one_in_use_goes_only_by_force(service: Service, how: str) -> None:
    """Of two the first may go; the second is refused, and goes with `force`."""
    create(service, "key-1")
    create(service, "key-2")
    create(service, "drained", weight=0)
    create(service, "off", enabled=False)

    def go(id_: str, query: str = "") -> int:
        if how in {"disable", "drain"}:
            fields = {"enabled": False} if how == "disable" else {"weight": 0}
            return change(service, id_, query, **fields).status_code
        return (remove if how == "delete" else erase)(service, id_, query).status_code

    assert (go("key-1"), go("key-2"), go("key-2", "?force=true")) == (200, 409, 200)
    assert change(service, "drained", name="still").status_code == 200
    assert (go("off"), go("drained")) == (200, 200)


def test_by_hand_shows_as_manual(service: Service) -> None:
    """Disabling and enabling by hand say so."""
    create(service)
    create(service, "key-2", enabled=False)
    assert service.get(f"{CREDENTIALS}/key-2").json()["disabled_reason"] == "manual"
    assert change(service, "key-1", "?force=true", enabled=False).json()["disabled_reason"] == "manual"
    assert change(service, "key-1", enabled=True).json()["disabled_reason"] is None


def test_lists_filter_and_page(service: Service) -> None:
    """By priority and id, in pages, deleted ones on request."""
    with_provider(service, "other")
    for n, priority in enumerate((2, 0, 1, 0)):
        create(service, f"key-{n}", priority=priority, enabled=n != 3)
    create(service, "elsewhere", provider="other", name="find me")
    remove(service, "key-2")

    def ids(query: str, path: str = CREDENTIALS) -> list[str]:
        return [each["id"] for each in service.get(path + query).json()["items"]]

    assert ids("") == ["elsewhere", "key-1", "key-3", "key-0"]
    assert ids("?deleted=true", of()) == ["key-1", "key-3", "key-2", "key-0"]
    assert (ids("?enabled=false"), ids("?q=FIND"), ids("?provider=other")) == (["key-3"], ["elsewhere"], ["elsewhere"])
    page = service.get(f"{of()}?limit=2").json()
    assert [each["id"] for each in page["items"]] == ["key-1", "key-3"]
    assert ids(f"?limit=2&cursor={page['next_cursor']}", of()) == ["key-0"]
    assert service.get(of("nobody")).status_code == 404


def test_the_history_tells_what_changed_and_masks_secrets(service: Service) -> None:
    """Also where old and new secret look the same, and page by page."""
    create(service, secret={"api_key": "short"})
    change(service, "key-1", secret={"api_key": "tiny"})
    change(service, "key-1", weight=3)
    remove(service, "key-1", "?force=true&reason=left")
    erase(service, "key-1", json={"reason": "asked to"})
    path = f"{CREDENTIALS}/key-1/history"
    items = service.get(path).json()["items"]
    changes = [[(each["field"], each["before"], each["after"]) for each in item["changes"]] for item in items]
    hidden = {"api_key": MASK}
    assert changes == [
        [("provider", None, PROVIDER), ("secret", None, hidden)],
        [("secret", hidden, hidden)],
        [("weight", 100, 3)],
        [("deleted", False, True)],
        [("erased", False, True)],
    ]
    assert [item["reason"] for item in items] == [None, None, None, "left", "asked to"]
    paged, cursor = list[object](), ""
    while cursor is not None:
        page = service.get(f"{path}?limit=2{cursor and f'&cursor={cursor}'}").json()
        paged, cursor = paged + page["items"], page["next_cursor"]
    assert paged == items
    assert service.get(f"{CREDENTIALS}/nobody/history").status_code == 404


def wait_for_cut_wal(data_dir: Path) -> None:
    deadline = monotonic() + 20
    while (data_dir / f"{LEDGER_FILE}-wal").stat().st_size:
        assert monotonic() < deadline
        sleep(0.05)


def test_erasing_is_for_ever(service: Service, tmp_path: Path) -> None:
    """No data key is left in file or WAL, reads show none, a repetition changes nothing, and `verify` passes."""
    for n in range(40):
        create(service, f"key-{n}")
        change(service, f"key-{n}", secret={"api_key": f"other-{n}"})
    wrapped: dict[str, bytes] = dict(service.read("SELECT subject, wrapped FROM data_keys"))
    gone = [f"key-{n}" for n in range(1, 40, 2)]
    for id_ in gone:
        answer = erase(service, id_)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["erased"], answer.json()["deleted"], answer.json()["secret"]) == (True, True, None)
    position = service.position()
    assert erase(service, gone[0]).status_code == 200
    assert (change(service, gone[0], weight=1).status_code, service.position()) == (404, position)
    assert create(service, gone[0]).status_code == 409
    wait_for_cut_wal(tmp_path)
    bytes_left = (tmp_path / LEDGER_FILE).read_bytes() + (tmp_path / f"{LEDGER_FILE}-wal").read_bytes()
    assert [id_ for id_ in gone if wrapped[subject_of(id_)] in bytes_left] == []
    assert wrapped[subject_of("key-0")] in bytes_left
    for id_ in gone:
        with pytest.raises(SecretUnreadable):
            opened(service, id_)
    assert opened(service, "key-0") == {"api_key": "other-0"}
    report = verify(tmp_path / LEDGER_FILE, keyring=a_keyring())
    assert (report.faults, report.notes) == ([], [])


def everything(service: Service, data_dir: Path) -> Iterator[tuple[str, bytes]]:
    """All that the ledger wrote and all that it answers."""
    backup(data_dir / LEDGER_FILE, data_dir / "copy.db")
    for path in sorted(data_dir.iterdir()):
        if path.name != "lock":
            yield path.name, path.read_bytes()
    for path in (
        CREDENTIALS, f"{CREDENTIALS}?deleted=true", f"{CREDENTIALS}/key-1", f"{CREDENTIALS}/key-1/history", of(),
        "/v1/events?after=0", "/schema", "/metrics", "/health/ready", f"/v1/providers/{PROVIDER}/history",
    ):  # fmt: skip
        yield path, service.get(path).content


def test_a_secret_is_nowhere_but_sealed(tmp_path: Path) -> None:
    """Posted, patched and refused secrets: in no file, backup, log line at debug, error, event, history or document."""
    canary = SECRET.encode()
    with captured_log("json", "debug") as log, serving(tmp_path) as service:
        with_provider(service)
        answers = [
            create(service),
            create(service, "key-2", type="custom", secret={"user": SECRET, "x": SECRET}),
            create(service, secret={"api_key": f"{SECRET}-2"}),
            change(service, "key-2", secret={"user": f"new {SECRET}"}),
            change(service, "key-2", secret={"user": f"new {SECRET}"}, weight=7, position="1"),
            change(service, "key-1", secret={"user": SECRET}),
            create(service, "key-3", provider="nobody"),
            create(service, "key-3", type=SECRET),
            create(service, "key-3", secret=SECRET),
            create(service, "key-3", secret={SECRET: 1}),
            create(service, "key-3", secret={"api_key": [SECRET]}),
            create(service, "key-3", weight=SECRET),
            service.post(of(), {**a_credential("key-3"), SECRET: 1}, "admin"),
            create(service, "key-3", timezone=SECRET),
            service.post(of(), a_credential("key-3"), "auditor"),
            service.send(json.dumps(a_credential("key-3")).encode()[:-1], "admin", path=of()),
            remove(service, "key-1"),
            erase(service, "key-2"),
        ]
        assert {answer.status_code for answer in answers} == {200, 201, 400, 403, 404, 409, 412}
        found = [f"{n}: {answer.text}" for n, answer in enumerate(answers) if canary in answer.content]
        found += [place for place, content in everything(service, tmp_path) if canary in content]
        assert found == []
        assert SECRET not in log()


def test_without_the_master_key_the_rest_goes_on(tmp_path: Path) -> None:
    """Under another master key secrets are unreadable, clearly so; a new secret is taken once that key is adopted."""
    with serving(tmp_path) as service:
        with_provider(service)
        create(service)
    with serving(tmp_path, keyring=a_keyring(OTHER_KEY)) as service:
        assert service.get(f"{CREDENTIALS}/key-1").json()["secret"] == MASKED
        for answer in (create(service), create(service, "key-2"), change(service, "key-1", secret={"api_key": "x"})):
            assert (answer.status_code, answer.json()["code"]) == (500, "secret_unreadable")
        assert change(service, "key-1", weight=3).status_code == 200
        report = verify(tmp_path / LEDGER_FILE, keyring=a_keyring(OTHER_KEY))
        assert report.ok
        assert [note.split(":")[0] for note in report.notes] == ["1 secrets cannot be read"]


def test_a_ledger_opened_without_a_keyring_takes_no_secret(tmp_path: Path) -> None:
    """Nothing is stored that could not be sealed."""
    ledger = Ledger(tmp_path, durability="os")
    with pytest.raises(SecretUnreadable):
        ledger.require_keyring()


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        ("DELETE FROM data_keys WHERE subject = 'credential/key-1'", "missing"),
        ("UPDATE data_keys SET subject = 'credential/other' WHERE subject = 'credential/key-1'", "missing"),
        ("INSERT INTO data_keys SELECT 'x', 'credential/x', master_key_id, nonce, wrapped, 0 FROM data_keys LIMIT 1",
         "no secret of"),
        ("UPDATE data_keys SET wrapped = zeroblob(48) WHERE subject = 'credential/key-2'", "it was changed"),
        ("DELETE FROM master_key", "no master key"),
    ],
)  # fmt: skip
def test_verify_finds_what_was_done_to_data_keys(tmp_path: Path, harm: str, problem: str) -> None:
    """Each invariant of the state, broken once."""
    with serving(tmp_path) as service:
        with_provider(service)
        create(service)
        create(service, "key-2")
    assert verify(tmp_path / LEDGER_FILE, keyring=a_keyring()).ok
    db = open_writer(tmp_path / LEDGER_FILE)
    db.execute(harm)
    db.close()
    report = verify(tmp_path / LEDGER_FILE, keyring=a_keyring())
    assert any(problem in str(fault) for fault in report.faults), report.faults


@pytest.mark.parametrize("id_", ["lease", ".", ".."])
def test_ids_that_paths_cannot_name_are_refused(tmp_path: Path, id_: str) -> None:
    with serving(tmp_path) as service:
        with_provider(service)
        found = create(service, id_)
        assert (found.status_code, found.json()["errors"][0]["path"]) == (400, "$.id")


def test_a_key_of_unprintable_characters_is_refused(tmp_path: Path) -> None:
    """It could not be sent in a header; the answer does not repeat it."""
    with serving(tmp_path) as service:
        with_provider(service)
        found = create(service, secret={"api_key": "sk-canary\n"})
        assert (found.status_code, found.json()["errors"][0]["path"]) == (400, "$.secret.api_key")
        assert "canary" not in found.text
