"""Conditions and violations in words, with the actual values."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.arch.registers import FIELD_BITS
from vmfuzz.hexadecimal import as_wide, hexadecimal
from vmfuzz.model.check import Check
from vmfuzz.model.evaluate import Value, evaluate
from vmfuzz.model.expr import Bits, Cond, Node
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import operand_width

#: As in the messages of emulators (bochs_messages.MESSAGES), which are known by the text in their source.
_CONVERSION: Final = re.compile(r"(?:0x)?%[-+#0]*\d*(?:\.\d+)?(?:hh|h|ll|l|z|j)?[diouxXcsp]")
#: What a processor's capabilities make of a condition (`Model.fold`).
Fold = Callable[[Cond], Cond]
#: Words of controls' names that the SDM writes in capitals, those that it spells in another way, and words that it joins.
_AS_THEY_ARE: Final = frozenset(
    "APIC CET CR3 CR8 DR ENCLS ENCLV EPT EPTP HLAT HLT INVLPG INVPCID IPI LOADIWKEY MOV MSR MSRLIST MWAIT NMI PASID PBNDKB PCONFIG PEBS PKRS PML PT "
    "RDPMC RDRAND RDSEED RDTSC RDTSCP SEAM SMM TPR TSC UINV VM VMCS VMM VMX VPID WBINVD".split()
)
_SPELLED: Final = {
    "IA32E": "IA-32e",
    "IO": "I/O",
    "NMIS": "NMIs",
    "VE": "#VE",
    "X2APIC": "x2APIC",
    "XSAVES": "XSAVES/XRSTORS",
    "XRSTORS": "",
}
_JOINED: Final = (
    ("external interrupt exiting", "external-interrupt exiting"),
    ("interrupt window exiting", "interrupt-window exiting"),
    ("NMI window exiting", "NMI-window exiting"),
    ("CR3 load", "CR3-load"),
    ("CR3 store", "CR3-store"),
    ("CR8 load", "CR8-load"),
    ("CR8 store", "CR8-store"),
    ("MOV DR", "MOV-DR"),
    ("descriptor table", "descriptor-table"),
    ("APIC register", "APIC-register"),
    ("virtual interrupt delivery", "virtual-interrupt delivery"),
    ("pause loop", "PAUSE-loop"),
    ("pause exiting", "PAUSE exiting"),
    ("monitor exiting", "MONITOR exiting"),
    ("EPT violation", "EPT-violation"),
    ("mode based execute", "mode-based execute"),
    ("sub page", "sub-page"),
    ("guest physical", "guest-physical"),
    ("bus lock", "bus-lock"),
    ("APIC timer", "APIC-timer"),
    ("EPT paging write", "EPT paging-write"),
    ("guest paging", "guest-paging"),
    ("address space size", "address-space size"),
    ("VMX preemption", "VMX-preemption"),
    ("dual monitor", "dual-monitor"),
    ("XSAVES/XRSTORS ", "XSAVES/XRSTORS"),
)
_CONTROL_FIELDS = {word.field: word for word in CONTROL_WORDS.values()}


def format_operand(name: str, value: int) -> str:
    """The value as the SDM writes it: hexadecimal digits of the operand's width and an H."""
    return as_wide(value, operand_width(name))


def without_formats(message: str) -> str:
    """What an executor says, for people: where its source has a printf conversion ("guest %s not present"), whose value nobody noted, "?"."""
    return _CONVERSION.sub("?", message)


def bit_name(operand: str, index: int) -> str | None:
    """The SDM's name of a bit of an operand, or None if it has none."""
    word = _CONTROL_FIELDS.get(operand)
    table = word.bits if word else FIELD_BITS.get(operand)
    if table is None:
        return None
    names = {int(bit): bit.name for bit in table}
    name = names.get(index)
    if name is None:
        return None
    return f'"{_sdm_name(name)}"' if word else name


@cache
def _sdm_name(control: str) -> str:
    """A control as the SDM spells it: IA32E_MODE_GUEST -> IA-32e mode guest."""
    words, register, rest = control.partition("IA32_")
    name = " ".join(word if word in _AS_THEY_ARE else _SPELLED.get(word, word.lower()) for word in words.split("_"))
    for apart, joined in _JOINED:
        name = name.replace(apart, joined)
    return f"{name}{register}{rest}"


def numbered_bit(operand: str, index: int) -> str:
    """A bit's number with its name, if it has one: 4 (S)."""
    name = bit_name(operand, index)
    return f"{index} ({name})" if name else str(index)


def named_bit(operand: str, index: int) -> str:
    """A bit with its name, if it has one: bit 4 S."""
    return f"bit {index} {bit_name(operand, index) or ''}".rstrip()


def describe(node: Node) -> str:
    """A condition or value as an expression in words, for reference pages."""
    op, args = node.op, node.args
    if isinstance(node, Cond):
        return _describe_cond(node)
    if op == "const":
        return hexadecimal(args[0])
    if op in ("operand", "cap"):
        return str(args[0]) if op == "operand" else f"<{args[0]}>"
    if op == "slice":
        high, low = args[1], args[2]
        return f"{describe(args[0])}[{high}:{low}]" if high != low else f"{describe(args[0])}[{high}]"
    symbol = {"and": "AND", "or": "OR", "add": "+", "shl": "<<", "shr": ">>"}[op]
    right = describe(args[1]) if isinstance(args[1], Node) else str(args[1])
    return f"({describe(args[0])} {symbol} {right})"


def _describe_cond(node: Cond) -> str:
    op, args = node.op, node.args
    if op in ("true", "false"):
        return "always" if op == "true" else "never"
    if op == "bit":
        return f"{_bit_words(args[0], args[1])} = 1"
    if op == "not" and args[0].op == "bit":
        return f"{_bit_words(args[0].args[0], args[0].args[1])} = 0"
    if op == "not" and args[0].op == "eq":
        return f"{describe(args[0].args[0])} != {describe(args[0].args[1])}"
    if op == "not":
        return f"not ({describe(args[0])})"
    if op == "eq":
        return f"{describe(args[0])} = {describe(args[1])}"
    if op == "le":
        return f"{describe(args[0])} <= {describe(args[1])}"
    if op == "one_of":
        values = ", ".join(map(hexadecimal, args[1]))
        return f"{describe(args[0])} in {{{values}}}"
    joiner = " and " if op == "all" else " or "
    return joiner.join(f"({describe(arg)})" if arg.op in ("all", "any") else describe(arg) for arg in args)


def _bit_words(value: Bits, index: int) -> str:
    if value.op == "operand":
        name = bit_name(value.args[0], index)
        if name:
            return f"{value.args[0]}.{name}"
    return f"{describe(value)}[{index}]"


def sentence_with_values(check: Check, fold: Fold, values: OperandValues, row: int = 0) -> str:
    """The check's sentence, followed by the actual values of its operands and of the bits that it looks at on the processor of `fold`."""
    facts = []
    for name in check.fields:
        if name in FIELDS or name in LIVE or name.startswith("memory_"):
            value = _scalar(values(name), row)
            facts.append(f"{name} = {format_operand(name, value)}{_bits_seen(check, fold, values, name, row)}")
    return f"{check.text} Here {'; '.join(facts)}."


def _scalar(value: Value, row: int) -> int:
    return value if isinstance(value, int) else int(value[row])


def _bits_seen(check: Check, fold: Fold, values: OperandValues, name: str, row: int) -> str:
    """The bits and spans of operand `name` that the check's conditions look at, with their values."""
    seen: dict[str, None] = {}
    for node in _parts(fold(check.must), fold(check.when)):
        below = node.args[0]
        if below.op != "operand" or below.args[0] != name:
            continue
        if node.op == "bit":
            index = node.args[1]
            label = bit_name(name, index)
            number = _scalar(values(name), row) >> index & 1
            seen[f"bit {index}{f' ({label})' if label else ''} is {number}"] = None
        else:
            high, low = node.args[1], node.args[2]
            number = _scalar(evaluate(node, values, {}), row)
            span = f"bits {high}:{low} are" if high != low else f"bit {high} is"
            seen[f"{span} {hexadecimal(number)}"] = None
    return f" ({', '.join(seen)})" if seen else ""


def _parts(*conditions: Node) -> list[Node]:
    """All bit and slice nodes below the conditions."""
    found: dict[Node, None] = {}
    stack = list(conditions)
    while stack:
        node = stack.pop()
        if node.op in ("bit", "slice"):
            found[node] = None
        stack.extend(node.children)
    return list(found)
