"""What was found, for machines that build: JUnit XML, SARIF, and annotations as GitHub's workflows read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

from vmfuzz.counted import counted
from vmfuzz.findings.account import not_minimized, seen
from vmfuzz.model.checks import BY_ID

_SARIF: Final = "https://json.schemastore.org/sarif-2.1.0.json"
#: What GitHub's commands take for "%", and for the end of a line.
_ESCAPES: Final = (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"))


@dataclass(frozen=True)
class Found:
    """One thing found: what is called so ("vmfuzz finding 1f00cce35d"), its id, the checks violated, what it is in a sentence, its file, if any."""

    title: str
    id: str
    checks: tuple[str, ...]
    kind: str
    text: str
    file: str | None


def found_in(summary: Mapping[str, Any], place: str | None = None) -> list[Found]:
    """The findings of a summary; `place` is the directory in which the minimized ones are kept as ID.json."""
    minimized = [
        (
            entry,
            seen(entry),
            next((each for each in entry["results"] if each["comparison"] not in ("agrees", "not modelled")), entry["results"][0]),
        )
        for entry in summary.get("minimized", ())
    ]
    found = [
        Found(
            f"vmfuzz finding {entry['id']}",
            entry["id"],
            tuple(entry["checks"]),
            entry["kind"],
            _text(summary, entry, shown, count),
            f"{place}/{entry['id']}.json" if place else None,
        )
        for entry, count, shown in minimized
    ]
    return found + [
        Found(
            f"vmfuzz finding {each['id']}",
            each["id"],
            tuple(each["checks"]),
            each["kind"],
            _text(summary, each, each, each["count"]),
            None,
        )
        for each in not_minimized(summary)
    ]


def _text(summary: Mapping[str, Any], finding: Mapping[str, Any], shown: Mapping[str, Any], count: int) -> str:
    checks = f"{', '.join(finding['checks'])}: " if finding["checks"] else ""
    return (
        f"{checks}{summary['executor']} {finding['kind']}: predicted {', '.join(shown['predicted'])}; got {shown['actual']}, "
        f"{counted(count, 'time')} (seed {summary['seed']}, {summary['version']}; again: {summary['command']})"
    )


def junit(summary: Mapping[str, Any], found: list[Found]) -> ElementTree.Element:
    """A test case for each check of the processor (skipped where it was never seen deciding) and for each finding that names none."""
    checks: Mapping[str, Any] = summary["checks"]
    wrong = {check: each for each in found for check in each.checks}
    others = [each for each in found if not set(each.checks) & set(checks)]
    names = [*checks, *(each.id for each in others)]
    never = [id for id, counts in checks.items() if not counts["decided"] and id not in wrong]
    suite = ElementTree.Element(
        "testsuite",
        name="vmfuzz run",
        tests=str(len(names)),
        failures=str(len(set(wrong) & set(checks)) + len(others)),
        errors="0",
        skipped=str(len(never)),
        time=f"{summary['seconds']:.3f}",
    )
    failing = {**wrong, **{each.id: each for each in others}}
    for name in names:
        case = ElementTree.SubElement(suite, "testcase", classname=str(summary["executor"]), name=name)
        if name in failing:
            ElementTree.SubElement(case, "failure", message=failing[name].text)
        elif name in never:
            ElementTree.SubElement(case, "skipped", message="never seen deciding")
    return suite


def sarif(found: Sequence[Found], facts: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A SARIF 2.1.0 log with one result for each thing found; its rules are the checks violated. `facts`: of the run, as its properties."""
    rules = dict.fromkeys(_rule(each) for each in found)
    return {
        "$schema": _SARIF,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "vmfuzz",
                        "version": version,
                        "rules": [{"id": id, "shortDescription": {"text": BY_ID[id].text if id in BY_ID else id}} for id in rules],
                    }
                },
                "properties": dict(facts),
                "results": [
                    {
                        "ruleId": _rule(each),
                        "level": "error",
                        "message": {"text": each.text},
                        "partialFingerprints": {"vmfuzzFinding/v1": each.id},
                        "locations": [{"physicalLocation": {"artifactLocation": {"uri": each.file}}}] if each.file else [],
                    }
                    for each in found
                ],
            }
        ],
    }


def _rule(found: Found) -> str:
    return found.checks[0] if found.checks else found.kind


def annotation(title: str, text: str, file: str | None = None) -> str:
    """A line that GitHub's workflows show as an error, at the file if one is named."""
    for before, after in _ESCAPES:
        title, text, file = (None if each is None else each.replace(before, after) for each in (title, text, file))  # type: ignore[assignment]
    words = [("file", file), ("title", title)]
    properties = ",".join(f"{name}={value.replace(':', '%3A').replace(',', '%2C')}" for name, value in words if value)
    return f"::error {properties}::{text}"


def annotation_lines(found: Iterable[Found]) -> Iterator[str]:
    """A line for each thing found."""
    return (annotation(each.title, each.text, each.file) for each in found)
