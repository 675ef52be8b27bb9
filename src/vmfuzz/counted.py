"""Numbers of things as people say them: 1 entry, 2 entries, 1,000 candidates."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """A number of things, with separators between thousands; `thing` is one of them ("entry")."""
    return f"{number:,} {thing if number == 1 else several(thing)}"


def several(thing: str) -> str:
    """More than one thing: entries, batches, candidates."""
    if thing.endswith("y") and thing[-2] not in "aeiou":
        return f"{thing[:-1]}ies"
    return f"{thing}es" if thing.endswith(("s", "ch", "sh", "x")) else f"{thing}s"
