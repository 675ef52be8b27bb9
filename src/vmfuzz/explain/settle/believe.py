"""Which value of a field is believed where places give several, halves or bits of it; values too wide and encodings in their place are not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import ALL, HIGH_HALF, Dump, Misfit, Reading
from vmfuzz.explain.evidence import Evidence, MsrEvidence, Standing
from vmfuzz.model.operands import operand_width

#: Encodings up to this are too small not to be values.
_SMALL: Final = 0xFF


def believe(evidence: Iterable[Evidence], dump: Dump) -> None:
    """Add to the readings of `dump` what these places say, one after the other: equals keep the bits that agree, what is assumed yields."""
    halved: set[str] = set()
    for one in evidence:
        if _is_encoding(one):
            dump.warn(f"{one.label} = {one.value:#x} is the field's encoding, not a value; it is not used", one.line)
            continue
        width = operand_width(one.name)
        if one.value >> width:
            dump.warn(f"{one.label} = {one.value:#x} does not fit {one.name}, which has {width} bits; the value is not used", one.line)
            dump.misfits.append(Misfit(one.name, one.value, one.line))
            continue
        new = Reading(one.value, one.label, one.line, one.known | ALL & ~((1 << width) - 1), one.assumed)
        earlier = dump.readings.get(one.name)
        dump.readings[one.name] = new if earlier is None else _both(one.name, earlier, new, halved, dump)


def _is_encoding(one: Evidence) -> bool:
    """Whether a line of name and value gives the field's own encoding: it is a line of a list of encodings."""
    return one.standing is not Standing.SHOWN and one.name in FIELDS and one.value == FIELDS[one.name].encoding and one.value > _SMALL


def _both(name: str, earlier: Reading, new: Reading, halved: set[str], dump: Dump) -> Reading:
    """What two places say together; `halved`: fields of which this or a place before it gives the high half alone."""
    if new.known == HIGH_HALF and earlier.known & 0xFFFFFFFF and not earlier.value >> 32 and name not in halved:
        halved.add(name)
        earlier = replace(earlier, known=earlier.known & ~HIGH_HALF)  # what was given before was the low half
    elif name in halved and new.known & 0xFFFFFFFF and not new.value >> 32:
        new = replace(new, known=new.known & ~HIGH_HALF)
    if bool(earlier.assumed) is not bool(new.assumed):
        return new if earlier.assumed else earlier
    differing = (earlier.value ^ new.value) & new.known & earlier.known
    if differing:
        dump.warn(
            f"{new.label} = {new.value:#x}, but line {earlier.line} says {earlier.value:#x} for {name}; "
            "the bits in which the two differ count as unknown",
            new.line,
        )
        agreed = (earlier.known | new.known) & ~differing
        both = earlier.value & earlier.known | new.value & new.known
        return Reading(both & agreed, new.label, new.line, agreed, earlier.assumed)
    if new.known & ~earlier.known:
        return replace(new, value=new.value | earlier.value, known=new.known | earlier.known)
    return earlier


def believe_msrs(evidence: Iterable[MsrEvidence], dump: Dump) -> None:
    """Add capability MSRs; of two values for one the first counts."""
    for one in evidence:
        name = FACT_MSRS[one.number]
        if one.value >> 64:
            dump.warn(f"{name} = {one.value:#x} is wider than 64 bits; the value is not used", one.line)
        elif dump.msrs.setdefault(one.number, one.value) != one.value:
            dump.warn(f"{name} = {one.value:#x}, but {dump.msrs[one.number]:#x} was given before; the first is used", one.line)
        else:
            dump.msr_lines.setdefault(one.number, one.line)
