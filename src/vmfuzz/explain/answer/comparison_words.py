"""A comparison in words: what differs, what of that can explain the failure, who refused a nested entry, what the working state proves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vmfuzz.counted import counted
from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.comparison import Comparison, Difference
from vmfuzz.explain.answer.layout import Group, Paragraph, Role
from vmfuzz.explain.names.spoken import shown, spoken, with_encoding
from vmfuzz.model.wording import named_bit

#: So many differences are shown one by one, so many fields named, so many bits.
_MANY: Final = 12
_MANY_NAMES: Final = 8
_MANY_BITS: Final = 6
#: What the two sides of a diff are called.
_SIGNS: Final = {"-": "the - side", "+": "the + side"}


def comparison_groups(answer: Answer) -> list[Group]:
    """The paragraphs on the comparison; none where there was nothing to compare with."""
    found = answer.comparison
    if found is None:
        return []
    return [_differences(found), _refused(answer, found)] if found.levels else [_differences(found)]


def _differences(found: Comparison) -> Group:
    first, second = _SIGNS.get(found.working, found.working), _SIGNS.get(found.failing, found.failing)
    head = (
        f"{first} is what L1's hypervisor wrote, {second} what L0 made of it and entered"
        if found.levels
        else f"{first} works, {second} fails"
    )
    count, suspects = len(found.differences), found.suspects
    if not found.differences:
        alike = f"the {counted(found.shared, 'field')} that both show {'is' if found.shared == 1 else 'are'} the same"
        return [Paragraph(Role.HEADING, f"{head}; {alike}. The two do not show what makes the difference.", "Compared")]
    alike = (
        f"{counted(count, 'field')} {'differs' if count == 1 else 'differ'}, {found.shared} {'is' if found.shared == 1 else 'are'} the same"
    )
    group = [Paragraph(Role.HEADING, f"{head}. {alike}.", "Compared")]
    if suspects:
        certain = suspects[0].violates
        what = "The failure comes from" if certain else "The failure can come from"
        group.append(Paragraph(Role.HEADING, f"{what} {'this' if len(suspects) == 1 else 'these'}:"))
        group += [Paragraph(Role.VALUE, _line(each, found)) for each in suspects[:_MANY]]
    else:
        group.append(
            Paragraph(
                Role.HEADING,
                "No difference can explain the failure: each of these values passes the checks that lead to it, or no such check reads it.",
            )
        )
    others = [each.field for each in found.differences if each not in suspects[:_MANY]]
    if others:
        group.append(Paragraph(Role.NOTE, f"{_names(others)}.", "Other differences"))
    for names, where in ((found.only_working, first), (found.only_failing, second)):
        if names:
            group.append(Paragraph(Role.NOTE, f"{_names(names)}.", f"Only in {where}"))
    return group


def _line(each: Difference, found: Comparison) -> str:
    differing = (each.failing.value ^ each.working.value) & each.failing.known & each.working.known
    bits = [bit for bit in range(64) if differing >> bit & 1]
    named = [f"{named_bit(each.field, bit)} = {each.working.value >> bit & 1} / {each.failing.value >> bit & 1}" for bit in bits]
    told = f" ({', '.join(named)})" if len(bits) <= _MANY_BITS else ""
    first, second = ("vmcs12", "vmcs02") if found.levels else ("works", "fails")
    values = f"{first} {shown(each.field, each.working.value)}, {second} {shown(each.field, each.failing.value)}"
    return f"{with_encoding(each.field)}: {values}{told}"


def _names(fields: Sequence[str]) -> str:
    more = len(fields) - _MANY_NAMES
    return ", ".join(spoken(name) for name in fields[:_MANY_NAMES]) + (f" and {more} more" if more > 0 else "")


def _refused(answer: Answer, found: Comparison) -> Group:
    """Who refused the entry of L1."""
    own = [finding for finding in answer.violated if finding.explains]
    reported = answer.dump.reported
    if reported is not None and reported.entered:
        return []
    if own and not found.violated_by_working:
        text = (
            "the processor, when it was to enter vmcs02. vmcs12 passes the check that vmcs02 violates, so L1 asked for nothing wrong: L0 made the "
            "mistake when it built vmcs02"
        )
    elif own:
        text = (
            "the processor, when it was to enter vmcs02. vmcs12 violates the same check, so L1's hypervisor asked for it, and L0 passed it on: correct it "
            "in L1 (L0 should have refused it itself)"
        )
    elif reported is not None and reported.error in (7, 8):
        text = (
            f"this cannot be determined. VM-instruction error {reported.error} comes either from L0, which checks vmcs12 in software, or from the "
            "processor, which checks vmcs02; the differences above are what L0 changed"
        )
    else:
        text = "this cannot be determined: no value of vmcs02 that the text shows is certain to be wrong"
    return [Paragraph(Role.STATEMENT, f"{text}.", "Who refused it")]
