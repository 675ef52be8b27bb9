"""How long things take that people wait for: no test judges them, since tests must not depend on the machine.

    python benchmarks/times.py

Seconds by the clock, and of this process's own time where all of the work is in it. Ten planted errors are those of tests/quality.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from vmfuzz.corpus.entries import entry_files, load_all
from vmfuzz.corpus.replay import PREDICT_ONLY, replay
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.explain.reading import read_text

ROOT = Path(__file__).parents[1]
PLANTED = ROOT / "tests" / "quality" / "test_planted_errors.py"
#: Lines that patterns find hard; tests/explain has more of them.
LONG_LINES = ("a" * 100_000, "a->" * 33_000, "cr0 0x1 " * 12_000, "(" * 100_000, '{"a": 1}' * 10_000)


def planted_errors() -> ModuleType:
    """The tests of planted errors as a module."""
    spec = importlib.util.spec_from_file_location("planted_errors", PLANTED)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def report(what: str, work: Callable[[], object]) -> None:
    """Do the work and print a line of the table."""
    clock, own = time.perf_counter(), time.process_time()
    said = work()
    print(f"{time.perf_counter() - clock:8.2f} s  {time.process_time() - own:8.2f} s own  {what}{f': {said}' if said else ''}", flush=True)


def main() -> None:
    """Print the table."""
    entries = load_all(entry_files(ROOT / "corpus"))
    report("start and end of an emulated CPU", lambda: BochsExecutor().close())
    report("the corpus, every record executed", lambda: f"{replay(entries, 'auto', ROOT / 'corpus').executed:,} records")
    report("the corpus, predicted only", lambda: f"{replay(entries, PREDICT_ONLY, ROOT / 'corpus').predicted_only:,} records")
    for line in LONG_LINES:
        report(f"a line of {len(line):,} characters: {line[:8]}...", lambda line=line: read_text(f"guest_cr0: 0x31 {line}\n") and "")
    report("ten planted errors found and minimized", lambda: f"{len(planted_errors().found_and_minimized().entries)} entries")


if __name__ == "__main__":
    main()
