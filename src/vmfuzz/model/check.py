"""The form of a check: what the SDM requires of a VM entry, declared as data.

A check is an id, the section, a sentence, and three conditions: `requires` (capabilities only: the check exists on this processor), `when`
(the "if ..." of the sentence) and `must` (its "... must ..."). It is violated where `requires` and `when` hold and `must` does not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from vmfuzz.arch.outcomes import ANY_ENTRY, Kind, Outcome
from vmfuzz.errors import ModelError
from vmfuzz.model.expr import TRUE, Cond, all_of
from vmfuzz.model.sections import Citation


class Stage(enum.IntEnum):
    """The stages of a VM entry; a violation in one hides all later ones (SDM "VM Entries", introduction)."""

    BASIC = 0  # in the order in which the section lists them
    CONTROLS_AND_HOST = 1  # in any order
    GUEST = 2  # in any order
    MSR_LOAD = 3  # entry by entry


class Fails(enum.Enum):
    """What a violated check ends the VM entry in: the stage and the allowed outcomes."""

    NO_CURRENT_VMCS = (Stage.BASIC, (Outcome(Kind.VMFAIL_INVALID),))
    MOV_SS = (Stage.BASIC, (Outcome(Kind.VMFAIL_VALID, 26),))
    NON_CLEAR = (Stage.BASIC, (Outcome(Kind.VMFAIL_VALID, 4),))
    NON_LAUNCHED = (Stage.BASIC, (Outcome(Kind.VMFAIL_VALID, 5),))
    CONTROLS = (Stage.CONTROLS_AND_HOST, (Outcome(Kind.VMFAIL_VALID, 7),))
    HOST = (Stage.CONTROLS_AND_HOST, (Outcome(Kind.VMFAIL_VALID, 8),))
    # the section on address-space size names no error number for rules that tie a control to another
    CONTROLS_OR_HOST = (Stage.CONTROLS_AND_HOST, (Outcome(Kind.VMFAIL_VALID, 7), Outcome(Kind.VMFAIL_VALID, 8)))
    GUEST = (Stage.GUEST, (Outcome(Kind.ENTRY_FAILURE, 33, 0),))
    PDPTE = (Stage.GUEST, (Outcome(Kind.ENTRY_FAILURE, 33, 2),))
    NMI_STI = (Stage.GUEST, (Outcome(Kind.ENTRY_FAILURE, 33, 3),))
    LINK_POINTER = (Stage.GUEST, (Outcome(Kind.ENTRY_FAILURE, 33, 4),))
    MSR_1 = (Stage.MSR_LOAD, (Outcome(Kind.ENTRY_FAILURE, 34, 1),))
    MSR_2 = (Stage.MSR_LOAD, (Outcome(Kind.ENTRY_FAILURE, 34, 2),))
    MSR_3 = (Stage.MSR_LOAD, (Outcome(Kind.ENTRY_FAILURE, 34, 3),))
    MSR_4 = (Stage.MSR_LOAD, (Outcome(Kind.ENTRY_FAILURE, 34, 4),))
    MSR_BEYOND = (Stage.MSR_LOAD, (Outcome(Kind.ENTRY_FAILURE, 34, ANY_ENTRY),))

    @property
    def stage(self) -> Stage:
        """The stage that the violation belongs to."""
        stage: Stage = self.value[0]
        return stage

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes that the SDM allows for the violation."""
        outcomes: tuple[Outcome, ...] = self.value[1]
        return outcomes


@dataclass(frozen=True, eq=False)
class Check:
    """One requirement of the SDM.

    `known`: whether the case says enough to decide (memory operands whose content it gives); where it does not hold, the check's outcome
    is allowed but not required, and the candidate counts as not modelled. `ambiguity`: the id of the ambiguity (model/ambiguities.py)
    by which a processor may or may not make this check; both outcomes are allowed then.
    """

    id: str
    section: Citation
    text: str
    must: Cond
    when: Cond
    requires: Cond
    fails: Fails
    known: Cond = TRUE
    ambiguity: str | None = None

    @property
    def violated(self) -> Cond:
        """The condition under which the check fails, `requires` apart."""
        return all_of(self.when, ~self.must)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the operands that decide the check, those of `must` first."""
        return tuple(dict.fromkeys([*sorted(self.must.reads), *sorted(self.when.reads)]))


@dataclass
class Section:
    """A section of the SDM under construction: `check` declares its checks one after the other, in the SDM's order."""

    title: str
    fails: Fails
    checks: list[Check] = field(default_factory=list)

    def check(
        self,
        id: str,
        text: str,
        *,
        must: Cond,
        when: Cond = TRUE,
        requires: Cond = TRUE,
        fails: Fails | None = None,
        known: Cond = TRUE,
        ambiguity: str | None = None,
    ) -> None:
        """Declare a check; `requires` may read capabilities only, and a check must read at least one operand."""
        if requires.reads:
            raise ModelError(f"check {id}: `requires` reads {sorted(requires.reads)}; it may read capabilities only")
        if not must.reads:
            raise ModelError(f"check {id}: `must` reads no field")
        if not id.replace(".", "").replace("-", "").replace("_", "").isalnum() or id.lower() != id:
            raise ModelError(f"check id {id!r}: expected lower-case words joined by '.', '-' or '_'")
        citation = Citation(self.title)
        self.checks.append(Check(id, citation, text, must, when, requires, fails or self.fails, known, ambiguity))
