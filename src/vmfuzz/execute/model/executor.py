"""The executor `model`: the model itself in a processor's place, for processors that nobody has here, and as one with planted errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.execute.base import Opened, require_fields, require_settable
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.outcome_codes import OUTCOME_OF_BIT
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs


class ModelExecutor(Opened):
    """A processor that makes exactly `checks` and of several allowed outcomes takes the first.

    `known_good` is given; the fields that it holds are those that the processor has.
    """

    def __init__(self, capabilities: Capabilities, known_good: Vmcs, checks: Sequence[Check] = CHECKS) -> None:
        self._model = Model(capabilities, checks)
        self._known_good = known_good

    @property
    def name(self) -> str:
        """`model NAME-OF-CAPABILITIES`."""
        return f"model {self._model.capabilities.name}"

    def capabilities(self) -> Capabilities:
        """The capabilities that it was made with."""
        return self._model.capabilities

    def known_good(self) -> Vmcs:
        """The state that it was made with."""
        return self._known_good

    def _run_batch(self, batch: VmcsBatch) -> Outcomes:
        """The lowest allowed outcome of each candidate (a failure before an entry; of failures the earliest stage's).

        Raises UsageError where the batch writes a field that the known-good state does not have (this processor lacks it), or varies a fact.
        """
        require_settable(batch)
        require_fields(self.name, self._known_good, batch)
        allowed = self._model.predict_batch(batch).allowed
        written = np.broadcast_to(OperandValues(batch)("vm_entry_interruption_info"), len(batch)).astype(np.uint32)
        lowest = allowed & (~allowed + np.uint64(1))
        outcomes = Outcomes.empty(len(batch))
        for bit, outcome in enumerate(OUTCOME_OF_BIT):
            rows = lowest == np.uint64(1 << bit)
            outcomes.kind[rows] = outcome.kind
            outcomes.number[rows] = outcome.number
            outcomes.qualification[rows] = outcome.qualification or 0
            if outcome.kind is Kind.ENTRY_FAILURE:
                outcomes.raw_reason[rows] = 1 << 31 | outcome.number
                outcomes.entry_interruption_info[rows] = written[rows]
            elif outcome.kind is Kind.EXIT:
                outcomes.raw_reason[rows] = outcome.number
                outcomes.entry_interruption_info[rows] = written[rows] & np.uint32(0x7FFFFFFF)
        return outcomes
