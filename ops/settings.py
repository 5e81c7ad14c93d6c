"""The settings: `USAGE_LEDGER_*` variables, each with its default and its meaning. Read once, at the edge."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from ledger.database import Durability
from ledger.keyring import master_keys
from ledger.queue import QUEUE_BYTES_MAX, QUEUE_COMMANDS_MAX
from projections.bucket import zone
from schema.catalogue import URL_PATTERN
from schema.credential import TIMEZONE_DEFAULT
from schema.errors import InvalidSetting, LedgerError
from schema.order import LIFETIME_S_DEFAULT

PREFIX = "USAGE_LEDGER_"
MASK = "********"

Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0, le=604_800)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class Settings(Struct, frozen=True, kw_only=True):
    """Each field is the setting of the same name in `SETTINGS`."""

    data_dir: Text
    host: Text
    port: Annotated[int, Meta(ge=1, le=65_535)]
    workers: Annotated[int, Meta(ge=1, le=64)]
    durability: Durability
    call_timeout_s: Seconds
    order_lifetime_s: Seconds
    sweep_interval_s: Seconds
    unpriced_calls: Literal["accept", "reject"]
    failed_calls: Literal["charge", "free"]
    quota_timezone: Text
    payment_system: Literal["none", "webhook", "stripe"]
    payment_url: str
    payment_secret: str
    payment_meter: str
    payment_decimals: Annotated[int, Meta(ge=0, le=10)]
    report_from: Literal["now", "beginning"]
    report_interval_s: Seconds
    report_calls_max: Positive
    report_attempts_max: Annotated[int, Meta(ge=1, le=1_000)]
    send_timeout_s: Annotated[float, Meta(gt=0, le=60)]
    webhook_attempts_max: Annotated[int, Meta(ge=1, le=1_000)]
    queue_commands_max: Positive
    queue_bytes_max: Positive
    session_lifetime_s: Seconds
    sse_heartbeat_s: Seconds
    sse_streams_max: Annotated[int, Meta(ge=0, le=100_000)]
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["json", "console"]
    secret_key: str = ""

    @property
    def directory(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)


class Setting(Struct, frozen=True):
    """A documented setting. `default` is written as in the environment."""

    name: str
    default: str
    help: str
    secret: bool = False
    check: Callable[[str], object] | None = None

    @property
    def variable(self) -> str:
        """The environment variable's name."""
        return PREFIX + self.name.upper()

    def shown(self, value: object) -> str:
        """The value as text; a secret is masked."""
        if self.secret and value:
            return MASK
        return f"{value:g}" if isinstance(value, float) else str(value)


def _url(text: str) -> None:
    if not re.match(URL_PATTERN, text):
        raise InvalidSetting("Expected an http or https address, without a user or password")


SETTINGS = (
    Setting("data_dir", "./data", "Directory of the ledger: ledger.db, lock, secret.key."),
    Setting("host", "127.0.0.1", "Address that the service listens on."),
    Setting("port", "8000", "Port that the service listens on."),
    Setting("workers", "1", "Worker processes of the service; each opens the same file."),
    Setting(
        "durability",
        "full",
        "full: a commit is on stable storage before it is acknowledged. os: the operating system syncs when it likes, "
        "so commits since the last checkpoint may vanish on power loss (never when only the process dies).",
    ),
    Setting("call_timeout_s", "1800", "Seconds after which a started call that has not ended is timed out."),
    Setting("order_lifetime_s", str(LIFETIME_S_DEFAULT), "Seconds after which an order that is not paid expires."),
    Setting("sweep_interval_s", "30", "Seconds between looking for what is over: calls, holds, free quota, orders."),
    Setting(
        "unpriced_calls",
        "accept",
        "accept: a call without a price is kept, with a reason, to be rated later. reject: it is refused as no_price.",
    ),
    Setting(
        "failed_calls",
        "charge",
        "charge: what a failed call used until then is charged. free: failed calls cost nothing.",
    ),
    Setting(
        "quota_timezone",
        TIMEZONE_DEFAULT,
        "IANA time zone of the days and months of credentials' quotas, for those that name none.",
        check=zone,
    ),
    Setting(
        "payment_system",
        "none",
        "Where usage is reported to: none; webhook, a signed POST to payment_url; or stripe, as meter events.",
    ),
    Setting("payment_url", "", "Address of the payment system; for stripe, empty means Stripe's own.", check=_url),
    Setting(
        "payment_secret",
        "",
        "webhook: what signs, whsec_ and 24 to 64 bytes in Base64. stripe: the API key.",
        secret=True,
    ),
    Setting("payment_meter", "", "stripe: the event_name of the meter."),
    Setting("payment_decimals", "10", "The unit of reported values is ten to the minus this many credits."),
    Setting(
        "report_from",
        "now",
        "now: usage is reported from the first start with a payment system on. beginning: all that there is.",
    ),
    Setting("report_interval_s", "600", "Seconds that usage of an app's user is collected before it is reported."),
    Setting("report_calls_max", "10000", "Calls of an app's user that are reported without waiting any longer."),
    Setting("report_attempts_max", "15", "Attempts to report a batch before it is given up as dead."),
    Setting("send_timeout_s", "10", "Seconds that a payment system or a webhook may take to answer."),
    Setting("webhook_attempts_max", "15", "Attempts to deliver an event to a webhook before it is given up as dead."),
    Setting(
        "queue_commands_max",
        str(QUEUE_COMMANDS_MAX),
        "Commands that may wait for the writer of a worker; beyond it, requests get 503.",
    ),
    Setting(
        "queue_bytes_max",
        str(QUEUE_BYTES_MAX),
        "Bytes of request bodies that may wait for the writer of a worker; beyond it, requests get 503.",
    ),
    Setting("session_lifetime_s", "43200", "Seconds after which the dashboard asks to sign in again."),
    Setting("sse_heartbeat_s", "15", "Seconds between heartbeats on a quiet event stream."),
    Setting("sse_streams_max", "100", "Event streams that a worker serves at once; beyond it, requests get 503."),
    Setting("log_level", "info", "Least level that is logged: debug, info, warning, error."),
    Setting("log_format", "json", "json: one object a line. console: for reading on a terminal."),
    Setting(
        "secret_key",
        "",
        "The master key: 32 bytes in Base64; or several apart by commas, the current one first. "
        "Empty: the file secret.key of the data directory, made by init.",
        secret=True,
        check=master_keys,
    ),
)
_TYPES = get_type_hints(Settings, include_extras=True)


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of an environment, an empty variable meaning the default. Raises InvalidSetting naming it."""
    values = {each.name: _parse(each, environ.get(each.variable) or each.default) for each in SETTINGS}
    return msgspec.convert(values, Settings)


def override(settings: Settings, **values: object) -> Settings:
    """The settings with some replaced, None meaning as it is. Raises InvalidSetting naming the variable."""
    known = {each.name: each for each in SETTINGS}
    given = {name: _parse(known[name], str(value)) for name, value in values.items() if value is not None}
    return msgspec.structs.replace(settings, **given)


def to_environ(settings: Settings) -> dict[str, str]:
    """What makes `load` give these settings in another process, whatever directory it runs in."""
    values = {each.variable: str(getattr(settings, each.name)) for each in SETTINGS}
    return {**values, f"{PREFIX}DATA_DIR": str(settings.directory.absolute())}


def unknown(environ: Mapping[str, str]) -> list[str]:
    """Variables with our prefix that are no settings: most likely mistyped."""
    known = {each.variable for each in SETTINGS}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def _parse(setting: Setting, text: str) -> object:
    try:
        value: object = msgspec.convert(text, _TYPES[setting.name], strict=False)
    except msgspec.ValidationError as error:
        expected = str(error).removesuffix(", got `str`")  # the environment holds nothing else
        raise InvalidSetting(f"{setting.variable}={setting.shown(text)}: {expected}") from None
    if setting.check and text:
        try:
            setting.check(text)
        except LedgerError as error:
            raise InvalidSetting(f"{setting.variable}: {error.detail}") from None
    return value
