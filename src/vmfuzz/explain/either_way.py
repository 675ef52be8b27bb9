"""What is wrong where a control that the text does not show decides which of two checks is made, and both fail: what fails either way is certain,
the rest is said with its condition.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmfuzz.explain.atoms import edits, obstacles
from vmfuzz.explain.infer import Knowledge
from vmfuzz.explain.judge import Finding
from vmfuzz.explain.teach import fault_lines
from vmfuzz.model.expr import Cond
from vmfuzz.model.partial import Evaluator, Partial
from vmfuzz.model.wording import bit_name


def faults(finding: Finding, values: Mapping[str, Partial], knowledge: Knowledge) -> list[str]:
    """What keeps a violated check from holding, in words."""
    evaluator = _usual(values, knowledge)
    own, twin = fault_lines(finding.check.must, evaluator), finding.twin
    # virtual-8086 mode asks for one value of each field; who has no such guest needs no word on it
    if twin is None or twin.field == "guest_rflags":
        return own or [finding.check.text]
    other = fault_lines(twin.check.must, evaluator)
    label = bit_name(twin.field, twin.bit)
    if own == other:
        return own
    if _mends_too(finding.check.must, twin.check.must, values, knowledge):
        return [*other, *(f"if {label} is {twin.value}, {line}" for line in own)]
    if _mends_too(twin.check.must, finding.check.must, values, knowledge):
        return [*own, *(f"if {label} is {1 - twin.value}, {line}" for line in other)]
    return [*(f"if {label} is {twin.value}, {line}" for line in own), *(f"if {label} is {1 - twin.value}, {line}" for line in other)]


def _mends_too(stricter: Cond, other: Cond, values: Mapping[str, Partial], knowledge: Knowledge) -> bool:
    """Whether whatever makes the one condition hold makes the other hold as well."""
    evaluator = _usual(values, knowledge)
    ways = [edit for obstacle in obstacles(stricter, True, evaluator) for edit in edits(obstacle, evaluator, knowledge.widths[0])]
    return bool(ways) and all(_usual({**values, name: Partial(value)}, knowledge).judge(other).truth is True for name, value in ways)


def _usual(values: Mapping[str, Partial], knowledge: Knowledge) -> Evaluator:
    return Evaluator(values.get, knowledge.lookup(knowledge.widths[0], typical=True).get)
