"""One count of findings for all who show them: a candidate that disagreed is counted once, with the finding that it came down to.

As they are met, mismatches are gathered by signature (findings.py). Run again and minimized (triage.py), a signature's candidates go over to entries. What
people see as a finding is an entry, or a signature that has come to none yet; how often it was seen is how many candidates are counted with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vmfuzz.comparison.behind import DEPENDS
from vmfuzz.counted import counted

NO_FINDINGS: Final = "no findings"
#: What a summary says of signatures that are no findings: they do not repeat, are explained, or VMREAD gives their fields otherwise than written.
_NONE: Final = ("unstable", "explained", "not_kept")


def not_minimized(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The signatures of a summary that have come to no entry and are findings all the same."""
    with_entries = _counted(summary)
    none = {id for key in _NONE for id in summary.get(key, ())}
    return [finding for finding in summary["findings"] if finding["id"] not in with_entries and finding["id"] not in none]


def seen(entry: Mapping[str, Any]) -> int:
    """How many candidates are counted with an entry (as JSON)."""
    return sum(int(processor.get("seen", 1)) for result in entry["results"] for processor in result["processors"])


def in_words(summary: Mapping[str, Any]) -> str:
    """How many findings there are, met by how many candidates, and how many of the findings are not minimized."""
    left, entries = not_minimized(summary), summary.get("minimized", ())
    number = len(left) + len(entries)
    if not number:
        return NO_FINDINGS
    candidates = sum(map(seen, entries)) + sum(int(finding["count"]) for finding in left)
    text = f"{counted(number, 'finding')}, met by {counted(candidates, 'candidate')}"
    text += f"; {len(left):,} of them not minimized" if left else ""
    sequences = sum(entry.get("kind") == DEPENDS for entry in entries)
    text += f"; {sequences:,} of them depend{'s' if sequences == 1 else ''} on what ran before" if sequences else ""
    with_entries = _counted(summary)
    since = sum(int(finding["count"]) - with_entries[finding["id"]] for finding in summary["findings"] if finding["id"] in with_entries)
    return f"{text}; {counted(since, 'candidate')} more that are not counted with them" if since > 0 else text


def _counted(summary: Mapping[str, Any]) -> Mapping[str, int]:
    """Signature -> candidates that went over to entries; a summary of an older vmfuzz tells those that did by kind and checks."""
    if "counted" in summary:
        with_entries: Mapping[str, int] = summary["counted"]
        return with_entries
    causes = {(entry.get("kind"), tuple(entry["checks"])) for entry in summary.get("minimized", ())}
    return {finding["id"]: finding["count"] for finding in summary["findings"] if (finding["kind"], tuple(finding["checks"])) in causes}
