"""Calls as they come: each as it is now, an app's own alone, and never one twice for its events in one step."""

from pathlib import Path

from ledger import reads
from tests.serving import APP, CALLS, OTHER_APP, a_call, serving


def test_changed_calls_are_told_once_and_to_their_app(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        start = service.position()
        service.post(CALLS, a_call("mine"))
        service.post(CALLS, a_call("theirs"), OTHER_APP)
        correction = {"id": "fix", "reason": "test", "set": {"model": "other"}}
        assert service.post(f"{CALLS}/mine/corrections", correction).status_code == 201
        readers = service.ledger.readers
        every, head = readers.now(reads.changed_calls, start, 64, None)
        own, _ = readers.now(reads.changed_calls, start, 64, APP)
        first, after = readers.now(reads.changed_calls, start, 1, OTHER_APP)
        later, end = readers.now(reads.changed_calls, head, 64, None)
    assert [(call.id, call.app, call.model) for call in every] == [
        ("mine", APP, "other"), ("theirs", OTHER_APP, "gpt-4o")]  # fmt: skip
    assert [call.id for call in own] == ["mine"]
    assert (first, after) == ([], start + 1)
    assert (later, end) == ([], head)
    assert head == start + 3


def test_another_apps_stream_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        assert service.get(f"/v1/live-calls/stream?app={OTHER_APP}", APP).status_code == 403
