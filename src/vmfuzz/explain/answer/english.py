"""Conditions and values in English: what a person reads of a check's atoms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from vmfuzz.explain.names.spoken import spoken
from vmfuzz.explain.repair.edits import Obstacle, wrong_bits
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.expr import Bits, Cond
from vmfuzz.model.partial import Evaluator
from vmfuzz.model.wording import bit_name, numbered_bit

#: Masks of bits by which (value AND mask) = 0 says something of the value: (where it is so, where not).
_MASKS: Final[Mapping[str, tuple[str, str]]] = {
    "beyond_physical_width": ("lies within the physical-address width", "lies beyond the physical-address width"),
    "beyond_maxphyaddr": ("lies within the physical-address width", "lies beyond the physical-address width"),
}
_RIGHTS: Final = "_access_rights"
_ACTIVITIES: Final[Mapping[int, str]] = {0: "active", 1: "HLT", 2: "shutdown", 3: "wait-for-SIPI"}
#: Types of TR and LDTR (S = 0).
_SYSTEM_TYPES: Final[Mapping[int, str]] = {1: "available 16-bit TSS", 2: "LDT", 3: "busy 16-bit TSS", 9: "available TSS", 11: "busy TSS"}
#: Capability facts as numbers.
_FACTS: Final[Mapping[str, str]] = {
    "revision": "the processor's VMCS revision identifier",
    "cr3_target_limit": "the number of CR3-target values that the processor has",
    "instruction_length_minimum": "the least instruction length that the processor takes",
    "identical_low_maximum": "the highest address with all upper bits 0",
    "identical_high_minimum": "the lowest address with all upper bits 1",
    "beyond_physical_width": "the bits beyond the physical-address width",
    "beyond_maxphyaddr": "the bits beyond the physical-address width",
    "canonical_bias": "the highest bit of a linear address",
    "canonical_limit": "the highest linear address",
    "activity_states": "the activity states that the processor has",
    "ept_vpid_cap": "IA32_VMX_EPT_VPID_CAP",
    "nested_exception": "IA32_VMX_BASIC[58]",
    "error_code_optional": "IA32_VMX_BASIC[56]",
    "dual_monitor": "IA32_VMX_BASIC[49]",
}


def in_words(obstacle: Obstacle, evaluator: Evaluator) -> str:
    """What is wrong: "bit 4 (S) is 0, but must be 1"."""
    atom, wanted = obstacle.atom, obstacle.wanted
    first = atom.args[0]
    if atom.op == "bit":
        is_now = evaluator.value(first).value >> atom.args[1] & 1
        return f"{_bit(first, atom.args[1])} is {is_now}, but must be {int(wanted)}"
    if atom.op == "eq" and first.op in ("and", "or") and wanted and first.args[0].op != "add":
        bits = wrong_bits(atom, evaluator)
        if bits and first.op == "or":
            return f"{_names(first, bits)} {'are' if bits & (bits - 1) else 'is'} 1, which this processor does not allow"
        if bits:
            names = _names(first, bits)
            plural = bits & (bits - 1)
            now = 0 if atom.args[1].op != "const" or atom.args[1].args[0] else 1
            return f"{names} {'are' if plural else 'is'} {now}, but must be {1 - now}"
    return _comparison(obstacle, evaluator)


def _comparison(obstacle: Obstacle, evaluator: Evaluator) -> str:
    """What is wrong with a comparison, other than single bits."""
    atom, wanted = obstacle.atom, obstacle.wanted
    first = atom.args[0]
    if atom.reads and first.op == "add" and atom.op == "le":
        return f"{_operand_name(first)} is not canonical"
    if not atom.reads or (atom.op != "one_of" and first.op in ("and", "or", "add")):
        return condition_words(atom, not wanted)
    now = _named(first, evaluator.value(first).value)
    if atom.op == "one_of":
        return f"{_span(first)} {now}, but must {'' if wanted else 'not '}be {_choices(atom.args[1], first)}"
    other = atom.args[1]
    value = evaluator.value(other).value
    then = _named(first, value) if other.op == "const" else digits(value)
    if atom.op == "eq" and other.op == "const":
        return f"{_span(first)} {now}, but must {'' if wanted else 'not '}be {then}"
    if atom.op == "eq":
        return f"{_span(first)} {now} and {_span(other)} {then}; they must {'be equal' if wanted else 'differ'}"
    return _wrong_order(first, now, other, then, wanted)


def _wrong_order(first: Bits, now: str, other: Bits, then: str, wanted: bool) -> str:
    """What is wrong with `first` at most `other`; `wanted`: whether it must be."""
    if not other.reads:
        return f"{_span(first)} {now}, but must be {'at most' if wanted else 'more than'} {then}"
    if not first.reads:
        return f"{_span(other)} {then}, but must be {'at least' if wanted else 'less than'} {now}"
    return f"{_span(first)} {now} and {_span(other)} {then}; the first must {'not ' if wanted else ''}be greater"


def digits(value: int) -> str:
    """A number as the SDM writes it: one digit as it is, more in hexadecimal."""
    return hexadecimal(value)


def _named(bits: Bits, value: int) -> str:
    """A value with its name, where the field's values have names: 1 (HLT)."""
    name = _state_name(bits, value)
    return f"{digits(value)} ({name})" if name else digits(value)


def _state_name(bits: Bits, value: int) -> str:
    if bits.op == "operand" and bits.args[0] == "guest_activity_state":
        return _ACTIVITIES.get(value, "")
    if not _is_type(bits):
        return ""
    if bits.args[0].args[0] in ("guest_tr_access_rights", "guest_ldtr_access_rights"):
        return _SYSTEM_TYPES.get(value, "")
    return "code" if value & 8 else "data"


def _is_type(bits: Bits) -> bool:
    """Whether these are the type bits of a segment register's access rights."""
    return bits.op == "slice" and bits.args[1:] == (3, 0) and bits.args[0].op == "operand" and bits.args[0].args[0].endswith(_RIGHTS)


def _operand_name(bits: Bits) -> str:
    names = sorted(bits.reads)
    return spoken(names[0]) if names else ""


def _bit(bits: Bits, index: int) -> str:
    if bits.op == "operand":
        return f"{spoken(bits.args[0])} bit {numbered_bit(bits.args[0], index)}"
    return f"bit {index} of {value_words(bits)}"


def _span(bits: Bits) -> str:
    if _is_type(bits):
        return f"{spoken(bits.args[0].args[0].removesuffix(_RIGHTS))} type (bits 3:0) is"
    if bits.op == "slice" and bits.args[0].op == "operand":
        high, low = bits.args[1], bits.args[2]
        return f"{spoken(bits.args[0].args[0])} bits {high}:{low} are" if high != low else f"{spoken(bits.args[0].args[0])} bit {low} is"
    if bits.op == "operand":
        return f"{spoken(bits.args[0])} is"
    return f"{value_words(bits)} is"


def _names(pair: Bits, bits: int) -> str:
    target = next((part for part in pair.args if part.reads), pair)
    name = next(iter(sorted(target.reads)), "")
    numbers = [index for index in range(64) if bits >> index & 1]
    if len(numbers) > 8:
        ranges = _ranges(numbers)
        return f"{spoken(name)} bits {', '.join(ranges[:-1])}{' and ' if ranges[:-1] else ''}{ranges[-1]}"
    labels = [numbered_bit(name, index) for index in numbers]
    return f"{spoken(name)} bit{'s' if len(labels) > 1 else ''} {', '.join(labels)}"


def _ranges(numbers: list[int]) -> list[str]:
    """Numbers that count up, from above, neighbours together: 63:32, 31, 24."""
    runs: list[list[int]] = []
    for number in reversed(numbers):
        if runs and runs[-1][-1] == number + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}:{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]


def value_words(bits: Bits) -> str:
    """A value as one would say it: guest TR limit bits 11:0."""
    op, args = bits.op, bits.args
    if op == "operand":
        return spoken(args[0])
    if op == "const":
        return digits(args[0])
    if op == "cap":
        return _fact(args[0])
    first = value_words(args[0])
    if op == "slice":
        return f"{first} bits {args[1]}:{args[2]}" if args[1] != args[2] else f"{first} bit {args[1]}"
    if op == "shl":
        return f"{1 << args[1]} * {first}"
    if op == "shr":
        return f"{first} / {1 << args[1]}"
    if op == "add" and args[1].op == "const" and args[1].args[0] >> 63:
        return f"{first} - {(1 << 64) - args[1].args[0]}"
    if op == "or" and args[1].op == "const":
        written = digits(args[1].args[0])
        return f"{first} (apart from bits {written})" if args[0].reads else f"{first} or the bits {written}"
    joiner = {"and": "masked with", "or": "or", "add": "+"}[op]
    return f"{first} {joiner} {value_words(args[1])}"


def _fact(name: str) -> str:
    if name in _FACTS:
        return _FACTS[name]
    if name.startswith("has_"):
        return f"CPUID's bit for {name[4:].replace('_', ' ').upper()}"
    for ending, words in (
        ("_must_be_1", "must be 1"),
        ("_may_be_1", "may be 1"),
        ("_must_be_0", "must be 0"),
        ("_reserved", "are reserved"),
    ):
        if name.endswith(ending):
            return f"the bits that {words} on this processor"
    return name.replace("_", " ")


def _equality(condition: Cond, holds: bool) -> str:
    """That two values are equal, or that they are not, as a clause."""
    one, other = condition.args
    if one.op == "operand" and one.args[0] == "live_smm" and other.op == "const":
        return f"the processor is {'not ' if holds is (other.args[0] == 0) else ''}in SMM"
    if one.op == "and":
        return _masked(condition, holds)
    if one.op == "or":
        return f"{value_words(one.args[0])} has {'no' if holds else 'some'} bits that this processor does not allow"
    words = _named(one, other.args[0]) if other.op == "const" else value_words(other)
    return f"{_span(one)} {'' if holds else 'not '}{words}"


def condition_words(condition: Cond, holds: bool = True) -> str:
    """A condition, or that it does not hold, as a clause."""
    op, args = condition.op, condition.args
    if op in ("true", "false"):
        return "always" if (op == "true") is holds else "never"
    if op == "not":
        return condition_words(args[0], not holds)
    if op in ("all", "any"):
        return _combination(condition, holds)
    if op == "bit":
        return f"{_bit(args[0], args[1])} is {int(holds)}"
    if op == "one_of":
        return f"{_span(args[0])} {'' if holds else 'not '}{_choices(args[1], args[0])}"
    return _equality(condition, holds) if op == "eq" else _order(args[0], args[1], holds)


def _combination(condition: Cond, holds: bool) -> str:
    """That all, or any, of several conditions hold, or that they do not; a control that activates a control word goes without saying."""
    every = condition.op == "all"
    pieces = [part for part in condition.args if holds or not every or not activates(part)] or condition.args
    return (" and " if every is holds else " or ").join(condition_words(part, holds) for part in pieces)


def _order(first: Bits, other: Bits, holds: bool) -> str:
    """That one value is at most another, or that it is more, as a clause."""
    if not first.reads:
        return f"{_span(other)} {'at least' if holds else 'less than'} {value_words(first)}"
    if first.op == "add":
        return f"{_operand_name(first)} is {'' if holds else 'not '}canonical"
    return f"{_span(first)} {'at most' if holds else 'more than'} {value_words(other)}"


def _masked(condition: Cond, holds: bool) -> str:
    """(value AND mask) = 0 or = mask."""
    left, right = condition.args
    value, mask = sorted(left.args, key=lambda part: not part.reads)
    if not value.reads:
        return _supported(value, mask, not holds)
    if right.op != "const":
        return f"{value_words(value)} has {'all' if holds else 'not all'} of {value_words(mask)}"
    facts = sorted(mask.caps)
    if facts and facts[0] in _MASKS and mask.op == "cap":
        return f"{value_words(value)} {_MASKS[facts[0]][not holds]}"
    bits = value_words(mask) if mask.op != "const" else f"the bits {hexadecimal(mask.args[0])}"
    return f"{value_words(value)} has {'none' if holds else 'some'} of {bits}"


def _supported(fact: Bits, mask: Bits, yes: bool) -> str:
    """That a bit of a capability fact is 1: the processor has what it stands for."""
    name, bit = (fact if fact.op == "cap" else mask), (mask if mask.op == "const" else fact)
    number = bit.args[0].bit_length() - 1
    return f"{'bit' if name.args[0] != 'activity_states' else 'number'} {number} of {value_words(name)} is {int(yes)}"


def _choices(values: Iterable[int], bits: Bits) -> str:
    words = [digits(value) if _is_code_or_data(bits) else _named(bits, value) for value in values]
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


def _is_code_or_data(bits: Bits) -> bool:
    """Whether the type is that of a code or data segment, of which the names say less than the numbers."""
    return _is_type(bits) and bits.args[0].args[0] not in ("guest_tr_access_rights", "guest_ldtr_access_rights")


def activates(condition: Cond) -> bool:
    """Whether a condition is about a control that activates a control word."""
    bit = condition.args[0] if condition.op == "not" else condition
    return bit.op == "bit" and bit.args[0].op == "operand" and (bit_name(bit.args[0].args[0], bit.args[1]) or "").startswith('"activate')
