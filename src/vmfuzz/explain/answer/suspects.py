"""Where no check can be called violated: what looks wrong all the same, and what the text would have to show to make it certain."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from vmfuzz.arch.controls import Secondary
from vmfuzz.arch.registers import AR, EFER
from vmfuzz.explain.answer.english import activates, condition_words
from vmfuzz.explain.answer.teach import fault_lines, premises
from vmfuzz.explain.judgement.judge import Finding, Verdict
from vmfuzz.explain.names.spoken import spoken
from vmfuzz.model.expr import Cond, operand, parts_of
from vmfuzz.model.partial import Evaluator
from vmfuzz.model.wording import bit_name, numbered_bit

#: What may be missing from a text that makes a fault with these only a suspicion.
_MAY_BE_MISSING: Final = frozenset({"vm_entry_controls", "guest_rflags", "guest_ia32_debugctl"})
_ENTRY: Final = "vm_entry_controls"
_SECONDARY: Final = "secondary_processor_based_controls"
_RIGHTS: Final = "_access_rights"
_MOST: Final = 3
_ALL: Final = (1 << 64) - 1
_CONTROLS: Final = frozenset({_SECONDARY, "primary_processor_based_controls"})
#: Bits that every processor allows that runs a 64-bit kernel. Host CR4 is what a kernel runs with, so that all of its bits are.
_USUAL_BITS: Final[dict[str, int]] = {
    **dict.fromkeys(("guest_ia32_efer", "host_ia32_efer"), 1 << EFER.SCE | 1 << EFER.LME | 1 << EFER.LMA | 1 << EFER.NXE),
    "host_cr4": _ALL,
    # VME to OSXMMEXCPT, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP: what the kernels in the public texts of failed entries run with
    "guest_cr4": 0x7FF | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 20 | 1 << 21,
}
#: Beginnings of the ids of the checks that failed in the public texts of failed entries (`explains` in tests/texts/real and tests/texts/cases), those of
#: most texts first.
_SEEN: Final = (
    "guest.intr.", "guest.gs.", "guest.ds.", "guest.rflags.if", "guest.es.", "guest.efer.", "guest.gdtr.", "guest.cr0.", "guest.cr3.", "guest.cr4.",
)  # fmt: skip


class _Weight(enum.Enum):
    """When a suspicion is told."""

    ALWAYS = enum.auto()
    ALONE = enum.auto()  # only where nothing else is suspect
    BESIDE = enum.auto()  # what every unrestricted guest has: only beside another suspicion


class _Suspicion(NamedTuple):
    """The faults of a check that may fail, and what they rest on, as the end of a sentence."""

    faults: list[str]
    unless: str = ""
    weight: _Weight = _Weight.ALWAYS


def suspicions(undecided: Iterable[Finding], usual: Evaluator, certain: Evaluator, source: Mapping[str, str]) -> list[str]:
    """Sentences, at most three: faults whose premise the text or the manual leaves open, and bits that the processor may or may not allow.

    `usual` knows the usual processor's capabilities, `certain` only those that are certain; `source`: capability fact -> the MSR that holds it.
    """
    found: dict[_Weight, dict[str, list[str]]] = {weight: {} for weight in _Weight}  # what a fault rests on -> the faults
    for finding in sorted(undecided, key=_seldom):
        faults, unless, weight = _suspicion(finding, usual, certain, source)
        known = {fault for others in found[weight].values() for fault in others}
        for fault in faults:
            if fault not in known:
                found[weight].setdefault(unless or fault, []).append(fault)
    told = {**found[_Weight.ALWAYS], **found[_Weight.BESIDE]} if found[_Weight.ALWAYS] else found[_Weight.ALONE]
    return [f"{'; '.join(faults)}{unless if unless not in faults else ''}" for unless, faults in told.items()][:_MOST]


def _suspicion(finding: Finding, usual: Evaluator, certain: Evaluator, source: Mapping[str, str]) -> _Suspicion:
    check = finding.check
    if finding.verdict is Verdict.DEPENDS and not finding.missing and check.ambiguity:
        unless = f"; the SDM leaves open whether that is checked (vmfuzz ambiguities: {check.ambiguity})"
        return _Suspicion(fault_lines(check.must, usual), unless)
    if not finding.missing and finding.facts:
        return _Suspicion(_open_bits(check.must, certain, source), weight=_Weight.ALONE)
    if allowed := _only_unrestricted(finding, usual):
        return _Suspicion(allowed, weight=_Weight.ALWAYS if _is_64_bit_code(usual) else _Weight.BESIDE)
    premise = _open_premise(finding, usual)
    if not premise or usual.judge(check.must).truth is not False:
        return _Suspicion([])
    return _Suspicion(fault_lines(check.must, usual), f", if {' and '.join(premise)}, which the text does not show")


def _seldom(finding: Finding) -> int:
    """How seldom the check of a finding failed in real texts: its place in `_SEEN`, or behind all of those."""
    return next((place for place, beginning in enumerate(_SEEN) if finding.check.id.startswith(beginning)), len(_SEEN))


def _is_64_bit_code(usual: Evaluator) -> bool:
    """Whether CS says that the guest executes 64-bit code: the type of a data segment is then no sign of real mode."""
    return usual.judge(operand("guest_cs_access_rights", 32)[AR.L : AR.L] == 1).truth is True


def _only_unrestricted(finding: Finding, usual: Evaluator) -> list[str]:
    """A value that only an unrestricted guest may have, where the text does not show whether it is one."""
    check = finding.check
    fields = finding.missing - _MAY_BE_MISSING
    if check.must.op != "any" or not any(name.endswith("_controls") for name in fields) or not fields <= frozenset(check.must.reads):
        return []
    open_ones = [part for part in check.must.args if usual.judge(part).truth is None]
    if usual.judge(check.when).truth is False or len(open_ones) != 1 or open_ones[0].op != "all":
        return []
    return _allowed_only(open_ones[0].args, usual)


def _allowed_only(pieces: Iterable[Cond], usual: Evaluator) -> list[str]:
    """That what holds of these conditions is allowed only if the guest is unrestricted, where this is all that is open."""
    truths = [(piece, usual.judge(piece).truth) for piece in pieces]
    held = [piece for piece, truth in truths if truth is True and not piece.reads <= _CONTROLS]
    wanted = [piece for piece, truth in truths if truth is not True and not activates(piece)]
    if not held or len(wanted) != 1 or not _is_unrestricted(wanted[0]):
        return []
    return [f"{' and '.join(map(condition_words, held))}, which is allowed only if {condition_words(wanted[0])}; the text does not show it"]


def _is_unrestricted(part: Cond) -> bool:
    return part.op == "bit" and part.reads == {_SECONDARY} and part.args[1] == Secondary.UNRESTRICTED_GUEST


def _open_premise(finding: Finding, usual: Evaluator) -> list[str]:
    """The premise of a check in words, where the text leaves nothing else open."""
    check = finding.check
    unknown = [part for part in parts_of(check.when) if usual.judge(part).truth is None]
    fields = finding.missing - _MAY_BE_MISSING
    if fields:
        if not all(map(_is_usable, unknown)) or not fields <= frozenset(name for part in unknown for name in part.reads):
            return []
    elif not check.id.startswith("guest.pdbg.") and not _loads(check.when):
        return []
    return [text for part in unknown for text in ([_usable(part)] if _is_usable(part) else premises(part))]


def _is_usable(part: Cond) -> bool:
    """Whether a premise is that a segment register is usable."""
    bit = part.args[0] if part.op == "not" else part
    return bit.op == "bit" and bit.args[1] == AR.UNUSABLE and bit.args[0].op == "operand" and bit.args[0].args[0].endswith(_RIGHTS)


def _usable(part: Cond) -> str:
    """The premise that a segment register is usable, or not, in words."""
    (name,) = part.reads
    register, one = spoken(name.removesuffix(_RIGHTS)), part.op != "not"
    return f"{register} is {'un' * one}usable (bit 16 of its access rights is {int(one)})"


def _loads(when: Cond) -> bool:
    """Whether the premise has a VM-entry control in it by which a register is loaded: only then the register's field counts."""
    return any(
        part.op == "bit" and part.args[0].op == "operand" and part.args[0].args[0] == _ENTRY and _is_load(part.args[1])
        for part in parts_of(when)
    )


def _is_load(bit: int) -> bool:
    return (bit_name(_ENTRY, bit) or "").startswith('"load')


def _open_bits(must: Cond, evaluator: Evaluator, source: Mapping[str, str]) -> list[str]:
    """For (field AND fact) = 0 with a fact of which some bits are not known: the field's bits that hang on those."""
    if must.op != "eq" or must.args[0].op != "and" or not must.args[0].caps:
        return []
    field, fact = sorted(must.args[0].args, key=lambda part: bool(part.caps))
    names, facts = sorted(field.reads), sorted(fact.caps)
    if field.op != "operand" or len(facts) != 1:
        return []
    bits = evaluator.value(field).value & ~evaluator.value(fact).known & ~_USUAL_BITS.get(names[0], 0) & _ALL
    if names == ["guest_cr4"]:
        bits &= ~evaluator.value(operand("host_cr4", 64)).value  # what the kernel runs with is allowed
    numbers = [index for index in range(64) if bits >> index & 1]
    if not numbers or len(numbers) > 8:
        return []
    labels = [numbered_bit(names[0], index) for index in numbers]
    several = len(numbers) > 1
    return [
        f"{spoken(names[0])} bit{'s' * several} {', '.join(labels)} {'are' if several else 'is'} 1; {source.get(facts[0], 'its capability MSRs')} "
        f"says whether the processor allows that"
    ]
