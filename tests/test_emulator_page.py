"""docs/emulator.md: the test that it shows finds the mistake of the processor that it shows, and passes on the emulated CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "emulator.md").read_text(encoding="utf-8")
TOY, TEST, BOCHS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(SHOWN,) = re.findall(r"tests/test_emulator_page.py compares -->\n```\n(.*?)```", PAGE, re.DOTALL)


def pytest_with(directory: Path, processor: str) -> subprocess.CompletedProcess[str]:
    """What pytest says of the page's test with a processor, in an empty directory."""
    (directory / "my_emulator.py").write_text(processor, encoding="utf-8")
    (directory / "test_vm_entry.py").write_text(TEST, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=1", "test_vm_entry.py"]
    return subprocess.run(command, cwd=directory, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, check=False)


def test_the_test_has_thirty_lines() -> None:
    assert sum(bool(line.strip()) for line in TEST.splitlines()) <= 30


def test_the_mistake_is_found_and_told_as_the_page_shows(tmp_path: Path) -> None:
    done = pytest_with(tmp_path, TOY)
    assert done.returncode == 1, done.stdout + done.stderr
    said = [line.removeprefix("E").strip() for line in done.stdout.splitlines()]
    for line in SHOWN.splitlines():
        assert any(line.strip() == each or each.endswith(line.strip()) for each in said), line
    assert "FAILED test_vm_entry.py::test_a_check_is_made[guest.rflags.reserved.zeros]" in done.stdout
    assert "test_what_is_valid_enters" not in "".join(re.findall(r"^FAILED.*$", done.stdout, re.MULTILINE))


def test_the_emulated_cpu_passes(tmp_path: Path) -> None:
    done = pytest_with(tmp_path, BOCHS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
