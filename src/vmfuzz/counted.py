"""Things as people count and list them: 1 entry, 2 entries, 1,000 candidates; CS, SS and DS."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, thing: str) -> str:
    """A number of things, with separators between thousands; `thing` is one of them ("entry")."""
    return f"{number:,} {thing if number == 1 else several(thing)}"


def listed(names: Sequence[str]) -> str:
    """Names as people list them: "CS", "CS and SS", "CS, SS and DS"; "" of none."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def several(thing: str) -> str:
    """More than one thing: entries, batches, candidates."""
    if thing.endswith("y") and thing[-2] not in "aeiou":
        return f"{thing[:-1]}ies"
    return f"{thing}es" if thing.endswith(("s", "ch", "sh", "x")) else f"{thing}s"
