"""Notes what lines of names and values give: the value as the text writes numbers, the field that the label means, how it stands there."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import ALL, half, plausible
from vmfuzz.explain.evidence import OUTCOME, Found, Standing
from vmfuzz.explain.formats.meaning import NO_AREA, Above, Manner, Understanding, Where
from vmfuzz.explain.formats.shapes import RIGHTS_BITS
from vmfuzz.explain.names.labels import SEGMENTS, match_msr, normalise
from vmfuzz.explain.text.numbers import read_number, to_unsigned
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.patterns import deferred

#: An exit reason of a failed entry, in hexadecimal whatever other numbers carry.
_FAILED_ENTRY: Final = deferred(r"8000_?00(?:21|22|29)")


class Notes:
    """Notes values in `found`; knows the line that is read and what stands above it."""

    def __init__(self, found: Found, manner: Manner) -> None:
        self.found = found
        self.manner = manner
        self.above = Above()
        self.understanding = Understanding(found, manner, self.above)
        self.line = 0

    def store(self, label: str, text: str, where: Where | None = None) -> bool:
        """Note one pair, on the line that is read if `where` says no more; returns whether the label is known."""
        where = where or Where(self.line, self.above.area)
        if match_msr(label) is not None:
            self.msr(label, text, None)
            return True
        words = normalise(label)
        meaning = self.understanding.of(label, words, where)
        if meaning is None:
            if self._rights_bits(words, text, where):
                return True
            if len(label.split()) <= 5 and text.lower().startswith("0x"):  # (a longer label is more than a name)
                self.found.unread.append((label, self.line))
            return False
        if not meaning.field:
            return True
        value = self._value(meaning.field, text)
        if value is None:
            self.found.warn(
                f"{label} = {text} may be decimal or hexadecimal; it is not used (write 0x{text} or say which)"
                if re.fullmatch(r"\d+", text)
                else f"{label} = {text} is not a number; {meaning.field} counts as not given",
                self.line,
            )
            return True
        if words in (("esp",), ("eip",)) and value >> 32 and "sysenter" not in meaning.field:
            self.found.warn(f"{label} = {text} is too wide for a 32-bit register; it may be SYSENTER's, so it is not used", self.line)
            return True
        value = value << 32 if meaning.high else value
        self.put(meaning.field, value, label, where, text, assumed=meaning.assumed, known=half(meaning.high))
        self.above.goes_on(meaning.field, words, where)
        return True

    def _value(self, name: str, text: str) -> int | None:
        if name not in OUTCOME:
            number = read_number(text, self.manner.hex_by_default)
            return number & FIELDS[name].mask if number is not None and text.startswith("-") else number
        by_default = self.manner.hex_by_default
        marked = None if _FAILED_ENTRY.fullmatch(text) else by_default if len(text) < 8 or by_default is False else True
        value = read_number(text, marked)
        return to_unsigned(text) if value is None or (value >> 32 and name == "exit_reason") else value

    def put(
        self, name: str, value: int, label: str, where: Where | None = None, text: str = "", *, assumed: str = "", known: int = ALL
    ) -> None:
        """Note a value of a field; `text` is the number as written."""
        where = where or Where(self.line)
        if name in self.manner.sure:
            return
        if where.standing is Standing.SENTENCE and assumed == NO_AREA:
            told = f"{label} = {hexadecimal(value)} stands in a sentence that does not say whose it is; it is not used"
            self.found.warn(told, where.number)
            return
        self.found.put(name, value, label, where.number, assumed=assumed, known=known, standing=where.standing, written=text)

    def msr(self, label: str, text: str, second: str | None) -> None:
        """Note a capability MSR; `second`: its upper half, where the halves are printed as allowed-0 / allowed-1."""
        number = match_msr(label)
        value = read_number(text, True)
        if number is None or value is None:
            return
        if label[:1].isdigit() and not plausible(number, value):
            return  # a number that stands for something else in a table
        if second is not None:
            value = value & 0xFFFFFFFF | (int(second, 16) & 0xFFFFFFFF) << 32
        self.found.put(FACT_MSRS[number], value, FACT_MSRS[number], self.line, written=text)

    def _rights_bits(self, words: tuple[str, ...], text: str, where: Where) -> bool:
        area, register = self.above.register
        if area != "guest" or register not in SEGMENTS[:8] or len(words) != 1 or words[0] not in RIGHTS_BITS:
            return False
        low, width = RIGHTS_BITS[words[0]]
        value = read_number(text, self.manner.hex_by_default is not False)
        if value is None or value >> width:
            return False
        name = f"guest_{register}_access_rights"
        where = where._replace(standing=Standing.BITS)
        self.put(name, value << low, f"{register} {words[0]}", where, text, known=((1 << width) - 1) << low)
        return True
