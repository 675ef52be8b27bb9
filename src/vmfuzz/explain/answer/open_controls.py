"""What is wrong where a control that the text does not show decides which of two checks is made, and both fail: what fails either way is certain,
the rest is said with its condition.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmfuzz.explain.answer.english import digits
from vmfuzz.explain.answer.teach import fault_lines
from vmfuzz.explain.judgement.judge import Finding, usual
from vmfuzz.explain.judgement.processor import Knowledge
from vmfuzz.explain.repair.edits import edits, obstacles
from vmfuzz.model.expr import Cond
from vmfuzz.model.partial import Partial
from vmfuzz.model.wording import bit_name


def faults(finding: Finding, values: Mapping[str, Partial], knowledge: Knowledge) -> list[str]:
    """What keeps a violated check from holding, in words."""
    evaluator = usual(values, knowledge)
    own, twin = fault_lines(finding.check.must, evaluator), finding.twin
    # virtual-8086 mode asks for one value of each field; who has no such guest needs no word on it
    if twin is None or twin.field == "guest_rflags":
        return own or [finding.check.text]
    other = fault_lines(twin.check.must, evaluator)
    label = bit_name(twin.field, twin.bit)
    if own == other:
        return own
    if more := _more_choices(finding.check.must, twin.check.must):
        return [f"{line}; {more} is allowed too if {label} is {twin.value}" for line in other]
    if more := _more_choices(twin.check.must, finding.check.must):
        return [f"{line}; {more} is allowed too if {label} is {1 - twin.value}" for line in own]
    if _mends_too(finding.check.must, twin.check.must, values, knowledge):
        return [*other, *(f"if {label} is {twin.value}, {line}" for line in own)]
    if _mends_too(twin.check.must, finding.check.must, values, knowledge):
        return [*own, *(f"if {label} is {1 - twin.value}, {line}" for line in other)]
    return [*(f"if {label} is {twin.value}, {line}" for line in own), *(f"if {label} is {1 - twin.value}, {line}" for line in other)]


def _more_choices(wide: Cond, narrow: Cond) -> str:
    """The values that one of two conditions allows beside those of the other, where both are lists of values of the same bits; else ""."""
    if {wide.op, narrow.op} - {"one_of", "eq"} or wide.args[0] is not narrow.args[0]:
        return ""
    lists = [
        part.args[1] if part.op == "one_of" else (part.args[1].args[0],) if part.args[1].op == "const" else () for part in (wide, narrow)
    ]
    more = [value for value in lists[0] if value not in lists[1]]
    return digits(more[0]) if len(more) == 1 and lists[1] and set(lists[1]) < set(lists[0]) else ""


def _mends_too(stricter: Cond, other: Cond, values: Mapping[str, Partial], knowledge: Knowledge) -> bool:
    """Whether whatever makes the one condition hold makes the other hold as well."""
    evaluator = usual(values, knowledge)
    ways = [edit for obstacle in obstacles(stricter, True, evaluator) for edit in edits(obstacle, evaluator, knowledge.widths[0])]
    return bool(ways) and all(usual({**values, name: Partial(value)}, knowledge).judge(other).truth is True for name, value in ways)
