"""The project's own text, as the tests about layers and tidiness read it."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Each may import from itself and from those after it.
LAYERS = ("ops", "api", "ledger", "projections", "schema")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def committed() -> tuple[str, ...]:
    """Paths that are in the repository, or would be by `git add .`."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(sorted(path for path in listed.split("\0") if path and (ROOT / path).is_file()))


def python_files(*packages: str) -> list[str]:
    """Paths of the packages' modules; of everything where no package is named."""
    python = [path for path in committed() if path.endswith(".py")]
    return [path for path in python if not packages or path.split("/")[0] in packages]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def texts() -> Iterator[tuple[str, str]]:
    """Every committed file that is text, with its path."""
    for path in committed():
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            yield path, content.decode(errors="replace")


def functions(source: str) -> list[Function]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]
