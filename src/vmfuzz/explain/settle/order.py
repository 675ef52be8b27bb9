"""Whether the places of lines mean anything: what only its place names is not believed where lines are not in the order in which they were printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from vmfuzz.explain.dump import Warned
from vmfuzz.explain.evidence import Evidence, Found, Kept
from vmfuzz.explain.names.labels import SEGMENTS
from vmfuzz.explain.settle.states import states_of

_BY_PLACE: Final = "no register named on the line: read as part of the one above"
#: So many names a warning lists.
_SHOWN: Final = 6
#: The registers that have the same parts in a dump: a register without them has lost its name, and the one above has two of each.
_GROUPS: Final = (SEGMENTS[:6], SEGMENTS[6:8], SEGMENTS[8:])


def in_order(places: Sequence[Evidence], found: Found) -> Kept:
    """The places without those of fields that only a place names, if parts of registers stand astray; doubted if registers lack parts."""
    below = {name for name, is_below in found.placed.items() if is_below}
    if found.astray or any(state[0].name in below for state in states_of(places)[1:]):  # (no state begins within a register)
        out = list(dict.fromkeys(one.name for one in places if one.name in found.placed))
        text = (
            f"parts of registers stand where they cannot belong, so the lines are not in their order; {len(out)} values that only their "
            f"place names are not used ({', '.join(out[:_SHOWN])}{' ...' * (len(out) > _SHOWN)})"
        )
        return [one for one in places if one.name not in out], [Warned(0, text)] * bool(out)
    if _complete(below):
        return list(places), []
    return [replace(one, assumed=_BY_PLACE) if one.name in below and not one.assumed else one for one in places], []


def _complete(names: Iterable[str]) -> bool:
    """Whether these are the same parts of all segment registers, of both or none of LDTR and TR, and of both or none of GDTR and IDTR."""
    parts: dict[str, set[str]] = {register: set() for register in SEGMENTS}
    for name in names:
        area, register, part = [*name.split("_", 2), "", ""][:3]
        if area == "guest" and register in SEGMENTS and part != "selector":
            parts[register].add(part)
    return not any(parts.values()) or all(len({frozenset(parts[register]) for register in group}) == 1 for group in _GROUPS)
