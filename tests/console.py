"""The command line for tests: inside this process where nothing is served, else as a process of its own."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner, Result

from ops.bootstrap import clock_us, opened
from ops.call_import import import_calls, into_ledger
from ops.cli import main
from ops.sample_traffic import Traffic
from ops.settings import Settings, load
from schema.times import DAY_US
from tests.sources import ROOT

COMMAND = (sys.executable, "-m", "ops.cli")
WAIT_S_MAX = 30
APPS = ("shop", "ide")


def settings_of(data_dir: Path, **variables: str) -> Settings:
    """Settings of a directory; nothing here is about power cuts, so nothing waits for the disk."""
    given = {f"USAGE_LEDGER_{name.upper()}": value for name, value in variables.items()}
    return load({"USAGE_LEDGER_DATA_DIR": str(data_dir), "USAGE_LEDGER_DURABILITY": "os", **given})


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    """A command run in this process, which keeps its own logging."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    try:
        return CliRunner().invoke(main, [str(each) for each in arguments], env=env)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)


def answer(*arguments: str | Path) -> Any:  # noqa: ANN401 - whatever JSON the command answers
    """What a command says with `--json`."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def fill(settings: Settings, calls: int, *, seed: int = 1) -> None:
    """A ledger with so many sample calls, some of yesterday."""
    end_us = clock_us()
    with opened(settings) as ledger:
        history = Traffic(seed, apps=APPS, users=20).history(end_us - DAY_US, end_us, calls)
        done = import_calls(history, into_ledger(ledger, clock_us), lambda _: None)
    assert (done.accepted, done.rejected) == (calls, 0)


def start(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.Popen[str]":
    """A command as a process in a group of its own, as a shell starts it."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [*COMMAND, *(str(each) for each in arguments)],
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S_MAX} s for {what}"
        time.sleep(0.02)
