"""Runs in a test machine: imports vmfuzz once, which takes the emulated processor a minute, then forks for each command.

A command is a line of JSON in the pipe /tmp/commands: arguments of vmfuzz, user, whether to wait. Its answer is the file /tmp/answer with a
JSON object: exit status (or process id), output.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from without_panics import put_in_place

from vmfuzz.cli.main import main

COMMANDS, ANSWER, OUTPUT = Path("/tmp/commands"), Path("/tmp/answer"), Path("/tmp/output")


def child(arguments: list[str], user: int) -> None:
    """Become the command."""
    out = os.open(OUTPUT, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        os.environ["HOME"] = "/nonexistent"
    sys.argv = ["vmfuzz", *arguments]
    sys.exit(main())


def serve(command: dict[str, Any]) -> dict[str, Any]:
    """Run one command and say how it ended."""
    if "kill" in command:
        os.kill(command["kill"], signal.SIGKILL)
        return {"status": os.waitpid(command["kill"], 0)[1]}
    pid = os.fork()
    if not pid:
        child(command["arguments"], command["user"])
    if not command["wait"]:
        return {"pid": pid}
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, "output": OUTPUT.read_text(errors="replace")}


def answer(what: dict[str, Any]) -> None:
    """Put the answer there as a whole."""
    ANSWER.with_suffix(".new").write_text(json.dumps(what))
    ANSWER.with_suffix(".new").rename(ANSWER)


if __name__ == "__main__":
    for name in ("cli.doctor", "cli.run", "cli.progress", "execute.bochs.executor", "execute.availability"):
        importlib.import_module(f"vmfuzz.{name}")
    if "panics" in sys.argv:
        put_in_place()
    os.mkfifo(COMMANDS)
    answer({"ready": True})
    while True:
        for line in COMMANDS.read_text().splitlines():
            answer(serve(json.loads(line)))
