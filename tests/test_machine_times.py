"""tools/machine_times.py: the table of what each machine test takes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
RESULTS = """<testsuites><testsuite>
<testcase classname="tests.system.test_qemu" name="test_misuse" time="1.5"/>
<testcase classname="tests.system.test_bochs" name="test_raw_rows[0]" time="4.5"/>
<testcase classname="tests.system.test_inside" name="test_a_campaign" time="0.1"><skipped message="minutes long"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import machine_times

    return machine_times


def test_the_table_has_each_test_that_ran_with_its_share(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "results.xml").write_text(RESULTS)
    assert tool.table(tool.times(tmp_path / "results.xml")).splitlines()[2:] == [
        "| `test_bochs.py` `test_raw_rows[0]` | 4 | 75.0 % |",
        "| `test_qemu.py` `test_misuse` | 2 | 25.0 % |",
        "| all | 6 | 100 % |",
    ]


def test_the_page_has_a_place_for_it(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results.xml").write_text(RESULTS)
    page = tmp_path / "README.md"
    page.write_text(tool.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(tool, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["machine_times.py", str(tmp_path / "results.xml")])
    tool.main()
    assert "| all | 6 | 100 % |" in page.read_text(encoding="utf-8")
