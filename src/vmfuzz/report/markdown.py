"""The report as Markdown, for pasting into an issue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from vmfuzz.model.sections import NUMBERS, SHORT_NAMES
from vmfuzz.report.data import Report, State
from vmfuzz.report.minimal import Minimal, minimal_cases

#: States that the list of checks does not repeat: what is as expected.
_PLAIN: Final = (State.AGREES, State.ABSENT)


def markdown(report: Report) -> str:
    """What ran, agreement by section, the checks that do not simply agree, findings, deviations, ambiguities."""
    names = [processor.name for processor in report.processors]
    lines = ["# VM-entry checks on " + (f"{len(names)} processors" if len(names) > 1 else _cell(names[0])), ""]
    if report.emulated:
        lines += [f"{report.emulated} (CPU models of the Bochs emulator): agreement there says nothing about silicon.", ""]
    lines += ["## What ran", "", *_ran(report)]
    sections = [
        [
            SHORT_NAMES.get(title, title),
            *(f"{row.total() - row[State.ABSENT] - row[State.NEVER]}/{row.total() - row[State.ABSENT]}" for row in counts),
        ]
        for title, counts in report.by_section().items()
    ]
    lines += ["", "## Checks seen, of those that the processor has, by section", "", *_table(["section", *names], sections)]
    others = [row for row in report.rows if any(cell.state not in _PLAIN for cell in row.cells)]
    lines += ["", "## Checks that do not simply agree", ""]
    lines += [", ".join(f"{state.symbol} {state.words}" for state in State if state is not State.ABSENT) + "; empty: not applicable.", ""]
    lines += _table(
        ["check", "section", *names], [[f"`{row.id}`", _number(row.section), *(c.state.symbol for c in row.cells)] for row in others]
    )
    lines += ["", "## Findings", ""]
    cases = [(processor.name, case) for processor in report.processors for case in minimal_cases(processor)]
    lines += [line for name, case in cases for line in _finding(name, case)] or ["None."]
    deviations = [[f"`{deviation.id}`", deviation.title, *map(_count, counts)] for deviation, counts in report.deviations()]
    lines += ["", "## Known deviations that were met (candidates)", ""]
    lines += _table(["deviation", "what", *names], deviations) if deviations else ["None."]
    readings = [[title, *(f"S {s:,} L {n:,}" if s or n else "" for s, n in counts)] for _, title, counts in report.readings()]
    lines += ["", "## Ambiguities that were met (S read strictly, L leniently)", ""]
    lines += _table(["ambiguity", *names], readings) if readings else ["None."]
    return "\n".join(lines) + "\n"


def _ran(report: Report) -> list[str]:
    heads = ["processor", "version", "seeds", "candidates", "agree", "not modelled", "deviation", "mismatch", "not run"]
    rows = []
    for processor in report.processors:
        verdicts = processor.total("verdicts")
        seeds = ", ".join(str(source.data["seed"]) for source in processor.campaigns)
        counts = (verdicts[name] for name in ("agrees", "not_modelled", "deviation", "mismatch", "refused"))
        rows.append([processor.name, processor.version, seeds, f"{processor.candidates:,}", *(f"{count:,}" for count in counts)])
    return _table(heads, rows)


def _finding(name: str, case: Minimal) -> Iterable[str]:
    yield f"### {_cell(case.kind)} on {_cell(name)} (`{case.id}`)"
    yield ""
    message = f" ({_cell(case.message)})" if case.message else ""
    checks = f" Violated: {', '.join(f'`{id}`' for id in case.checks)}." if case.checks else ""
    yield f"Model: {' or '.join(case.predicted)}. Processor: **{case.actual}**{message}. Seen {case.count:,} times.{checks}"
    yield f"Base `{case.base}`; nearest case without it: {case.agreeing}."
    yield ""
    changes = [[f"`{each.operand}`", each.here, each.agreeing or "as in the base"] for each in case.changes]
    yield from _table(["operand", "this case", "nearest case without it"], changes)
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
