"""The shipped corpus has an entry for each check and each known deviation; docs/corpus.md lists the checks for which it cannot, with reasons."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from pathlib import Path

from vmfuzz.comparison.signature import CRASH
from vmfuzz.corpus.entries import entry_files, load_all
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.model.bochs_deviations import BOCHS_DEVIATIONS
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.deviations import MARK, Deviation, altered_checks
from vmfuzz.model.known_deviations import deviations_of
from vmfuzz.model.predict import Model, model_of
from vmfuzz.state.profiles import capabilities

ROOT = Path(__file__).parents[2]
ENTRIES = [entry for _, entry in load_all(entry_files(ROOT / "corpus"))]
COVERED = {check for entry in ENTRIES for check in entry.checks}
IDS = [check.id for check in CHECKS]
#: The feature is there, and yet no emulated CPU decides the check; each has a reason of its own in the table.
UNREACHED = {"host.as.64.rip.la57", "host.as.lma0.entry", "host.as.lma0.exit", "guest.activity.smm-entry"}


def listed() -> dict[str, str]:
    """The table of docs/corpus.md: pattern -> reason."""
    text = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8").partition("## Checks without an entry")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {pattern: reason.strip() for patterns, reason in rows for pattern in re.findall(r"`([^`]+)`", patterns)}


def test_every_check_has_an_entry_or_a_reason_why_not() -> None:
    table = listed()
    assert all(table.values())
    unexplained = [id for id in IDS if id not in COVERED and not any(fnmatch.fnmatchcase(id, pattern) for pattern in table)]
    assert unexplained == []


def test_no_reason_is_given_for_what_has_an_entry_or_is_not_there() -> None:
    matched = {pattern: [id for id in IDS if fnmatch.fnmatchcase(id, pattern)] for pattern in listed()}
    assert [pattern for pattern, ids in matched.items() if not ids] == []
    assert [(pattern, id) for pattern, ids in matched.items() for id in ids if id in COVERED] == []


def test_no_emulated_cpu_has_the_features_that_are_said_to_be_missing() -> None:
    made = {compiled.check.id for cpu in CPU_MODELS for compiled in model_of(capabilities(cpu)).compiled}
    assert {id for id in IDS if id not in COVERED and id in made} == UNREACHED


def shows(known: Deviation, cpu: str) -> bool:
    """Whether the deviation can show on a CPU model: it has what the altered checks are about."""
    altered = Model(capabilities(cpu), altered_checks([known])).compiled
    return bool(known.exits) or any(compiled.check.ambiguity == MARK + known.id for compiled in altered)


def test_every_known_deviation_of_the_emulated_cpus_has_an_entry() -> None:
    verdicts = {entry.verdict for entry in ENTRIES}
    deviations = {known.id for cpu in CPU_MODELS for known in deviations_of(f"bochs {cpu}") if shows(known, cpu)}
    assert len(deviations) == len(BOCHS_DEVIATIONS)
    assert [id for id in sorted(deviations) if f"deviation:{id}" not in verdicts] == []


def test_there_are_entries_of_every_verdict_that_has_a_real_case() -> None:
    verdicts = {entry.verdict.partition(":")[0] for entry in ENTRIES}
    # no candidate that containment lets run has ended an emulated CPU: docs/corpus.md
    assert verdicts == {"regression-guard", "deviation", "ambiguity", "open", "model-fixed"}
    assert CRASH not in {entry.kind for entry in ENTRIES}
    comparisons = {result.comparison.partition(":")[0] for entry in ENTRIES for result in entry.results}
    assert comparisons >= {"agrees", "deviation", "not modelled"}


def test_the_table_of_verdicts_counts_the_entries() -> None:
    text = (ROOT / "docs" / "corpus.md").read_text(encoding="utf-8")
    table = {verdict: int(count) for verdict, count in re.findall(r"^\| `([a-z-]+)(?::ID)?` \| (\d+) \|", text, re.MULTILINE)}
    counted = Counter(entry.verdict.partition(":")[0] for entry in ENTRIES)
    assert table == counted


def test_what_is_open_is_what_the_model_leaves_open() -> None:
    undecided = {entry.id for entry in ENTRIES if len(entry.results[0].predicted) > 1 and entry.kind == "not modelled"}
    assert undecided == {entry.id for entry in ENTRIES if entry.verdict == "open"} != set()


def test_every_finding_names_the_edge_where_an_operand_has_one() -> None:
    # a case that only its base makes has no operand, and so no neighbour
    without = [entry.id for entry in ENTRIES if entry.case.mutation and not entry.neighbours]
    assert without == []
