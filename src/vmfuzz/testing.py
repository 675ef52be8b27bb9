"""What tests of a VM entry assert with (public; docs/emulator.md begins with it)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import currently_in_test_context, reject

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Kind, Outcome, Outcomes
from vmfuzz.comparison.case import batch_of, mutation_between
from vmfuzz.comparison.compare import AlteredModel, Comparison, Verdict, compare
from vmfuzz.comparison.errata import all_deviations_of, load_errata
from vmfuzz.comparison.explanation import near_values, required, side_by_side
from vmfuzz.errors import UsageError
from vmfuzz.execute.program.protocol import Answers, NotSpoken
from vmfuzz.generate.bases import base_rank
from vmfuzz.generate.families import Generator, generator_of
from vmfuzz.model.outcome_codes import ENTERED, outcomes_of
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import known_good as made_known_good
from vmfuzz.state.vmcs import Vmcs

__all__ = ["NotAllowed", "assert_allowed"]


class NotAllowed(AssertionError):
    """A processor did what the manual does not allow. The text says what the manual requires, of which values.

    >>> try:
    ...     assert_allowed({"outcome": "entered"}, bad, capabilities)
    ... except NotAllowed as wrong:
    ...     print(str(wrong).splitlines()[0])
    the manual allows entry failure 33 q0
    """


def assert_allowed(
    outcome: Outcome | Mapping[str, Any],
    vmcs: Vmcs,
    capabilities: Capabilities,
    *,
    executor: str | None = None,
    errata: Path | str | None = None,
    known_good: Vmcs | None = None,
) -> None:
    """Raise NotAllowed if the manual does not allow `outcome` for `vmcs` on a processor with `capabilities`.

    - `outcome`: an Outcome, or an answer as in docs/program.md: `{"outcome": "entry_failure", "exit_reason": 33, "qualification": 0}`. What it
      does not say (the exit after an entry, a qualification, the VM-entry interruption information afterwards) counts as right. If it says that
      nothing was tried ("refused"), a Hypothesis test draws another example, and other code gets UsageError.
    - `executor`: the name of the processor in reports ("bochs corei7_skylake_x"). Its known deviations are then allowed.
    - `errata`: a file of deviations that you know (docs/errata.md). Those of this executor are then allowed.
    - `known_good`: as for the strategies. The explanation shows the VMCS beside the nearest known-good state.

    Raises UsageError for an outcome that has neither form, or a file that cannot be read.

    >>> assert_allowed({"outcome": "entry_failure", "exit_reason": 33, "qualification": 0}, bad, capabilities)
    """
    __tracebackhide__ = True  # pytest shows the test, not this function
    generator = generator_of(model_of(capabilities), known_good or made_known_good(capabilities))
    batch = VmcsBatch.of([vmcs], generator.bases.captured)
    outcomes = _outcomes(outcome, batch)
    if outcomes.kind[0] in (Kind.REFUSED, Kind.NOT_RUN):
        if currently_in_test_context():
            reject()
        raise UsageError(f"the VM entry was not tried ({outcomes[0]}), so there is nothing to assert")
    prediction = generator.model.predict_batch(batch)
    if outcomes.kind[0] == Kind.ENTRY_FAILURE and _qualification_open(outcome):
        alike = [each.qualification or 0 for each in outcomes_of(int(prediction.allowed[0])) if each.number == outcomes.number[0]]
        outcomes.qualification[0] = alike[0] if alike else 0
    comparison = compare(prediction, outcomes, _altered(generator, executor or "", Path(errata) if errata else None))
    if comparison.verdict[0] in (Verdict.MISMATCH, Verdict.EXECUTOR_CRASHED):
        raise NotAllowed(_explanation(comparison, vmcs, generator))


def _qualification_open(outcome: Outcome | Mapping[str, Any]) -> bool:
    return isinstance(outcome, Outcome) and outcome.qualification is None


def _outcomes(outcome: Outcome | Mapping[str, Any], batch: VmcsBatch) -> Outcomes:
    """The outcome of a batch of one row."""
    outcomes = Outcomes.empty(1)
    if isinstance(outcome, Mapping):
        answers = Answers()
        try:
            answers.read([json.dumps({"row": 0, **outcome}).encode()], batch, np.arange(1), outcomes)
        except (NotSpoken, TypeError) as wrong:
            raise UsageError(f"{dict(outcome)}: {wrong}") from None
        outcomes.messages = answers.messages
        return outcomes
    if not isinstance(outcome, Outcome):
        raise UsageError(f"{outcome!r}: expected a vmfuzz.Outcome, or an answer such as {{'outcome': 'entered'}}")
    info = batch.row(0).get("vm_entry_interruption_info") or 0
    outcomes.kind[0], outcomes.number[0] = outcome.kind, outcome.number
    outcomes.qualification[0] = outcome.qualification or 0
    outcomes.entry_interruption_info[0] = info if outcome.kind is Kind.ENTRY_FAILURE else info & 0x7FFF_FFFF
    return outcomes


@lru_cache(maxsize=64)
def _altered(generator: Generator, executor: str, errata: Path | None) -> AlteredModel | None:
    """The model with the deviations that are known of an executor, if there are any."""
    deviations = all_deviations_of(executor, load_errata(errata), generator.model, generator)
    return AlteredModel(generator.model.capabilities, deviations) if deviations else None


def _explanation(comparison: Comparison, vmcs: Vmcs, generator: Generator) -> str:
    """What `vmfuzz show` says of a finding: allowed and actual outcome, the VMCS beside the nearest base, the edge, the checks."""
    prediction = comparison.prediction
    lines = [f"the manual allows {_words(int(prediction.allowed[0]))}", f"the outcome was {comparison.outcomes[0].short()}"]
    if message := comparison.outcomes.message_of(0):
        lines.append(f"it says: {message}")
    mutations = {name: mutation_between(state, vmcs) for name, state in generator.bases.possible.items()}
    name = min(mutations, key=lambda each: (len(mutations[each]), base_rank(each)))
    base, mutation = generator.bases.possible[name], mutations[name]
    lines += ["", f"base {name} of {generator.model.capabilities.name}"]
    near = {key: edge for key in mutation if (edge := _edge(comparison, base, mutation, key, generator))}
    lines += side_by_side(base, mutation, near, ("base", "this VMCS", "nearest allowed", "and does")) or ["nothing differs from the base"]
    lines += required(generator.model, base, mutation, (compiled.check.id for compiled in prediction.violations_of(0)))
    return "\n".join(lines)


def _edge(comparison: Comparison, base: Vmcs, mutation: Mapping[str, int], key: str, generator: Generator) -> tuple[int, str] | None:
    """The nearest value of an operand with which the manual allows what the processor did, and what it allows then; None where there is none near."""
    values = near_values(base, key, mutation[key])
    allowed = generator.model.predict_batch(batch_of(base, [{**mutation, key: value} for value in values])).allowed
    did = ENTERED if comparison.outcomes.kind[0] == Kind.EXIT else 1 << int(comparison.bits[0])
    rows = np.flatnonzero(allowed & np.uint64(did))
    return (values[int(rows[0])], _words(int(allowed[rows[0]]))) if len(rows) else None


def _words(allowed: int) -> str:
    return ", ".join(sorted(outcome.short() for outcome in outcomes_of(allowed)))
