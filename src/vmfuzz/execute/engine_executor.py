"""What executors have in common that run the engine in a machine of their own: they share its memory and may lose it.

The machine is an `EngineProcess`: the emulated CPU's worker (bochs/process.py) or a virtual machine of KVM (kvm/process.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.arch.registers import APIC_BASE, IA32_APIC_BASE
from vmfuzz.errors import ExecutorError
from vmfuzz.execute.base import Opened
from vmfuzz.execute.containment.poison import FAILS, canary, with_twins
from vmfuzz.execute.containment.rules import Containment
from vmfuzz.execute.engine_process import EngineProcess, WorkerDied
from vmfuzz.execute.wire.abi import constants, struct_dtype
from vmfuzz.execute.wire.answers import (
    Drift,
    captured_fields,
    captured_vmcs,
    cpuid_of,
    fact_msrs,
    live_facts,
    msrs_of,
    require_done,
    take_over,
)
from vmfuzz.execute.wire.culprits import Death, run_around
from vmfuzz.execute.wire.family import Arena, Family, pairs
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

_HOST_CR4: Final = FIELDS["host_cr4"].encoding
_Selection = npt.NDArray[np.intp]


class EngineExecutor(Opened):
    """An executor on `process`; what executes is called `name` in reports.

    `paranoid` compares all fields with the base after every row instead of once a family (slow; for tests), `contain=False` runs even what
    containment refuses (for tests).
    """

    #: whether the machine's platform may write rows and look at entries in the place of the engine's VMWRITE and VMREAD (bochs/platform.c)
    platform_rows = False

    def __init__(self, process: EngineProcess, *, paranoid: bool = False, contain: bool = True) -> None:
        self.paranoid = paranoid
        self.contain = contain
        #: rows run in all, counting repetitions
        self.rows_executed = 0
        self._process = process
        #: RFLAGS from the start, because an exit on a fault saves it with RF set
        self.drift = Drift(FIELDS["guest_rflags"].encoding)
        self._messages: dict[str, int] = {}
        try:
            self._capabilities, self._facts = self._probe()
            self._probed()
            self._known_good = self._capture()
        except BaseException:
            self.close()
            raise
        self.containment = self._containment()

    # What differs from executor to executor

    def _processor(self, cpuid: dict[tuple[int, int], tuple[int, int, int, int]]) -> str:
        """The name of the capabilities, given CPUID's leaves."""
        raise NotImplementedError

    def _probed(self) -> None:
        """Called once the capabilities are known, before the known-good VMCS is captured."""

    def _containment(self) -> Containment:
        return Containment(self._capabilities, self._known_good)

    # The Executor interface

    def capabilities(self) -> Capabilities:
        """What the emulated CPU reports."""
        return self._capabilities

    def known_good(self) -> Vmcs:
        """The VMCS captured from the emulated CPU's own state."""
        return self._known_good

    def _run_batch(self, batch: VmcsBatch) -> Outcomes:
        family = Family.of(batch, self.arena, self._known_good)
        outcomes = Outcomes.empty(len(batch))
        runnable = np.arange(len(batch))
        if self.contain:
            refused = self.containment.refused(batch)
            self._note_refusals(outcomes, refused.rule, refused.rules)
            runnable = np.flatnonzero(refused.rule < 0)
        self._write_family(family)
        per_chunk = constants()["EMU_ROWS_BYTES"] // self._row_bytes(len(family.targets))
        for start in range(0, len(runnable), per_chunk):
            self._run_chunk(family, runnable[start : start + per_chunk], outcomes)
        outcomes.messages = list(self._messages)
        return outcomes

    def with_twins(self, batch: VmcsBatch) -> VmcsBatch:
        """The batch in which each candidate that containment refuses is poisoned, if it may run then: it costs the machine here at worst.

        Unchanged where this processor enters with poison.
        """
        return with_twins(batch, self.containment.refused) if self.contain and self._refuses_poison else batch

    @cached_property
    def _refuses_poison(self) -> bool:
        return self.run([canary(self._known_good)])[0] == FAILS

    def not_kept(self, candidate: Vmcs) -> list[str]:
        """Fields of a candidate, which is run once by itself, of which VMREAD gives another value than VMWRITE wrote."""
        return self.drift.of_one(self.run, candidate)

    def close(self) -> None:
        """End the worker."""
        super().close()
        self._process.close()

    # Facts of the processor

    @property
    def arena(self) -> Arena:
        """The memory that candidates may describe."""
        layout = constants()
        return Arena(int(self._process.request["arena_pa"]), layout["ARENA_PAGES"] * layout["PAGE"])

    def _probe(self) -> tuple[Capabilities, dict[str, int]]:
        request = self._command("COMMAND_PROBE")
        msrs, cpuid = msrs_of(request), cpuid_of(request)
        capabilities = Capabilities(self._processor(cpuid), fact_msrs(msrs), cpuid)
        # the machine is made for each request, in the mode that its candidates want
        made = {"live_x2apic_mode": msrs[IA32_APIC_BASE] >> APIC_BASE.EXTD & 1} if capabilities.has("x2apic") else {}
        return capabilities, {**live_facts(msrs, request), **made}

    def _capture(self) -> Vmcs:
        found = captured_fields(self._command("COMMAND_CAPTURE"))
        #: encodings that VMWRITE accepts although the catalogue does not have them
        self.unknown_fields = sorted(set(found) - set(BY_ENCODING))
        return captured_vmcs(found, self._capabilities, self._facts)

    def _command(self, command: str) -> Any:
        self._require_open()
        request = self._process.request
        request["command"] = constants()[command]
        try:
            self._process.call()
        except WorkerDied as death:
            raise ExecutorError(f"{self.name}: {command.lower().replace('_', ' ')} failed: {death.reason}") from None
        self._check_status(request)
        return request

    def _check_status(self, request: Any) -> None:
        require_done(self.name, int(request["status"]), int(request["detail"]))

    # Running

    def _row_bytes(self, columns: int) -> int:
        return struct_dtype("result").itemsize + 8 * columns

    def _write_family(self, family: Family) -> None:
        """Base and columns to shared memory: the same for all chunks."""
        request = self._process.request
        base = pairs(family.base)
        layout = constants()
        self._process.view("EMU_LISTS", base.dtype, len(base))[:] = base
        request["base_va"] = int(request["rows_va"]) - layout["EMU_ROWS"] + layout["EMU_LISTS"]
        request["base_count"] = len(base)
        request["columns"][: len(family.targets)] = family.column_pairs()
        request["field_columns"] = family.field_columns
        request["arena_columns"] = family.arena_columns
        request["live_columns"] = family.live_columns
        la57 = self._capabilities.has("la57") and _HOST_CR4 in family.targets
        platform = self.platform_rows and not (self.paranoid or la57 or family.live_columns)
        wanted = {"FLAG_PARANOID": self.paranoid, "FLAG_LA57": la57, "FLAG_PLATFORM": platform, "FLAG_X2APIC": family.x2apic_mode}
        request["flags"] = sum(layout[flag] for flag, on in wanted.items() if on)

    def _run_chunk(self, family: Family, rows: _Selection, outcomes: Outcomes) -> None:
        """Run rows that fit in shared memory; a row that kills the worker is set apart."""

        def attempt(part: _Selection) -> Death | None:
            try:
                self._run_part(family, part, outcomes)
            except WorkerDied as death:
                culprit = int(self._process.request["current_row"]) if death.row_known else None
                self._process.restart()
                if culprit is not None and culprit >= len(part):
                    raise ExecutorError(f"{self.name}: the worker died before its first row: {death.reason}") from None
                return Death(death.reason, culprit)
            return None

        def blame(row: int, reason: str) -> None:
            outcomes.kind[row] = Kind.EXECUTOR_CRASHED
            outcomes.message[row] = self._message_index(reason)

        run_around(rows, attempt, blame)

    def _run_part(self, family: Family, rows: _Selection, outcomes: Outcomes) -> None:
        """Run rows until no field drifts any more, then take over their outcomes."""
        results = self._write_rows(family, rows)
        request = self._process.request

        def run(restored: set[int]) -> set[int]:
            values = {target: family.base.get(target, 0) for target in restored if target not in family.targets}
            request["restore"][: len(values)] = pairs(values)
            request["restore_count"] = len(values)
            results[:] = np.zeros((), results.dtype)
            request["command"] = constants()["COMMAND_RUN"]
            self._process.call()
            self._check_status(request)
            self.rows_executed += len(rows)
            return self._drifted(family)

        self.drift.until_still(self.name, family.saved(), run)
        self._collect(results, rows, outcomes)

    def _write_rows(self, family: Family, rows: _Selection) -> npt.NDArray[Any]:
        """Rows to shared memory; returns the view of where their results will be."""
        columns, result = len(family.targets), struct_dtype("result")
        stride = self._row_bytes(columns)
        request = self._process.request
        request["row_bytes"], request["first_row"], request["row_count"] = stride, 0, len(rows)
        area = self._process.view("EMU_ROWS", np.uint8, stride * len(rows))
        values = np.ndarray((len(rows), columns), np.uint64, area, result.itemsize, (stride, 8))
        family.rows(rows, values)
        return np.ndarray((len(rows),), result, area, 0, (stride,))

    def _drifted(self, family: Family) -> set[int]:
        """Fields and words of the arena outside the columns that no longer hold the base's values."""
        request = self._process.request
        found = {int(encoding) for encoding in request["drift"][: int(request["drift_count"])]}
        bit = 1 << constants()["TARGET_ARENA_BIT"]
        words = self._process.view("EMU_ARENA", np.uint64, self.arena.size // 8)
        expected = {target & ~bit: value for target, value in family.base.items() if target & bit}
        for index in np.flatnonzero(words):
            expected.setdefault(int(index) * 8, 0)
        columns = set(family.targets)
        found.update(bit | offset for offset, value in expected.items() if int(words[offset // 8]) != value and bit | offset not in columns)
        return found - columns

    def _collect(self, results: npt.NDArray[Any], rows: _Selection, outcomes: Outcomes) -> None:
        take_over(results, rows, outcomes)
        # Bochs also logs harmless things; where the entry succeeded only a panic counts.
        texts = self._process.texts()
        numbers = np.full(len(texts) + 1, -1, np.int32)
        for number in np.flatnonzero(np.bincount(results["message"])[1:]).tolist():
            numbers[number + 1] = self._message_index(texts[number])
        message = numbers[results["message"]]
        outcomes.message[rows] = np.where((results["kind"] == Kind.EXIT) & (results["panicked"] == 0), -1, message)

    def _message_index(self, text: str) -> int:
        return self._messages.setdefault(text, len(self._messages))

    def _note_refusals(self, outcomes: Outcomes, rule: npt.NDArray[np.int32], rules: Sequence[str]) -> None:
        for number, text in enumerate(rules):
            rows = rule == number
            if rows.any():
                outcomes.kind[rows] = Kind.REFUSED
                outcomes.message[rows] = self._message_index(text)
