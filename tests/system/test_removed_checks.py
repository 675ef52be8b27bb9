"""The campaign with removed checks, as far as it needs no machine: its state, its table, and the module that takes the place of Debian's."""

from __future__ import annotations

from pathlib import Path

import pytest
from every_removed_check import Result, keep, read, table
from machine import Machine, needs
from nested_checks import NestedCheck

CHECKS = [NestedCheck(7, "first", "a || b"), NestedCheck(9, "first", "c"), NestedCheck(12, "second", "d")]


def test_a_state_is_read_as_it_was_kept(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    assert read(state, CHECKS) == ({check.line: Result(check.line, check.function, check.condition) for check in CHECKS}, 0)
    found = Result(9, "first", "c", True, 300, 2, "VMfailValid(7)", "entered, exit 52")
    for line in ({"trying": 9}, vars(found), {"candidates": 400}):
        keep(state, line)
    results, done = read(state, CHECKS)
    assert (results[9], done) == (found, 400)


def test_a_check_without_which_the_machine_dies_is_found(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    for line in ({"candidates": 400}, {"trying": 12}, {"died": "no answer"}):
        keep(state, line)
    results, _ = read(state, CHECKS)
    assert (results[12].found, results[12].candidates, results[12].outcome) == (True, 400, "the machine died")
    assert "### second\n\n" in table(results, 400)
    assert "| `d` | 12 | 400 |" in table(results, 400)
    assert not results[7].found


def test_a_machine_that_died_between_checks_finds_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    for line in ({"trying": 7}, vars(Result(7, "first", "a || b", failed=1)), {"candidates": 400}, {"died": "no answer"}):
        keep(state, line)
    assert not any(result.found for result in read(state, CHECKS)[0].values())


def test_the_table_says_when_and_why_not() -> None:
    results = {
        7: Result(7, "first", "a || b", False, 0, 3, "VMfailValid(7)", "VMfailValid(7)"),
        9: Result(9, "first", "c", True, 300, 2, "VMfailValid(8)", "entered, exit 52"),
        12: Result(12, "second", "d"),
    }
    lines = table(results, 20_000).splitlines()
    assert lines[1] == "### first"
    assert lines[5:11] == [
        "| `a \\|\\| b` | 7 | no | VMfailValid(7); then no other |",
        "| `c` | 9 | 300 | VMfailValid(8) → entered, exit 52 |",
        "",
        "These failed none of 20,000 candidates:",
        "",
        "- second: `d` (12)",
    ]
    assert lines[-1] == "3 uses of `CC`; 2 failed a candidate; 1 found when removed, 1 of them within 5,000 candidates."


@pytest.mark.skipif(needs("bochs") is not None, reason=str(needs("bochs")))
def test_a_module_takes_the_place_of_debians(tmp_path: Path) -> None:
    other, root = tmp_path / "kvm-intel.ko", tmp_path / "root"
    other.write_bytes(b"another")
    root.mkdir()
    with Machine("bochs", modules=[other]) as machine:
        machine._add_modules(root, ("kvm-intel",), "order")
    assert (root / "kvm-intel.ko").read_bytes() == b"another"
    assert (root / "kvm.ko").read_bytes()[:4] == b"\x7fELF"
