"""The vocabulary of edits: every way in which generation changes an operand, written once.

Campaigns take it in columns (generate/columns.py, generate/rows.py), `vmfuzz.strategies` one draw at a time (generate/drawn.py). What is in it:

- bits: one flipped, two flipped;
- boundaries: those that the checks give an operand (generate/boundary.py), and those of addresses;
- copies: the value of another operand;
- values near the present one, and any value;
- relations: edits of several operands of one check (`Target.singles`, generate/targets.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vmfuzz.generate.boundary import Edit

_MASK64: Final = (1 << 64) - 1

#: A change of a value, as `changed` makes it: what is kept of it, what is set, flipped and added.
Change = tuple[int, int, int, int]

#: Ways to change a value, and how many changes in a hundred are made so; EDIT takes its values from the checks, the others know nothing of them.
EDIT: Final = "edit"
FLIP: Final = "flip one bit"
FLIP_TWO: Final = "flip two bits"
COPY: Final = "copy another field"
NEAR: Final = "near the value"
EDGE: Final = "address edge"
RANDOM: Final = "random"
WEIGHTS: Final = ((EDIT, 50), (FLIP, 20), (FLIP_TWO, 5), (COPY, 5), (NEAR, 6), (EDGE, 7), (RANDOM, 7))

_FARTHEST_NEAR: Final = 16


def changed(value: Any, change: Any, full: Any) -> Any:
    """The value after a change: ((value & keep | set) ^ flip) + add in the width of which `full` is the mask; integers or arrays of uint64."""
    keep, to, flip, add = change
    return ((value & keep | to) ^ flip) + add & full


def edited(edit: Edit) -> Change:
    """A boundary value of a check."""
    keep, to = edit
    return keep, to, 0, 0


def flipped(bits: Any) -> tuple[Any, Any, Any, Any]:
    """The bits of this mask flipped."""
    return _MASK64, 0, bits, 0


def moved(step: int) -> Change:
    """A step up or down, round the end of the width."""
    return _MASK64, 0, 0, step & _MASK64


def written(value: Any) -> tuple[Any, Any, Any, Any]:
    """The value itself, whatever was there: a copy, or a random one."""
    return 0, value, 0, 0


def address_edges(physical_width: int) -> tuple[int, ...]:
    """Bits at which addresses change their validity, on a processor with this physical-address width."""
    return 31, 32, physical_width - 1, physical_width, 47, 48, 51, 52, 56, 57, 62, 63


def changes_by_way(width: int, edits: Sequence[Edit], edges: Sequence[int]) -> Mapping[str, tuple[Change, ...]]:
    """The changes of an operand of `width` bits, by way, as far as they can be listed: two bits, copies and random values are drawn.

    `edits`: the boundary edits that the checks give it; `edges`: as `address_edges` gives them. An operand that no check reads has flips for edits.
    """
    flips = tuple(flipped(1 << bit) for bit in range(width))
    return {
        EDIT: tuple(map(edited, edits)) or flips,
        FLIP: flips,
        NEAR: tuple(moved(step) for step in range(-_FARTHEST_NEAR, _FARTHEST_NEAR + 1)),
        EDGE: tuple(change for edge in edges for change in _at_edge(edge)),
    }


def _at_edge(edge: int) -> tuple[Change, ...]:
    """Addresses at the edge of a width: one bit there flipped, all bits from there up set or cleared, or the last 16 bytes below."""
    single = 1 << edge
    upward = _MASK64 & ~(single - 1)
    return flipped(single), (_MASK64, upward, 0, 0), (_MASK64 & ~upward, 0, 0, 0), written(single - 16 & _MASK64)
