"""Regular expressions that are compiled when they are first used: of the hundreds that readers have, one text needs a part."""

from __future__ import annotations

import re
from typing import Any, cast


class Deferred:
    """Stands for the compiled pattern: whatever is asked of it is first looked up there, and then kept here."""

    def __init__(self, source: str, flags: int) -> None:
        self.pattern = source
        self._flags = flags
        self._compiled: re.Pattern[str] | None = None

    def __getattr__(self, name: str) -> Any:
        if self._compiled is None:
            self._compiled = re.compile(self.pattern, self._flags)
        found = getattr(self._compiled, name)
        setattr(self, name, found)
        return found


def deferred(source: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern as `re.compile` gives it, but not compiled before one of its methods or attributes is asked for.

    What is wrong with `source` is said then. Functions of the module `re` do not take it for a pattern: use its methods.
    """
    return cast("re.Pattern[str]", Deferred(source, flags))
