"""Standard output for people: rich's console, and a time as an option."""

from __future__ import annotations

import math
from typing import Any

import click
from rich.console import Console


class Seconds(click.FloatRange):
    """A time in seconds; "nan" and "inf" are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; fails with what was expected."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r}: expected a number of seconds, such as {self.min or 30:g}", param, ctx)
        return number


class Output(Console):
    """A console on standard output without automatic highlighting."""

    def __init__(self) -> None:
        super().__init__(highlight=False)
