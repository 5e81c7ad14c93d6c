"""`usage-ledger serve`."""

import click

from ops import logs
from ops.serve import announce_on_stderr, serve
from ops.settings import Settings, override
from ops.terminal import progress_bar, takes_settings


@click.command("serve")
@click.option("--host", help="Address to listen on [USAGE_LEDGER_HOST, or 127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on [USAGE_LEDGER_PORT, or 8000].")
@click.option("--workers", type=int, metavar="N", help="Worker processes [USAGE_LEDGER_WORKERS, or 1].")
@takes_settings
def serve_command(settings: Settings, *, host: str | None, port: int | None, workers: int | None) -> None:
    """Run the service until Ctrl-C or SIGTERM; what was accepted is finished first."""
    settings = override(settings, host=host, port=port, workers=workers)
    logs.configure(settings.log_level, settings.log_format)
    with progress_bar() as progress:
        serve(settings, announce_on_stderr, progress)


COMMAND = serve_command
