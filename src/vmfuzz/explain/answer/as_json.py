"""The answer as JSON data, for programs: schema "vmfuzz-check-1"."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import ANY_EXIT
from vmfuzz.explain.answer import advice
from vmfuzz.explain.answer.annotate import Columns
from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.comparison import Comparison
from vmfuzz.explain.answer.errata import fitting
from vmfuzz.explain.answer.facts import source_of
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.dump import ALL, Dump, Reading
from vmfuzz.explain.judgement.judge import Finding, Verdict
from vmfuzz.explain.repair.search import Repair
from vmfuzz.explain.reported import Reported
from vmfuzz.hexadecimal import encoded

SCHEMA: Final = "vmfuzz-check-1"


def to_json(answer: Answer) -> dict[str, Any]:
    """Everything that the text answer says, and all of the lists it shortens."""
    dump = answer.dump
    return {
        "schema": SCHEMA,
        "input": dump.source,
        "format": dump.format,
        "exit_code": answer.exit_code,
        "entered": answer.entered,
        "reported": _reported(dump.reported) if dump.reported is not None else None,
        "causes": [_mistake(mistake) for mistake in answer.causes],
        "violated": [_finding(answer, finding) for finding in answer.violated],
        "contradicted": [_finding(answer, finding) for finding in answer.contradicted],
        "other_mistakes": [_mistake(mistake) for mistake in answer.remarks],
        "repairs": [_repair(repair) for repair in answer.repairs],
        "undecided": [_undecided(finding) for finding in answer.undecided],
        "fields": _fields(dump),
        "beside": {name: hex(reading.value) for name, reading in dump.beside.items()},
        "capability_msrs": {FACT_MSRS[number]: hex(reading.value) for number, reading in sorted(dump.msrs.items())},
        "notes": answer.knowledge.notes,
        "nested": dump.nested or None,
        "foreign": dump.foreign or None,
        "warnings": dump.warnings,
        "labels_without_field": [{"label": label, "line": line} for label, line in dump.unread],
        "errata": _errata(answer),
        "comparison": _comparison(answer.comparison) if answer.comparison is not None else None,
    }


def _reported(reported: Reported) -> dict[str, Any]:
    other = _reported(reported.other) if reported.other is not None else None
    reason = None if reported.exit_reason == ANY_EXIT else reported.exit_reason
    return {**asdict(reported), "exit_reason": reason, "other": other, "entered": reported.entered, "means": advice.headline(reported)}


def _undecided(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check.id,
        "fields": sorted(finding.missing),
        "processor": sorted({source_of(fact).words for fact in finding.facts}),
        "ambiguity": finding.check.ambiguity if finding.verdict is Verdict.DEPENDS else None,
    }


def _fields(dump: Dump) -> dict[str, Any]:
    """What is given by name, fields as the manual lists them and then all others."""
    columns = Columns(dump)
    given = {name: _reading(reading, columns) for name, reading in dump.readings.items()}
    return {name: given[name] for name in (*(name for name in FIELDS if name in given), *(name for name in given if name not in FIELDS))}


def _reading(reading: Reading, columns: Columns) -> dict[str, Any]:
    return {
        "value": hex(reading.value),
        "known": None if reading.known == ALL else hex(reading.known),
        "label": reading.label,
        "line": reading.line,
        "columns": columns.of(reading),
        "assumed": reading.assumed or None,
    }


def _errata(answer: Answer) -> list[dict[str, str]]:
    return [
        *({"id": each.id, "title": each.title, "text": each.text, "change": each.remedy} for each in fitting(answer)),
        *({"id": id, "title": id, "text": text, "change": ""} for id, text in answer.own_errata),
    ]


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "failing": found.failing,
        "working": found.working,
        "nested_levels": found.levels,
        "differences": [
            {
                "field": each.field,
                "encoding": encoded(FIELDS[each.field].encoding),
                "failing": hex(each.failing.value),
                "working": hex(each.working.value),
                "violates": each.violates,
                "may_explain": each in found.suspects,
            }
            for each in found.differences
        ],
        "alike": found.shared,
        "only_failing": list(found.only_failing),
        "only_working": list(found.only_working),
        "violated_by_working": list(found.violated_by_working),
    }


def _mistake(mistake: Mistake) -> dict[str, Any]:
    return {name: getattr(mistake, name) for name in ("what", "follows", "change", "stops", "field", "line")}


def _finding(answer: Answer, finding: Finding) -> dict[str, Any]:
    check = finding.check
    values = answer.state.values
    return {
        "check": check.id,
        "verdict": finding.verdict.name.lower(),
        "explains_report": finding.explains,
        "text": check.text,
        "section": {"title": check.section.title, "number": check.section.number},
        "wrong": answer.faults(finding),
        "fields": {
            name: {"encoding": encoded(FIELDS[name].encoding) if name in FIELDS else None, "value": hex(values[name].value)}
            for name in sorted(check.must.reads)
            if name in values
        },
        "outcomes": [str(outcome) for outcome in check.fails.outcomes],
    }


def _repair(repair: Repair) -> list[dict[str, Any]]:
    """The changes; "to" stands in words for a value that only the program knows."""
    return [
        {
            "field": change.field,
            "encoding": encoded(FIELDS[change.field].encoding),
            "old": None if change.old is None else hex(change.old),
            "new": hex(change.new) if not change.own else None,
            **({"to": change.own} if change.own else {}),
        }
        for change in repair.changes
    ]
