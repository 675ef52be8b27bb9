"""Which value of a field is believed where places give several, halves or bits of it; values too wide and encodings in their place are not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import ALL, HIGH_HALF, Reading, Standing, Warned
from vmfuzz.explain.evidence import MSR_NUMBERS
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.checks import wrmsr
from vmfuzz.model.operands import operand_width

#: Numbers up to this are too small not to be values.
_SMALL: Final = 0xFF


class Belief(NamedTuple):
    """What is believed of fields and capability MSRs, by name, and what a person should know of the places that are not."""

    readings: dict[str, Reading]
    #: values too wide for their field
    misfits: dict[str, Reading]
    warned: list[Warned]

    def add(self, one: Reading) -> None:
        """Believe what a place says: beside another one, equals keep the bits that agree, and what is assumed yields."""
        width = 64 if one.name in MSR_NUMBERS else operand_width(one.name)
        if one.standing is not Standing.SHOWN and one.value in _numbers_of(one.name):
            self._warn(one, " is the number of the field or of its MSR, not a value; it is not used")
        elif one.value >> width:
            self._warn(one, f" does not fit {one.name}, which has {width} bits; the value is not used")
            self.misfits.setdefault(one.name, one)
        else:
            known = one.known | ALL >> width << width
            new = one if known == one.known else one._replace(known=known)
            earlier = self.readings.get(one.name)
            self.readings[one.name] = new if earlier is None else self._both(earlier, new)

    def _both(self, earlier: Reading, new: Reading) -> Reading:
        """What two places say together: what is less sure yields."""
        differing = (earlier.value ^ new.value) & new.known & earlier.known
        better, worse = sorted((earlier, new), key=_doubt)
        says = f"line {better.line} says {hexadecimal(better.value)}"
        if _doubt(better) != _doubt(worse):
            if differing and worse.standing is Standing.SENTENCE:
                self._warn(worse, f" stands in a sentence; {says}, and that is used")
            return better
        if differing:
            self._warn(new, f", but {says} for {new.name}; the bits in which the two differ count as unknown")
        elif not new.known & ~earlier.known:
            return earlier
        known = (earlier.known | new.known) & ~differing
        value = earlier.value & earlier.known | new.value & new.known
        return new._replace(value=value & known, known=known, assumed=earlier.assumed)

    def _warn(self, one: Reading, text: str) -> None:
        self.warned.append(Warned(one.line, f"{one.label} = {hexadecimal(one.value)}{text}"))


def believed(places: Sequence[Reading]) -> Belief:
    """What these places say, one after the other."""
    halved = {one.name for one in places if one.known == HIGH_HALF}
    belief = Belief({}, {}, [])
    for one in places:
        low = one.name in halved and one.known == ALL and not one.value >> 32  # the other half stands elsewhere
        belief.add(one._replace(known=ALL & ~HIGH_HALF) if low else one)
    return belief


def _doubt(one: Reading) -> tuple[bool, bool]:
    """How sure it is what a place says, the surest first: what a sentence says of a field counts only where no dump shows the field."""
    return one.standing is Standing.SENTENCE, bool(one.assumed)


@cache
def _numbers_of(name: str) -> frozenset[int]:
    """What a list of constants has beside the name of a field: its encoding, or the number of the MSR that it holds, or that tells of it."""
    if name not in FIELDS:
        return frozenset()
    of_msrs = {msr for word in CONTROL_WORDS.values() if word.field == name for msr in (word.msr, word.true_msr or 0)}
    held = getattr(wrmsr, f"IA32_{name.partition('_ia32_')[2].upper()}", 0)
    return frozenset(number for number in {FIELDS[name].encoding, held, *of_msrs} if number > _SMALL)
