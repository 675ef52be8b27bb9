"""Standard output for people: rich's console, but a closed pipe is an exception that the command group handles."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console


class Output(Console):
    """A console on standard output without automatic highlighting."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> NoReturn:
        """The reader is gone (`vmfuzz checks | head`); rich would end the process with status 1, which means findings here."""
        raise BrokenPipeError
