"""The report as Markdown, for pasting into an issue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from vmfuzz.counted import counted
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.sections import NUMBERS, SHORT_NAMES
from vmfuzz.report.data import Report, State, microcode
from vmfuzz.report.minimal import Shared, shared_findings
from vmfuzz.report.words import GLOSSARY, WORDS

#: States that the list of checks does not repeat: what is as expected.
_PLAIN: Final = (State.AGREES, State.ABSENT)


def markdown(report: Report) -> str:
    """What ran, agreement by section, the checks that do not simply agree, findings, deviations, ambiguities."""
    names = [processor.name for processor in report.processors]
    lines = ["# VM-entry checks on " + (f"{len(names)} processors" if len(names) > 1 else _cell(names[0])), ""]
    if report.emulated:
        lines += [f"{report.emulated} (CPU models of the Bochs emulator): agreement there says nothing about silicon.", ""]
    lines += ["## What ran", "", *_ran(report)]
    lines += ["", "## Checks seen, of those that the processor has, by section", "", *_sections(report, names)]
    lines += ["", "## Checks that do not simply agree", "", *_others(report, names)]
    lines += ["", "## Findings", "", *_findings(report)]
    lines += ["", "## Known deviations that were met (candidates)", "", *_deviations(report, names)]
    lines += ["", "## Ambiguities that were met (S read strictly, L leniently)", "", *_readings(report, names)]
    lines += ["", f"What {', '.join(WORDS)} and other words mean: `{GLOSSARY}` of vmfuzz."]
    return "\n".join(lines) + "\n"


def _sections(report: Report, names: Sequence[str]) -> list[str]:
    sections = [
        [
            SHORT_NAMES.get(title, title),
            *(f"{row.total() - row[State.ABSENT] - row[State.NEVER]}/{row.total() - row[State.ABSENT]}" for row in counts),
        ]
        for title, counts in report.by_section().items()
    ]
    return _table(["section", *names], sections)


def _others(report: Report, names: Sequence[str]) -> list[str]:
    others = [row for row in report.rows if any(cell.state not in _PLAIN for cell in row.cells)]
    rows = [[f"`{row.id}`", _number(row.section), *(cell.state.symbol for cell in row.cells)] for row in others]
    legend = ", ".join(f"{state.symbol} {state.words}" for state in State if state is not State.ABSENT)
    return [f"{legend}; empty: not applicable.", "", *_table(["check", "section", *names], rows)]


def _findings(report: Report) -> list[str]:
    found = shared_findings(report.processors)
    met = sum(shared.count for shared in found)
    if not found:
        return ["None."]
    head = f"{counted(len(found), 'finding')}, met by {counted(met, 'candidate')}."
    return [head, "", *(line for shared in found for line in _finding(shared))]


def _deviations(report: Report, names: Sequence[str]) -> list[str]:
    deviations = [[f"`{deviation.id}`", deviation.title, *map(_count, counts)] for deviation, counts in report.deviations()]
    return _table(["deviation", "what", *names], deviations) if deviations else ["None."]


def _readings(report: Report, names: Sequence[str]) -> list[str]:
    readings = [[title, *(f"S {s:,} L {n:,}" if s or n else "" for s, n in counts)] for _, title, counts in report.readings()]
    return _table(["ambiguity", *names], readings) if readings else ["None."]


def _ran(report: Report) -> list[str]:
    heads = ["processor", "version", "seeds", "candidates", "agree", "not modelled", "deviation", "mismatch", "not run"]
    rows = []
    for processor in report.processors:
        verdicts = processor.total("verdicts")
        seeds = ", ".join(str(source.data["seed"]) for source in processor.campaigns)
        counts = (verdicts[name] for name in ("agrees", "not_modelled", "deviation", "mismatch", "refused"))
        revisions = dict.fromkeys(microcode(source.data) for source in processor.campaigns)
        version = ", ".join([processor.version, *(f"microcode {revision}" for revision in revisions if revision)])
        rows.append([processor.name, version, seeds, f"{processor.candidates:,}", *(f"{count:,}" for count in counts)])
    return _table(heads, rows)


def _finding(shared: Shared) -> Iterable[str]:
    case = shared.case
    yield f"### {_cell(case.kind)}: {_cell(', '.join(case.checks) or case.actual)} (`{case.id}`)"
    yield ""
    seen = ", ".join(f"{_cell(processor.name)} {times:,}×" for processor, times in shared.seen)
    message = f" The processor says: {_cell(case.message)}." if case.message else ""
    yield f"Seen on {seen}. All other fields are as in the known-good state `{case.base}`; nearest case: {case.agreeing}.{message}"
    yield from (_cell(note) for note in case.notes)
    yield ""
    violated = [f"- `{id}`: {_cell(BY_ID[id].text)} ({BY_ID[id].section.title})" for id in case.checks if id in BY_ID]
    yield from [*violated, ""] if violated else []
    changes = [[f"`{each.name}`", *each.shown] for each in case.changes]
    outcomes = [["the model allows", " or ".join(case.predicted), case.near], ["the processor", f"**{case.actual}**", case.near]]
    yield from _table(["operand", "this case", "nearest case that agrees"], [*changes, *outcomes])
    yield ""


def _count(count: int) -> str:
    return f"{count:,}" if count else ""


def _number(section: str) -> str:
    return NUMBERS[section][-1] if section in NUMBERS else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell if cell == "---" else _cell(cell) for cell in line) + " |" for line in lines]
