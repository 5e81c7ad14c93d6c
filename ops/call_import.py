"""Bringing calls in, in batches that can be sent again: an id never counts twice.

Either way in, HTTP or straight into the file, is a function from a batch to what became of it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from ledger.ledger import Ledger
from ledger.writer import Outcome
from ops.keys import ACTOR
from schema.acceptance import accept
from schema.errors import IdConflict, InvalidInput, LedgerError, ServiceRefused, ServiceUnreachable
from schema.model_call import DEFAULT_POLICY, ModelCallRecorded, RatingPolicy, RecordModelCall

BATCH_CALLS = 500
ATTEMPTS_MAX = 12
WAIT_S_MAX = 30
REQUEST_TIMEOUT_S = 60
FAILURES_SHOWN_MAX = 20
MULTI_STATUS = 207
LATER = (429, 503)

Call = dict[str, object]
Sleep = Callable[[float], None]


class Failure(Struct, kw_only=True):
    """A call that was not taken, and why."""

    index: int
    id: str
    code: str
    detail: str
    retryable: bool = False


class Answer(Struct, kw_only=True):
    """What became of a batch; or `retry_after_s`, when nothing of it was taken and it can be sent again."""

    accepted: int = 0
    duplicate: int = 0
    failures: list[Failure] = []
    retry_after_s: int | None = None
    detail: str = ""


Post = Callable[[list[Call]], Answer]


class Imported(Struct, kw_only=True):
    """What became of all calls. `failures` has the first of those that were rejected."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    failures: list[Failure] = []

    def reject(self, failures: list[Failure]) -> None:
        self.rejected += len(failures)
        self.failures = [*self.failures, *failures][:FAILURES_SHOWN_MAX]


def import_calls(calls: Iterable[Call], post: Post, done: Callable[[int], None], sleep: Sleep = time.sleep) -> Imported:
    """Post all calls in batches; `done` hears how many are settled. Raises ServiceUnreachable or ServiceRefused."""
    result = Imported()
    for batch in _batches(calls):
        _send(batch, post, result, sleep)
        done(result.accepted + result.duplicate + result.rejected)
    return result


def _batches(calls: Iterable[Call]) -> Iterator[list[Call]]:
    rest = iter(calls)
    while batch := list(islice(rest, BATCH_CALLS)):
        yield batch


def _send(batch: list[Call], post: Post, result: Imported, sleep: Sleep) -> None:
    """Post a batch until each call is taken or refused for good, with the same ids each time."""
    again: list[Failure] = []
    detail = ""
    for attempt in range(ATTEMPTS_MAX):
        answer = post(batch)
        wait_s = min(2**attempt, WAIT_S_MAX)
        if answer.retry_after_s is not None:
            detail = answer.detail
            sleep(max(answer.retry_after_s, 1) if answer.retry_after_s else wait_s)
            continue
        result.accepted += answer.accepted
        result.duplicate += answer.duplicate
        again = [failure for failure in answer.failures if failure.retryable]
        result.reject([failure for failure in answer.failures if not failure.retryable])
        if not again:
            return
        batch = [batch[failure.index] for failure in again]
        sleep(wait_s)
    if not again:
        raise ServiceUnreachable(f"tried {ATTEMPTS_MAX} times: {detail}")
    result.reject(again)


def over_http(client: httpx.Client) -> Post:
    """Post to a service; the client has its address and key."""

    def post(batch: list[Call]) -> Answer:
        try:
            response = client.post("/v1/model-calls?items=failures", json=batch, timeout=REQUEST_TIMEOUT_S)
        except httpx.TransportError as error:
            return Answer(retry_after_s=0, detail=f"{client.base_url} does not answer: {error}")
        if response.status_code in LATER:
            return Answer(retry_after_s=_retry_after_s(response), detail=f"{response.status_code} {response.text}")
        if response.status_code != MULTI_STATUS:
            raise ServiceRefused(f"{response.status_code}: {_problem_text(response)}")
        return _answer(response.json())

    return post


def client(url: str, key: str) -> httpx.Client:
    """An HTTP client of a service."""
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"})


def _retry_after_s(response: httpx.Response) -> int:
    text = response.headers.get("Retry-After", "")
    return min(int(text), WAIT_S_MAX) if text.isdecimal() else 0


def _problem_text(response: httpx.Response) -> str:
    try:
        problem: dict[str, Any] = response.json()
        return f"{problem['detail']} ({problem['code']})"
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def _answer(body: dict[str, Any]) -> Answer:
    failures = [
        Failure(
            index=item["index"], id=item["id"] or "", code=item["problem"]["code"],
            detail=item["problem"]["detail"], retryable=item["problem"]["retryable"],
        )
        for item in body["items"]
        if item["problem"] is not None
    ]  # fmt: skip
    return Answer(accepted=body["accepted"], duplicate=body["duplicate"], failures=failures)


def into_ledger(ledger: Ledger, clock: Callable[[], int], policy: RatingPolicy = DEFAULT_POLICY) -> Post:
    """Write straight into an open ledger, beside a service or without one."""

    def post(batch: list[Call]) -> Answer:
        now_us = clock()
        answer = Answer(failures=[])
        commands: list[tuple[int, RecordModelCall]] = []
        for index, call in enumerate(batch):
            try:
                commands.append((index, _command(call, now_us, policy)))
            except LedgerError as error:
                answer.failures.append(_failure(index, call, error))
        outcomes = ledger.execute_now([command for _, command in commands])
        for (index, _), outcome in zip(commands, outcomes, strict=True):
            _count(answer, index, batch[index], outcome)
        return answer

    return post


def _command(call: Call, now_us: int, policy: RatingPolicy) -> RecordModelCall:
    try:
        recorded = msgspec.convert(call, ModelCallRecorded)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(error)) from None
    return RecordModelCall(ACTOR, now_us, accept(recorded, now_us), recorded, policy)


def _count(answer: Answer, index: int, call: Call, outcome: Outcome) -> None:
    if isinstance(outcome, LedgerError):
        answer.failures.append(_failure(index, call, outcome))
    elif outcome.duplicate:
        answer.duplicate += 1
    else:
        answer.accepted += 1


def _failure(index: int, call: Call, error: LedgerError) -> Failure:
    places = "; ".join(f"{each.path} {each.message}" for each in error.errors if not isinstance(error, IdConflict))
    detail = f"{error.detail} {places}".strip()
    return Failure(index=index, id=str(call.get("id")), code=error.code, detail=detail, retryable=error.retryable)
