"""`usage-ledger import …`: calls out of other records."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from ops.azure_trace import TraceError, read_calls
from ops.bootstrap import clock_us, opened, rating_policy
from ops.call_import import Call, Imported, client, import_calls, into_ledger, over_http
from ops.settings import Settings
from ops.terminal import answer, note, progress_bar, takes_json, takes_settings


@click.group("import")
def import_group() -> None:
    """Bring calls in from elsewhere. Importing the same file again counts nothing twice."""


@import_group.command("azure-llm-trace")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--app", metavar="ID", required=True, help="The application that the calls are of.")
@click.option("--provider", metavar="ID", required=True, help="The provider that was called.")
@click.option("--model", metavar="NAME", required=True, help="The model that was called.")
@click.option("--url", help="Post to the service at this address; without it, straight into the data directory.")
@click.option("--key", help="API key for --url: of role admin, or of the app.")
@takes_json
@takes_settings
@click.pass_context
def azure_llm_trace(  # noqa: PLR0913 - the options are the contract's
    context: click.Context,
    settings: Settings,
    file: Path,
    *,
    app: str,
    provider: str,
    model: str,
    url: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Import a CSV of the Azure LLM inference traces. Exit 1 if any call was rejected."""
    if (url is None) != (key is None):
        raise click.UsageError("--url and --key go together")
    calls = partial(read_calls, file, app=app, provider=provider, model=model)
    # The whole file is read once before, so that a malformed line is found while nothing has been imported.
    total = _checked(file, calls)
    with ExitStack() as stack:
        if url is not None and key is not None:
            post = over_http(stack.enter_context(client(url, key)))
        else:
            post = into_ledger(stack.enter_context(opened(settings)), clock_us, rating_policy(settings))
        progress = stack.enter_context(progress_bar())
        result = import_calls(calls(), post, lambda done: progress("calls", done, total))
    _tell(result, as_json=as_json)
    context.exit(1 if result.rejected else 0)


def _checked(file: Path, calls: Callable[[], Iterator[Call]]) -> int:
    try:
        return sum(1 for _ in calls())
    except TraceError as error:
        raise click.ClickException(f"{file}: {error}") from None


def _tell(result: Imported, *, as_json: bool) -> None:
    text = f"accepted {result.accepted}, duplicate {result.duplicate}, rejected {result.rejected}"
    answer(result, text, as_json=as_json)
    for failure in result.failures:
        note(f"rejected: {failure.id}: {failure.detail} [{failure.code}]")


COMMAND = import_group
