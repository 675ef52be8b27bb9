"""Reads rows of tables: cells between bars, tabs, semicolons or commas, of which one names a field and one is a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.formats.encoded import Disagreement, EncodedLines
from vmfuzz.explain.formats.meaning import PART_WORDS, Where
from vmfuzz.explain.formats.notes import Notes
from vmfuzz.explain.formats.shapes import names_field, pairs_in, row_of
from vmfuzz.explain.names.labels import SEGMENTS, match_label, normalise
from vmfuzz.explain.text.numbers import read_number
from vmfuzz.patterns import deferred

#: A word of letters a to f is a number only where it is long.
_SURE_NUMBER: Final = deferred(r".*\d|.{4}")
#: No row of nothing but such numbers is one of values, where all of them are encodings.
_LEAST_ENCODING: Final = 0x800


class Rows:
    """Reads rows; what they have of encodings goes to `encoded`."""

    def __init__(self, notes: Notes, encoded: EncodedLines) -> None:
        self.notes = notes
        self.encoded = encoded

    def read(self, text: str) -> bool:
        """Read a line; returns whether it is a row."""
        if text.startswith("|"):
            row = [cell.strip(" `*") for cell in text.strip("|").split("|")]
            if not (self._parts_in_cells(row) or self._cells(row)):
                self._warn_of_row(row)
            return True
        cells = row_of(text)
        return bool(cells) and self._cells(cells)

    def _parts_in_cells(self, cells: Sequence[str]) -> bool:
        """`| GUEST_TR | Sel=0x28, Base=0x1000 | ...`: a register with its parts in another cell."""
        context = normalise(cells[0])
        if not any(word in SEGMENTS for word in context):
            return False
        pairs = [(label, value) for cell in cells[1:] for _, _, label, value, bad in pairs_in(cell) if not bad]
        parts = [(label.strip(" ,;"), value) for label, value in pairs if normalise(label) in PART_WORDS]
        for label, value in parts:
            self.notes.store(label, value, Where(self.notes.line, self.notes.above.area, context))
        if parts:
            self.notes.above.register = ("", "")
        return bool(parts)

    def _warn_of_row(self, cells: Sequence[str]) -> None:
        if names_field(cells[0].partition("/")[0]) and any("0x" in cell for cell in cells[1:]):
            text = f"which numbers of this row are the values of {cells[0]} cannot be told; none is used"
            self.notes.found.warn(text, self.notes.line)

    def _cells(self, cells: Sequence[str]) -> bool:
        label = next((cell for cell in cells if names_field(cell)), "")
        numbers = (
            (cell, read_number(cell, self.notes.manner.hex_by_default)) for cell in cells if cell != label and _SURE_NUMBER.match(cell)
        )
        values = [(cell, value) for cell, value in numbers if value is not None]
        if not label or not values:
            return False
        fields, first = match_label(label).fields, values[0][1]
        if len(values) > 1 and len(fields) == 1 and first & ~1 in BY_ENCODING:
            if first == FIELDS[fields[0]].encoding:
                self.encoded.agreeing += 1
                self.encoded.define(label, fields[0], first)
                values = values[1:]
            elif first >= _LEAST_ENCODING and len(values) == 2:
                cell, value = values[1]
                self.encoded.disagreeing.append(Disagreement(label, fields[0], first, cell, value, self.notes.line, name_first=True))
                return True
        if len({value for _, value in values}) > 1:
            text = f"{label} stands with several numbers; which is the value cannot be told, so none is used"
            self.notes.found.warn(text, self.notes.line)
            return True
        return self.notes.store(label, values[0][0])
