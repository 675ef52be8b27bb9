"""What a VM entry can end in (SDM "VM-Entry Failures During or After Loading Guest State", "VM Instruction Error Numbers").

`Outcome` is one result in the SDM's words; `Outcomes` are the results of a batch in columns. The numbers of `Kind` are those of
the engine (kmod/engine.h); a test compares the two.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from vmfuzz.hexadecimal import hexadecimal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Kind(enum.IntEnum):
    """How the execution of one candidate ended.

    - `NOT_RUN`: it was not tried.
    - `EXIT`: VM entry succeeded; then a VM exit came.
    - `VMFAIL_INVALID`, `VMFAIL_VALID`: VMLAUNCH failed as an instruction, without or with an error number.
    - `ENTRY_FAILURE`: VM entry failed after the guest state was looked at: an exit reason with bit 31 = 1.
    - `VMWRITE_FAILED`: a field could not be written, so VM entry was not tried.
    - `REFUSED`: containment did not let the candidate run.
    - `EXECUTOR_CRASHED`: the executor died or hung on this candidate.

    >>> [kind.name for kind in vmfuzz.Kind if kind.name.startswith("VMFAIL")]
    ['VMFAIL_INVALID', 'VMFAIL_VALID']
    """

    NOT_RUN = 0
    EXIT = 1  # the entry succeeded; then this VM exit
    VMFAIL_INVALID = 2
    VMFAIL_VALID = 3
    ENTRY_FAILURE = 4  # exit reason with bit 31 set
    VMWRITE_FAILED = 5  # a field could not be written; no entry was tried
    REFUSED = 6  # containment refused to run the candidate
    EXECUTOR_CRASHED = 7  # the executor died or hung on this candidate


#: Instruction-error numbers that a VM entry or a VMWRITE can give.
INSTRUCTION_ERRORS: Final = MappingProxyType(
    {
        4: "VMLAUNCH with non-clear VMCS",
        5: "VMRESUME with non-launched VMCS",
        6: "VMRESUME after VMXOFF",
        7: "VM entry with invalid control field(s)",
        8: "VM entry with invalid host-state field(s)",
        12: "VMREAD/VMWRITE from/to unsupported VMCS component",
        13: "VMWRITE to read-only VMCS component",
        16: "VM entry with invalid executive-VMCS pointer",
        17: "VM entry with non-launched executive VMCS",
        18: "VM entry with executive-VMCS pointer not VMXON pointer",
        25: "VM entry with invalid VM-execution control fields in executive VMCS",
        26: "VM entry with events blocked by MOV SS",
    }
)

#: All basic exit reasons (SDM appendix "VMX Basic Exit Reasons"); 35, 38, 42 and 71 are not defined.
EXIT_REASONS: Final = MappingProxyType(
    {
        0: "exception or NMI",
        1: "external interrupt",
        2: "triple fault",
        3: "INIT signal",
        4: "start-up IPI",
        5: "I/O SMI",
        6: "other SMI",
        7: "interrupt window",
        8: "NMI window",
        9: "task switch",
        10: "CPUID",
        11: "GETSEC",
        12: "HLT",
        13: "INVD",
        14: "INVLPG",
        15: "RDPMC",
        16: "RDTSC",
        17: "RSM",
        18: "VMCALL",
        19: "VMCLEAR",
        20: "VMLAUNCH",
        21: "VMPTRLD",
        22: "VMPTRST",
        23: "VMREAD",
        24: "VMRESUME",
        25: "VMWRITE",
        26: "VMXOFF",
        27: "VMXON",
        28: "control-register access",
        29: "MOV DR",
        30: "I/O instruction",
        31: "RDMSR",
        32: "WRMSR",
        33: "VM-entry failure due to invalid guest state",
        34: "VM-entry failure due to MSR loading",
        36: "MWAIT",
        37: "monitor trap flag",
        39: "MONITOR",
        40: "PAUSE",
        41: "VM-entry failure due to machine-check event",
        43: "TPR below threshold",
        44: "APIC access",
        45: "virtualized EOI",
        46: "access to GDTR or IDTR",
        47: "access to LDTR or TR",
        48: "EPT violation",
        49: "EPT misconfiguration",
        50: "INVEPT",
        51: "RDTSCP",
        52: "VMX-preemption timer expired",
        53: "INVVPID",
        54: "WBINVD or WBNOINVD",
        55: "XSETBV",
        56: "APIC write",
        57: "RDRAND",
        58: "INVPCID",
        59: "VMFUNC",
        60: "ENCLS",
        61: "RDSEED",
        62: "page-modification log full",
        63: "XSAVES",
        64: "XRSTORS",
        65: "PCONFIG",
        66: "SPP-related event",
        67: "UMWAIT",
        68: "TPAUSE",
        69: "LOADIWKEY",
        70: "ENCLV",
        72: "ENQCMD PASID translation failure",
        73: "ENQCMDS PASID translation failure",
        74: "bus lock",
        75: "instruction timeout",
        76: "SEAMCALL",
        77: "TDCALL",
        78: "RDMSRLIST",
        79: "WRMSRLIST",
    }
)


@dataclass(frozen=True, order=True)
class Outcome:
    """The outcome of one candidate, as an executor reports it or the model predicts it. Outcomes can be compared and hashed.

    - `kind: Kind`
    - `number: int`: the VM-instruction error (VMFAIL_VALID, VMWRITE_FAILED) or the basic exit reason without bit 31 (EXIT, ENTRY_FAILURE);
      FFFFH in the prediction of an EXIT whose reason the model leaves open.
    - `qualification: int | None`: the exit qualification; None where there is none, or where the prediction leaves it open.

    >>> print(vmfuzz.Outcome(vmfuzz.Kind.VMFAIL_VALID, 7))
    VMfailValid(7): VM entry with invalid control field(s)
    """

    kind: Kind
    number: int = 0
    qualification: int | None = None

    def __str__(self) -> str:
        if self.kind is Kind.VMFAIL_VALID:
            return f"VMfailValid({self.number}): {INSTRUCTION_ERRORS.get(self.number, 'unknown error number')}"
        if self.kind is Kind.VMFAIL_INVALID:
            return "VMfailInvalid"
        if self.kind is Kind.ENTRY_FAILURE:
            qualification = "" if self.qualification is None else f", qualification {self.qualification}"
            if self.qualification == ANY_ENTRY:
                qualification = ", qualification: the number of a later entry"
            return f"{EXIT_REASONS.get(self.number, 'VM-entry failure')} (exit reason {hexadecimal(1 << 31 | self.number)}{qualification})"
        if self.kind is Kind.EXIT:
            if self.number == ANY_EXIT:
                return "VM entry succeeds"
            return f"VM entry succeeds, then exit reason {self.number} ({EXIT_REASONS.get(self.number, 'not named here')})"
        if self.kind is Kind.VMWRITE_FAILED:
            return f"VMWRITE failed with error {self.number}"
        return self.kind.name.lower().replace("_", " ")

    def short(self) -> str:
        """A label for tables: "VMfailValid(7)", "entry failure 33 q0", "entered, exit 52"."""
        if self.kind is Kind.VMFAIL_VALID:
            return f"VMfailValid({self.number})"
        if self.kind is Kind.ENTRY_FAILURE:
            qualification = "" if self.qualification is None else f" q{self.qualification:x}"
            if self.qualification == ANY_ENTRY:
                return f"entry failure {self.number} at a later entry"
            return f"entry failure {self.number}{qualification}"
        if self.kind is Kind.EXIT:
            return "entered" if self.number == ANY_EXIT else f"entered, exit {self.number}"
        return {
            Kind.VMFAIL_INVALID: "VMfailInvalid",
            Kind.VMWRITE_FAILED: f"VMWRITE failed({self.number})",
            Kind.REFUSED: "refused by containment",
            Kind.EXECUTOR_CRASHED: "executor crashed",
        }.get(self.kind, "not run")


#: `number` of an EXIT outcome whose first exit reason is not predicted.
ANY_EXIT: Final = 0xFFFF
#: `qualification` of a failed MSR load that stands for every entry beyond those that the model reads.
ANY_ENTRY: Final = (1 << 64) - 1


@dataclass
class Outcomes:
    """The outcomes of a batch of n candidates, in its order: arrays of shape (n,), or one `Outcome` at a time with `outcomes[row]` or a loop.

    - `kind` (uint8): the values of `Kind`.
    - `number` (uint32): the VM-instruction error or the basic exit reason, as in `Outcome`.
    - `raw_reason` (uint32): the whole exit reason after an exit or an entry failure, else 0.
    - `qualification` (uint64): the exit qualification after an exit or an entry failure, else 0.
    - `entry_interruption_info` (uint32): the VM-entry interruption-information field (4016H) after the attempt.
    - `encoding` (uint32): the encoding of the field that could not be written (VMWRITE_FAILED), else 0.
    - `message` (int32): the place in `messages` of what the executor said about the failure, -1 if it said nothing.
    - `messages`: a list of these texts.

    >>> with vmfuzz.open_executor("model", cpu="corei7_skylake_x") as executor:
    ...     outcomes = executor.run([good, bad])
    >>> outcomes.kind == vmfuzz.Kind.ENTRY_FAILURE
    array([False,  True])
    >>> [outcome.short() for outcome in outcomes]
    ['entered, exit 52', 'entry failure 33 q0']
    """

    kind: npt.NDArray[np.uint8]
    number: npt.NDArray[np.uint32]  #: error number, or basic exit reason (low 16 bits)
    raw_reason: npt.NDArray[np.uint32]  #: the whole exit-reason field where there was an exit or entry failure
    qualification: npt.NDArray[np.uint64]
    entry_interruption_info: npt.NDArray[np.uint32]  #: field 4016H after the fact
    encoding: npt.NDArray[np.uint32]  #: the field that could not be written (VMWRITE_FAILED)
    message: npt.NDArray[np.int32]  #: index in `messages` of the executor's own word on the failure, -1 if none
    messages: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, count: int) -> Outcomes:
        """`count` outcomes of kind NOT_RUN."""
        import numpy as np  # not before there are columns: whoever reads and judges one state needs no numpy

        return cls(
            kind=np.zeros(count, np.uint8),
            number=np.zeros(count, np.uint32),
            raw_reason=np.zeros(count, np.uint32),
            qualification=np.zeros(count, np.uint64),
            entry_interruption_info=np.zeros(count, np.uint32),
            encoding=np.zeros(count, np.uint32),
            message=np.full(count, -1, np.int32),
        )

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: int) -> Outcome:
        kind = Kind(int(self.kind[index]))
        with_qualification = kind in (Kind.EXIT, Kind.ENTRY_FAILURE)
        qualification = int(self.qualification[index]) if with_qualification else None
        return Outcome(kind, int(self.number[index]), qualification)

    def __iter__(self) -> Iterator[Outcome]:
        return (self[index] for index in range(len(self)))

    def message_of(self, index: int) -> str | None:
        """What the executor said about why candidate `index` failed, or None."""
        number = int(self.message[index])
        return self.messages[number] if number >= 0 else None
