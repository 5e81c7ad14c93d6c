"""Documents tell the truth: what they name exists, and what exists is named."""

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, cast

import click
import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler

from api.app import ROUTES
from api.problems import STATUSES, status_of
from ops.cli import main
from ops.settings import PREFIX, SETTINGS
from schema.errors import LedgerError
from tests.sources import ROOT, committed, functions, read

README, RUNBOOK, CHANGELOG = "README.md", "ops/README.md", "CHANGELOG.md"
DOCUMENTS = tuple(path for path in committed() if path.endswith(".md"))
DECISIONS = tuple(path for path in DOCUMENTS if path.startswith("ops/decisions/"))
PROMISES = tuple(f"P{n}" for n in range(1, 13))

LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
TEST = re.compile(r"(tests/test_\w+\.py)::(test_\w+)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?<!/)\busage-ledger (?!listens)([a-z]+(?:-[a-z]+)*)")


def fenced(path: str, language: str) -> list[str]:
    """The contents of a document's fenced blocks of one language."""
    blocks: list[tuple[str, str]] = FENCED.findall(read(path))
    return [text for name, text in blocks if name == language]


def rows(path: str) -> list[list[str]]:
    """The cells of every table row of a document."""
    lines = [line for line in read(path).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def row(path: str, first: str) -> list[str]:
    """The one row that begins with this cell."""
    (found,) = (cells for cells in rows(path) if cells[0] == first)
    return found


def anchors(text: str) -> set[str]:
    """The names that a document's headings can be linked by."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path: str, text: str) -> list[str]:
    """Links of a document to a file or a heading that is not there."""
    found: list[str] = []
    for link in LINK.findall(text):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        file = (ROOT / PurePosixPath(path).parent / target).resolve() if target else ROOT / path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            found.append(link)
    return found


def commands(group: click.Group, *above: str) -> Iterator[str]:
    """Every command in words: `keys create`."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        else:
            yield " ".join((*above, name))


def routes() -> list[str]:
    """Every route as method and path: `GET /metrics`."""
    handlers = [handler for handler in ROUTES if isinstance(handler, HTTPRouteHandler)]
    assert len(handlers) == len(ROUTES)
    return [
        f"{method} {path.replace(':str}', '}')}"
        for handler in handlers
        for path in handler.paths
        for method in handler.http_methods
    ]


def kinds(kind: type[LedgerError] = LedgerError) -> list[type[LedgerError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in kinds(below))]


@pytest.mark.parametrize("path", [README, RUNBOOK])
def test_every_setting_is_listed_with_its_default(path: str) -> None:
    documented = {each.variable: row(path, f"`{each.variable}`")[1] for each in SETTINGS}
    assert documented == {each.variable: f"`{each.default}`" if each.default else "none" for each in SETTINGS}


def test_no_document_names_a_setting_that_there_is_not() -> None:
    known = {each.variable for each in SETTINGS}
    named = {name for path in DOCUMENTS for name in re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", read(path))}
    assert named <= known


def test_every_route_is_mentioned() -> None:
    text = read(README) + read(RUNBOOK)
    assert [route for route in routes() if f"`{route}`" not in text] == []


def test_every_command_is_in_the_runbook() -> None:
    found = list(commands(cast("click.Group", main)))
    assert {"init", "keys create", "migrate apply"} <= set(found)
    assert [name for name in found if f"`usage-ledger {name}" not in read(RUNBOOK)] == []


def test_no_document_names_a_command_that_there_is_not() -> None:
    known = {name.split()[0] for name in commands(cast("click.Group", main))}
    assert {name for path in DOCUMENTS for name in COMMAND.findall(read(path))} <= known


def test_every_error_is_listed_with_its_status() -> None:
    """A dash stands for an error that no request meets."""
    codes = {kind.code: kind for kind in kinds()}
    documented = {code: row(README, f"`{code}`")[1] for code in codes}
    for code, status in documented.items():
        expected = status_of(codes[code]())
        assert status == str(expected) or (status == "–" and codes[code] not in STATUSES), code


def test_every_promise_names_tests_that_exist() -> None:
    """A promise without a test says so."""
    for promise in PROMISES:
        *_, cell = row(README, promise)
        tests: list[tuple[str, str]] = TEST.findall(cell)
        assert tests or cell == "none", promise
        for path, name in tests:
            assert path in committed(), path
            assert name in {function.name for function in functions(read(path))}, name


def test_the_tours_answers_are_json() -> None:
    answers: list[dict[str, Any]] = [msgspec.json.decode(text) for text in fenced(README, "json")]
    assert answers
    bodies = re.findall(r"^\{.*?\}$", "\n".join(fenced(README, "sh")), re.DOTALL | re.MULTILINE)
    assert {msgspec.json.decode(body)["id"] for body in bodies} == {"call-1", "call-2", "call-3", "call-4"}


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_resolve(path: str) -> None:
    assert broken(path, read(path)) == []


@pytest.mark.parametrize("text", ["[a](nowhere.md)", "[a](#nowhere)", "[a](CHANGELOG.md#nowhere)"])
def test_a_planted_broken_link_is_found(text: str) -> None:
    assert broken(README, text)


def test_scripts_of_the_readme_are_python() -> None:
    """What a shell block feeds to an interpreter at least parses."""
    scripts = re.findall(r"python - .*?<<'END'\n(.*?)^END$", "\n".join(fenced(README, "sh")), re.DOTALL | re.MULTILINE)
    assert scripts
    for script in scripts:
        ast.parse(script)


def test_decisions_are_numbered_without_a_gap_and_have_three_parts() -> None:
    assert [int(PurePosixPath(path).name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    for path in DECISIONS:
        headings = re.findall(r"^## (.+)$", read(path), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], path
        assert read(path).startswith(f"# {PurePosixPath(path).name[:4]} "), path


def test_the_changelog_has_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    assert version is not None
    assert f"## [{version[1]}]" in read(CHANGELOG)
