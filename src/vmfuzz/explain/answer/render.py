"""The answer as text for people: what happened and what to do in the first ten lines, everything else after that. Plain."""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.counted import counted
from vmfuzz.explain.answer import advice
from vmfuzz.explain.answer.answer import Answer, fact_words
from vmfuzz.explain.answer.layout import WIDTH, evaluator, faults_of, lines_of, wrapped
from vmfuzz.explain.answer.opening import explaining_of, opening
from vmfuzz.explain.answer.teach import premises, why
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.judgement.judge import Finding, Verdict, assumed_readings
from vmfuzz.explain.names.spoken import shown, spoken
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.partial import UNKNOWN

_MANY_CHECKS: Final = 12
_MANY_FIELDS: Final = 8


def render(answer: Answer, explain: bool = False, verified: str = "", width: int | None = WIDTH) -> str:
    """The whole answer. `explain` adds a paragraph on each violated check; `verified` says what a real entry on an emulated CPU gave.

    Lines have `width` columns at most; None: each paragraph is one line.
    """
    with lines_of(width):
        return _rendered(answer, explain, verified)


def _rendered(answer: Answer, explain: bool, verified: str) -> str:
    blocks = [opening(answer, verified)]
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


# The checks


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
            applies = _applies(answer, finding)
            if applies:
                lines.append(wrapped("It applies because " + "; ".join(applies) + ".", 4))
    if count > _MANY_CHECKS and not explain:
        lines.append(f"\n  {count - _MANY_CHECKS} more; --json lists all of them.")
    if any(finding.verdict is Verdict.VIOLATED for finding in answer.violated) and count >= 20:
        lines.append(
            wrapped("So many at once point to one mistake (wrong offsets, a shifted structure, a stale dump) rather than to many.", 2)
        )
    return "\n".join(lines)


def _applies(answer: Answer, finding: Finding) -> list[str]:
    """The parts of the premise that the text shows to hold; where a check fails in either case, one of them is open."""
    when, known = finding.check.when, evaluator(answer)
    parts = when.args if when.op == "all" else (when,)
    return [text for part in parts if known.judge(part).truth is True for text in premises(part)]


def _one_check(answer: Answer, finding: Finding) -> list[str]:
    check = finding.check
    lines = [f"  {check.id}"]
    lines.append(wrapped("; ".join(faults_of(answer, finding)) + ".", 4))
    for name in sorted(check.must.reads):
        lines.append(wrapped(_value_line(answer, name), 8, 4))
    lines.append(wrapped(f"Rule: {check.text}", 10, 4))
    lines.append(wrapped(str(check.section), 10))
    if finding.verdict is Verdict.LIKELY:
        doubts = sorted({fact_words(fact) for fact in finding.facts})
        lines.append(wrapped(f"Certain unless {' or '.join(doubts)}.", 4))
    if answer.dump.reported is not None and finding not in explaining_of(answer):
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
        lines.append(wrapped(f"{finding.check.id}: {'; '.join(faults_of(answer, finding))}", 6, 2))
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
    lines = [f"Not judged ({counted(len(answer.undecided), 'check')}, for want of what the text does not show):"]
    if names:
        rest = f" and {len(names) - _MANY_FIELDS} more" if len(names) > _MANY_FIELDS else ""
        lines.append(wrapped("Fields: " + ", ".join(names[:_MANY_FIELDS]) + rest + ".", 10, 2))
    if memory:
        lines.append(wrapped("Memory: what lies at the addresses that fields point to (MSR areas, link pointer, PDPTEs).", 10, 2))
    facts = answer.missing_facts()
    if facts:
        lines.append(wrapped("Processor: " + ", ".join(facts[:6]) + ". Give it with --cpu or --capabilities.", 13, 2))
    readings = {AMBIGUITIES[finding.check.ambiguity].title: finding for finding in answer.two_readings() if finding.check.ambiguity}
    if readings:
        lines.append(wrapped("Manual: it can be read in two ways (`vmfuzz ambiguities`): " + "; ".join(readings) + ".", 10, 2))
    return "\n".join(lines) if len(lines) > 1 else ""


def _next(answer: Answer) -> str:
    reported = answer.dump.reported
    if reported is None or answer.entered or answer.causes or explaining_of(answer):
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
    read = f"{counted(len(dump.readings), 'field')}, {counted(len(dump.msrs), 'capability MSR')}"
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
