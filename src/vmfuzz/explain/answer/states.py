"""Which of the states that a text shows are answered for: one that stands beside a working one, or beside the other level's VMCS, is answered together
with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.answer.comparison import compared
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.text.apart import LEVELS, PAIRS

#: Names that say of themselves which of the two fails.
_CERTAIN: Final = frozenset({"good", "bad", "working", "failing"})


def answers(dumps: list[Dump], capabilities: Capabilities | None = None, working: Dump | None = None) -> list[Answer]:
    """One answer for each state that fails; `working`: a state that entered on the same processor, with which each is compared."""
    if working is not None:
        return [_together(dump, working, capabilities) for dump in dumps]
    return [answer(dump, capabilities) if other is None else _of_two(dump, other, capabilities) for dump, other in _paired(dumps)]


def _of_two(second: Dump, first: Dump, capabilities: Capabilities | None) -> Answer:
    """The answer to two states of one text: to the second, unless only the first violates what can explain the failure."""
    if _is_certain(second):
        return _together(second, first, capabilities)
    fails = [any(finding.explains for finding in answer(dump, capabilities).violated) for dump in (first, second)]
    return _together(first, second, capabilities) if fails == [True, False] else _together(second, first, capabilities)


def _together(failing: Dump, working: Dump, capabilities: Capabilities | None) -> Answer:
    levels = (working.state, failing.state) == LEVELS
    result = answer(failing, capabilities, None if levels else working)
    other = answer(working, capabilities)
    return replace(result, comparison=compared((failing, result.checked), (working, other.checked), levels))


def _paired(dumps: list[Dump]) -> list[tuple[Dump, Dump | None]]:
    """Each state that is to be answered for, with the one that it is to be compared with, where a text shows two; vmcs02, and what fails.

    Which of two fails, their names say, or what is violated (`_of_two`).
    """
    found: list[tuple[Dump, Dump | None]] = []
    index = 0
    while index < len(dumps):
        one, other = dumps[index], dumps[index + 1] if index + 1 < len(dumps) else None
        if other is not None and one.lines is other.lines and (one.state, other.state) in PAIRS:
            found.append((other, one))
            index += 2
        else:
            found.append((one, None))
            index += 1
    return found


def _is_certain(failing: Dump) -> bool:
    """Whether the name of a state says that it is the one that fails, or the one that the processor entered."""
    return failing.state in _CERTAIN or failing.state in LEVELS
