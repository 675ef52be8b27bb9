"""The shape of the source: which package may import which, and how large modules and functions may be."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "vmfuzz"
MODULES = sorted(path for path in SOURCE.rglob("*.py"))

#: Package (or top module) -> what it may import besides itself. Imports go up this table only.
_BASE = {"errors", "files", "counted", "hexadecimal", "interrupts", "prose"}
_CANDIDATES = {*_BASE, "arch", "state", "model", "generate", "execute", "comparison"}
_CAMPAIGN = {*_CANDIDATES, "campaign", "corpus"}
_ALL = {*_CAMPAIGN, "findings", "cluster", "differences", "explain", "report"}
MAY_IMPORT = {
    "errors": set(),
    "interrupts": set(),
    "files": {"errors"},
    "counted": set(),
    "hexadecimal": set(),
    "prose": set(),
    "patterns": set(),
    "arch": {"errors", "files", "hexadecimal"},
    "state": {"errors", "files", "hexadecimal", "arch"},
    "model": {"errors", "files", "hexadecimal", "arch", "state"},
    "generate": {"errors", "files", "hexadecimal", "arch", "state", "model"},
    "execute": {*_BASE, "arch", "state"},
    "comparison": _CANDIDATES - {"comparison"},
    "corpus": _CANDIDATES,
    "campaign": _CANDIDATES,
    "findings": _CAMPAIGN,
    "cluster": {*_CAMPAIGN, "findings"},
    "differences": {*_CAMPAIGN, "findings"},
    "explain": {*_BASE, "__init__", "patterns", "arch", "state", "model", "generate", "execute"},
    "report": _ALL - {"report"},
    "cli": {*_ALL, "__init__"},
    "strategies": {"errors", "arch", "state", "generate"},
    "testing": {"errors", "arch", "state", "model", "generate", "execute", "comparison"},
    "pytest_plugin": {"errors", "corpus"},
    "start": {"interrupts", "cli"},
    "__main__": {"start"},
    "__init__": set(),
}
#: Modules that may import more than their package, with the reason.
EXCEPTIONS = {
    "execute/model/executor.py": {"model"},  # it is the model, as a processor
}
#: The same within explain/: room (or module) -> what it may import of explain besides itself.
EXPLAIN_MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "reported": set(),
    "dump": {"reported"},
    "text": set(),
    "names": set(),
    "evidence": {"dump", "text"},
    "formats": {"dump", "text", "names", "evidence"},
    "settle": {"dump", "text", "names", "evidence"},
    "outcomes": {"reported", "dump", "text", "names"},
    "reading": {"dump", "text", "names", "evidence", "formats", "settle", "outcomes"},
    "given": {"reported", "dump", "text", "outcomes", "reading"},
    "judgement": {"reported", "dump"},
    "repair": {"dump", "names", "judgement"},
    "causes": {"dump", "names", "outcomes", "judgement", "repair"},
    "answer": {"reported", "dump", "text", "names", "outcomes", "judgement", "repair", "causes"},
    "page_data": {"dump", "names", "given", "judgement", "answer"},
}
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def package_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imported(path: Path) -> dict[str, int]:
    """Packages of vmfuzz that a module imports anywhere in it, with the line: for type checking only does not count."""
    found: dict[str, int] = {}
    for node in ast.walk(_without_type_checking(tree(path))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" if node.module == "vmfuzz" else str(node.module) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == "vmfuzz":
                package = name.split(".")[1] if "." in name else "__init__"
                found[package if package in MAY_IMPORT else "__init__"] = node.lineno
    return found


def _without_type_checking(module: ast.Module) -> ast.Module:
    body = [node for node in module.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return ast.Module(body=body, type_ignores=[])


def test_every_package_is_in_the_table() -> None:
    assert {package_of(path) for path in MODULES} - set(MAY_IMPORT) == set()


def test_the_table_has_no_cycle() -> None:
    order: list[str] = []
    left = dict(MAY_IMPORT)
    while left:
        ready = [package for package, needs in left.items() if needs <= set(order)]
        assert ready, f"a cycle among {sorted(left)}"
        order += ready
        for package in ready:
            del left[package]


@each_module
def test_imports_go_up_only(path: Path) -> None:
    package = package_of(path)
    allowed = MAY_IMPORT[package] | {package} | EXCEPTIONS.get(path.relative_to(SOURCE).as_posix(), set())
    wrong = {name: line for name, line in imported(path).items() if name not in allowed}
    assert not wrong, f"{package} may not import these (at line): {wrong}"


def _room(dotted: str) -> str:
    """The room of explain/ that a module of it is in."""
    return dotted.removeprefix("vmfuzz.explain").lstrip(".").partition(".")[0] or "__init__"


@pytest.mark.parametrize("path", [path for path in MODULES if package_of(path) == "explain"], ids=lambda path: path.stem)
def test_imports_within_explain_go_one_way(path: Path) -> None:
    room = _room(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts))
    wrong = {}
    for node in ast.walk(_without_type_checking(tree(path))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("vmfuzz.explain"):
            modules = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "vmfuzz.explain" else [str(node.module)]
            wrong.update({module: node.lineno for module in modules if _room(module) not in EXPLAIN_MAY_IMPORT[room] | {room}})
    assert not wrong, f"{room} may not import these (at line): {wrong}"


def test_the_rooms_of_explain_have_no_cycle() -> None:
    done: set[str] = set()
    while left := [room for room in EXPLAIN_MAY_IMPORT if room not in done]:
        ready = [room for room in left if EXPLAIN_MAY_IMPORT[room] <= done]
        assert ready, f"a cycle among {left}"
        done.update(ready)


def imports_of(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> modules of `sources` that it imports anywhere: at its top, in a function, or for type checking only."""
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        graph[module] = set()
        for node in ast.walk(ast.parse(source)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [whole if (whole := f"{node.module}.{alias.name}") in sources else str(node.module) for alias in node.names]
            graph[module] |= {name for name in names if name in sources}
    return graph


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules of which each imports the one before it and the first is the last; empty where there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_one_another() -> None:
    names = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    graph = imports_of({name: path.read_text(encoding="utf-8") for name, path in names.items()})
    assert sum(map(len, graph.values())) > len(MODULES)
    assert circle_in(graph) == []


@pytest.mark.parametrize("back", ["import a", "def f():\n    from a import g", "if TYPE_CHECKING:\n    import a"])
def test_a_circle_is_seen(back: str) -> None:
    assert circle_in(imports_of({"a": "from b import c", "b": back})) in (["a", "b", "a"], ["b", "a", "b"])
    assert circle_in(imports_of({"a": "from b import c", "b": "import os"})) == []


@pytest.mark.parametrize("path", EXCEPTIONS)
def test_an_exception_is_still_needed(path: str) -> None:
    assert set(imported(SOURCE / path)) & EXCEPTIONS[path] == EXCEPTIONS[path]


@each_module
def test_a_module_says_in_its_first_lines_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(tree(path))
    assert docstring or (path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip())
    if docstring:
        assert docstring[0].isupper() or docstring.startswith(("`", "vmfuzz"))
        assert docstring.split("\n\n")[0].endswith((".", "?"))


@each_module
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@each_module
def test_functions_fit_on_a_screen(path: Path) -> None:
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}


@each_module
def test_a_module_is_not_named_after_nothing(path: Path) -> None:
    assert not FORBIDDEN_NAMES & set(path.relative_to(SOURCE).with_suffix("").parts)
