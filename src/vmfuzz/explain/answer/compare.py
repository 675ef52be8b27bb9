"""Answers to all dumps of a text: a dump that stands beside a working one, or beside the other level's VMCS, is answered together with it."""

from __future__ import annotations

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.answer.comparison import LEVELS, compared, is_certain, paired
from vmfuzz.explain.dump import Dump


def answers(dumps: list[Dump], capabilities: Capabilities | None = None, working: Dump | None = None) -> list[Answer]:
    """One answer for each state that fails; `working`: a state that entered on the same processor, with which each is compared."""
    if working is not None:
        return [_together(dump, working, capabilities) for dump in dumps]
    return [answer(dump, capabilities) if other is None else _of_two(dump, other, capabilities) for dump, other in paired(dumps)]


def _of_two(second: Dump, first: Dump, capabilities: Capabilities | None) -> Answer:
    """The answer to two states of one text: to the second, unless only the first violates what can explain the failure."""
    if is_certain(second):
        return _together(second, first, capabilities)
    fails = [any(finding.explains for finding in answer(dump, capabilities).violated) for dump in (first, second)]
    return _together(first, second, capabilities) if fails == [True, False] else _together(second, first, capabilities)


def _together(failing: Dump, working: Dump, capabilities: Capabilities | None) -> Answer:
    levels = (working.origin.state, failing.origin.state) == LEVELS
    result = answer(failing, capabilities, None if levels else working)
    other = answer(working, capabilities)
    result.comparison = compared((failing, result.checked), (working, other.checked), levels)
    return result
