"""The report as one page that opens offline: style, pictures and the few lines of script are inside."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.findings.account import not_minimized
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.sections import NUMBERS, SHORT_NAMES
from vmfuzz.report import pictures
from vmfuzz.report.data import Processor, Report, State, microcode
from vmfuzz.report.minimal import shared_findings
from vmfuzz.report.numbers import duration, short
from vmfuzz.report.words import GLOSSARY, WORDS

_TEMPLATE: Final = "page.html"
_VERDICTS: Final = ("agrees", "not_modelled", "mismatch", "deviation", "refused")


def page(report: Report) -> str:
    """The page; raises EnvironmentUnusable where the extra `report` is not installed."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise EnvironmentUnusable(f"the page needs {error.name}; install it with: pip install 'vmfuzz[report]'") from None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=lambda value: f"{value:,}", short=short, duration=duration, pretty=lambda value: json.dumps(value, indent=1)
    )
    template = environment.from_string(resources.files("vmfuzz.report").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    coverage = pictures.coverage(report.processors)
    runs = [run for processor in report.processors for run in _runs(processor)]
    findings = shared_findings(report.processors)
    return template.render(
        report=report,
        processors=report.processors,
        State=State,
        runs=runs,
        totals={key: sum(run[key] for run in runs) for key in ("candidates", "seconds", "executed", "allowed", *_VERDICTS)},
        sections=report.sections,
        by_section=report.by_section(),
        short_names=SHORT_NAMES,
        numbers=NUMBERS,
        findings=findings,
        met_by=sum(shared.count for shared in findings),
        finding_of={id: shared.case.id for shared in reversed(findings) for id in shared.case.checks},
        checks=BY_ID,
        ambiguities=AMBIGUITIES,
        outcomes=Markup(pictures.outcomes(report.processors)),
        outcome_table=_outcome_table(report),
        coverage=Markup(coverage) if coverage else None,
        emulated=report.emulated,
        words=WORDS,
        glossary=GLOSSARY,
    )


def _runs(processor: Processor) -> list[dict[str, Any]]:
    """One line per campaign: what ran, and how it came out."""
    lines = []
    for source in processor.campaigns:
        data = source.data
        verdicts = {name: int(data["verdicts"].get(name, 0)) for name in _VERDICTS}
        checks = data["checks"].values()
        lines.append(
            {
                "processor": processor,
                "source": source.name,
                "date": data.get("date", ""),
                "seed": data["seed"],
                "candidates": data["candidates"],
                "microcode": microcode(data),
                "seconds": data["seconds"],
                "rate": round(data["candidates"] / data["seconds"]) if data["seconds"] else 0,
                "stopped": bool(data.get("stopped")),
                "executed": data["executed"],
                "allowed": verdicts["agrees"] + verdicts["not_modelled"],
                "decided": sum(1 for counts in checks if counts["decided"]),
                "checks": len(checks),
                "findings": len(data.get("minimized", ())) + len(not_minimized(data)),
                **verdicts,
            }
        )
    return lines


def _outcome_table(report: Report) -> list[tuple[str, list[int]]]:
    """Outcome -> candidates on each processor, the most frequent first."""
    totals = [processor.total("outcomes") for processor in report.processors]
    rows = [(outcome, [total[outcome] for total in totals]) for outcome in set().union(*totals)]
    return sorted(rows, key=lambda row: (-sum(row[1]), row[0]))
