"""Which checks the words of a program on a failed entry stand for: a second oracle, which compares the check and not only the outcome."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from vmfuzz.model.checks import BY_ID, CHECKS


class Messages(Mapping[str, tuple[str, ...]]):
    """A program's messages -> ids of checks, `*` for one or more words. Where a message has several, the program makes them in one test.

    An empty value: a check of the program's own, which the model does not have.
    """

    def __init__(self, table: Mapping[str, tuple[str, ...]]) -> None:
        self._table: Final = dict(table)
        #: what was asked for
        self._checks: Final[dict[str, frozenset[str]]] = {}

    def __getitem__(self, message: str) -> tuple[str, ...]:
        return self._table[message]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def checks_named(self, message: str) -> frozenset[str] | None:
        """Ids of the checks that a message stands for; None for a message that is not in the table."""
        if message not in self._table:
            return None
        if message not in self._checks:
            ids = [check.id for check in CHECKS]
            found = (id for pattern in self[message] for id in ((pattern,) if pattern in BY_ID else fnmatch.filter(ids, pattern)))
            self._checks[message] = frozenset(found)
        return self._checks[message]

    def checks_without(self, leaving_out: Collection[str] = ()) -> tuple[str, ...]:
        """Ids of the checks that no message stands for (those of `leaving_out` do not count), in the SDM's order."""
        named = {id for message in self._table if message not in leaving_out for id in self.checks_named(message) or ()}
        return tuple(check.id for check in CHECKS if check.id not in named)
