"""The report's data, Markdown, JSON and the command, on real campaigns: what is shown is what the summaries say."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.store import Store
from vmfuzz.cli.main import main
from vmfuzz.comparison.case import Case
from vmfuzz.comparison.errata import Erratum, KnownCase
from vmfuzz.errors import UsageError
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.known_deviations import DEVIATIONS
from vmfuzz.report.data import Cell, Report, State, gather
from vmfuzz.report.markdown import markdown
from vmfuzz.report.minimal import Change, minimal_cases, shared_findings
from vmfuzz.report.numbers import duration, short
from vmfuzz.report.page import page
from vmfuzz.report.pictures import grouped
from vmfuzz.report.source import Source, load
from vmfuzz.report.words import GLOSSARY, WORDS
from vmfuzz.state.profiles import capabilities, known_good

CPUS = ("corei7_skylake_x", "arrow_lake")
#: What the third processor of the fixture leaves out.
LEFT_OUT = ("guest.gs.base", "ctl.cr3target.count")
Campaigns = Any


def vmfuzz(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def cell(report: Report, id: str, place: int) -> Cell:
    return next(row for row in report.rows if row.id == id).cells[place]


def test_each_check_is_a_row_and_each_processor_a_column(campaigns: Campaigns) -> None:
    report = campaigns.report
    assert [row.id for row in report.rows] == [check.id for check in CHECKS]
    assert [processor.name for processor in report.processors] == [*CPUS, campaigns.data[2]["executor"]]
    for place, data in enumerate(campaigns.data):
        present = {row.id for row in report.rows if row.cells[place].state is not State.ABSENT}
        assert present == set(data["checks"])
    assert sum(len(rows) for rows in report.sections.values()) == len(CHECKS)


@pytest.mark.parametrize("place", [0, 1])
def test_the_state_of_a_cell_follows_from_the_counts(campaigns: Campaigns, place: int) -> None:
    data = campaigns.data[place]
    skipped = {id for deviation in DEVIATIONS if data["deviations"].get(deviation.id) for id in deviation.skips}
    states = {row.id: row.cells[place].state for row in campaigns.report.rows}
    assert not data["findings"]
    for id, counts in data["checks"].items():
        strict, lenient = data["readings"].get(id, {"strict": 0, "lenient": 0}).values()
        if strict or lenient:
            expected = {(True, True): State.BOTH, (True, False): State.STRICT, (False, True): State.LENIENT}[bool(strict), bool(lenient)]
        elif id in skipped:
            expected = State.PARTLY if counts["decided"] else State.DEVIATION
        else:
            expected = State.AGREES if counts["decided"] else State.NEVER
        assert states[id] is expected, id
    assert {State.AGREES, State.NEVER, State.ABSENT, State.DEVIATION, State.LENIENT} <= set(states.values())


def test_a_check_that_the_processor_leaves_out_is_a_finding_with_its_minimal_case(campaigns: Campaigns) -> None:
    processor = campaigns.report.processors[2]
    for id in LEFT_OUT:
        assert cell(campaigns.report, id, 2).state is State.FINDING
        assert cell(campaigns.report, id, 0).state is State.AGREES
    cases = {case.checks: case for case in minimal_cases(processor)}
    for id in LEFT_OUT:
        case = cases[(id,)]
        assert case.minimized
        assert case.count > 0
        assert [change.operand for change in case.changes if change.decides], "nothing says where the edge is"
        assert {change.operand for change in case.changes} & set(BY_ID[id].fields)


def test_findings_that_were_not_minimized_stand_next_to_their_base(campaigns: Campaigns) -> None:
    data = {**campaigns.data[2], "minimized": [], "counted": {}}
    cases = minimal_cases(gather([Source("x", data)]).processors[0])
    assert {case.id for case in cases} == {finding["id"] for finding in data["findings"]}
    assert all(change.decides for case in cases for change in case.changes if change.agreeing is not None)
    assert not any(case.minimized for case in cases)


def test_campaigns_on_the_same_processor_are_summed(campaigns: Campaigns) -> None:
    data = campaigns.data[0]
    twice = gather([Source("a", data), Source("b", {**data, "seed": 1})])
    (processor,) = twice.processors
    assert processor.candidates == 2 * data["candidates"]
    assert processor.total("verdicts")["agrees"] == 2 * data["verdicts"]["agrees"]
    id = next(id for id, counts in data["checks"].items() if counts["decided"])
    assert cell(twice, id, 0).decided == 2 * data["checks"][id]["decided"]
    other_version = gather([Source("a", data), Source("b", {**data, "version": "bochscpu-python 0.3.1"})])
    assert len(other_version.processors) == 2


def test_checks_of_another_version_are_shown_too(campaigns: Campaigns) -> None:
    data = {**campaigns.data[0], "checks": {**campaigns.data[0]["checks"], "old.check": {"violated": 3, "decided": 2}}}
    report = gather([Source("old", data)])
    assert cell(report, "old.check", 0).state is State.AGREES
    assert "old.check" in page(report)


def _with_an_erratum() -> dict[str, Any]:
    """A campaign on a processor that leaves out a check, and whose owner knows."""
    caps = capabilities(CPUS[0])
    id = LEFT_OUT[1]
    cases = (KnownCase(Case("64-bit/plain/nothing", {"cr3_target_count": 5}), "entered"),)
    executor = ModelExecutor(caps, known_good(caps), [check for check in CHECKS if check.id != id])
    return Campaign(executor, 0, errata=[Erratum("mine", "model", "more CR3 targets than the manual allows", cases)]).run(20_000).to_json()


def test_a_deviation_of_a_persons_file_is_listed_with_its_candidates() -> None:
    data = _with_an_erratum()
    count = data["deviations"]["mine"]
    report = gather([Source("mine", data), Source("without", {key: value for key, value in data.items() if key != "errata"})])
    assert count > 0
    assert [(known.id, known.text, counts) for known, counts in gather([Source("mine", data)]).deviations()] == [
        ("mine", "more CR3 targets than the manual allows", [count])
    ]
    assert report.to_json()["deviations"] == {"mine": [2 * count]}
    assert cell(report, LEFT_OUT[1], 0).deviations == ("mine",)
    assert "more CR3 targets than the manual allows" in page(report)


def test_a_summary_whose_errata_are_none_is_refused(tmp_path: Path, campaigns: Campaigns) -> None:
    (tmp_path / "wrong.json").write_text(json.dumps({**campaigns.data[0], "errata": [{"id": "mine"}]}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"errata holds .* expected objects with id, title, text and skips"):
        load(tmp_path / "wrong.json")


def test_outcomes_are_grouped_without_losing_any(campaigns: Campaigns) -> None:
    for processor in campaigns.report.processors:
        outcomes = processor.total("outcomes")
        assert sum(grouped(outcomes).values()) == outcomes.total() == processor.candidates


def test_the_history_is_bounded_and_ends_where_the_campaign_does(campaigns: Campaigns) -> None:
    for data in campaigns.data:
        points = data["history"]
        assert 10 < len(points) <= 200
        assert points == sorted(points)
        assert data["candidates"] * 0.9 <= points[-1][1] <= data["candidates"]
        assert points[-1][2] <= sum(1 for counts in data["checks"].values() if counts["decided"])


def test_json_says_the_same_as_the_summaries(campaigns: Campaigns) -> None:
    result = vmfuzz(*campaigns.files, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["schema"] == "vmfuzz-report-1"
    for place, summary in enumerate(campaigns.data):
        assert data["processors"][place]["candidates"] == summary["candidates"]
        assert data["processors"][place]["outcomes"] == summary["outcomes"]
        for id, counts in summary["checks"].items():
            assert data["checks"][id]["decided"][place] == counts["decided"]
    assert sum(data["sections"]["Loading MSRs"][0].values()) == 45


def test_markdown_has_all_parts_and_even_tables(campaigns: Campaigns) -> None:
    text = markdown(campaigns.report)
    assert vmfuzz(*campaigns.files).stdout == vmfuzz(*campaigns.files, "--markdown").stdout == text
    for title in ("What ran", "Findings", "Known deviations that were met", "Ambiguities that were met", "Checks that do not simply agree"):
        assert f"## {title}" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table[:200]
    assert all(f"`{id}`" in text for id in LEFT_OUT)
    assert f"Emulated: {CPUS[0]}, {CPUS[1]} (CPU models" in text, "the third processor is no emulated CPU"
    assert "All of these processors are emulated" in markdown(gather([load(path) for path in campaigns.files[:2]]))


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(campaigns: Campaigns, tmp_path: Path) -> None:
    into = tmp_path / "page.html"
    result = vmfuzz(*campaigns.files, "--html", into)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    text = into.read_text(encoding="utf-8")
    assert text == page(campaigns.report), "the same campaigns give the same page"
    assert not re.findall(r"<(?:script|img|iframe)[^>]+src=|<link[^>]+href=\"(?!data:)|@import|url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert text.count('<tr class="row') == len(CHECKS)


def test_what_campaigns_say_is_text_on_the_page(campaigns: Campaigns) -> None:
    hostile = "<script>alert(1)</script>"
    data = {**campaigns.data[2], "executor": hostile, "version": hostile, "outcomes": {hostile: 20_000}, "minimized": []}
    data["findings"] = [{**finding, "message": hostile, "kind": hostile} for finding in data["findings"]]
    text = page(gather([Source(hostile, data)]))
    assert hostile not in text
    assert html.escape(hostile) in text


def test_a_campaign_directory_gives_what_its_summary_does(tmp_path: Path) -> None:
    with open_executor(cpu=CPUS[0]) as executor, Store(tmp_path / "d") as store:
        data: dict[str, Any] = Campaign(executor, 3).run(4_000, store=store).to_json()
    stored = load(tmp_path / "d").data
    same = ("executor", "seed", "candidates", "checks", "outcomes", "verdicts", "history", "version", "bases")
    assert {key: stored[key] for key in same} == {key: data[key] for key in same}
    assert stored["stopped"] is False


BROKEN = {
    "no-json": ("{", "it is not JSON"),
    "list": ("[]", "its schema is 'list'"),
    "schema": ('{"schema": "vmfuzz-corpus-1"}', "its schema is 'vmfuzz-corpus-1', expected 'vmfuzz-summary-1'"),
    "empty": ('{"schema": "vmfuzz-summary-1"}', "'executor' is missing, expected text"),
    "binary": ("\ufeff\x00", "it is not JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_summary_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    text, said = BROKEN[name]
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    result = vmfuzz(path)
    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("checks", {"guest.cs.base": 3}),
        ("readings", {"guest.cs.base": {"strict": "1", "lenient": 0}}),
        ("outcomes", {"entered": None}),
        ("findings", [3]),
        ("findings", None),
        ("history", [[1, 2, 3]]),
        ("minimized", [{"id": "x"}]),
        ("minimized", [{"id": "x", "checks": []}]),
        ("history", 7),
        ("findings", [{"id": "x", "checks": [], "differences": {"guest_rip": 3}}]),
    ],
)
def test_a_damaged_summary_is_refused_in_a_sentence(campaigns: Campaigns, tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**campaigns.data[0], key: value}), encoding="utf-8")
    result = vmfuzz(path, "--html", tmp_path / "page.html")
    assert result.exit_code == 2, result.output
    assert str(path) in result.stderr
    assert key in result.stderr
    assert not (tmp_path / "page.html").exists()


def test_what_cannot_be_read_or_written_is_named(campaigns: Campaigns, tmp_path: Path) -> None:
    missing = vmfuzz(tmp_path / "missing.json")
    assert (missing.exit_code, "No such file" in missing.stderr) == (2, True)
    empty = vmfuzz(tmp_path)
    assert (empty.exit_code, "not the directory of a campaign" in empty.stderr) == (2, True)
    for target in (tmp_path, campaigns.files[0] / "page.html"):
        result = vmfuzz(campaigns.files[0], "--html", target)
        assert (result.exit_code, str(target) in result.stderr) == (3, True), result.output
    assert vmfuzz().exit_code == 2
    assert vmfuzz(campaigns.files[0], "--json", "--markdown").exit_code == 2


def test_states_are_told_apart_by_symbol_not_by_colour_alone() -> None:
    symbols = [state.symbol for state in State]
    assert len(symbols) == len(set(symbols))
    assert replace(Cell(State.AGREES), decided=1234).detail == "violated 0, decided 1,234"


@pytest.mark.parametrize(
    ("summaries", "words"),
    [("none", "'summaries' is \"none\", expected a list"), ([{"schema": "other"}], "its schema is 'other'"), ([7], "its schema is 'int'")],
)
def test_damaged_summaries_of_a_cluster_are_refused(summaries: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "several.json"
    path.write_text(json.dumps({"schema": "vmfuzz-summaries-1", "summaries": summaries}), encoding="utf-8")
    result = vmfuzz(path)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_the_same_finding_of_two_processors_is_shown_once(campaigns: Campaigns) -> None:
    data = campaigns.data[2]
    report = gather([Source("a", data), Source("b", {**data, "executor": "model twin"})])
    alone, both = shared_findings(report.processors[:1]), shared_findings(report.processors)
    assert len(alone) == len(both) >= len(LEFT_OUT)
    for one, two in zip(alone, both, strict=True):
        assert (two.case, two.count) == (one.case, 2 * one.count)
        assert [processor.executor for processor, _ in two.seen] == [data["executor"], "model twin"]
    assert page(report).count('class="case"') == markdown(report).count("\n### ") == len(both)


def test_a_finding_says_what_is_required_and_in_which_bits_the_cases_differ(campaigns: Campaigns) -> None:
    text = html.unescape(page(campaigns.report))
    for id in LEFT_OUT:
        assert f"<code>{id}</code>: {BY_ID[id].text}" in text
    assert Change("guest_cr0", None, 0x80000031, 0x80000030).bits == "bit 0 (PE)"
    assert Change("guest_cr0", None, 0x30, 0x80000030).bits == "bit 31 (PG)"
    assert Change("guest_cr0", None, 0, 0xFFFF).bits == ""
    assert Change("guest_cr0", None, None, 1).bits == ""
    assert Change("guest_cr0", None, 1, None).bits == ""


def test_values_are_shown_as_the_manual_writes_them() -> None:
    assert Change("guest_cr0", None, 0x31, 0x30).shown == ("0000000000000030H", "0000000000000031H")
    assert Change("guest_es_selector", None, None, 0x18).shown == ("0018H", "as in the base")
    assert Change("0x10011008", None, None, 1).name == "memory at 10011008H"


def test_the_case_in_the_page_can_be_replayed(campaigns: Campaigns, tmp_path: Path) -> None:
    text = page(campaigns.report)
    cases = [html.unescape(case) for case in re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)]
    assert len(cases) >= len(LEFT_OUT)
    path = tmp_path / "case.json"
    path.write_text(cases[0], encoding="utf-8")
    done = CliRunner().invoke(main, ["replay", str(path), "--executor", "none"])
    assert done.exit_code == 0, done.output


def test_the_microcode_is_shown_where_there_is_one(campaigns: Campaigns) -> None:
    data = campaigns.data[0]
    assert data["microcode"] is None
    silicon = gather([Source("a", {**data, "executor": "kmod GenuineIntel 6-85-4", "microcode": "0x2006a05"})])
    assert "microcode 2006A05H" in page(silicon)
    assert "microcode 2006A05H" in markdown(silicon)
    assert silicon.to_json()["processors"][0]["campaigns"][0]["microcode"] == "0x2006a05"
    assert "Emulated processors have no microcode" in page(campaigns.report)


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (9_999, "9,999"), (66_588, "66.6k"), (999_499, "999k"), (999_500, "1.00M"), (650_000_000, "650M")]
)
def test_counts_are_short(value: int, said: str) -> None:
    assert short(value) == said


@pytest.mark.parametrize(("seconds", "said"), [(8.23, "8.2 s"), (59.97, "1 min 00 s"), (333.4, "5 min 33 s"), (7500.0, "2 h 05 min")])
def test_times_are_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_report_explains_its_words_as_the_glossary_does(campaigns: Campaigns) -> None:
    glossary = (Path(__file__).parents[2] / GLOSSARY).read_text(encoding="utf-8")
    shown = page(campaigns.report)
    for word, meaning in WORDS.items():
        assert re.search(rf"^\| (?:.*, )?{word}(?:, .*)? \| .*{re.escape(meaning)}", glossary, re.MULTILINE), word
        assert f"<dt>{word}</dt><dd>{meaning}.</dd>" in shown
    assert all(GLOSSARY in text for text in (shown, markdown(campaigns.report)))
