"""Style that a machine can hold: sizes, names, annotations, no float in money, nothing left behind."""

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import PurePath
from statistics import median

import pytest

from tests.sources import LAYERS, Function, committed, functions, python_files, read, texts

FILE_LINES_MAX = 400
FILE_LINES_MEDIAN_MAX = 120
FUNCTION_LINES_MAX = 60
FUNCTION_LINES_MEDIAN_MAX = 10

# Names that say nothing about what is inside.
VAGUE_NAMES = frozenset({"utils", "helpers", "common", "base", "manager", "service"})

MONEY_MODULE = "schema/money.py"
ERRORS_MODULE = "schema/errors.py"

# The patterns are written so that they do not match their own text.
UNFINISHED = re.compile(r"\b(?:T[O]DO|FI[X]ME|X[X]X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:[w]ork|[r]oot)/|/tmp/[p]robe")
REGISTRY = re.compile(r"pypi[.]org|files[.]pythonhosted|registry[.]npmjs")
INDEX_ADDRESS = re.compile(r"index-url|find-links|trusted-host|://")


def found_lines(pattern: re.Pattern[str], text: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def vague(path: str) -> bool:
    return not VAGUE_NAMES.isdisjoint(PurePath(path).with_suffix("").parts)


def unannotated(source: str) -> list[tuple[int, str]]:
    """Functions with a parameter or a result that says no type, `self` and `cls` aside."""
    return [(each.lineno, each.name) for each in functions(source) if each.returns is None or bare(each.args)]


def bare(args: ast.arguments) -> list[str]:
    every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return [arg.arg for arg in every if arg and arg.annotation is None and arg.arg not in {"self", "cls"}]


def makes_float(node: ast.AST) -> bool:
    """Whether the word `float`, a literal of one, or a true division (which gives one) is inside."""
    return any(
        (isinstance(part, ast.Name) and part.id == "float")
        or (isinstance(part, ast.Constant) and isinstance(part.value, float))
        or (isinstance(part, ast.BinOp | ast.AugAssign) and isinstance(part.op, ast.Div))
        for part in ast.walk(node)
    )


def money_nodes(tree: ast.AST) -> Iterable[ast.AST]:
    """What gives an amount (`…_e10`) or a rate (`…_e12`) its value or type."""
    return (node for node in ast.walk(tree) if any(map(is_money, given_names(node))))


def given_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Assign):
        named = (part for target in node.targets for part in ast.walk(target))
        return [name_of(part) for part in named]
    if isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
        return [name_of(node.target)]
    if isinstance(node, ast.keyword | ast.arg):
        return [node.arg or ""]
    return [node.name] if isinstance(node, Function) else []


def name_of(node: ast.AST) -> str:
    return getattr(node, "id", "") or getattr(node, "attr", "")


def is_money(name: str) -> bool:
    return name.endswith(("_e10", "_e12"))


def money_floats(source: str) -> list[int]:
    """Lines where a money name meets a float."""
    return [getattr(node, "lineno", 0) for node in money_nodes(ast.parse(source)) if makes_float(node)]


def error_codes(source: str) -> dict[str, str | None]:
    """Each error's code, with the docstring of its class."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return {code: ast.get_docstring(each) for each in classes for code in map(code_of, each.body) if code}


def code_of(node: ast.stmt) -> str | None:
    if not isinstance(node, ast.Assign | ast.AnnAssign) or "code" not in map(name_of, targets(node)):
        return None
    value = node.value.value if isinstance(node.value, ast.Constant) else None
    return value if isinstance(value, str) else None


def targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def test_files_are_short() -> None:
    lines = {path: len(read(path).splitlines()) for path in python_files(*LAYERS)}
    assert {path: count for path, count in lines.items() if count > FILE_LINES_MAX} == {}
    assert median(lines.values() or [0]) <= FILE_LINES_MEDIAN_MAX


def test_functions_are_short() -> None:
    found = [(path, each) for path in python_files(*LAYERS) for each in functions(read(path))]
    assert [f"{path} {each.name}" for path, each in found if length(each) > FUNCTION_LINES_MAX] == []
    assert median([length(each) for _, each in found] or [0]) <= FUNCTION_LINES_MEDIAN_MAX


def test_every_function_is_annotated() -> None:
    assert {path: found for path in python_files() if (found := unannotated(read(path)))} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in python_files() if vague(path)] == []


def test_a_float_never_touches_money() -> None:
    assert {path: found for path in python_files(*LAYERS) if (found := money_floats(read(path)))} == {}
    assert MONEY_MODULE not in committed() or not makes_float(ast.parse(read(MONEY_MODULE)))


@pytest.mark.parametrize("pattern", [UNFINISHED, MACHINE_PATH, REGISTRY])
def test_nothing_is_left_behind_in_a_committed_file(pattern: re.Pattern[str]) -> None:
    assert {path: found for path, text in texts() if (found := found_lines(pattern, text))} == {}


def test_pins_carry_hashes_and_no_address() -> None:
    pinned = [path for path in committed() if PurePath(path).match("ops/requirements*")]
    assert pinned
    assert {path: found for path in pinned if (found := found_lines(INDEX_ADDRESS, read(path)))} == {}
    locks = [path for path in pinned if path.endswith(".txt")]
    assert [name for path in locks for name in unhashed(read(path))] == []


def unhashed(lock: str) -> list[str]:
    """Pinned requirements that no hash follows."""
    requirements = re.split(r"^(?=[^\s#])", lock, flags=re.MULTILINE)
    return [each.split()[0] for each in requirements if "==" in each and "--hash=sha256:" not in each]


def test_every_error_code_is_explained_where_it_is_met() -> None:
    codes = error_codes(read(ERRORS_MODULE)) if ERRORS_MODULE in committed() else {}
    assert [code for code, docstring in codes.items() if not docstring] == []
    documents = [text for path, text in texts() if path.endswith(".md")]
    assert undocumented(codes, documents) == []


def undocumented(codes: Iterable[str], documents: list[str]) -> list[str]:
    """Codes in backquotes nowhere in the documents, once there are any."""
    return [code for code in codes if documents and not any(f"`{code}`" in each for each in documents)]


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (unannotated, "def pay(amount) -> None: ..."),
        (unannotated, "def pay(amount: int): ..."),
        (unannotated, "class Account:\n    async def pay(self, *, amount) -> None: ..."),
        (unannotated, "def pay(*amounts, **options: int) -> None: ..."),
        (money_floats, "cost_e10 = 1.5"),
        (money_floats, "cost_e10 = float(text)"),
        (money_floats, "class Rate:\n    input_e12: float"),
        (money_floats, "self.cost_e10 = total / 2"),
        (money_floats, "cost_e10 /= 2"),
        (money_floats, "cost_e10, calls = 0.5, 1"),
        (money_floats, "record(cost_e10=calls * 0.1)"),
        (money_floats, "def charge(cost_e10: float) -> None: ..."),
        (money_floats, "def total_e10(calls: int) -> float: ..."),
        (unhashed, "apsw==3.54.1.0\nclick==8.5.1 \\\n    --hash=sha256:00\n    # via litestar"),
        (error_codes, "class Lost(Exception):\n    code: ClassVar[str] = 'lost'"),
    ],
)
def test_a_planted_fault_is_found(rule: Callable[[str], object], source: str) -> None:
    assert rule(source)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (unannotated, "class Account:\n    def pay(self, amount: int) -> None: ..."),
        (money_floats, "cost_e10 = quantity * rate_e12 // 100\nratio = 0.5"),
        (money_floats, "def charge(cost_e10: int) -> None: ..."),
        (unhashed, "click==8.5.1 \\\n    --hash=sha256:00\n    # via litestar==2"),
        (error_codes, "class Found(Exception):\n    status = 'found'"),
    ],
)
def test_what_is_right_is_let_be(rule: Callable[[str], object], source: str) -> None:
    assert not rule(source)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (UNFINISHED, "# TO^DO: later"),
        (UNFINISHED, "FIX^ME"),
        (MACHINE_PATH, "see /wo^rk/main"),
        (MACHINE_PATH, "'/ro^ot/.cache'"),
        (MACHINE_PATH, "-r /tmp/pr^obe/requirements.in"),
        (REGISTRY, "https://py^pi.org/simple"),
        (INDEX_ADDRESS, "--extra-index-url local"),
    ],
)
def test_planted_leftovers_are_found(pattern: re.Pattern[str], text: str) -> None:
    # The caret keeps this file free of what it looks for.
    assert found_lines(pattern, text.replace("^", ""))


def test_an_undocumented_code_is_found() -> None:
    assert undocumented(["lost", "found"], ["`found` is explained, lost is only mentioned"]) == ["lost"]


@pytest.mark.parametrize("path", ["api/utils.py", "ledger/base/journal.py", "service.py"])
def test_a_vague_name_is_found(path: str) -> None:
    assert vague(path)


def test_a_function_is_measured_from_its_def_to_its_last_line() -> None:
    source = "@wrapped\ndef pay() -> None:\n    x = 1\n    return x\n"
    assert [length(each) for each in functions(source)] == [3]
