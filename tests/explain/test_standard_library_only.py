"""Reading and judging need no package: a Python that has none gives the answers that the corpus has (a sample; the script does all)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import corpus_of_texts

SCRIPT = Path(__file__).parent / "standard_library_only.py"


def test_a_python_without_packages_gives_the_same_answers() -> None:
    texts = corpus_of_texts.files()[::40]
    ran = subprocess.run([sys.executable, "-I", "-S", SCRIPT, *texts], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ", 0 with another answer" in ran.stdout


def test_the_script_refuses_to_run_where_packages_are() -> None:
    ran = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "run this with python -I -S: numpy" in ran.stdout
