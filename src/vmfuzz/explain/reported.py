"""The outcome that a text reports, and how sure or how complete that is."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

#: Bit 31 of an exit reason: the VM entry failed.
FAILED_ENTRY: Final = 1 << 31
#: All VM-instruction errors, and those of VMLAUNCH and VMRESUME; the others are those of other instructions.
ERRORS: Final = range(1, 29)
ENTRY_ERRORS: Final = (4, 5, 6, 7, 8, 16, 17, 18, 25, 26)
#: Basic exit reasons with which an entry can fail.
FAILURE_REASONS: Final = (33, 34, 41)


class Report(enum.StrEnum):
    """What a text says of an outcome."""

    TOLD = "told"  # a program says it, with its number or by a name that stands for one
    SPOKEN = "spoken"  # a person's words say it: whatever a program says goes before them
    UNNUMBERED = "unnumbered"  # an entry failed, and the program gives no number
    ATTEMPTED = "attempted"  # KVM's dump of a VMCS without its end: the entry failed, or an exit came that KVM does not expect
    DOUBTFUL = "doubtful"  # an error beside an exit reason (`other`): one is left over from another time, and the text does not tell which
    REFUSED = "refused"  # KVM refused a nested guest's entry by a check named in its source's words; `other`: what its hypervisor gets
    INSTRUCTION = "failed instruction"  # another VMX instruction failed, which leaves open whether an entry did
    INTERNAL = "internal error"  # KVM, not the processor, could not go on with a guest that had run


@dataclass(frozen=True)
class Reported:
    """The outcome that a text reports: an exit reason (whole field), or a VM-instruction error, or VMfailInvalid.

    `text` is what stood there. `exit_reason` None and `error` None: VMfailInvalid. `error` 0: a failure without its number.
    `means`: what a failure that is none of a VM entry means.
    """

    text: str
    exit_reason: int | None = None
    error: int | None = None
    qualification: int | None = None
    msr_entry: int | None = None
    remark: str = ""
    kind: Report = Report.TOLD
    means: str = ""
    other: Reported | None = None

    @property
    def entered(self) -> bool:
        """Whether this says that the VM entry succeeded."""
        return self.kind is Report.INTERNAL or (self.exit_reason is not None and not self.exit_reason & FAILED_ENTRY)
