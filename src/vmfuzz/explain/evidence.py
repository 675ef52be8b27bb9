"""What a text shows of a VMCS, place by place: readers only add to it, and settle/ decides what of it is believed.

Nothing here is changed or taken out once it is noted: a place that turns out to be doubtful stays evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.explain.dump import Program, Reading, Warned
from vmfuzz.explain.text.lines import Line

#: Capability MSRs by name: places give them as they give fields.
MSR_NUMBERS: Final = {name: number for number, name in FACT_MSRS.items()}
#: Fields that people write above a dump, and programs by name in the place of a number.
OUTCOME: Final = frozenset({"exit_reason", "vm_instruction_error", "exit_qualification"})
#: What is left of places, and what a person should know of those that are not.
Kept = tuple[list[Reading], list[Warned]]


@dataclass
class Found(Program):
    """All that the readers find in one text, in the order in which they find it; they add to it and look at nothing but what they added."""

    evidence: list[Reading] = field(default_factory=list)
    #: what declared programs print, each with its lines
    programs: dict[str, list[Line]] = field(default_factory=dict)
    #: fields to which program text gives something that is no constant
    computed: dict[str, int] = field(default_factory=dict)
    #: fields that only their places name, and whether they stand on another line than their register
    placed: dict[str, bool] = field(default_factory=dict)
    #: a part stands where none can be (before all registers it may: the text may have lost its head)
    astray: bool = False
    warnings: list[Warned] = field(default_factory=list)
    #: values that stand beside the VMCS and are no fields
    beside: dict[str, Reading] = field(default_factory=dict)
    #: labels with a number that mean no field, with their line
    unread: list[tuple[str, int]] = field(default_factory=list)
    #: VirtualBox's own word on the failed check (its "HM error" number)
    hm_error: int | None = None
    #: structures of KVM's show the registers as the guest sees them, not the VMCS
    viewed: bool = False
    #: the last line that says that VM entry failed
    failed: int = 0

    def warn(self, text: str, line: int = 0) -> None:
        """Note what a person should know of a line, or of the text (line 0)."""
        self.warnings.append(Warned(line, text))
