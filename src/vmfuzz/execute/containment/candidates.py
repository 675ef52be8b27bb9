"""What containment's rules ask of candidates, so that one rule judges the rows of a batch (view.py) and a single VMCS (`Single`, without numpy).

Where rows differ, a value is a column of numbers and an answer a column of truth values; for a single VMCS, or where all rows are alike, a number and
a truth value. What is written in both ways alike: comparisons, &, |, and arithmetic of which 64 bits are kept (`& ALL_ONES`), but not `~`: see
`does_not_hold`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from vmfuzz.arch.fields import FIELDS
from vmfuzz.state.vmcs import Vmcs

ALL_ONES: Final = (1 << 64) - 1


def does_not_hold(answer: Any) -> Any:
    """The opposite of an answer: `~` makes -2 of True."""
    return answer ^ True


class Candidates(Protocol):
    """What a rule may ask."""

    def none(self) -> Any:
        """The answer that holds for no candidate."""

    def any(self, answer: Any) -> bool:
        """Whether an answer holds for some candidate."""

    def __getitem__(self, name: str) -> Any:
        """The field as VMWRITE takes it: without bits that it does not have. A field that was never written is 0."""

    def bit(self, name: str, number: int) -> Any:
        """Whether a bit of the field is 1."""

    def secondary(self, number: int) -> Any:
        """A secondary control: 0 where secondary controls are not activated."""

    def is_known(self, name: str, known: Vmcs) -> bool:
        """Whether the field has the known-good value in all candidates."""

    def condition(self, name: str) -> int:
        """A live condition that all candidates of a batch have in common."""

    def addresses(self) -> Iterable[int]:
        """The physical addresses at which some candidate describes memory."""

    def word(self, address: int) -> Any:
        """The word of memory at an address; 0 where nothing describes it."""


class Single:
    """A single VMCS as `Candidates`."""

    def __init__(self, vmcs: Vmcs) -> None:
        self._vmcs = vmcs

    def none(self) -> bool:
        """It is not this one."""
        return False

    def any(self, answer: bool) -> bool:
        """Whether it is this one."""
        return answer

    def __getitem__(self, name: str) -> int:
        return (self._vmcs.get(name) or 0) & FIELDS[name].mask if name in FIELDS else 0

    def bit(self, name: str, number: int) -> bool:
        """Whether a bit of the field is 1."""
        return bool(self[name] >> number & 1)

    def secondary(self, number: int) -> bool:
        """A secondary control: 0 where secondary controls are not activated."""
        return self.bit("primary_processor_based_controls", 31) & self.bit("secondary_processor_based_controls", number)

    def is_known(self, name: str, known: Vmcs) -> bool:
        """Whether the field has the known-good value."""
        return (self._vmcs.get(name) or 0) == (known.get(name) or 0)

    def condition(self, name: str) -> int:
        """A live condition."""
        return self._vmcs[name]

    def addresses(self) -> Iterable[int]:
        """The physical addresses at which it describes memory."""
        return self._vmcs.memory

    def word(self, address: int) -> int:
        """The word of memory at an address; 0 where nothing describes it."""
        return self._vmcs.memory.get(address, 0)
