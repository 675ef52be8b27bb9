"""KVM without one of its own checks: does a campaign see that it is missing? For each check of nested.c, resumable.

    python tests/system/every_removed_check.py STATE [--kernel 6.12.]
    python tests/system/every_removed_check.py STATE --table

A campaign runs once with every check in place. After each family, each check that was not found yet and that failed a candidate of it (the tracepoint
kvm_nested_vmenter_failed says which) is skipped, and the family's candidates that failed run again. A check is found by a candidate that alone
ends as predicted with the check in place, and otherwise without it. Whatever no check fails runs the same code with and without it.

The directory STATE gets a file of results, of which each line is about one check or says how far the campaign came, and the module as it was built.
Started again, it runs the families anew whose checks are done, and goes on with the others. Exit code 1 when something is left.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from debian_kernels import kernels, release
from guest_executor import KvmGuestExecutor
from machine import KVM_ARGUMENTS, Machine, MachineError, needs
from nested_checks import KVM, NESTED, PARAMETER, NestedCheck, build_without, checks, source_of, source_package

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.compare import Comparison, Verdict, compare
from vmfuzz.execute.engine_process import WorkerDied
from vmfuzz.execute.wire.family import Family
from vmfuzz.state.batch import VmcsBatch

#: `|` in a cell of a table.
MARK: Final = "\\|"
FEW: Final = 5_000
MANY: Final = 20_000
_PARAMETER: Final = f"/sys/module/kvm_intel/parameters/{PARAMETER}"
#: A trace of its own: that of an agent has no more than a few hundred lines of a family.
_TRACE: Final = "/sys/kernel/tracing/instances/removed"
_EVENT: Final = f"{_TRACE}/events/kvm/kvm_nested_vmenter_failed/enable"
#: The line at the end of a text; the words of the processor below end with none.
_FAILED: Final = r"s/^.*kvm_nested_vmenter_failed: .* \([0-9][0-9]*\)$/\1/p"
_NONE: Final = -1
#: nested.c as it was before the parameter, whose checks have the same lines.
_UNCHANGED: Final = "nested.unchanged"
_FAMILY: Final = 400
#: So many virtual machines may its candidates cost without a check, so many of them are looked at one by one, and so many machines may die.
_MOST_DEATHS: Final = 2
_MOST_ALONE: Final = 4
_MOST_MACHINES: Final = 20
_PREDICTED: Final = (Verdict.AGREES, Verdict.DEVIATION)
_OTHERWISE: Final = (Verdict.MISMATCH, Verdict.EXECUTOR_CRASHED)


@dataclass
class Result:
    """What became of a check.

    `candidates`: when it was found, or how many there were. `failed`: how many candidates it failed until then. `outcome`: how the first that it
    failed alone ended without it. `others`: the checks of KVM that failed that candidate then.
    """

    line: int
    function: str
    condition: str
    found: bool = False
    candidates: int = 0
    failed: int = 0
    with_check: str = ""
    outcome: str = ""
    others: tuple[str, ...] = ()


class Brief(KvmGuestExecutor):
    """Leaves the rest of a batch out once so many of its candidates have cost their virtual machines: a hang takes seconds, and one is enough."""

    deaths_left = 1 << 30

    def _run_part(self, family: Family, rows: npt.NDArray[np.intp], outcomes: Outcomes) -> None:
        if self.deaths_left <= 0:
            return
        try:
            super()._run_part(family, rows, outcomes)
        except WorkerDied:
            self.deaths_left -= 1
            raise


class Removed:
    """The campaign in one machine."""

    def __init__(self, machine: Machine, guest: Brief, wanted: dict[int, Result], state: Path) -> None:
        self.machine, self.guest, self.wanted, self.state = machine, guest, wanted, state
        self.campaign = Campaign(guest, seed=0)
        machine.shell(f"mkdir {_TRACE}; echo 1 > {_EVENT}")

    def skip(self, line: int) -> None:
        """From now on the check on this line is not made; _NONE: all are."""
        self.machine.shell(f"echo {line} > {_PARAMETER}")

    def failed(self) -> Counter[int]:
        """The lines of checks that failed since the last call, with how often."""
        said = self.machine.shell(f"sed -n '{_FAILED}' {_TRACE}/trace | sort | uniq -c; echo > {_TRACE}/trace")
        return Counter({int(line.split()[1]): int(line.split()[0]) for line in said.splitlines()})

    def run(self, candidates: int, after: int) -> None:
        """Run so many candidates; those up to `after` were run with checks removed before."""
        seen, number = 0, 0
        while seen < candidates:
            for plan in self.campaign.plan(number):
                count = min(plan.rows, _FAMILY, candidates - seen)
                if count <= 0:
                    break
                self.failed()
                comparison = self.campaign.execute(plan, count)
                self.campaign.progress.tally.add(comparison, [block.target for block in plan.blocks])
                if seen + count > after:
                    self._remove(comparison, seen)
                    keep(self.state, {"candidates": seen + count})
                seen += count
            number += 1

    def _remove(self, comparison: Comparison, before: int) -> None:
        """Each check that failed something in a family, and is not found yet, in its turn."""
        failed = self.failed()
        for result in [result for result in self.wanted.values() if not result.found and result.line in failed]:
            result.failed += failed[result.line]
            keep(self.state, {"trying": result.line})
            self.skip(result.line)
            try:
                self._without(result, comparison, before)
            finally:
                self.skip(_NONE)
            keep(self.state, asdict(result))

    def _without(self, result: Result, comparison: Comparison, before: int) -> None:
        kinds = np.isin(comparison.outcomes.kind, (Kind.VMFAIL_INVALID, Kind.VMFAIL_VALID, Kind.ENTRY_FAILURE))
        rows = np.flatnonzero(kinds & np.isin(comparison.verdict, _PREDICTED))
        batch = comparison.prediction.batch
        self.guest.deaths_left = _MOST_DEATHS
        now = self._compared(batch.take(rows))
        self.guest.deaths_left = Brief.deaths_left
        for row in rows[np.isin(now.verdict, _OTHERWISE)][:_MOST_ALONE].tolist():
            if self._found_by(result, batch.take([row])):
                result.found, result.candidates = True, before + row + 1
                return
        if not result.outcome:
            self._why_not(result, batch.take(rows))

    def _found_by(self, result: Result, alone: VmcsBatch) -> bool:
        """Whether a candidate ends as predicted with the check in place, and otherwise without it."""
        without = self._compared(alone)
        self.skip(_NONE)
        with_it = self._compared(alone)
        self.skip(result.line)
        found = bool(with_it.verdict[0] in _PREDICTED and without.verdict[0] in _OTHERWISE)
        if found:
            result.with_check, result.outcome, result.others = words(with_it.outcomes), words(without.outcomes), ()
        return found

    def _compared(self, batch: VmcsBatch) -> Comparison:
        outcomes = self.guest.run(batch)
        return compare(self.campaign.model.predict_batch(batch), outcomes, self.campaign.altered)

    def _why_not(self, result: Result, batch: VmcsBatch) -> None:
        """How a candidate that the check fails ends without it, and what else of KVM fails it then: it is halved down to."""
        self.skip(_NONE)
        while len(batch) > 1:
            half = batch.take(range(len(batch) // 2))
            self.failed()
            self.guest.run(half)
            batch = half if result.line in self.failed() else batch.take(range(len(half), len(batch)))
        result.with_check = words(self.guest.run(batch))
        self.skip(result.line)
        self.failed()
        result.outcome = words(self.guest.run(batch))
        result.others = tuple(self.wanted[line].condition for line in self.failed() if line != result.line)


def words(outcomes: Outcomes) -> str:
    """The outcome of one candidate, with the executor's own word."""
    message = outcomes.message_of(0)
    return outcomes[0].short() + ("" if message is None else f": {message}")


def keep(state: Path, line: dict[str, Any]) -> None:
    """Add a line to the state, on disk before anything else is done."""
    with state.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(state: Path, of_kernel: list[NestedCheck]) -> tuple[dict[int, Result], int]:
    """What is known about each check, and the candidates that were run. A check that was being tried when the machine died was found."""
    results = {check.line: Result(check.line, check.function, check.condition) for check in of_kernel}
    done, trying = 0, None
    for line in map(json.loads, state.read_text(encoding="utf-8").splitlines() if state.exists() else []):
        if "trying" in line:
            trying = line["trying"]
        elif "died" in line:
            if trying is not None:
                died = results[trying]
                died.found, died.outcome, died.candidates, died.failed = True, "the machine died", done, max(died.failed, 1)
        elif "line" in line:
            results[line["line"]], trying = Result(**{**line, "others": tuple(line["others"])}), None
        else:
            done, trying = line["candidates"], None
    return results, done


def table(results: dict[int, Result], done: int) -> str:
    """Markdown: for each function of KVM a table of its checks that failed a candidate, then the others in a list."""
    lines: list[str] = []
    function = ""
    for result in results.values():
        if not result.failed:
            continue
        if result.function != function:
            function = result.function
            lines += ["", f"### {function}", "", "| condition | line | found after | without it |", "| --- | ---: | ---: | --- |"]
        after = f"{result.candidates:,}" if result.found else "no"
        others = "; ".join(f"`{text}`" for text in result.others)
        why = f"{result.with_check} → {result.outcome}" if result.found else f"{result.outcome}; then {others or 'no other'}"
        cells = (f"`{result.condition}`", str(result.line), after, why)
        lines.append(f"| {' | '.join(cell.replace('|', MARK) for cell in cells)} |")
    never = [result for result in results.values() if not result.failed]
    if never:
        lines += ["", f"These failed none of {done:,} candidates:", ""]
        lines += [f"- {result.function}: `{result.condition}` ({result.line})" for result in never]
    found = [result.candidates for result in results.values() if result.found]
    reached = sum(result.failed > 0 for result in results.values())
    few = sum(number <= FEW for number in found)
    lines.append("")
    lines.append(
        f"{len(results)} uses of `CC`; {reached} failed a candidate; {len(found)} found when removed, {few} of them within {FEW:,} candidates."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path)
    parser.add_argument("--kernel", default="6.1.", help="the beginning of its release")
    parser.add_argument("--candidates", type=int, default=MANY)
    parser.add_argument("--table", action="store_true", help="print what the state says")
    wanted = parser.parse_args()
    found = [folder for folder in kernels() if release(folder).startswith(wanted.kernel)]
    missing = needs("bochs")
    if missing or not found:
        sys.exit(missing or f"no kernel {wanted.kernel}* with headers is installed (tests/system/README.md)")
    wanted.state.mkdir(parents=True, exist_ok=True)
    of_kernel, module = built(wanted.state, found[-1])
    state = wanted.state / f"{release(found[-1])}.jsonl"
    for _ in range(_MOST_MACHINES):
        results, done = read(state, of_kernel)
        if wanted.table:
            print(table(results, done))
        if wanted.table or done >= wanted.candidates:
            return
        with Machine("bochs", arguments=KVM_ARGUMENTS, kernel=found[-1], modules=[module]) as machine:
            machine.start().load_others()
            try:
                with Brief(machine) as guest:
                    Removed(machine, guest, results, state).run(wanted.candidates, done)
            except MachineError as error:
                keep(state, {"died": str(error)})
                print(f"the machine died: {error}", flush=True)
    sys.exit("not finished: too many machines died")


def built(folder: Path, kernel: Path) -> tuple[list[NestedCheck], Path]:
    """The checks of a kernel's nested.c, and kvm_intel with the parameter; built in `folder`, once."""
    package = source_package(kernel)
    source = folder / package.name.removesuffix(".tar.xz") / KVM
    if not (source / "kvm-intel.ko").exists():
        source_of(package, folder)
        shutil.copy(source / NESTED, source / _UNCHANGED)
        build_without(kernel, source)
    return checks((source / _UNCHANGED).read_text(encoding="utf-8")), source / "kvm-intel.ko"


if __name__ == "__main__":
    main()
