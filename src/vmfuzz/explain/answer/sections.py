"""The parts of an answer: what happened and what to do first, then every violated check, other mistakes, what is open, and what was read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.counted import counted
from vmfuzz.explain.answer import advice
from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.comparison_words import comparison_groups
from vmfuzz.explain.answer.errata import errata_group
from vmfuzz.explain.answer.facts import excuse
from vmfuzz.explain.answer.layout import Group, Paragraph, Role, Section
from vmfuzz.explain.answer.opening import of_mistake, opening
from vmfuzz.explain.answer.register_suspects import not_judged
from vmfuzz.explain.answer.teach import premises, why
from vmfuzz.explain.judgement.judge import Finding, Verdict, assumed_readings
from vmfuzz.explain.names.spoken import shown, spoken, with_encoding
from vmfuzz.explain.reported import Reported
from vmfuzz.hexadecimal import encoded
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.expr import parts_of
from vmfuzz.model.partial import UNKNOWN

_MANY_CHECKS: Final = 12
_MISTAKE: Final = (Role.MISTAKE, Role.MISTAKE_FOLLOWS, Role.MISTAKE_CHANGE)
_MANY_FIELDS: Final = 8
_MANY_WARNINGS: Final = 20
#: So many violated checks have one mistake in common.
_SUSPICIOUSLY_MANY: Final = 20


def sections(answer: Answer, explain: bool = False, verified: str = "") -> list[Section]:
    """The whole answer. `explain` lists all violated checks, with a paragraph on each; `verified` says what a real entry on an emulated CPU gave."""
    nested = [Paragraph(Role.STATEMENT, answer.dump.nested, "Nested")] if answer.dump.nested and not answer.entered else []
    return [
        Section("opening", opening(answer, verified)),
        Section("comparison", comparison_groups(answer)),
        Section("errata", [errata_group(answer)]),
        Section("violated", _violated(answer, explain)),
        Section("contradicted", _contradicted(answer)),
        Section("mistakes", _remarks(answer)),
        Section("undecided", _undecided(answer)),
        Section("next", _next(answer)),
        Section("nested", [nested]),
        Section("warnings", _warnings(answer)),
        Section("read", _read(answer)),
    ]


# The checks


def _violated(answer: Answer, explain: bool) -> list[Group]:
    if not answer.violated:
        return []
    count = len(answer.violated)
    groups: list[Group] = [[Paragraph(Role.HEADING, f"Violated checks ({count}):")]]
    taught: set[str] = set()
    for finding in answer.violated if explain else answer.violated[:_MANY_CHECKS]:
        groups.append([*_one_check(answer, finding), *(_explained(answer, finding, taught) if explain else ())])
    if count > _MANY_CHECKS and not explain:
        groups.append([Paragraph(Role.FOLLOWS, f"and {count - _MANY_CHECKS} more", hint="(--json lists all)")])
    if any(finding.verdict is Verdict.VIOLATED for finding in answer.violated) and count >= _SUSPICIOUSLY_MANY:
        groups[-1].append(
            Paragraph(
                Role.FOLLOWS,
                "So many at once point to one mistake (wrong offsets, a shifted structure, a stale dump) rather than to many.",
            )
        )
    return groups


def _explained(answer: Answer, finding: Finding, taught: set[str]) -> Iterator[Paragraph]:
    """Why the processor makes a check, unless that has been `taught`, and why it does here."""
    reason, applies = why(finding.check), _applies(answer, finding)
    if reason not in taught:
        yield Paragraph(Role.WHY, reason, "Why")
        taught.add(reason)
    if applies:
        yield Paragraph(Role.FAULT, "It applies because " + "; ".join(applies) + ".")


def _applies(answer: Answer, finding: Finding) -> list[str]:
    """The parts of the premise that the text shows to hold; where a check fails in either case, one of them is open."""
    when, known = finding.check.when, answer.evaluator
    parts = parts_of(when)
    return [text for part in parts if known.judge(part).truth is True for text in premises(part)]


def _one_check(answer: Answer, finding: Finding) -> Group:
    check = finding.check
    group = [Paragraph(Role.CHECK, check.id), Paragraph(Role.FAULT, "; ".join(answer.faults(finding)) + ".")]
    group += [_value(answer, name) for name in sorted(check.must.reads)]
    group += [Paragraph(Role.RULE, check.text, "Rule"), Paragraph(Role.SECTION, str(check.section))]
    if finding.verdict is Verdict.LIKELY:
        doubts = sorted({excuse(fact) for fact in finding.facts})
        group.append(Paragraph(Role.FAULT, f"Certain unless {' or '.join(doubts)}."))
    if answer.dump.reported is not None and finding not in answer.explaining:
        group.append(Paragraph(Role.FAULT, "It does not explain the reported outcome."))
    return group


def _value(answer: Answer, name: str) -> Paragraph:
    partial = answer.state.values.get(name, UNKNOWN)
    encoding = f" ({encoded(FIELDS[name].encoding)})" if name in FIELDS else ""
    reading = answer.dump.readings.get(name)
    own = reading is not None and answer.state is answer.checked
    corrected = answer.state is not answer.checked and name in FIELDS
    origin = f", line {reading.line}" if own and reading is not None else ", with the encodings that the text uses" if corrected else ""
    text = shown(name, partial.value) if partial.known else "not shown"
    line = reading.line if own and reading is not None else 0
    return Paragraph(Role.VALUE, f"{spoken(name)}{encoding} = {text}{origin}", line=line)


def _contradicted(answer: Answer) -> list[Group]:
    if not answer.contradicted or answer.dump.reported is None:
        return []
    what = "the entry succeeded" if answer.entered else "the reported outcome proves that these passed"
    heading = f"The values printed would violate these checks too, but {what}; so the VMCS held other values at the entry:"
    return [
        [
            Paragraph(Role.HEADING, heading),
            *(
                Paragraph(Role.PASSED, "; ".join(answer.faults(finding)), finding.check.id)
                for finding in answer.contradicted[:_MANY_CHECKS]
            ),
        ]
    ]


def _remarks(answer: Answer) -> list[Group]:
    stopping = [*answer.causes[3:], *(mistake for mistake in answer.remarks if mistake.stops)]
    harmless = [mistake for mistake in answer.remarks if not mistake.stops]
    groups: list[Group] = []
    for heading, mistakes in (
        ("Also suspect: each of these can stop the entry too, if the program does what this text says:", stopping),
        ("Other mistakes, which do not stop this entry:", harmless),
    ):
        if mistakes:
            groups += [[Paragraph(Role.HEADING, heading)], *(of_mistake(mistake, _MISTAKE) for mistake in mistakes)]
    return groups


# What is open


def _undecided(answer: Answer) -> list[Group]:
    if answer.entered or not answer.undecided or not answer.dump.readings:
        return []
    open_ones = [*_missing(answer), *_missing_facts(answer), *_two_readings(answer)]
    needs = "needs" if len(answer.undecided) == 1 else "need"
    heading = f"Not judged ({counted(len(answer.undecided), 'check')} {needs} what the text does not show):"
    return [[Paragraph(Role.HEADING, heading), *open_ones]] if open_ones else []


def _missing(answer: Answer) -> Iterator[Paragraph]:
    """The fields and the memory that undecided checks read and the text does not show."""
    missing = [name for name, _ in answer.missing_fields()]
    names = [with_encoding(name) for name in missing if name in FIELDS]
    if names:
        rest = f" and {len(names) - _MANY_FIELDS} more" if len(names) > _MANY_FIELDS else ""
        yield Paragraph(Role.MISSING, ", ".join(names[:_MANY_FIELDS]) + rest + ".", "Fields")
    if any(name.startswith("memory_") for name in missing):
        where = "what is stored where fields point to (MSR areas, link pointer, PDPTEs)."
        yield Paragraph(Role.MISSING, where, "Memory")


def _missing_facts(answer: Answer) -> Iterator[Paragraph]:
    facts = [source.words for source in answer.missing_facts()]
    if facts:
        yield Paragraph(Role.MISSING_FACTS, ", ".join(facts[:6]) + ".", "Processor", "Give it with --cpu or --capabilities.")


def _two_readings(answer: Answer) -> Iterator[Paragraph]:
    titles = dict.fromkeys(AMBIGUITIES[finding.check.ambiguity].title for finding in answer.two_readings() if finding.check.ambiguity)
    if titles:
        words = "it can be read in two ways: " + "; ".join(titles) + "."
        yield Paragraph(Role.MISSING, words, "Manual", "`vmfuzz ambiguities` shows them.")


def _next(answer: Answer) -> list[Group]:
    """What to collect where the text does not show the cause of a failure."""
    reported = answer.dump.reported
    if reported is None or answer.entered or answer.causes or answer.explaining:
        return []
    if answer.dump.readings and not answer.undecided and reported.error != 0:
        return []  # everything that decides has been given
    return _collect(answer, reported)


def _collect(answer: Answer, reported: Reported) -> list[Group]:
    """The fields and MSRs that would tell, and how to have each printed."""
    names = [name for name, _ in answer.missing_fields() if name in FIELDS]
    sources = [source for source in answer.missing_facts()[:_MANY_FIELDS] if source.msrs] if len(names) <= _MANY_FIELDS else []
    fields = advice.collect_next(reported, answer.dump.readings, names)
    wanted = dict.fromkeys((*fields, *(source.words for source in sources)))
    if not wanted:
        return []
    cr3 = answer.state.values.get("guest_cr3", UNKNOWN)
    to_print = advice.how_to_print(answer.dump.format, reported, cr3.value if cr3.known else None) if fields else []
    together = ", together with this text." if answer.dump.readings else "."
    return [
        [
            Paragraph(Role.STATEMENT, f"{'; '.join(wanted)}.", "Collect next"),
            *_commands("How to print them:", to_print),
            *_commands("How to read the MSRs:", advice.how_to_read(number for source in sources for number in source.msrs)),
            Paragraph(Role.STATEMENT, "", hint=f"Then give the output to `vmfuzz check FILE`{together}"),
        ]
    ]


def _commands(heading: str, commands: list[tuple[str, str]]) -> Iterator[Paragraph]:
    if commands:
        yield Paragraph(Role.HEADING, heading)
    for who, command in commands:
        yield Paragraph(Role.PROGRAM, f"{who}:")
        yield Paragraph(Role.COMMAND, command)


def _warnings(answer: Answer) -> list[Group]:
    if not answer.dump.warnings:
        return []
    group = [Paragraph(Role.HEADING, "Warnings:")]
    group += [Paragraph(Role.NOTE, text) for text in answer.dump.warnings[:_MANY_WARNINGS]]
    more = len(answer.dump.warnings) - _MANY_WARNINGS
    return [[*group, *([Paragraph(Role.NOTE, f"and {more} more", hint="(--json lists all)")] if more > 0 else [])]]


def _read(answer: Answer) -> list[Group]:
    dump = answer.dump
    if dump.foreign:
        return []
    if dump.empty:
        wanted = "Give a VMCS dump (Linux KVM, Xen, QEMU, VirtualBox, lines of name and value, vmfuzz JSON), or an error number."
        return [[Paragraph(Role.OUTCOME, wanted)]]
    read = f"{counted(len(dump.readings), 'field')}, {counted(len(dump.msrs), 'capability MSR')}"
    group = [Paragraph(Role.STATEMENT, f"Read from {dump.source}: {dump.format}, {read}.")]
    group += [Paragraph(Role.NOTE, f"{note[0].upper()}{note[1:]}.") for note in answer.knowledge.notes]
    assumed: dict[str, list[str]] = {}
    for name, reading in assumed_readings(dump):
        assumed.setdefault(reading.assumed, []).append(name.removeprefix("guest_"))
    for reason, names in assumed.items():
        group.append(Paragraph(Role.NOTE, f"{', '.join(names)}.", f"{reason[0].upper()}{reason[1:]}"))
    if registers := not_judged(dump):
        group.append(Paragraph(Role.NOTE, f"{registers}."))
    if dump.unread:
        labels = ", ".join(dict.fromkeys(label for label, _ in dump.unread))
        group.append(Paragraph(Role.NOTE, f"{labels[:300]}.", "Labels that name no VMCS field"))
    return [group]
