"""`usage-ledger demo`."""

import os
import signal
from pathlib import Path
from types import FrameType

import click

from ops import demo, logs
from ops.serve import check_address, free_port
from ops.settings import Settings, load, override
from ops.terminal import progress_bar
from schema.errors import AddressInUse

DIRECTORY = "demo"


@click.command("demo")
@click.option("--data-dir", metavar="DIR", help="Data directory of its own [demo in the usual one: ./data/demo].")
@click.option("--host", help="Address to listen on [USAGE_LEDGER_HOST, or 127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on [USAGE_LEDGER_PORT, or 8000, or any that is free].")
def demo_command(*, data_dir: str | None, host: str | None, port: int | None) -> None:
    """Run the service on a ledger of its own, with sample calls arriving, until Ctrl-C. Nothing else is touched."""
    settings = load(os.environ)
    own = data_dir or str(Path(settings.data_dir) / DIRECTORY)
    settings = override(settings, data_dir=own, host=host, port=port, workers=1)
    logs.configure("warning", "console")
    if port is None:
        settings = _with_free_port(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with progress_bar() as progress:
            prepared = demo.prepare(settings, progress)
        demo.run(prepared, click.echo)
    except KeyboardInterrupt:  # stopped while still preparing: what is stored stays, the next run goes on from there
        return


def _with_free_port(settings: Settings) -> Settings:
    try:
        check_address(settings.host, settings.port)
    except AddressInUse:
        return override(settings, port=free_port(settings.host))
    return settings


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    raise KeyboardInterrupt


COMMAND = demo_command
