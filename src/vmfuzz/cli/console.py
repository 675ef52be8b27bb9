"""Standard output for people: rich's console, and a time as an option."""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Final

import click
from rich.console import Console

#: In the meta of click's context: how many files are no entries.
UNREADABLE: Final = "vmfuzz.unreadable"
#: Columns where there is no terminal: more than any line has.
_NO_END: Final = 1_000_000
#: Blanks at the end of a line; where colours are asked for, the codes that end them stay.
_PADDING: Final = re.compile(r"[ \t]+((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)


class Seconds(click.FloatRange):
    """A time in seconds; "nan" and "inf" are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; fails with what was expected."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r}: expected a number of seconds, such as {self.min or 30:g}", param, ctx)
        return number


class Output(Console):
    """A console on standard output without automatic highlighting.

    Where that is no terminal, nothing is wrapped, cut off or padded: programs read it a line at a time.
    """

    def __init__(self) -> None:
        stream = sys.stdout
        self._for_people = stream is not None and stream.isatty()
        super().__init__(highlight=False, width=None if self._for_people else _NO_END)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's."""
        if self._for_people:
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write(_PADDING.sub(r"\1", captured.get()))
