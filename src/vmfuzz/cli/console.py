"""Standard output for people: rich's console, and a time as an option."""

from __future__ import annotations

import math
import re
import sys
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

#: Columns where there is no terminal: more than any line has.
_NO_END: Final = 1_000_000
#: Columns that the rest of a line has at least, however narrow the terminal is.
_LEAST: Final = 20
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

    Where that is no terminal, nothing is wrapped, cut off or padded: programs read it a line at a time. In a terminal what does not fit on a line
    goes on below it, further to the right.
    """

    def __init__(self) -> None:
        stream = sys.stdout
        self.for_people = stream is not None and stream.isatty()
        super().__init__(highlight=False, width=None if self.for_people else _NO_END)

    def print(self, *objects: Any, hang: int = 2, **options: Any) -> None:
        """As rich's; `hang`: in a terminal the rest of a line is indented by so many columns more than the line is."""
        if self.for_people:
            whole = options.get("soft_wrap") or len(objects) != 1 or not isinstance(objects[0], str)
            super().print(*(objects if whole else [self._hanging(objects[0], hang, options.pop("markup", True))]), **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.write(_PADDING.sub(r"\1", captured.get()))

    def _hanging(self, text: str, hang: int, markup: bool) -> Text:
        """The lines of a text, each broken where it does not fit."""
        parts: list[Text] = []
        for line in (Text.from_markup(text) if markup else Text(text)).split("\n", allow_blank=True):
            left = len(line.plain) - len(line.plain.lstrip(" ")) + hang
            first, *rest = line[left:].wrap(self, max(self.width - left, _LEAST), overflow="fold") or [Text()]
            parts += [line[:left].append_text(first), *(Text(" " * left).append_text(part) for part in rest)]
        for part in parts:
            part.rstrip()
        return Text("\n").join(parts)
