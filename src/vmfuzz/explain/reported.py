"""The outcome that a text reports, and how sure or how complete that is: one class for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Bit 31 of an exit reason: the VM entry failed.
FAILED_ENTRY: Final = 1 << 31
#: VM-instruction errors of VMLAUNCH and VMRESUME; the others are those of other instructions.
ENTRY_ERRORS: Final = (4, 5, 6, 7, 8, 16, 17, 18, 25, 26)
#: Basic exit reasons with which an entry can fail.
FAILURE_REASONS: Final = (33, 34, 41)


@dataclass(frozen=True)
class Reported:
    """The outcome that a text reports: an exit reason (whole field), or a VM-instruction error, or VMfailInvalid.

    `text` is what stood there. `exit_reason` None and `error` None: VMfailInvalid. `error` 0: a failure without its number.
    """

    text: str
    exit_reason: int | None = None
    error: int | None = None
    qualification: int | None = None
    msr_entry: int | None = None
    remark: str = ""

    @property
    def entered(self) -> bool:
        """Whether this says that the VM entry succeeded."""
        return self.exit_reason is not None and not self.exit_reason >> 31 & 1

    @property
    def of_another_instruction(self) -> bool:
        """Whether this is a VM-instruction error that no VM entry gives."""
        return bool(self.error) and self.error not in ENTRY_ERRORS


@dataclass(frozen=True)
class Doubtful(Reported):
    """A VM-instruction error beside an exit reason, of which one is left over from another time: the text does not tell which."""

    other: Reported | None = None


@dataclass(frozen=True)
class Unnumbered(Reported):
    """A failed entry of which the program gives no number."""


@dataclass(frozen=True)
class Attempted(Reported):
    """KVM's dump of a VMCS, of which the end with the exit reason is cut off: the entry failed, or an exit came that KVM does not expect."""


@dataclass(frozen=True)
class Spoken(Reported):
    """What a person's words say of an outcome: whatever a program says goes before it."""


@dataclass(frozen=True)
class OtherFailure(Reported):
    """A failure that is no failed VM entry: `text` is what failed, `means` what that means. `running`: the guest had run when it came up."""

    means: str = ""
    running: bool = False

    @property
    def entered(self) -> bool:
        """Whether no entry failed: an instruction that failed before one leaves that open."""
        return self.running


@dataclass(frozen=True)
class Refused(Reported):
    """An entry of a nested guest that KVM refused by a check of its own, named in its source's words.

    `outcome`: what its hypervisor gets, where the check tells. It proves nothing of other checks, of which KVM leaves some to the processor below.
    """

    outcome: Reported | None = None


def possible(reason: int) -> bool:
    """Whether a processor can report this exit reason: bit 31 comes only with the basic exit reasons of a failed entry."""
    return not reason >> 31 & 1 or (reason & 0xFFFF in FAILURE_REASONS and not reason >> 16 & 0x7FFF)
