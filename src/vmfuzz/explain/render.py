"""The answer as text for people: what happened and what to do in the first ten lines, everything else after that. Plain, 79 columns."""

from __future__ import annotations

import re
import textwrap
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain import advice
from vmfuzz.explain.answer import Answer, fact_source, fact_words
from vmfuzz.explain.atoms import shown, spoken
from vmfuzz.explain.judge import Finding, Verdict, assumed_readings
from vmfuzz.explain.mistakes import Mistake
from vmfuzz.explain.repair import Repair
from vmfuzz.explain.reported import KVM_EXIT
from vmfuzz.explain.suspects import suspicions
from vmfuzz.explain.teach import fault_lines, premises, why
from vmfuzz.model.partial import UNKNOWN, Evaluator
from vmfuzz.model.wording import bit_name

_WIDTH: Final = 79
_MANY_CHECKS: Final = 12
_MANY_FIELDS: Final = 8


def wrapped(text: str, indent: int = 0, first: int | None = None) -> str:
    """Text filled to the width; `indent` for all lines, `first` for the first if it differs."""
    lead = " " * (indent if first is None else first)
    return textwrap.fill(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def render(answer: Answer, explain: bool = False, verified: str = "") -> str:
    """The whole answer. `explain` adds a paragraph on each violated check; `verified` says what a real entry on an emulated CPU gave."""
    blocks = [_opening(answer, verified)]
    blocks.append(_checks(answer, explain))
    blocks.append(_contradicted(answer))
    blocks.append(_remarks(answer))
    blocks.append(_undecided(answer))
    blocks.append(_next(answer))
    if answer.dump.nested and not answer.entered:
        blocks.append(wrapped(f"Nested: {answer.dump.nested}", 2, 0))
    blocks.append(_warnings(answer))
    blocks.append(_read(answer))
    return "\n\n".join(block for block in blocks if block) + "\n"


# The first lines


def _opening(answer: Answer, verified: str) -> str:
    lines = [wrapped(_verdict(answer))]
    if answer.dump.reported is not None and not answer.entered:
        proved = advice.proves(answer.dump.reported)
        lines += [wrapped(proved)] if proved else []
    if answer.dump.reported is not None and answer.dump.reported.remark:
        lines.append(wrapped(f"({answer.dump.reported.remark})"))
    if answer.dump.hm_error is not None and not advice.hm_error(answer.dump.hm_error):
        lines.append(
            wrapped(f"HM error {answer.dump.hm_error} is not in the table of VirtualBox 6 and 7; look it up in your version's source.")
        )
    lines += _cause(answer)
    lines += _change(answer, verified)
    return "\n".join(lines)


def _verdict(answer: Answer) -> str:
    reported = answer.dump.reported
    if answer.dump.foreign:
        return f"{answer.dump.foreign}."
    if answer.dump.empty:
        return "Nothing that vmfuzz can read: no VMCS field, no capability MSR, no outcome of a VM entry."
    if reported is not None:
        return advice.verdict(reported)
    failed = answer.dump.beside.get(KVM_EXIT)
    certain = [finding for finding in answer.violated if finding.verdict is Verdict.VIOLATED]
    if certain:
        outcomes = sorted({str(outcome) for finding in _first_stage(certain) for outcome in finding.check.fails.outcomes})
        if failed is not None:
            return f"The VM entry failed ({failed.label}). The values shown end in {' or '.join(outcomes)}."
        return f"This VM entry will fail: {' or '.join(outcomes)}."
    if failed is not None:
        return f"The VM entry failed ({failed.label}). The text does not give the number that tells how (hardware_entry_failure_reason)."
    if answer.violated:
        return "This VM entry will fail on most processors: " + str(answer.violated[0].check.fails.outcomes[0]) + "."
    if answer.causes:
        return "The text has a mistake that can make the VM entry fail."
    if not answer.dump.readings:
        return "No VMCS field with a value was found, so there is nothing to judge." + (
            " See the warnings." if answer.dump.warnings else ""
        )
    none = f"No check is violated by the {_counted(len(answer.dump.readings), 'field')} in this text."
    if answer.dump.format.endswith("VMCS dump") and "exit_reason" not in answer.dump.readings:
        return f"{none} The dump is not whole: its end, with the controls and the exit reason, is missing. Give all of it."
    if answer.dump.format.endswith("VMCS dump"):
        return none
    return f"{none} Whether they reached the VMCS it cannot show: read them back with VMREAD."


def _first_stage(findings: list[Finding]) -> list[Finding]:
    first = min(finding.check.fails.stage for finding in findings)
    return [finding for finding in findings if finding.check.fails.stage is first]


def _cause(answer: Answer) -> list[str]:
    lines = [""] if answer.causes or answer.violated else []
    open_cause = _open_cause(answer) if advice.of_checks(answer.dump.reported) else []
    for index, mistake in enumerate(answer.causes[:3]):
        where = f" (line {mistake.line})" if mistake.line else ""
        lines.append(wrapped(f"{'Cause' if not index else 'Also'}: {mistake.what}{where}", 2, 0))
        lines.append(wrapped(mistake.follows, 2))
        lines.append(wrapped(f"Change: {mistake.change}.", 10, 2))
    if not answer.causes and answer.violated:
        explaining = _explaining(answer)
        lines += [] if explaining else open_cause
        groups = _grouped(explaining or answer.violated)
        other = "A later check fails too" if advice.of_checks(answer.dump.reported) else "A check fails too"
        for group in groups[:3]:
            head = "Cause" if explaining else other
            faults = list(dict.fromkeys("; ".join(_faults(answer, finding)) + _because(finding) for finding in group))
            lines.append(wrapped(f"{head}: {'; '.join(_without_repetition(faults))}.", 2, 0))
        more = len(explaining or answer.violated) - sum(map(len, groups[:3]))
        if more > 0:
            lines.append(f"  and {more} more, below.")
    elif not answer.causes and not answer.violated and answer.dump.readings and open_cause:
        lines += ["", *open_cause]
    return lines


def _explaining(answer: Answer) -> list[Finding]:
    """The violated checks that explain what is reported; any does where the text has a failure without its number."""
    reported = answer.dump.reported
    return [finding for finding in answer.violated if finding.explains or (reported is not None and reported.error == 0)]


def _grouped(findings: list[Finding]) -> list[list[Finding]]:
    """The findings, those that are about the same fields together."""
    groups: dict[frozenset[str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.check.must.reads, []).append(finding)
    return list(groups.values())


def _without_repetition(faults: list[str]) -> list[str]:
    """Faults of one field; its name, where all begin with it, is said once."""
    start = re.match(r".*?(?= bits? )", faults[0])
    name = start[0] if start else ""
    if not name or not all(fault.startswith(f"{name} bit") for fault in faults):
        return faults
    return [faults[0], *(fault[len(name) + 1 :] for fault in faults[1:])]


def _open_cause(answer: Answer) -> list[str]:
    """That the text does not show what the reported outcome comes from, and which fields would."""
    names = [name for name, _ in answer.missing_fields() if name in FIELDS][:4]
    fields = ", ".join(f"{spoken(name)} ({FIELDS[name].encoding:04X}H)" for name in names)
    missing = f"; fields that decide are missing, first of all {fields}" if fields else "; what decides is not in it"
    if not answer.undecided and not answer.violated:
        missing = (
            ", and it leaves none open that could end so. Then the VMCS held something else when it was entered (the dump was made later, or is another "
            "one's), or what refused it was not the processor but a hypervisor below (nested virtualization)"
        )
    fault = "no check that ends in the reported outcome" if answer.violated else "no check"
    lines = [wrapped(f"Cause: not decidable from this text. What it shows violates {fault}{missing}.", 2, 0)]
    certain = Evaluator(answer.state.values.get, answer.knowledge.lookup(answer.knowledge.widths[0], typical=False).get)
    sources = {fact: fact_source(fact) for finding in answer.undecided for fact in finding.facts}
    return lines + [wrapped(f"Suspect: {text}.", 2, 0) for text in suspicions(answer.undecided, _evaluator(answer), certain, sources)]


def _because(finding: Finding) -> str:
    """The part of the premise that lies in other fields than the fault, where that is what a person would look at."""
    own = finding.check.must.reads
    when = finding.check.when
    parts = [
        part
        for part in (when.args if when.op == "all" else (when,))
        if (part.op in ("bit", "one_of", "eq") and not part.reads & own)
        or ((part.args[0].op if part.op == "not" else part.op) == "bit" and all(name.endswith("_controls") for name in part.reads))
    ]
    words = [text for part in parts for text in premises(part) if "activate" not in text]
    return f", because {' and '.join(words)}" if words else ""


def _change(answer: Answer, verified: str) -> list[str]:
    lines = []
    for index, repair in enumerate(answer.repairs):
        if index and answer.causes:
            break
        mends = "Smallest change: " if _explaining(answer) else "To mend that: "
        head = mends if not index else "  or: "
        lines.append(wrapped(head + "; ".join(_change_words(repair)) + ".", 4, 0))
    if answer.repairs or answer.encodings_are_the_cause:
        known = "no check that this text decides is violated any more"
        lines.append(wrapped(f"With that change {known} (predicted by the model).", 2))
    if verified:
        lines.append(wrapped(verified, 2))
    return lines


def _change_words(repair: Repair) -> list[str]:
    words = []
    for change in repair.changes:
        before = "" if change.old is None else f" in place of {shown(change.field, change.old)}"
        bits = ""
        if change.old is not None:
            differing = change.old ^ change.new
            if differing.bit_count() <= 3:
                named = [f"bit {bit}{_label(change.field, bit)} = {change.new >> bit & 1}" for bit in range(64) if differing >> bit & 1]
                bits = f" ({', '.join(named)})"
        words.append(
            f"set {spoken(change.field)} ({FIELDS[change.field].encoding:04X}H) to {shown(change.field, change.new)}{before}{bits}"
        )
    return words


def _label(field: str, bit: int) -> str:
    name = bit_name(field, bit)
    return f" {name}" if name else ""


# The checks


def _evaluator(answer: Answer) -> Evaluator:
    facts = answer.knowledge.lookup(answer.knowledge.widths[0], typical=True)
    return Evaluator(answer.state.values.get, facts.get)


def _faults(answer: Answer, finding: Finding) -> list[str]:
    evaluator = _evaluator(answer)
    return fault_lines(finding.check.must, evaluator) or [finding.check.text]


def _checks(answer: Answer, explain: bool) -> str:
    if not answer.violated:
        return ""
    count = len(answer.violated)
    lines = [f"Violated checks ({count}):"]
    taught: set[str] = set()
    for finding in answer.violated if explain else answer.violated[:_MANY_CHECKS]:
        lines += ["", *_one_check(answer, finding)]
        if explain:
            reason = why(finding.check)
            if reason not in taught:
                lines.append(wrapped(f"Why: {reason}", 9, 4))
                taught.add(reason)
            applies = premises(finding.check.when)
            if applies:
                lines.append(wrapped("It applies because " + "; ".join(applies) + ".", 4))
    if count > _MANY_CHECKS and not explain:
        lines.append(f"\n  {count - _MANY_CHECKS} more; --json lists all of them.")
    if any(finding.verdict is Verdict.VIOLATED for finding in answer.violated) and count >= 20:
        lines.append(
            wrapped("So many at once point to one mistake (wrong offsets, a shifted structure, a stale dump) rather than to many.", 2)
        )
    return "\n".join(lines)


def _one_check(answer: Answer, finding: Finding) -> list[str]:
    check = finding.check
    lines = [f"  {check.id}"]
    lines.append(wrapped("; ".join(_faults(answer, finding)) + ".", 4))
    for name in sorted(check.must.reads):
        lines.append(wrapped(_value_line(answer, name), 8, 4))
    lines.append(wrapped(f"Rule: {check.text}", 10, 4))
    lines.append(wrapped(str(check.section), 10))
    if finding.verdict is Verdict.LIKELY:
        doubts = sorted({fact_words(fact) for fact in finding.facts})
        lines.append(wrapped(f"Certain unless {' or '.join(doubts)}.", 4))
    if answer.dump.reported is not None and finding not in _explaining(answer):
        lines.append(wrapped("It does not explain the reported outcome.", 4))
    return lines


def _value_line(answer: Answer, name: str) -> str:
    partial = answer.state.values.get(name, UNKNOWN)
    encoding = f" ({FIELDS[name].encoding:04X}H)" if name in FIELDS else ""
    reading = answer.dump.readings.get(name)
    own = reading is not None and answer.state is answer.judged
    encoded = answer.state is not answer.judged and name in FIELDS
    origin = f", line {reading.line}" if own and reading is not None else " once the encodings of the text are used" if encoded else ""
    text = shown(name, partial.value) if partial.known else "not shown"
    return f"{spoken(name)}{encoding} = {text}{origin}"


def _contradicted(answer: Answer) -> str:
    if not answer.contradicted or answer.dump.reported is None:
        return ""
    what = "the entry succeeded" if answer.entered else "the reported outcome proves that these passed"
    lines = [
        wrapped(
            f"The values printed would violate these checks too, but {what}; so the VMCS held something else when it was entered:", 2, 0
        )
    ]
    for finding in answer.contradicted[:_MANY_CHECKS]:
        lines.append(wrapped(f"{finding.check.id}: {'; '.join(_faults(answer, finding))}", 6, 2))
    return "\n".join(lines)


def _remarks(answer: Answer) -> str:
    more = answer.causes[3:]
    if not answer.remarks and not more:
        return ""
    stopping = [*more, *(mistake for mistake in answer.remarks if mistake.stops)]
    harmless = [mistake for mistake in answer.remarks if not mistake.stops]
    lines: list[str] = []
    for heading, mistakes in (
        ("Also suspect: each of these can stop the entry too, if the program does what this text says:", stopping),
        ("Other mistakes, which do not stop this entry:", harmless),
    ):
        if mistakes:
            lines += [*([""] if lines else []), wrapped(heading, 2, 0)]
        for mistake in mistakes:
            lines += ["", *_mistake(mistake)]
    return "\n".join(lines)


def _mistake(mistake: Mistake) -> list[str]:
    where = f" (line {mistake.line})" if mistake.line else ""
    return [wrapped(f"{mistake.what}{where}", 4, 2), wrapped(mistake.follows, 4), wrapped(f"Change: {mistake.change}.", 12, 4)]


# What is open


def _undecided(answer: Answer) -> str:
    if answer.entered or not answer.undecided or not answer.dump.readings:
        return ""
    fields = answer.missing_fields()
    names = [f"{spoken(name)} ({FIELDS[name].encoding:04X}H)" for name, _ in fields if name in FIELDS]
    memory = any(name.startswith("memory_") for name, _ in fields)
    lines = [f"Not judged ({_counted(len(answer.undecided), 'check')}, for want of what the text does not show):"]
    if names:
        rest = f" and {len(names) - _MANY_FIELDS} more" if len(names) > _MANY_FIELDS else ""
        lines.append(wrapped("Fields: " + ", ".join(names[:_MANY_FIELDS]) + rest + ".", 10, 2))
    if memory:
        lines.append(wrapped("Memory: what lies at the addresses that fields point to (MSR areas, link pointer, PDPTEs).", 10, 2))
    facts = answer.missing_facts()
    if facts:
        lines.append(wrapped("Processor: " + ", ".join(facts[:6]) + ". Give it with --cpu or --capabilities.", 13, 2))
    return "\n".join(lines)


def _next(answer: Answer) -> str:
    reported = answer.dump.reported
    if reported is None or answer.entered or answer.causes or _explaining(answer):
        return ""
    if answer.dump.readings and not answer.undecided and reported.error != 0:
        return ""  # everything that decides has been given
    names = [name for name, _ in answer.missing_fields() if name in FIELDS]
    sources = answer.missing_facts()[:_MANY_FIELDS] if len(names) <= _MANY_FIELDS else []
    facts = [source for source in sources if advice.how_to_read([source])]
    wanted = advice.collect_next(reported, answer.dump.readings, names, facts)
    if not wanted:
        return ""
    cr3 = answer.state.values.get("guest_cr3", UNKNOWN)
    how = advice.how_to_print(answer.dump.format, reported, cr3.value if cr3.known else None)
    ways = how if wanted != "; ".join(facts) else []
    lines = [wrapped(f"Collect next: {wanted}.", 2, 0)]
    for heading, commands in (("How to have them printed:", ways), ("How to read the MSRs:", advice.how_to_read(facts))):
        if commands:
            lines += [heading, *(f"{wrapped(f'{who}:', 4, 2)}\n    {command}" for who, command in commands)]
    lines.append("Then give what was printed to `vmfuzz check FILE`" + (", together with this text." if answer.dump.readings else "."))
    return "\n".join(lines)


def _warnings(answer: Answer) -> str:
    if not answer.dump.warnings:
        return ""
    shown_ones = answer.dump.warnings[:20]
    lines = ["Warnings:", *(wrapped(text, 4, 2) for text in shown_ones)]
    if len(answer.dump.warnings) > len(shown_ones):
        lines.append(f"  and {len(answer.dump.warnings) - len(shown_ones)} more (--json lists all)")
    return "\n".join(lines)


def _read(answer: Answer) -> str:
    dump = answer.dump
    if dump.foreign:
        return ""
    if dump.empty:
        return wrapped("Give a VMCS dump (Linux KVM, Xen, QEMU, VirtualBox, lines of name and value, vmfuzz JSON), or an error number.", 0)
    read = f"{_counted(len(dump.readings), 'field')}, {_counted(len(dump.msrs), 'capability MSR')}"
    lines = [wrapped(f"Read from {dump.name}: {dump.format}, {read}.", 2, 0)]
    lines += [wrapped(f"{note[0].upper()}{note[1:]}.", 4, 2) for note in answer.knowledge.notes]
    assumed: dict[str, list[str]] = {}
    for name, reading in assumed_readings(dump):
        assumed.setdefault(reading.assumed, []).append(name.removeprefix("guest_"))
    for reason, names in assumed.items():
        lines.append(wrapped(f"{reason[0].upper()}{reason[1:]}: {', '.join(names)}.", 4, 2))
    if dump.unread:
        labels = ", ".join(dict.fromkeys(label for label, _ in dump.unread))
        lines.append(wrapped(f"Labels that mean no VMCS field here: {labels[:300]}.", 4, 2))
    return "\n".join(lines)
