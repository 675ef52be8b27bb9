"""One count of findings, whoever shows them: run, its summary, findings, show and report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vmfuzz.cli.main import main
from vmfuzz.comparison import errata
from vmfuzz.errors import EXIT_FOUND
from vmfuzz.findings.account import in_words, not_minimized, seen


def vmfuzz(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


class Campaign:
    """A campaign whose emulator has no known deviations, so that each of them is found anew, in all the forms in which it is shown."""

    def __init__(self, place: Path) -> None:
        self.directory, file = place / "campaign", place / "summary.json"
        self.run = vmfuzz(
            "run", "-n", "8000", "--seed", "1", "--cpu", "tigerlake", "--directory", str(self.directory), "--summary", str(file)
        )
        assert self.run.exit_code == EXIT_FOUND
        self.summary: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        self.listed: dict[str, Any] = json.loads(vmfuzz("findings", str(self.directory), "--json").stdout)
        self.reports = [json.loads(vmfuzz("report", str(place), "--json").stdout) for place in (self.directory, file)]
        self.pages = [vmfuzz("report", str(place), "--markdown").stdout for place in (self.directory, file)]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errata, "deviations_of", lambda _name: ())
        return Campaign(tmp_path_factory.mktemp("counted"))


def test_every_mismatch_is_counted_once(campaign: Campaign) -> None:
    summary = campaign.summary
    mismatches = summary["verdicts"]["mismatch"] + summary["verdicts"]["executor_crashed"]
    assert mismatches == sum(finding["count"] for finding in summary["findings"]) > 0
    none = {*summary["unstable"], *summary["explained"], *summary["not_kept"]}
    apart = sum(finding["count"] for finding in summary["findings"] if finding["id"] in none)
    assert sum(map(seen, summary["minimized"])) + sum(each["count"] for each in not_minimized(summary)) + apart == mismatches
    # several kinds of mismatch come down to other numbers of entries: the two are not the same number
    assert len(summary["minimized"]) != len(summary["findings"])


def test_all_say_the_same_number_of_findings_and_candidates(campaign: Campaign) -> None:
    words = in_words(campaign.summary)
    assert words in campaign.run.stdout
    assert f"the campaign has {words}" in vmfuzz("findings", str(campaign.directory)).stdout
    assert all(f"{words}." in page for page in campaign.pages)


def test_all_say_how_often_a_finding_was_seen(campaign: Campaign) -> None:
    expected = {entry["id"]: seen(entry) for entry in campaign.summary["minimized"]}
    assert {entry["id"]: seen(entry) for entry in campaign.listed["entries"]} == expected
    for report in campaign.reports:
        assert {entry["id"]: entry["seen"] for entry in report["processors"][0]["minimized"]} == expected
    for page in campaign.pages:
        said = re.findall(r"\(`(\w+)`\)\n\nSeen on tigerlake ([\d,]+)×", page)
        assert sum(int(count.replace(",", "")) for _, count in said) == sum(expected.values())
        assert all(int(count.replace(",", "")) >= expected[id] for id, count in said)
    for id in list(expected)[:3]:
        assert ("seen " not in (shown := vmfuzz("show", id, "--corpus", str(campaign.directory)).stdout)) or (
            f"seen {expected[id]:,} times" in shown
        )


def test_two_campaigns_on_a_processor_are_summed(campaign: Campaign, tmp_path: Path) -> None:
    twin = tmp_path / "twin.json"
    twin.write_text(json.dumps(campaign.summary), encoding="utf-8")
    both = json.loads(vmfuzz("report", str(campaign.directory), str(twin), "--json").stdout)
    counts = {entry["id"]: entry["seen"] for entry in both["processors"][0]["minimized"]}
    assert counts == {entry["id"]: 2 * seen(entry) for entry in campaign.summary["minimized"]}


def test_what_was_not_minimized_is_a_finding_too(campaign: Campaign) -> None:
    first, *others = campaign.summary["findings"]
    counted = {id: count for id, count in campaign.summary["counted"].items() if id != first["id"]}
    assert [each["id"] for each in not_minimized({**campaign.summary, "counted": counted})] == [first["id"]]
    assert "; 1 of them not minimized" in in_words({**campaign.summary, "counted": counted})
    grown = {**campaign.summary, "findings": [{**first, "count": first["count"] + 5}, *others]}
    assert in_words(grown).endswith("; 5 candidates more that are not counted with them")
