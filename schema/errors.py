"""Everything that can go wrong, as a closed tree: a stable code, a hint, and whether a retry helps.

A class's docstring is its default detail. HTTP statuses are the wire's business (`api/problems.py`).
"""

from typing import ClassVar

from msgspec import Struct


class FieldError(Struct, frozen=True):
    """One fault in an input: `path` is a JSON path such as `$.usage.input_tokens`."""

    path: str
    message: str


class LedgerError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal_error"
    hint: ClassVar[str] = "Report it with the time of the request; the server's log has the cause."
    retryable: ClassVar[bool] = False

    def __init__(
        self, detail: str = "", *, errors: tuple[FieldError, ...] = (), retry_after_s: int | None = None
    ) -> None:
        places = "; ".join(f"{error.path}: {error.message}" for error in errors)
        self.detail = detail or places or (type(self).__doc__ or "").strip()
        self.errors = errors
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)


class InvalidInput(LedgerError):
    """The input does not have the documented form."""

    code = "invalid_input"
    hint = "Compare the body with the OpenAPI document at /schema; `errors` names each place."


class MalformedJson(InvalidInput):
    """The body is not well-formed JSON in UTF-8."""

    code = "malformed_json"
    hint = "Send UTF-8 JSON; NaN, Infinity and lone surrogates are not JSON."


class OutOfRange(InvalidInput):
    """A value lies outside its documented bounds."""

    code = "out_of_range"
    hint = "Quantities are 0 to 10^12, times at most 24 hours ahead; the path names the value."


class InconsistentUsage(InvalidInput):
    """Parts of the usage exceed the whole that contains them."""

    code = "inconsistent_usage"
    hint = "input_tokens includes cache reads and writes; output_tokens includes reasoning."


class NoPrice(InvalidInput):
    """No rate prices this call, and this ledger takes only calls that it can price."""

    code = "no_price"
    hint = "Set a rate for the provider and model, or sync the price list; then post the call again."


class EntryTooLarge(InvalidInput):
    """The stored entry would exceed 65,535 bytes."""

    code = "entry_too_large"
    hint = "Shorten usage.native or metadata: an event with all its fields is at most 65,535 bytes."


class BodyTooLarge(InvalidInput):
    """The request body exceeds its limit."""

    code = "body_too_large"
    hint = "Split the batch: at most 10,000 items and 16 MiB a request."


class UnsupportedMediaType(InvalidInput):
    """The content type is not supported here."""

    code = "unsupported_media_type"
    hint = "Send `Content-Type: application/json`, or `application/x-ndjson` for a stream of calls."


class Unauthenticated(LedgerError):
    """A valid API key is required."""

    code = "unauthenticated"
    hint = "Send `Authorization: Bearer KEY`; `usage-ledger keys create` makes one."


class LinkSpent(LedgerError):
    """This sign-in link was used before, or its time is over."""

    code = "link_spent"
    hint = "Print another one with `usage-ledger sign-in-link`, or sign in with an API key."


class Forbidden(LedgerError):
    """This key's role does not allow that."""

    code = "forbidden"
    hint = "Use a key whose role allows it: app posts and reads its own, dashboard and auditor read."


class NotFound(LedgerError):
    """There is no such thing."""

    code = "not_found"
    hint = "Check the id, and as an admin name the app where two apps share it."


class MethodNotAllowed(LedgerError):
    """This path does not take that method."""

    code = "method_not_allowed"
    hint = "The `Allow` header and /schema list what it takes."


class IdConflict(LedgerError):
    """This id was used before with other content."""

    code = "id_conflict"
    hint = "An id stands for one content for ever: use a new id, or repeat the first content."


class NameTaken(LedgerError):
    """Another one that is not deleted has this name."""

    code = "name_taken"
    hint = "Choose another name, or change or delete the one that has it."


class LastActiveCredential(LedgerError):
    """No other credential of this provider is in use: without this one its calls have none."""

    code = "last_active_credential"
    hint = "Enable or add another one first, or repeat with `?force=true`."


class LimitReached(LedgerError):
    """There are as many of these as there may be."""

    code = "limit_reached"
    hint = "Delete, settle or release what is no longer used; the detail names the limit."


class SecretUnreadable(LedgerError):
    """This secret cannot be read: its key is not at hand or was erased, or what is stored was changed."""

    code = "secret_unreadable"
    hint = "Give the ledger the master key it was sealed under, or set the secret anew; the runbook tells how."


class InUse(LedgerError):
    """Something that is not deleted refers to this."""

    code = "in_use"
    hint = "Delete what refers to it first; the detail names one."


class PreconditionRequired(LedgerError):
    """A change needs an If-Match header."""

    code = "precondition_required"
    hint = 'Read it, and send its ETag back as `If-Match`, such as `If-Match: "12"`.'


class PreconditionFailed(LedgerError):
    """It was changed since it was read."""

    code = "precondition_failed"
    hint = "Read it again, see whether the change still applies, and send the new ETag as `If-Match`."


class AlreadyFinished(LedgerError):
    """The call was finished before with other content."""

    code = "already_finished"
    hint = "A call finishes once; the first end stands."


class NotFinished(LedgerError):
    """This call has not ended."""

    code = "not_finished"
    hint = "Complete or fail the call; what has ended can be corrected."


class CallVoided(LedgerError):
    """This call was voided: it counts no more, and cannot be corrected."""

    code = "call_voided"
    hint = "Post the call again under another id."


class InsufficientCredit(LedgerError):
    """The account does not have this much available; that is final for this id."""

    code = "insufficient_credit"
    hint = "Credit the account with what is missing, then ask again with a new id."

    missing: str | None = None

    @classmethod
    def by(cls, missing: str) -> "InsufficientCredit":
        """The decline of an amount, and by how many credits."""
        error = cls(f"{missing} credits are missing")
        error.missing = missing
        return error


class HoldClosed(LedgerError):
    """This hold was settled or released before."""

    code = "hold_closed"
    hint = "A hold ends once; GET /v1/holds/{id} tells how."


class RerateUnfinished(LedgerError):
    """This re-rate is under way, or was taken back."""

    code = "rerate_unfinished"
    hint = "GET /v1/rerates/{id} tells its status; a completed one can be reverted, once."


class NoCredential(LedgerError):
    """No credential can be lent now."""

    code = "no_credential"
    hint = "The detail counts why; add or enable a credential, raise a limit, or wait as Retry-After says."
    retryable = True


class AlreadyReported(LedgerError):
    """The lease was reported before with another outcome."""

    code = "already_reported"
    hint = "A lease ends once; the first report stands."


class LeaseEnded(LedgerError):
    """This lease is over, and its secret is not handed out again."""

    code = "lease_ended"
    hint = "Ask for another lease, under a new id."


class TooManyRequests(LedgerError):
    """This was asked for too often."""

    code = "too_many_requests"
    hint = "Wait as long as Retry-After says."
    retryable = True


class VendorFailed(LedgerError):
    """The vendor did not give what it was asked for."""

    code = "vendor_failed"
    hint = "The detail is what it said; POST /v1/providers/{provider_id}/test tries a credential alone."


class Overloaded(LedgerError):
    """The queue is full; nothing of this request was stored."""

    code = "overloaded"
    hint = "Retry with the same ids after the time in Retry-After."
    retryable = True


class StorageUnavailable(LedgerError):
    """The ledger's file could not be written; nothing of this was stored."""

    code = "storage_unavailable"
    hint = "Retry with the same ids; check the disk if it lasts."
    retryable = True


class OutcomeUnknown(LedgerError):
    """The storage failed while committing and whether this was stored cannot be told yet."""

    code = "outcome_unknown"
    hint = "Retry with the same ids: what was stored answers as a duplicate."
    retryable = True


class QueryTooExpensive(LedgerError):
    """The query exceeded its time or row limit."""

    code = "query_too_expensive"
    hint = "Narrow the range, coarsen the granularity or page with a smaller limit."


class Rebuilding(LedgerError):
    """This projection is being rebuilt; writes go on."""

    code = "rebuilding"
    hint = "Retry shortly; /health/ready shows how far the rebuild is."
    retryable = True


class Stopping(LedgerError):
    """The service is stopping."""

    code = "stopping"
    hint = "Retry with the same ids when it is back."
    retryable = True


class NewerFile(LedgerError):
    """The ledger file was written by newer software."""

    code = "newer_file"
    hint = "Install at least the version that last opened this file."


class MigrationChanged(LedgerError):
    """A migration that ran on this file differs from the one shipped."""

    code = "migration_changed"
    hint = "Migrations never change once released; restore the shipped file."


class UnsafeSqlite(LedgerError):
    """This SQLite or its settings cannot keep the ledger's promises."""

    code = "unsafe_sqlite"
    hint = "Install the pinned apsw; SQLite before 3.51.3 can corrupt WAL files."


class UnknownEventType(LedgerError):
    """The journal holds an event type that this version does not know."""

    code = "unknown_event_type"
    hint = "Install at least the version that wrote it; the projection stopped and skipped nothing."


class LedgerBusy(LedgerError):
    """Another process uses this data directory."""

    code = "ledger_busy"
    hint = "Stop the service first; DIR/lock is held while anyone runs."


class BadBackup(LedgerError):
    """The backup did not verify."""

    code = "bad_backup"
    hint = "Use another backup; the ledger in place was left untouched."


class InvalidSetting(LedgerError):
    """A setting has no usable value."""

    code = "invalid_setting"
    hint = "`usage-ledger settings` lists each with its default and meaning."


class AddressInUse(LedgerError):
    """The address to listen on is taken or cannot be had."""

    code = "address_in_use"
    hint = "Choose another with --host and --port, or stop what listens there."


class ServiceUnreachable(LedgerError):
    """The service did not answer."""

    code = "service_unreachable"
    hint = "Check the address and that the service runs; repeating the command counts nothing twice."
    retryable = True


class ServiceRefused(LedgerError):
    """The service refused the request."""

    code = "service_refused"
    hint = "The detail is the service's own; check the key and its role."


class NoLedger(LedgerError):
    """There is no ledger in this data directory."""

    code = "no_ledger"
    hint = "`usage-ledger init` makes one; --data-dir or USAGE_LEDGER_DATA_DIR names the directory."


class FileExists(LedgerError):
    """There is a file of this name already."""

    code = "file_exists"
    hint = "Choose another name; nothing is overwritten."
