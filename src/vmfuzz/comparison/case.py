"""A case: a known-good base by name and the operands that differ from it, by name; valid on every processor that has both.

Keys of a mutation are fields ("guest_cr4"), live conditions ("live_launch_state"), memory operands ("memory_vtpr": at the address that the
base's field gives) and, for memory that no operand names, physical addresses ("0x10011008": the 64-bit word there).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.fields import FIELDS, Area, field_named
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import FieldValueError, UnknownNameError, UsageError
from vmfuzz.hexadecimal import as_wide, hexadecimal
from vmfuzz.model.operands import MEMORY_OPERANDS, operand_width
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

Mutation = Mapping[str, int]
_MASK64: Final = (1 << 64) - 1


@dataclass(frozen=True)
class Case:
    """`mutation` of the known-good state called `base`; two cases with the same content are equal and have the same id."""

    base: str
    mutation: Mutation = field(hash=False)

    @property
    def id(self) -> str:
        """A short permanent name made of the content."""
        text = json.dumps([self.base, {key: f"{self.mutation[key]:#x}" for key in sorted(self.mutation)}])
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def is_memory(key: str) -> bool:
    """Whether the key of a mutation means memory."""
    return key in MEMORY_OPERANDS or key.startswith("0x")


def width_of(key: str) -> int:
    """Width in bits of what the key of a mutation names."""
    return 64 if key.startswith("0x") else operand_width(key)


def format_key(key: str, value: int) -> str:
    """The value of a mutation's key as the SDM writes it."""
    return as_wide(value, width_of(key))


def key_in_words(key: str) -> str:
    """A mutation's key for people: an operand's name, or the place of a word of memory as the SDM writes numbers."""
    return f"memory at {hexadecimal(int(key, 16))}" if key.startswith("0x") else key


def require_key(key: str, value: int) -> None:
    """Raise UnknownNameError, FieldValueError or UsageError for a mutation that no processor could have."""
    if key.startswith("0x"):
        try:
            address = int(key, 16)
        except ValueError:
            address = -1
        if address % 8 or not 0 <= address <= _MASK64:
            raise UsageError(f'memory "{key}": expected a physical address divisible by 8, such as "0x10011008"')
    elif key in LIVE:
        if not LIVE[key].settable:
            raise UsageError(f"{key}: a fact of the processor, not something that a case can set")
    elif key not in MEMORY_OPERANDS:
        if key not in FIELDS:
            raise UnknownNameError("operand", key, [*FIELDS, *LIVE, *MEMORY_OPERANDS])
        if field_named(key).area is Area.READ_ONLY:
            raise UsageError(f"{key}: a VM-exit information field, not something that a case can set")
    if not 0 <= value < 1 << width_of(key):
        raise FieldValueError(f"{key} = {hexadecimal(value)}: expected 0 to {hexadecimal((1 << width_of(key)) - 1)}")


def word_address(base: Vmcs, key: str) -> int:
    """The 8-byte-aligned physical address of the word that a memory key means in `base`."""
    if key.startswith("0x"):
        return int(key, 16)
    operand = MEMORY_OPERANDS[key]
    return (((base.get(operand.address_field) or 0) & operand.address_mask) + operand.offset) & _MASK64 & ~7


def _span(key: str) -> tuple[int, int]:
    """(shift, mask after the shift) of a memory key in its word."""
    if key.startswith("0x"):
        return 0, _MASK64
    operand = MEMORY_OPERANDS[key]
    return 8 * (operand.offset % 8), (1 << operand.width) - 1


def base_value(base: Vmcs, key: str) -> int:
    """What the base has where a mutation writes; 0 where nothing was written."""
    if not is_memory(key):
        return base.get(key) or 0
    shift, mask = _span(key)
    return base.memory.get(word_address(base, key), 0) >> shift & mask


def applies(base: Vmcs, mutation: Mutation) -> bool:
    """Whether the processor whose base it is has the fields, and the base describes the memory, that the mutation changes."""
    return not lacking(base, mutation) and all(word_address(base, key) in base.memory for key in mutation if is_memory(key))


def lacking(base: Vmcs, mutation: Iterable[str]) -> list[str]:
    """The keys of a mutation that the processor whose base it is lacks: a base holds every field that VMWRITE takes there.

    They are fields, and conditions of the entry that need one.
    """
    needed = ((key, LIVE[key].needs if key in LIVE else key if key in FIELDS else None) for key in mutation)
    return [key for key, field in needed if field is not None and field not in base]


def without_idle_parts(base: Vmcs, mutation: Mutation) -> dict[str, int]:
    """The mutation without what the base has anyway, in order of name."""
    return {key: mutation[key] for key in sorted(mutation) if mutation[key] != base_value(base, key)}


def batch_of(base: Vmcs, mutations: Sequence[Mutation]) -> VmcsBatch:
    """The batch whose rows are the base with each mutation; all must apply to the base."""
    columns: dict[str, npt.NDArray[np.uint64]] = {}
    words: dict[int, npt.NDArray[np.uint64]] = {}
    for row, mutation in enumerate(mutations):
        for key, value in mutation.items():
            if is_memory(key):
                address = word_address(base, key)
                word = words.setdefault(address, np.full(len(mutations), base.memory.get(address, 0), np.uint64))
                shift, mask = _span(key)
                word[row] = int(word[row]) & ~(mask << shift) & _MASK64 | value << shift
            else:
                columns.setdefault(key, np.full(len(mutations), base.get(key) or 0, np.uint64))[row] = value
    return VmcsBatch(base, columns, words, count=len(mutations))


def mutation_between(base: Vmcs, example: Vmcs) -> dict[str, int]:
    """The mutation that makes `example` of `base`; memory under operand names where they say all that differs."""
    mutation = {key: there or 0 for key, (here, there) in base.differences(example).items() if (here or 0) != (there or 0)}
    named: dict[int, list[str]] = {}
    for key in MEMORY_OPERANDS:
        named.setdefault(word_address(base, key), []).append(key)
    for address in sorted({*base.memory, *example.memory}):
        here, there = base.memory.get(address, 0), example.memory.get(address, 0)
        if here == there:
            continue
        left, parts = here ^ there, {}
        for key in named.get(address, ()):
            shift, mask = _span(key)
            if left >> shift & mask:
                parts[key] = there >> shift & mask
                left &= ~(mask << shift)
        mutation.update(parts if not left else {f"{address:#x}": there})
    return dict(sorted(mutation.items()))
