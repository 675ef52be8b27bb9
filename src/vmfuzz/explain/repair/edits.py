"""What it takes to make a condition true or false: the atoms that stand in the way, and the edits that would change each (words: answer/english.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vmfuzz.arch.fields import FIELDS
from vmfuzz.model.expr import MASK64, Bits, Cond
from vmfuzz.model.partial import Evaluator


@dataclass(frozen=True)
class Obstacle:
    """An atom that has the wrong truth; `wanted` is the truth it would need."""

    atom: Cond
    wanted: bool


def obstacles(condition: Cond, wanted: bool, evaluator: Evaluator) -> Iterator[Obstacle]:
    """The atoms that keep `condition` from being `wanted`."""
    if evaluator.judge(condition).truth is wanted or condition.op in ("true", "false"):
        return
    if condition.op == "not":
        yield from obstacles(condition.args[0], not wanted, evaluator)
    elif condition.op in ("all", "any"):
        for part in condition.args:
            yield from obstacles(part, wanted, evaluator)
    else:
        yield Obstacle(condition, wanted)


def wrong_bits(atom: Cond, evaluator: Evaluator) -> int:
    """For (value AND mask) = 0 or = mask, and for (value OR mask) = mask: the bits of the value that are wrong."""
    left, right = atom.args
    value, mask = (evaluator.value(part) for part in left.args)
    if left.op == "or":
        return int(value.value & ~mask.value & mask.known) if left.args[1] is right else 0
    if right.op == "const" and right.args[0] == 0:
        return int(value.value & mask.value)
    if any(part is right for part in left.args):
        wanted = evaluator.value(right)
        have = value if left.args[1] is right else mask
        return int(wanted.value & have.known & ~have.value)
    if right.op == "const":
        return int((value.value ^ right.args[0]) & mask.value)
    return 0


Edit = tuple[str, int]


def edits(obstacle: Obstacle, evaluator: Evaluator, width: int) -> list[Edit]:
    """Changes of one operand's value that would remove the obstacle: (operand, new value). `width` is the linear-address width."""
    atom, wanted = obstacle.atom, obstacle.wanted
    first = atom.args[0]
    if atom.op == "bit":
        return _assign(first, (evaluator.value(first).value & ~(1 << atom.args[1])) | int(wanted) << atom.args[1], evaluator)
    if atom.op == "eq":
        return _edit_equal(atom, wanted, evaluator)
    if atom.op == "one_of" and wanted:
        return [edit for choice in atom.args[1] for edit in _assign(first, choice, evaluator)]
    if atom.op == "le" and first.op == "add" and first.args[0].op == "operand":
        value = evaluator.value(first.args[0]).value
        low = value & ((1 << width) - 1)
        return [(first.args[0].args[0], low | (MASK64 & ~((1 << width) - 1) if low >> (width - 1) else 0))]
    if atom.op == "le" and wanted:
        most = evaluator.value(atom.args[1]).value
        return (
            _assign(first, most, evaluator) + _assign(first, 0, evaluator) + _assign(atom.args[1], evaluator.value(first).value, evaluator)
        )
    return []


def _edit_equal(atom: Cond, wanted: bool, evaluator: Evaluator) -> list[Edit]:
    left, right = atom.args
    if left.op == "and" or (left.op == "or" and wrong_bits(atom, evaluator)):
        target = next((part for part in left.args if part.reads), None)
        if target is None or not wanted:
            return []
        return _assign(target, evaluator.value(target).value ^ wrong_bits(atom, evaluator), evaluator)
    if not wanted:
        # of a selector, bit 3 is the first that is not RPL or TI
        step = 8 if any(name.endswith("_selector") for name in left.reads) else 1
        return _assign(left, evaluator.value(left).value ^ step, evaluator)
    return _assign(left, evaluator.value(right).value, evaluator) + _assign(right, evaluator.value(left).value, evaluator)


def _assign(bits: Bits, number: int, evaluator: Evaluator) -> list[Edit]:
    """Edits that give `bits` this value, where it is an operand or a part of one."""
    if bits.op == "operand" and bits.args[0] in FIELDS:
        return [(bits.args[0], number)] if not number >> bits.args[1] else []
    if bits.op == "slice":
        high, low = bits.args[1], bits.args[2]
        if number >> (high - low + 1):
            return []
        whole = evaluator.value(bits.args[0]).value
        mask = ((1 << (high - low + 1)) - 1) << low
        return _assign(bits.args[0], whole & ~mask | number << low, evaluator)
    if bits.op == "or" and bits.args[1].op == "const":
        # what the constant sets is not looked at, so it stays as it is
        mask = bits.args[1].args[0]
        return _assign(bits.args[0], evaluator.value(bits.args[0]).value & mask | number & ~mask, evaluator)
    return []
