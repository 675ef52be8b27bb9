"""The start of the `vmfuzz` command."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import atexit, gc, json, sys
from vmfuzz import start

collected = []
gc.callbacks.append(lambda phase, facts: phase == "stop" and collected.append(facts["generation"]))
kept = []
def last():  # what is registered first is called last
    gc.collect()
    print(json.dumps([len(kept), len(collected), gc.get_freeze_count()]))
atexit.register(last)
if "seldom" in sys.argv:
    start.collect_seldom()
kept += [[] for _ in range(40_000)]
"""


def test_a_command_seldom_looks_for_cycles_and_not_when_it_ends() -> None:
    """40,000 objects that stay cause 57 collections at least, and the last one looks at all of them."""

    def ran(*arguments: str) -> list[int]:
        found: list[int] = json.loads(subprocess.check_output([sys.executable, "-c", SCRIPT, *arguments]))
        return found

    kept, collections, frozen = ran()
    assert kept == 40_000
    assert collections > 50
    assert frozen == 0
    kept, collections, frozen = ran("seldom")
    assert kept == 40_000
    assert collections == 1  # that of the script
    assert frozen > kept
