"""Numbers for people are written in one way, 481EH: what the function makes, and that messages and documents have no other form."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmfuzz.hexadecimal import as_wide, encoded, hexadecimal

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "vmfuzz"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "tools").glob("*.md")])

#: Modules that write 0x1f, because a program reads it: JSON, source code, a repr, SQL.
FOR_PROGRAMS = {
    "arch/capabilities.py",
    "arch/outcomes.py",  # the name of an outcome in JSON
    "campaign/loop.py",
    "campaign/lost.py",
    "campaign/mismatches.py",
    "cli/fields.py",
    "comparison/behind.py",
    "comparison/case.py",
    "comparison/errata.py",
    "corpus/entries.py",
    "corpus/export.py",
    "corpus/kvm_selftest.py",
    "differences/ambiguity_report.py",
    "differences/difference.py",
    "execute/program/protocol.py",
    "explain/answer/advice.py",  # commands to type
    "explain/answer/as_json.py",
    "explain/causes/mistakes.py",  # a line of source code
    "explain/formats/json_text.py",
    "generate/ground.py",
    "report/dump_code.py",
    "report/pictures.py",
    "state/vmcs.py",
}


def written_by_hand(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Places where a module writes a number in hexadecimal digits itself, with the format."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            form = ast.unparse(node.format_spec)
            if re.search(r"[xX]['\"]$", form):
                yield node.lineno, form
        if isinstance(node, ast.Name) and node.id == "hex":
            yield node.lineno, "hex"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_numbers_for_people_come_from_one_function(path: Path) -> None:
    name = path.relative_to(SOURCE).as_posix()
    if name == "hexadecimal.py":
        return
    found = list(written_by_hand(ast.parse(path.read_text(encoding="utf-8"))))
    if name in FOR_PROGRAMS:
        assert found, f"{name} writes no number for programs: take it out of the list"
        found = [(line, form) for line, form in found if "X" in form]
    assert not found, f"{name}: {found}: vmfuzz.hexadecimal writes numbers for people"


def test_the_search_finds_numbers_written_by_hand() -> None:
    tree = ast.parse('f"{a:#x} {b:04X}H {c:0{digits}X} {d:,} {e!r:>8}"; hex(1); "%x"')
    assert len(list(written_by_hand(tree))) == 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_documents_write_numbers_as_the_manual_does(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```|^    .*?$|`[^`]*`|<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"\b0x[0-9a-fA-F]+|\b[0-9][0-9a-fA-F]*[a-f][0-9a-fA-F]*[Hh]\b", prose), "write 481EH, not 0x481e; 0x only in code"


def test_numbers_have_the_digits_that_were_asked_for() -> None:
    assert [hexadecimal(number) for number in (0, 9, 10, 255)] == ["0", "9", "AH", "FFH"]
    assert [encoded(0x802), encoded(0x481E)] == ["0802H", "481EH"]
    assert [as_wide(1, 1), as_wide(0xC1, 64), as_wide(5, 17)] == ["1H", "00000000000000C1H", "00005H"]
