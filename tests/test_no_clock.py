"""No test fails because the machine is slow: tests wait without an end and judge no time; figures of time belong to benchmarks/."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
#: What may read a clock: the helper that all others wait with, and machines that tests boot, whose limits are those of a machine that hangs.
MAY = {"patience.py", "system"}
#: Scripts of quality/ that people start for an hour: they say how long they took. Tests take their functions, none of which judges a time.
SCRIPTS = {"damaged_dumps.py", "kill_campaign.py", "known_good_dumps.py"}
MODULES = sorted(path for path in TESTS.rglob("*.py") if path.relative_to(TESTS).parts[0] not in MAY and path.name not in SCRIPTS)
CLOCKS = {
    "time",
    "time_ns",
    "monotonic",
    "monotonic_ns",
    "perf_counter",
    "perf_counter_ns",
    "process_time",
    "process_time_ns",
    "thread_time",
}
#: Figures of time that results carry: nothing is asserted about how large they are.
FIGURES = {"seconds", "executor_seconds", "rate"}


def offences(source: str) -> list[str]:
    """What in a module depends on how fast the machine is."""
    found = []
    for node in ast.walk(ast.parse(source)):
        name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if name.startswith("time.") and node.attr in CLOCKS:  # type: ignore[attr-defined]
            found.append(f"line {node.lineno}: {name} reads a clock")  # type: ignore[attr-defined]
        elif name.endswith("mark.timeout"):
            found.append(f"line {node.lineno}: {name}: the one timeout is that of pyproject.toml")  # type: ignore[attr-defined]
        elif isinstance(node, ast.Call):
            found += [
                f"line {node.lineno}: {ast.unparse(node.func)}(timeout=...)"
                for word in node.keywords
                if word.arg == "timeout" and not (isinstance(word.value, ast.Constant) and word.value.value is None)
            ]
        elif isinstance(node, ast.Compare) and any(isinstance(each, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for each in node.ops):
            parts = [part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)]
            found += [f"line {node.lineno}: compares {part}" for part in parts if part in FIGURES]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_a_test_does_not_depend_on_the_machines_speed(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "begun = time.monotonic()",
        "assert time.process_time() - began < 5",
        "pytestmark = pytest.mark.timeout(1200)",
        "process.communicate(timeout=20)",
        "assert report.seconds < 60",
        "assert summary.progress.rate > 1000",
    ],
)
def test_what_depends_on_it_is_seen(source: str) -> None:
    assert len(offences(source)) == 1
