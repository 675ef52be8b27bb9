"""A program that answers as the model does, the checks apart whose ids are its arguments. What it gets is all that it knows."""

from __future__ import annotations

import json
import sys
from typing import Any

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.checks import CHECKS
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

NAME = "corei7_skylake_x"
WORDS = {
    kind: word for word, kind in {"entered": Kind.EXIT, "entry_failure": Kind.ENTRY_FAILURE, "vmfail_valid": Kind.VMFAIL_VALID}.items()
}


def answer(row: int, outcomes: Outcomes) -> dict[str, Any]:
    kind, number = Kind(int(outcomes.kind[row])), int(outcomes.number[row])
    if kind is Kind.VMFAIL_INVALID:
        return {"row": row, "outcome": "vmfail_invalid"}
    if kind is Kind.VMFAIL_VALID:
        return {"row": row, "outcome": "vmfail_valid", "error": number}
    info, qualification = int(outcomes.entry_interruption_info[row]), int(outcomes.qualification[row])
    if kind is Kind.EXIT:
        return {"row": row, "outcome": "entered", "exit_reason": number, "vm_entry_interruption_info": info}
    return {
        "row": row,
        "outcome": "entry_failure",
        "exit_reason": number,
        "qualification": f"{qualification:#x}",
        "vm_entry_interruption_info": info,
    }


def numbers(values: dict[str, str]) -> dict[str, int]:
    return {name: int(value, 16) for name, value in values.items()}


def words(values: dict[str, str]) -> dict[int, int]:
    return {int(address, 16): word for address, word in numbers(values).items()}


def main() -> None:
    known = capabilities(NAME)
    executor = ModelExecutor(known, known_good(known), [check for check in CHECKS if check.id not in sys.argv[1:]])
    print(json.dumps({"hello": "vmfuzz-program-1", "name": "the model", "profile": NAME}), flush=True)
    for line in sys.stdin:
        head = json.loads(line)
        if "end" in head:
            return
        base = Vmcs(numbers(head["base"]), words(head["memory"]))
        rows = [json.loads(sys.stdin.readline()) for _ in range(head["rows"])]
        candidates = [base.replace(**numbers(row["differences"])).with_memory(words(row.get("memory", {}))) for row in rows]
        outcomes = executor.run(VmcsBatch.of(candidates, base) if candidates else [])
        print("".join(json.dumps(answer(row, outcomes)) + "\n" for row in range(len(rows))), end="", flush=True)


main()
