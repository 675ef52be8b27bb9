"""Which value of a field is believed where places give several, halves or bits of it; values too wide and encodings in their place are not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import ALL, HIGH_HALF, Misfit, Reading, Warned
from vmfuzz.explain.evidence import Evidence, MsrEvidence, Standing
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.operands import operand_width

#: Encodings up to this are too small not to be values.
_SMALL: Final = 0xFF


class Belief:
    """What is believed of the places that were looked at so far, and what a person should know of those that are not. It only grows."""

    def __init__(self, warned: Iterable[Warned]) -> None:
        self.readings: dict[str, Reading] = {}
        self.msrs: dict[int, int] = {}
        self.msr_lines: dict[int, int] = {}
        self.misfits: list[Misfit] = []
        self.warned = list(warned)

    def warn(self, text: str, line: int) -> None:
        """Say what a person should know of a line."""
        self.warned.append(Warned(line, text))

    def add(self, evidence: Iterable[Evidence]) -> None:
        """Believe what these places say, one after the other: equals keep the bits that agree, what is assumed yields."""
        halved: set[str] = set()
        for one in evidence:
            width = operand_width(one.name)
            if _is_encoding(one):
                self.warn(f"{one.label} = {hexadecimal(one.value)} is the field's encoding, not a value; it is not used", one.line)
            elif one.value >> width:
                self.warn(
                    f"{one.label} = {hexadecimal(one.value)} does not fit {one.name}, which has {width} bits; the value is not used",
                    one.line,
                )
                self.misfits.append(Misfit(one.name, one.value, one.line))
            else:
                new = Reading(one.value, one.label, one.line, one.known | ALL & ~((1 << width) - 1), one.assumed)
                earlier = self.readings.get(one.name)
                self.readings[one.name] = new if earlier is None else self._both(one.name, *_halves(one.name, earlier, new, halved))

    def _both(self, name: str, earlier: Reading, new: Reading) -> Reading:
        """What two places say together."""
        if bool(earlier.assumed) is not bool(new.assumed):
            return new if earlier.assumed else earlier
        differing = (earlier.value ^ new.value) & new.known & earlier.known
        if differing:
            self.warn(
                f"{new.label} = {hexadecimal(new.value)}, but line {earlier.line} says {hexadecimal(earlier.value)} for {name}; "
                "the bits in which the two differ count as unknown",
                new.line,
            )
            agreed = (earlier.known | new.known) & ~differing
            both = earlier.value & earlier.known | new.value & new.known
            return Reading(both & agreed, new.label, new.line, agreed, earlier.assumed)
        if new.known & ~earlier.known:
            return replace(new, value=new.value | earlier.value, known=new.known | earlier.known)
        return earlier

    def add_msrs(self, evidence: Iterable[MsrEvidence]) -> None:
        """Believe capability MSRs; of two values for one the first counts."""
        for one in evidence:
            name = FACT_MSRS[one.number]
            if one.value >> 64:
                self.warn(f"{name} = {hexadecimal(one.value)} is wider than 64 bits; the value is not used", one.line)
            elif self.msrs.setdefault(one.number, one.value) != one.value:
                self.warn(
                    f"{name} = {hexadecimal(one.value)}, but {hexadecimal(self.msrs[one.number])} was given before; the first is used",
                    one.line,
                )
            else:
                self.msr_lines.setdefault(one.number, one.line)


def _is_encoding(one: Evidence) -> bool:
    """Whether a line of name and value gives the field's own encoding: it is a line of a list of encodings."""
    return one.standing is not Standing.SHOWN and one.name in FIELDS and one.value == FIELDS[one.name].encoding and one.value > _SMALL


def _halves(name: str, earlier: Reading, new: Reading, halved: set[str]) -> tuple[Reading, Reading]:
    """Both readings, the one that is the low half as that; `halved`: fields of which this or a place before it gives the high half alone."""
    if new.known == HIGH_HALF and earlier.known & 0xFFFFFFFF and not earlier.value >> 32 and name not in halved:
        halved.add(name)
        return replace(earlier, known=earlier.known & ~HIGH_HALF), new  # what was given before was the low half
    if name in halved and new.known & 0xFFFFFFFF and not new.value >> 32:
        return earlier, replace(new, known=new.known & ~HIGH_HALF)
    return earlier, new
