"""Answerers that are wrong in one way each: python3 wrong.py WAY. What is right in them is examples/answerer.py's."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
TOY = runpy.run_path(str(ROOT / "examples" / "answerer.py"))
HELLO = {**TOY["HELLO"], "name": "wrong", "hang_seconds": 60.0 if sys.argv[1] == "slow" else 0.2}
WAY = sys.argv[1]
#: What the culprit among candidates has: some rows of the batch with which doctor tries a program.
CULPRIT = 1 << 5


def is_culprit(vmcs: dict[str, int], base: dict[str, int]) -> bool:
    """Whether the candidate is one of those that some of these answerers cannot take."""
    return (vmcs["guest_cr4"] ^ base["guest_cr4"]) & CULPRIT != 0


def spin() -> None:
    while True:
        pass


def burn(rounds: int) -> None:
    for _ in range(rounds):
        pass


HELLOS: dict[str, Callable[[], str]] = {
    "silent": lambda: "",
    "no-json": lambda: "Starting emulator ...",
    "other-version": lambda: json.dumps({**HELLO, "hello": "vmfuzz-program-0"}),
    "no-such-profile": lambda: json.dumps({**HELLO, "profile": "corei7_skylark"}),
    "misspelt": lambda: json.dumps({**HELLO, "capabilites": {}}),
}


def answers_of(answers: list[dict[str, Any]]) -> list[str]:
    """The lines in answer to a batch."""
    lines = [json.dumps(answer) for answer in answers]
    if WAY == "order" and len(lines) > 9:
        lines[3], lines[7] = lines[7], lines[3]
    if WAY == "missing" and len(lines) > 9:
        del lines[5]
    if WAY == "last-missing":
        del lines[-1]
    if WAY == "twice" and len(lines) > 9:
        lines.append(lines[-1])
    if WAY == "garbage" and len(lines) > 9:
        lines[4] = "debug: entering with CR4 = 2020"
    if WAY == "unknown-outcome" and len(lines) > 9:
        lines[4] = json.dumps({"row": 4, "outcome": "failed"})
    return lines


def entry(vmcs: dict[str, int], memory: dict[int, int], base: dict[str, int], state: dict[str, int]) -> dict[str, Any]:
    if is_culprit(vmcs, base):
        if WAY in ("crash", "late-crash"):
            print("assertion failed: !pae", file=sys.stderr, flush=True)
            state["dead"] = 1
            if WAY == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
        if WAY == "hang":
            spin()
        if WAY == "sleep":
            signal.pause()
    if WAY == "slow":
        burn(5_000_000)  # on the fastest machine too, more than a hundredth of a second a row
    if WAY == "remembers" and state["rows"] % 3 == 2:
        return {"outcome": "vmfail_valid", "error": 7}
    if WAY == "refuses-all":
        return {"outcome": "vmfail_valid", "error": 7}
    result: dict[str, Any] = TOY["vm_entry"](vmcs, memory)
    return result


def main() -> None:
    print(HELLOS.get(WAY, lambda: json.dumps(HELLO))(), end="" if WAY == "silent" else "\n", flush=True)
    base: dict[str, int] = {}
    answers: list[dict[str, Any]] = []
    state, left = {"rows": 0, "dead": 0}, 0
    for line in sys.stdin:
        request = json.loads(line)
        if "end" in request:
            sys.exit(3 if WAY == "bad-end" else 0)
        if "batch" in request:
            base, left, answers = TOY["numbers"](request["base"]), request["rows"], []
            continue
        vmcs = {**base, **TOY["numbers"](request["differences"])}
        answers.append({"row": request["row"], **entry(vmcs, {}, base, state)})
        state["rows"] += 1
        left -= 1
        if not left:
            if state["dead"]:
                os.kill(os.getpid(), signal.SIGSEGV)
            print("".join(f"{line}\n" for line in answers_of(answers)), end="", flush=True)


main()
