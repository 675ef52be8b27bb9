"""The executor for real processors: VM entries through the kernel module, on this machine or, through an agent, on another."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, SafetyStop, UsageError
from vmfuzz.execute.base import Opened
from vmfuzz.execute.containment.poison import FAILS, FIELD, canary, with_twins
from vmfuzz.execute.kmod.abi import kmod_constants, kmod_struct
from vmfuzz.execute.kmod.containment import BOLD, RULES, SAFE, KmodContainment
from vmfuzz.execute.kmod.device import AgentDevice, Device, LocalDevice, error_text, microcode_revision
from vmfuzz.execute.kmod.journal import Journal
from vmfuzz.execute.wire.abi import struct_dtype
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
from vmfuzz.execute.wire.family import Arena, Family, pairs
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

RISKS: Final = {"safe": SAFE, "bold": BOLD}
_ARENA: Final = 1 << 63
_OF_SAFE: Final = "refused: risk level safe"


class KmodExecutor(Opened):
    """The processor behind `device`; without one, this machine's.

    `risk`: "safe" or "bold"; `poison`: candidates that RFLAGS bit 1 = 0 keeps from entering may have some of what is refused otherwise
    (docs/bare-metal.md for both). `paranoid` compares all fields with the base after every row (slow). `journal`: the file
    that keeps the batch being run, to find the culprit when the machine goes down; only for this machine. Raises EnvironmentUnusable when
    the device cannot be used, SafetyStop when a journal shows that the machine went down, or where the processor does not refuse poison.
    """

    #: bytes of rows in one request
    chunk_bytes = 8 << 20
    #: whether the machine is a virtual one that nobody else uses, and may be reset (VMFUZZ_FLAG_VIRTUAL): only the bootable image's
    virtual = False

    def __init__(
        self,
        device: Device | None = None,
        *,
        risk: str = "safe",
        poison: bool = False,
        cpu: int | None = None,
        paranoid: bool = False,
        journal: Path | None = None,
    ) -> None:
        if risk not in RISKS:
            raise UsageError(f"risk = {risk!r}: expected {' or '.join(RISKS)}")
        self.risk = risk
        self.poison = False
        self.paranoid = paranoid
        self.drift = Drift()
        self._messages: dict[str, int] = {}
        self._journal: Journal | None = None
        self._device = device or LocalDevice(cpu)
        try:
            # Only who has the device: another program's journal is not to be emptied.
            if self._device.local:
                self._journal = Journal(journal)
            self._info = self._facts("IOC_INFO", "info")
            self._capabilities = self._read_capabilities()
            self._known_good = self._capture()
            self.virtual = self._may_be_lost()
        except BaseException:
            self.close()
            raise
        self.containment = KmodContainment(self._capabilities, self._known_good, self.arena, RISKS[risk], poison, self.virtual)
        rule = int(self.containment.refused(VmcsBatch(self._known_good, {}, count=1)).rule[0])
        if rule >= 0:
            self.close()
            raise EnvironmentUnusable(_why_nothing_runs(self.name, risk, rule))
        if poison:
            self._send_canary()
            self.poison = True

    @classmethod
    def remote(cls, command: Sequence[str], **options: Any) -> Self:
        """The processor of the machine on which `command` starts the agent."""
        return cls(AgentDevice(command), **options)

    # The Executor interface

    @property
    def name(self) -> str:
        """What executes, for reports."""
        return f"kmod {self._capabilities.name}"

    def capabilities(self) -> Capabilities:
        """What the processor reports."""
        return self._capabilities

    def known_good(self) -> Vmcs:
        """The VMCS captured from the running kernel's own state."""
        return self._known_good

    def _run_batch(self, batch: VmcsBatch) -> Outcomes:
        family = Family.of(batch, self.arena, self._known_good)
        outcomes = Outcomes.empty(len(batch))
        for rows in self._chunks(family, len(batch)):
            self._run_chunk(family, rows, outcomes)
        outcomes.messages = list(self._messages)
        return outcomes

    def with_twins(self, batch: VmcsBatch) -> VmcsBatch:
        """With `poison` the batch in which each candidate that containment refuses is poisoned, if containment lets it run then."""
        return with_twins(batch, self.containment.refused) if self.poison else batch

    def _send_canary(self) -> None:
        """Show the module that this processor refuses RFLAGS bit 1 = 0; raises SafetyStop where it does not."""
        rflags = FIELDS[FIELD].encoding
        column = np.array([canary(self._known_good)[FIELD]], np.uint64)
        outcomes = Outcomes.empty(1)
        try:
            self._run_chunk(Family(1, dict(self._captured), [rflags], [column], 1, 0, 0), np.arange(1), outcomes)
            if outcomes[0] != FAILS:
                raise SafetyStop(f"{self.name}: poison: this processor does not refuse guest RFLAGS bit 1 = 0: {outcomes[0]}")
        except BaseException:
            self.close()
            raise

    def not_kept(self, candidate: Vmcs) -> list[str]:
        """Fields of a candidate, which is run once by itself, of which VMREAD gives another value than VMWRITE wrote."""
        return self.drift.of_one(self.run, candidate)

    def close(self) -> None:
        """Give the device back."""
        super().close()
        self._device.close()
        if self._journal is not None:
            self._journal.close()

    # Facts of the processor

    def _may_be_lost(self) -> bool:
        """Whether candidates may cost a reset of the machine; what it reports of itself is known."""
        return False

    @property
    def arena(self) -> Arena:
        """The memory that candidates may describe."""
        return Arena(int(self._info["arena_pa"]), int(self._info["arena_bytes"]))

    def _facts(self, code: str, name: str) -> Any:
        request = kmod_struct(name)
        error, answer = self._device.request(kmod_constants()[code], request.tobytes())
        if error:
            raise ExecutorError(f"kmod: {error_text(error)}")
        return np.frombuffer(answer, struct_dtype(name))[0]

    def _read_capabilities(self) -> Capabilities:
        info = self._info
        if int(info["engine_abi"]) != kmod_constants()["ABI"]:
            raise ExecutorError(
                f"kmod: the module has engine ABI {info['engine_abi']}, vmfuzz {kmod_constants()['ABI']}; build the module again"
            )
        self._msrs, cpuid = msrs_of(info), cpuid_of(info)
        return Capabilities(_processor_name(cpuid), fact_msrs(self._msrs), cpuid, microcode_revision() if self._device.local else None)

    def _capture(self) -> Vmcs:
        answer = self._facts("IOC_CAPTURE", "capture")
        if int(answer["cpu"]) != int(self._info["cpu"]):
            raise ExecutorError(
                f"kmod: the facts are of CPU {self._info['cpu']}, the captured VMCS of CPU {answer['cpu']}; bind the process to one"
            )
        self._captured = captured_fields(answer)
        #: encodings that VMWRITE accepts although the catalogue does not have them
        self.unknown_fields = sorted(set(self._captured) - set(BY_ENCODING))
        return captured_vmcs(self._captured, self._capabilities, live_facts(self._msrs, self._info))

    # Running

    def _row_bytes(self, family: Family) -> int:
        return struct_dtype("result").itemsize + 8 * len(family.targets)

    def _chunks(self, family: Family, count: int) -> Iterator[npt.NDArray[np.intp]]:
        """The rows of each request, of `count` candidates."""
        per_chunk = max(1, self.chunk_bytes // self._row_bytes(family))
        for start in range(0, count, per_chunk):
            yield np.arange(start, min(start + per_chunk, count))

    def _pack(self, family: Family, rows: npt.NDArray[np.intp], restore: set[int]) -> bytes:
        """A run's request: the structure, base, targets, what to restore, rows."""
        head = kmod_struct("run")
        columns, result, stride = len(family.targets), struct_dtype("result").itemsize, self._row_bytes(family)
        head["flags"] = kmod_constants()["FLAG_PARANOID"] * self.paranoid | kmod_constants()["FLAG_POISON"] * self.poison
        head["flags"] |= np.uint32(kmod_constants()["FLAG_VIRTUAL"] * self.virtual)
        head["risk"] = RISKS[self.risk]
        head["base_count"], head["restore_count"] = len(family.base), len(restore)
        head["field_columns"], head["arena_columns"], head["live_columns"] = family.field_columns, family.arena_columns, family.live_columns
        head["row_bytes"], head["row_count"] = stride, len(rows)
        area = np.zeros(len(rows) * stride, np.uint8)
        if columns:
            family.rows(rows, np.ndarray((len(rows), columns), np.uint64, area, result, (stride, 8)))
        targets = np.array(family.targets, np.uint64)
        return b"".join(part.tobytes() for part in (head, pairs(family.base), targets, np.fromiter(restore, np.uint64, len(restore)), area))

    def _run_chunk(self, family: Family, rows: npt.NDArray[np.intp], outcomes: Outcomes) -> None:
        """Run rows until no field drifts any more, then take over their outcomes."""
        results = np.zeros(len(rows), struct_dtype("result"))

        def run(restored: set[int]) -> set[int]:
            payload = self._pack(family, rows, restored & set(family.base) - set(family.targets))
            if self._journal is not None:
                self._journal.write(payload)
            results[:], drifted = self._request_run(family, payload, len(rows))
            if self._journal is not None:
                self._journal.clear()
            return drifted

        self.drift.until_still(self.name, family.saved(), run)
        self._collect(results, rows, outcomes)

    def _request_run(self, family: Family, payload: bytes, count: int) -> tuple[npt.NDArray[Any], set[int]]:
        """The results of `count` rows, and what drifted. After a signal, whose handler has run by then, the rest is another request."""
        results = np.zeros(count, struct_dtype("result"))
        drifted: set[int] = set()
        done = 0
        while True:
            error, answer = self._device.request(kmod_constants()["IOC_RUN"], payload)
            if error not in (0, errno.EINTR):
                raise ExecutorError(f"{self.name}: {error_text(error)}")
            head = np.frombuffer(answer, struct_dtype("run"), 1)[0]
            ran = count - done if not error else int(head["rows_done"])
            if ran or not error:
                require_done(self.name, int(head["status"]), int(head["detail"]))
                size = struct_dtype("run").itemsize
                results[done : done + ran] = np.frombuffer(answer, results.dtype, ran, size)
                words_at = size + int(head["row_count"]) * results.dtype.itemsize + 8
                drifted |= self._drifted(family, head, np.frombuffer(answer, np.uint64, -1, words_at).reshape(-1, 2))
            done += ran
            if done == count:
                return results, drifted
            payload = _without_rows(payload, ran)

    def _drifted(self, family: Family, head: Any, words: npt.NDArray[np.uint64]) -> set[int]:
        """Fields and words of the arena outside the columns that no longer hold the base's values."""
        found = {int(encoding) for encoding in head["drift"][: int(head["drift_count"])]}
        expected = {target & ~_ARENA: value for target, value in family.base.items() if target & _ARENA}
        actual = {int(offset): int(value) for offset, value in words}
        for offset in set(expected) | set(actual):
            if actual.get(offset, 0) != expected.get(offset, 0):
                found.add(_ARENA | offset)
        return found - set(family.targets)

    def _collect(self, results: npt.NDArray[Any], rows: npt.NDArray[np.intp], outcomes: Outcomes) -> None:
        take_over(results, rows, outcomes)
        refused = results["kind"] == Kind.REFUSED
        for rule in np.unique(results["number"][refused]):
            text = RULES[rule] if rule < len(RULES) else f"refused: rule {rule} of the module"
            outcomes.message[rows[refused & (results["number"] == rule)]] = self._messages.setdefault(text, len(self._messages))
        outcomes.number[rows[refused]] = 0


def _without_rows(payload: bytes, count: int) -> bytes:
    """A run's request without its first rows."""
    head = np.frombuffer(payload, struct_dtype("run"), 1).copy()
    rows_at = len(payload) - int(head["row_count"][0]) * int(head["row_bytes"][0])
    head["row_count"] -= np.uint64(count)
    return head.tobytes() + payload[head.nbytes : rows_at] + payload[rows_at + count * int(head["row_bytes"][0]) :]


def _why_nothing_runs(name: str, risk: str, rule: int) -> str:
    """What to do where not even the captured VMCS may run, by the rule that refuses it."""
    advice = "; --risk bold takes one wall (docs/bare-metal.md)" if risk == "safe" and RULES[rule].startswith(_OF_SAFE) else ""
    return f"{name}: even the VMCS captured from the running kernel is {RULES[rule]}{advice}"


def _processor_name(cpuid: dict[tuple[int, int], tuple[int, int, int, int]]) -> str:
    """Vendor and family-model-stepping, in which errata are listed."""
    _, ebx, ecx, edx = cpuid.get((0, 0), (0, 0, 0, 0))
    vendor = b"".join(register.to_bytes(4, "little") for register in (ebx, edx, ecx)).decode("ascii", "replace")
    signature = cpuid.get((1, 0), (0, 0, 0, 0))[0]
    family, model = signature >> 8 & 0xF, signature >> 4 & 0xF
    if family in (6, 15):
        model |= signature >> 12 & 0xF0
    if family == 15:
        family += signature >> 20 & 0xFF
    return f"{vendor} {family}-{model}-{signature & 0xF}"
