"""Where no check can be called violated: what looks wrong all the same, and what the text would have to show to make it certain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vmfuzz.explain.atoms import spoken
from vmfuzz.explain.judge import Finding
from vmfuzz.explain.teach import fault_lines, premises
from vmfuzz.model.expr import Cond
from vmfuzz.model.partial import Evaluator
from vmfuzz.model.wording import bit_name

#: What may be missing from a text that makes a fault with these only a suspicion.
_MAY_BE_MISSING: Final = frozenset({"vm_entry_controls", "guest_rflags", "guest_ia32_debugctl"})
_ENTRY: Final = "vm_entry_controls"
_MOST: Final = 3


def suspicions(undecided: Iterable[Finding], usual: Evaluator, certain: Evaluator, source: dict[str, str]) -> list[str]:
    """Sentences, at most three: faults whose premise the text leaves open, and bits that the processor may or may not allow.

    `usual` knows the usual processor's capabilities, `certain` only those that are certain; `source`: capability fact -> the MSR that holds it.
    """
    found = []
    for finding in undecided:
        check = finding.check
        if not finding.missing and finding.facts:
            found += _open_bits(check.must, certain, source)
        elif finding.missing <= _MAY_BE_MISSING and (check.id.startswith("guest.pdbg.") or _loads(check.when)):
            faults = fault_lines(check.must, usual) if usual.judge(check.must).truth is False else []
            parts = check.when.args if check.when.op == "all" else (check.when,)
            unknown = [text for part in parts if usual.judge(part).truth is None for text in premises(part)]
            if faults and unknown:
                found.append(f"{'; '.join(faults)}, if {' and '.join(unknown)}, which the text does not show")
    return list({text.partition(", if ")[0]: text for text in reversed(found)}.values())[::-1][:_MOST]


def _loads(when: Cond) -> bool:
    """Whether the premise has a VM-entry control in it by which a register is loaded: only then the register's field counts."""
    return any(
        part.op == "bit" and part.args[0].op == "operand" and part.args[0].args[0] == _ENTRY and _is_load(part.args[1])
        for part in (when.args if when.op == "all" else (when,))
    )


def _is_load(bit: int) -> bool:
    return (bit_name(_ENTRY, bit) or "").startswith('"load')


def _open_bits(must: Cond, evaluator: Evaluator, source: dict[str, str]) -> list[str]:
    """For (field AND fact) = 0 with a fact of which some bits are not known: the field's bits that hang on those."""
    if must.op != "eq" or must.args[0].op != "and" or not must.args[0].caps:
        return []
    field, fact = sorted(must.args[0].args, key=lambda part: bool(part.caps))
    names, facts = sorted(field.reads), sorted(fact.caps)
    if field.op != "operand" or len(facts) != 1:
        return []
    bits = evaluator.value(field).value & ~evaluator.value(fact).known & (1 << 64) - 1
    numbers = [index for index in range(64) if bits >> index & 1]
    if not numbers or len(numbers) > 8:
        return []
    labels = [f"{index} ({label})" if (label := bit_name(names[0], index)) else str(index) for index in numbers]
    several = len(numbers) > 1
    return [
        f"{spoken(names[0])} bit{'s' * several} {', '.join(labels)} {'are' if several else 'is'} 1; whether the processor allows that, "
        f"{source.get(facts[0], 'its capability MSRs')} says"
    ]
