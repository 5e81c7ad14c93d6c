"""Imports run ops → api → ledger → projections → schema, and only `ops` meets the world."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest

from tests.sources import LAYERS, python_files, read

Reach = tuple[int, str]

# What a layer must not reach, as patterns over dotted names; a module's name stands for all that is in it.
HTTP = ("litestar", "granian", "httpx", "http", "urllib", "socket", "ssl", "click")
DATABASE = ("apsw", "sqlite3")
FILES = ("os", "io", "pathlib", "shutil", "tempfile", "subprocess", "builtins.open")
TERMINAL = ("rich", "structlog", "logging", "builtins.input", "builtins.print")
WORLD = (
    # What measures durations (monotonic, perf_counter) and waits (sleep) does not tell the hour.
    *("time.*time", "time.*time_ns"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today", "datetime.date.today"),
    # `hmac.compare_digest` is the comparison that `secrets` also has.
    *("random", "secrets", "uuid.uuid1", "uuid.uuid4", "uuid.uuid6", "uuid.uuid7"),
    *("os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.urandom", "os.getrandom"),
    *("cryptography.*.generate", "cryptography.*.generate_key", "cryptography.*.generate_private_key"),
)
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "ops": (),
    "api": (*WORLD, *DATABASE),
    "ledger": (*WORLD, *HTTP),
    "projections": (*WORLD, *HTTP, *FILES),
    "schema": (*WORLD, *HTTP, *FILES, *DATABASE, *TERMINAL),
}

# (path, name) → why this one place may reach it. An entry that is no longer needed fails a test.
EXCEPTIONS: dict[tuple[str, str], str] = {}


def imports(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Each imported name: its line, the name it is bound to, and the dotted name it stands for.

    Relative imports are left out: Python lets none of them leave its top-level package.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.asname or alias.name.split(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield node.lineno, alias.asname or alias.name, f"{node.module}.{alias.name}"


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` where the expression is that chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    owner = dotted(node.value) if isinstance(node, ast.Attribute) else None
    return f"{owner}.{node.attr}" if owner and isinstance(node, ast.Attribute) else None


def reached(source: str) -> list[Reach]:
    """Every dotted name that the text imports or mentions through an import; builtins as `builtins.NAME`."""
    tree = ast.parse(source)
    found = [(line, name) for line, _, name in imports(tree)]
    # `import a.b` binds `a` alone; every other form binds what it names.
    bound = {alias: alias if name.startswith(f"{alias}.") else name for _, alias, name in imports(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):  # a field named `input` reaches nothing
            continue
        chain = dotted(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if isinstance(node, ast.expr) and chain:
            head, dot, rest = chain.partition(".")
            found.append((node.lineno, f"{bound.get(head, f'builtins.{head}')}{dot}{rest}"))
    return found


def covers(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def upward(layer: str, source: str) -> list[Reach]:
    """Imports of a layer above, or of the tests."""
    above = {*LAYERS[: LAYERS.index(layer)], "tests"}
    return [(line, name) for line, _, name in imports(ast.parse(source)) if name.split(".")[0] in above]


def forbidden(layer: str, source: str) -> list[Reach]:
    patterns = FORBIDDEN[layer]
    return [(line, name) for line, name in reached(source) if any(covers(each, name) for each in patterns)]


def layer_of(path: str) -> str:
    return path.split("/", maxsplit=1)[0]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_never_run_back_up(layer: str) -> None:
    breaches = {path: found for path in python_files(layer) if (found := upward(layer, read(path)))}
    assert breaches == {}


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_stays_out_of_what_is_not_its_business(layer: str) -> None:
    breaches = [
        f"{path}:{line} reaches {name}"
        for path in python_files(layer)
        for line, name in forbidden(layer, read(path))
        if (path, name) not in EXCEPTIONS
    ]
    assert breaches == []


def test_every_exception_is_still_needed_and_says_why() -> None:
    used = {(path, name) for path in python_files(*LAYERS) for _, name in forbidden(layer_of(path), read(path))}
    assert set(EXCEPTIONS) <= used
    assert all(EXCEPTIONS.values())


def test_every_module_lives_in_a_layer_or_in_the_tests() -> None:
    assert [path for path in python_files() if layer_of(path) not in {*LAYERS, "tests"}] == []


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("schema", "import projections"),
        ("schema", "from ledger.journal import append"),
        ("projections", "if True:\n    import ledger.writer as writer"),
        ("ledger", "from api import app"),
        ("api", "def late() -> None:\n    from ops.settings import Settings"),
        ("ops", "import tests.histories"),
    ],
)
def test_a_planted_import_of_a_layer_above_is_found(layer: str, source: str) -> None:
    assert upward(layer, source)


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("ops", "from api.app import create"),
        ("ledger", "from schema import money\nfrom ledger.journal import append\nimport projections.engine"),
        ("schema", "from . import ids"),
    ],
)
def test_imports_that_run_down_are_fine(layer: str, source: str) -> None:
    assert upward(layer, source) == []


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("schema", "import apsw"),
        ("schema", "from pathlib import Path"),
        ("schema", "def load(path: str) -> str:\n    return open(path).read()"),
        ("projections", "import litestar.handlers"),
        ("ledger", "from litestar import get"),
        ("ledger", "import os\nHOME = os.environ['HOME']"),
        ("ledger", "from os import environ as world"),
        ("ledger", "import time as clock\nnow = clock.time"),
        ("ledger", "from time import time_ns, gmtime"),
        ("ledger", "from datetime import datetime as dt\nnow = dt.now()"),
        ("ledger", "import datetime\nday = datetime.date.today()"),
        ("ledger", "import secrets"),
        (
            "ledger",
            "from cryptography.hazmat.primitives.ciphers import aead\nkey = aead.AESGCM.generate_key(256)",
        ),
        ("api", "from random import choice"),
        ("api", "import uuid\nkey = uuid.uuid4()"),
        ("api", "import apsw"),
    ],
)
def test_a_planted_breach_is_found(layer: str, source: str) -> None:
    assert forbidden(layer, source)


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("ledger", "import time\nstarted = time.monotonic() + time.perf_counter()"),
        ("ledger", "import os\nos.fsync(0)"),
        ("schema", "from datetime import datetime, UTC\nat = datetime.fromtimestamp(0, UTC)"),
        ("schema", "import uuid\nid = uuid.UUID(int=0)"),
        ("schema", "class Timed:\n    time: int\n\nTimed().time"),
        ("ops", "import os, random, time\nos.environ, random.random(), time.time()"),
    ],
)
def test_what_a_layer_may_do_is_not_held_against_it(layer: str, source: str) -> None:
    assert forbidden(layer, source) == []
