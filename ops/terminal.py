"""What the commands share: the options that all of them take, answers for scripts and people, progress bars."""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ledger import rebuild
from ops import logs
from ops.settings import load, override

Command = Callable[..., None]


def takes_settings(command: Command) -> Command:
    """Give a command its settings as first argument, with `--data-dir` over the environment's."""

    @click.option("--data-dir", metavar="DIR", help="Data directory [USAGE_LEDGER_DATA_DIR, or ./data].")
    @wraps(command)
    def run(*args: object, data_dir: str | None, **options: object) -> None:
        settings = override(load(os.environ), data_dir=data_dir)
        logs.configure(settings.log_level, "console" if sys.stderr.isatty() else settings.log_format)
        command(settings, *args, **options)

    return run


def takes_json(command: Command) -> Command:
    """Give a command the option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Answer as JSON, for scripts.")(command)


def answer(value: object, text: str, *, as_json: bool) -> None:
    """Print an answer on stdout: the value as one line of JSON, or the text."""
    click.echo(msgspec.json.encode(value).decode() if as_json else text)


def note(text: str) -> None:
    """Tell a person something, on stderr, so that stdout holds the answer alone."""
    click.echo(text, err=True)


@contextmanager
def progress_bar() -> Generator[rebuild.Progress, None, None]:
    """What shows `(what, done, total)` as bars on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield rebuild.quiet
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield show


def table(rows: list[tuple[str, str]]) -> str:
    """Two columns, the first as wide as its widest."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)
