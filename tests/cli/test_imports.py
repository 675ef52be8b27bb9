"""Commands load what they need and no more: whoever asks for help, or reads and judges one state, waits for no numpy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[1] / "explain" / "samples" / "kvm.txt"
#: What only those need that make or run candidates; cffi nobody does.
HEAVY = ("numpy", "cffi", "hypothesis")

RUN = """
import json, sys
for name in {refused}:
    sys.modules[name] = None
from vmfuzz.cli.main import main
try:
    main({arguments})
except SystemExit as done:
    code = done.code
print("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


def ran(*arguments: str, refused: tuple[str, ...] = ()) -> tuple[int, set[str], str]:
    """Exit code, loaded modules and output of a command in a process of its own, in which modules that are `refused` cannot be imported."""
    script = RUN.format(arguments=list(arguments), refused=list(refused))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    said, _, last = done.stdout.rstrip("\n").rpartition("\n")
    code, modules = json.loads(last)
    return code, set(modules), said


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_load_no_command(argument: str) -> None:
    code, modules, _ = ran(argument)
    assert code == 0
    assert not modules & {*HEAVY, "rich", "vmfuzz.model", "vmfuzz.arch", "vmfuzz.explain", "vmfuzz.execute"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--no-verify", str(SAMPLE)),
        ("check", "--no-verify", "--json", str(SAMPLE)),
        ("check", "0x80000021"),
        ("fields", "guest_cr0"),
        ("checks", "guest.gs.p"),
        ("dump-code", "--help"),
    ],
    ids=" ".join,
)
def test_what_makes_no_candidates_loads_nothing_for_them(arguments: tuple[str, ...]) -> None:
    _, modules, _ = ran(*arguments)
    assert not modules & {*HEAVY, "vmfuzz.campaign"}


def test_an_answer_is_tried_on_the_emulated_cpu_without_them() -> None:
    _, modules, said = ran("check", str(SAMPLE), refused=HEAVY)
    assert "Tried on an emulated CPU" in said
    assert "vmfuzz.execute.bochs.single" in modules


def test_a_state_is_read_and_judged_where_none_of_them_is_installed() -> None:
    without = ran("check", "--no-verify", str(SAMPLE), refused=HEAVY)
    assert "guest.gs.p" in without[2]
    assert (without[0], without[2]) == ran("check", "--no-verify", str(SAMPLE))[::2]
