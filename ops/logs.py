"""Logging, set up in one place: structlog and the standard library alike go to stderr, as JSON or for a terminal."""

import logging.config
from collections.abc import MutableMapping
from typing import Any, Literal, cast

import structlog
from structlog.typing import Processor, WrappedLogger

LogFormat = Literal["json", "console"]

REDACTED = "[redacted]"
SECRET_WORDS = ("key", "token", "secret", "authorization", "sha256", "password", "cookie")
# Names that contain such a word and yet tell nothing: the id of a key, counts of tokens.
PUBLIC_NAMES = frozenset({"key_id"})
PUBLIC_SUFFIXES = ("_tokens",)


def is_secret(name: str) -> bool:
    """Whether values of this name stay out of the log."""
    lowered = name.lower()
    if lowered in PUBLIC_NAMES or lowered.endswith(PUBLIC_SUFFIXES):
        return False
    return any(word in lowered for word in SECRET_WORDS)


def redact(logger: WrappedLogger, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
    """A structlog processor: values under secret names are replaced, however deep."""
    return {key: REDACTED if is_secret(key) else _redacted(value) for key, value in event.items()}


def _redacted(value: Any) -> Any:  # noqa: ANN401 - a log value is of any type
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value)
        return {k: REDACTED if is_secret(str(k)) else _redacted(v) for k, v in items.items()}
    if isinstance(value, list | tuple):
        return [_redacted(part) for part in cast("list[Any]", value)]
    return value


def configure(level: str, format_: LogFormat) -> None:
    """Send every log line of this process to stderr."""
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logging.config.dictConfig(standard_config(level, format_))


def standard_config(level: str, format_: LogFormat) -> dict[str, Any]:
    """The standard library's configuration, for servers that insist on applying one themselves."""
    plain = {"level": level.upper(), "handlers": ["stderr"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "ops.logs.formatter", "format_": format_}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        # The server tells of every start and stop of a worker at info, and HTTP clients of every request.
        "loggers": {
            "_granian": {**plain, "level": "ERROR"},
            "httpx": {**plain, "level": "WARNING"},
            "httpcore": {**plain, "level": "WARNING"},
        },
    }


def formatter(format_: LogFormat) -> structlog.stdlib.ProcessorFormatter:
    """What turns an event into a line, whichever library it came from."""
    # Its default shows every frame's local variables, keys and headers among them.
    renderer: Processor = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    if format_ == "json":
        renderer = structlog.processors.JSONRenderer()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([structlog.processors.format_exc_info] if format_ == "json" else []),
            redact,
            renderer,
        ],
    )


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
