"""The first lines of the answer: what happened, why, and what to change."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.registers import AR
from vmfuzz.counted import counted, listed
from vmfuzz.explain.answer import advice
from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.english import condition_words
from vmfuzz.explain.answer.facts import source_of
from vmfuzz.explain.answer.layout import Group, Paragraph, Role
from vmfuzz.explain.answer.register_suspects import register_suspicions
from vmfuzz.explain.answer.suspects import suspicions
from vmfuzz.explain.answer.teach import premises
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.dump import Dump, Format
from vmfuzz.explain.judgement.judge import Finding, Verdict, certain
from vmfuzz.explain.names.spoken import shown, spoken, with_encoding
from vmfuzz.explain.outcomes.virtualbox import hm_error
from vmfuzz.explain.repair.search import Repair
from vmfuzz.explain.reported import Report
from vmfuzz.model.expr import Cond, parts_of
from vmfuzz.model.partial import UNKNOWN, Partial
from vmfuzz.model.wording import named_bit, numbered_bit

#: So many fields are named as what a failure may come from.
_FEW: Final = 3
_MOST_MISSING: Final = 4
_RIGHTS: Final = "_access_rights"
_RFLAGS: Final = "guest_rflags"


def opening(answer: Answer, verified: str) -> list[Group]:
    """The outcome; the cause and the smallest change."""
    outcome = [Paragraph(Role.OUTCOME, _verdict(answer))]
    if answer.dump.reported is not None and not answer.entered:
        proved = _leads_to(answer) or advice.proves(answer.dump.reported)
        outcome += [Paragraph(Role.PROVED, proved)] if proved else []
    if answer.dump.reported is not None and answer.dump.reported.remark:
        outcome.append(Paragraph(Role.PROVED, f"({answer.dump.reported.remark})"))
    if answer.dump.hm_error is not None and not hm_error(answer.dump.hm_error):
        unknown = f"HM error {answer.dump.hm_error} is not in the table of VirtualBox 6 and 7; look it up in your version's source."
        outcome.append(Paragraph(Role.PROVED, unknown))
    return [outcome, [*_cause(answer), *_change(answer, verified)]]


def _verdict(answer: Answer) -> str:
    reported = answer.dump.reported
    if answer.dump.foreign:
        return f"{answer.dump.foreign}."
    if answer.dump.empty:
        return "Nothing that vmfuzz can read: no VMCS field, no capability MSR, no outcome of a VM entry."
    if reported is not None:
        return advice.verdict(reported)
    if outcomes := _certain_outcomes(answer):
        return f"This VM entry will fail: {outcomes}."
    if answer.violated:
        return f"This VM entry will fail on most processors: {advice.spoken_outcome(answer.violated[0].check.fails.outcomes[0])}."
    if answer.causes:
        return "The text has a mistake that can make the VM entry fail."
    return _nothing_violated(answer.dump) if answer.dump.readings else _without_values(answer.dump)


def _certain_outcomes(answer: Answer) -> str:
    """The outcomes of the violated checks that are made first; "" if no check is certain to be violated."""
    certain = [finding for finding in answer.violated if finding.verdict is Verdict.VIOLATED]
    return " or ".join(sorted({advice.spoken_outcome(outcome) for one in _first_stage(certain) for outcome in one.check.fails.outcomes}))


def _leads_to(answer: Answer) -> str:
    """Of a failure without its number: the outcome to which the values lead; "" where they do not say."""
    unnumbered = answer.dump.reported is not None and answer.dump.reported.kind is Report.UNNUMBERED
    outcomes = _certain_outcomes(answer) if unnumbered else ""
    return f"The values shown lead to {outcomes}." if outcomes else ""


def _without_values(dump: Dump) -> str:
    """The verdict on a text without a field's value and without a mistake."""
    definitions = dump.program.definitions
    if definitions and all(item.right for item in definitions):
        all_of_them = f"All {len(definitions)} encodings in this list are" if len(definitions) > 1 else "The encoding in this text is"
        return f"{all_of_them} right, so the mistake is elsewhere. Show the values that you write."
    return "No VMCS field with a value was found, so there is nothing to judge." + (" See the warnings." if dump.warnings else "")


def _nothing_violated(dump: Dump) -> str:
    """The verdict on values that violate no check, where no outcome is reported."""
    count = len(dump.readings)
    none = f"The {counted(count, 'field')} in this text {'violates' if count == 1 else 'violate'} no check."
    if dump.format not in (Format.KVM, Format.XEN):
        return f"{none} The text cannot show whether these values reached the VMCS; read them back with VMREAD."
    if "exit_reason" not in dump.readings:
        return f"{none} The dump is incomplete: its end is missing, with the controls and the exit reason. Paste the whole dump."
    return none


def _first_stage(findings: list[Finding]) -> list[Finding]:
    first = min((finding.check.fails.stage for finding in findings), default=None)
    return [finding for finding in findings if finding.check.fails.stage is first]


def _cause(answer: Answer) -> Group:
    if answer.causes:
        labels = ("Cause", *["Also"] * (_FEW - 1))
        roles = (Role.CAUSE, Role.FOLLOWS, Role.CHANGE)
        return [each for mistake, label in zip(answer.causes, labels, strict=False) for each in of_mistake(mistake, roles, label)]
    open_cause = _open_cause(answer) if advice.of_checks(answer.dump.reported) else []
    if not answer.violated:
        return open_cause if answer.dump.readings else []
    return [*([] if answer.explaining else open_cause), *_violated(answer)]


def of_mistake(mistake: Mistake, roles: tuple[Role, Role, Role], label: str = "") -> Group:
    """What is wrong, what follows from it, and what to change, each with its role."""
    where = f" (line {mistake.line})" if mistake.line else ""
    return [
        Paragraph(roles[0], f"{mistake.what}{where}", label, line=mistake.line),
        Paragraph(roles[1], mistake.follows),
        Paragraph(roles[2], f"{mistake.change}.", "Change"),
    ]


def _violated(answer: Answer) -> Group:
    """The faults that explain what is reported, or where none does, those of other checks."""
    told = answer.explaining or answer.violated
    groups = _grouped(told)
    other = "A later check fails too" if advice.of_checks(answer.dump.reported) else "A check fails too"
    label = "Cause" if answer.explaining else other
    group = [Paragraph(Role.CAUSE, f"{'; '.join(_group_faults(answer, findings))}.", label) for findings in groups[:_FEW]]
    more = len(told) - sum(map(len, groups[:_FEW]))
    return [*group, *([Paragraph(Role.FOLLOWS, f"and {more} more (see below).")] if more > 0 else [])]


def _grouped(findings: list[Finding]) -> list[list[Finding]]:
    """The findings, those that are about the same fields together."""
    groups: dict[frozenset[str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.check.must.reads, []).append(finding)
    return list(groups.values())


def _group_faults(answer: Answer, group: list[Finding]) -> list[str]:
    """What is wrong with one field, and why it has to be otherwise."""
    if together := _usable_segment(answer, group):
        return [together]
    faults = []
    for finding in group:
        own, reason = "; ".join(answer.faults(finding)), _because(answer, finding)
        faults.append(f"{reason.removeprefix(', ')}, {own}" if reason and own.startswith("either ") else own + reason)
    lines = _without_repetition(list(dict.fromkeys(faults)))
    return [f"B{lines[0][1:]}" if lines[0].startswith("because ") else lines[0], *lines[1:]]


def _usable_segment(answer: Answer, group: list[Finding]) -> str:
    """The faults of a segment register that only a usable one has: what decides is that bit 16 is 0; "" where that is not what it is about."""
    fields = {name for finding in group for name in finding.check.must.reads}
    name = next(iter(fields))
    rights = answer.state.values.get(name, UNKNOWN)
    if len(fields) != 1 or not name.endswith(_RIGHTS) or not _is_usable(rights) or not all(_needs_usable(each, name) for each in group):
        return ""
    bits = sorted({finding.check.must.args[1] for finding in group})
    labels = listed([numbered_bit(name, bit) for bit in bits])
    several = len(bits) > 1
    return (
        f"{spoken(name.removesuffix(_RIGHTS))} is usable (bit 16 of its access rights, {shown(name, rights.value)}, is 0), so bit{'s' * several} "
        f"{labels} must be 1; {'they are' if several else 'it is'} 0"
    )


def _is_usable(rights: Partial) -> bool:
    return bool(rights.known & ~rights.value & 1 << AR.UNUSABLE)


def _needs_usable(finding: Finding, name: str) -> bool:
    """Whether the check is about a bit, and is made only for a usable segment, whatever the controls are."""
    if finding.check.must.op != "bit" or (finding.twin is not None and finding.twin.field != _RFLAGS):
        return False
    return any(
        part.op == "not" and part.args[0].op == "bit" and part.reads == {name} and part.args[0].args[1] == AR.UNUSABLE
        for part in parts_of(finding.check.when)
    )


def _without_repetition(faults: list[str]) -> list[str]:
    """Faults of one field; its name, where all begin with it, is said once."""
    start = re.match(r".*?(?= bits? )", faults[0])
    name = start[0] if start else ""
    if not name or not all(fault.startswith(f"{name} bit") for fault in faults):
        return faults
    return [faults[0], *(fault[len(name) + 1 :] for fault in faults[1:])]


def _open_cause(answer: Answer) -> Group:
    """That the text does not show what the reported outcome comes from, and which fields would."""
    differing = answer.comparison.suspects if answer.comparison is not None and not answer.violated else []
    if differing:
        names = " or ".join(with_encoding(each.field) for each in differing[:_FEW])
        text = f"most likely {names}, which differs in the working state (see below). No value shown is certain to be wrong."
    else:
        shown_ones = "No value shown violates a check that leads to the reported outcome" if answer.violated else "No value shown is wrong"
        text = f"cannot be determined from this text. {shown_ones}{_what_is_open(answer)}."
    sure = certain(answer.state.values, answer.knowledge)
    sources = {fact: source_of(fact).words for finding in answer.undecided for fact in finding.facts}
    suspects = [*register_suspicions(answer.dump), *suspicions(answer.undecided, answer.evaluator, sure, sources)]
    return [Paragraph(Role.CAUSE, text, "Cause"), *(Paragraph(Role.CAUSE, f"{suspect}.", "Suspect") for suspect in suspects)]


def _what_is_open(answer: Answer) -> str:
    """What would tell the cause, as the end of a sentence."""
    if not answer.undecided and not answer.violated:
        return (
            ", and no check that could give this result is left open. So either the VMCS held other values at the entry (the dump was made later, or "
            "shows another VMCS), or it was refused not by the processor but by a hypervisor below (nested virtualization)"
        )
    names = [name for name, _ in answer.missing_fields() if name in FIELDS]
    if names:
        return f"; these fields are needed first: {', '.join(map(with_encoding, names[:_MOST_MISSING]))}"
    return " in every reading of the manual" if answer.two_readings() else "; it does not show the values that decide"


def _because(answer: Answer, finding: Finding) -> str:
    """The part of the premise that lies in other fields than the fault, where that is what a person would look at."""
    must, known = finding.check.must, answer.evaluator
    parts = parts_of(finding.check.when)
    reasons = [part for part in parts if known.judge(part).truth is True and _is_reason(part, must)]
    words = [text for part in reasons for text in premises(part) if "activate" not in text]
    # of several things of which one is enough, those that hold are the reason
    open_to_choice = [each for part in parts if part.op == "any" and not part.reads & must.reads for each in part.args]
    words += [condition_words(each) for each in open_to_choice if known.judge(each).truth is True]
    return f", because {' and '.join(words)}" if words else ""


def _is_reason(part: Cond, must: Cond) -> bool:
    """Whether a part of a premise is about other fields than the fault, about another bit, or about a control."""
    if part.op in ("bit", "one_of", "eq") and not part.reads & must.reads:
        return True
    if part.op == "bit" and part is not must:
        return True
    return (part.args[0] if part.op == "not" else part).op == "bit" and all(name.endswith("_controls") for name in part.reads)


def _change(answer: Answer, verified: str) -> Group:
    group: Group = []
    corrects = "Smallest change" if answer.explaining else "To correct that"
    for index, repair in enumerate(answer.repairs):
        if index and answer.causes:
            break
        words = f"{repair.title}, " * bool(repair.title) + "; ".join(_change_words(repair)) + "."
        if index:
            group.append(Paragraph(Role.OTHER_REPAIR, words, "or"))
        else:
            group.append(Paragraph(Role.REPAIR, words, "Also needed" if repair.partial else corrects))
    if (answer.repairs and not answer.repairs[0].partial) or answer.encodings_are_the_cause:
        group.append(
            Paragraph(Role.FOLLOWS, "With this change every check that can be judged from this text passes (calculated, not run).")
        )
    if verified:
        group.append(Paragraph(Role.FOLLOWS, verified))
    return group


def _change_words(repair: Repair) -> list[str]:
    words = []
    for change in repair.changes:
        if change.own:
            words.append(f"set {with_encoding(change.field)} to {change.own}")
            continue
        before = "" if change.old is None else f" in place of {shown(change.field, change.old)}"
        bits = ""
        if change.old is not None:
            differing = change.old ^ change.new
            if differing.bit_count() <= 3:
                named = [f"{named_bit(change.field, bit)} = {change.new >> bit & 1}" for bit in range(64) if differing >> bit & 1]
                bits = f" ({', '.join(named)})"
        words.append(f"set {with_encoding(change.field)} to {shown(change.field, change.new)}{before}{bits}")
    return words
