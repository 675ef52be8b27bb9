"""Whether the places of lines mean anything: what only its place names is not believed where lines are not in the order in which they were printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from vmfuzz.explain.dump import Reading, Warned
from vmfuzz.explain.evidence import Evidence, Found
from vmfuzz.explain.names.labels import SEGMENTS
from vmfuzz.explain.settle.states import states_of

_BY_PLACE: Final = "no register named on the line: read as part of the one above"
#: So many names a warning lists.
_SHOWN: Final = 6
#: The orders in which the manual and programs list the segment registers.
_ORDERS: Final = tuple(
    tuple(order.split())
    for order in (
        "es cs ss ds fs gs",
        "cs ds ss es fs gs",
        "cs ss ds es fs gs",
        "cs ds es fs gs ss",
        "cs ds es ss fs gs",
        "cs es ss ds fs gs",
    )
)


def of_lines_in_order(
    found: Found, readings: Mapping[str, Reading], evidence: Sequence[Evidence]
) -> tuple[Mapping[str, Reading], list[Warned]]:
    """The readings without those that only their places name, if parts of registers stand astray; doubted if the order of registers is unusual."""
    if found.astray or any(found.placed.get(state[0].name) for state in states_of(evidence)[1:]):  # (no state begins within a register)
        out = [name for name in found.placed if name in readings]
        text = (
            f"parts of registers stand where they cannot belong, so the lines are not in their order; {len(out)} values that only their "
            f"place names are not used ({', '.join(out[:_SHOWN])}{' ...' if len(out) > _SHOWN else ''})"
        )
        return {name: one for name, one in readings.items() if name not in out}, [Warned(0, text)] if out else []
    below = [name for name, is_below in found.placed.items() if is_below]
    usual = _usual_order(below) and _complete(below)
    return {
        name: one if usual or name not in below or one.assumed else replace(one, assumed=_BY_PLACE) for name, one in readings.items()
    }, []


def _of_segment(name: str) -> tuple[str, str, str]:
    """Area, segment register and part of a field; the register "" for others."""
    area, register, part = [*name.split("_", 2), "", ""][:3]
    return area, register if register in SEGMENTS else "", part


def _usual_order(names: Iterable[str]) -> bool:
    """Whether the segment registers among these fields, of guest and host each, stand together and in an order in which they are often listed."""
    found: dict[str, list[str]] = {"guest": [], "host": []}
    for area, register, _ in map(_of_segment, names):
        if register and register not in found[area]:
            found[area].append(register)
    return all(map(_in_usual_order, found.values()))


def _in_usual_order(registers: Sequence[str]) -> bool:
    segments = [register for register in registers if register in _ORDERS[0]]
    first = registers.index(segments[0]) if segments else 0
    orders = ([register for register in order if register in segments] for order in _ORDERS)
    return registers[first : first + len(segments)] == segments and segments in orders


def _complete(names: Iterable[str]) -> bool:
    """Whether these are the same parts of all segment registers, of both or none of LDTR and TR, and of both or none of GDTR and IDTR."""
    parts: dict[str, set[str]] = {register: set() for register in SEGMENTS}
    for area, register, part in map(_of_segment, names):
        if area == "guest" and register and part != "selector":
            parts[register].add(part)
    groups = [SEGMENTS[:6], SEGMENTS[6:8], SEGMENTS[8:]]
    return not any(parts.values()) or all(len({frozenset(parts[register]) for register in group}) == 1 for group in groups)
