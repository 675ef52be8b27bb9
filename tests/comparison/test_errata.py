"""Known deviations from a person's own file: what a case covers, what it does not, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.compare import Verdict
from vmfuzz.comparison.errata import errata_data, errata_from, load_errata
from vmfuzz.comparison.trial import Trial
from vmfuzz.errors import UsageError
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.checks import CHECKS
from vmfuzz.state.profiles import capabilities, known_good

KNOWN = capabilities("corei7_skylake_x")
BASE = "64-bit/plain/nothing"
RFLAGS = {"base": BASE, "mutation": {"guest_rflags": "0x0"}, "actual": "entered"}


def erratum(*cases: dict[str, Any], executor: str = "model") -> dict[str, Any]:
    return {"id": "known", "executor": executor, "text": "known", "cases": list(cases)}


def leaving_out(*ids: str) -> ModelExecutor:
    return ModelExecutor(KNOWN, known_good(KNOWN), [check for check in CHECKS if check.id not in ids])


def verdicts(trial: Trial, *mutations: dict[str, int]) -> list[Verdict]:
    base = trial.base(BASE)
    assert base is not None
    return [Verdict(int(each)) for each in trial.compare(base, mutations).verdict]


def test_a_case_covers_what_has_its_bits_and_no_other_cause() -> None:
    ids = [check.id for check in CHECKS if check.id.startswith("guest.rflags")]
    executor = leaving_out(*ids)
    trial = Trial(executor, errata=errata_from([erratum(RFLAGS)]))
    seen = verdicts(trial, {"guest_rflags": 0}, {"guest_rflags": 0x1}, {"guest_rflags": 0x8002}, {"guest_rflags": 2})
    assert seen == [Verdict.DEVIATION, Verdict.DEVIATION, Verdict.MISMATCH, Verdict.AGREES]
    assert verdicts(Trial(executor), {"guest_rflags": 0}) == [Verdict.MISMATCH]
    assert verdicts(Trial(executor, errata=errata_from([erratum(RFLAGS, executor="program")])), {"guest_rflags": 0}) == [Verdict.MISMATCH]


def test_a_refusal_that_the_manual_does_not_know_is_covered_with_its_outcome() -> None:
    executor = leaving_out("guest.rflags.fixed1")
    case = {"base": BASE, "mutation": {"guest_rip": "0x1235"}, "actual": "VMfailValid(7)"}
    trial = Trial(executor, errata=errata_from([erratum(case)]))
    assert [deviation.id for deviation in trial.deviations] == ["known"]
    assert [check.fails.name for check in trial.deviations[0].adds] == ["CONTROLS"]


def test_a_campaign_counts_what_errata_explain_and_gives_it_to_jobs_and_stores() -> None:
    known = errata_from([erratum(RFLAGS)])
    assert errata_from(errata_data(known)) == known
    campaign = Campaign(leaving_out(), 1, errata=known)
    assert campaign.errata == known
    assert campaign.progress.tally.deviations[0].id == "known"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], 'expected a JSON object with "schema": "vmfuzz-errata-1"'),
        ({"schema": "vmfuzz-errata-1", "errata": [{}]}, 'an erratum needs "id"'),
        ({"schema": "vmfuzz-errata-1", "errata": [erratum()]}, 'an erratum needs "id"'),
        ({"schema": "vmfuzz-errata-1", "errata": [erratum(RFLAGS), erratum(RFLAGS)]}, "erratum 'known' occurs twice"),
        ({"schema": "vmfuzz-errata-1", "errata": [erratum({**RFLAGS, "actual": "crashes"})]}, '"actual": "crashes"; expected an outcome'),
        ({"schema": "vmfuzz-errata-1", "errata": [erratum({**RFLAGS, "mutation": {}})]}, "a case changes nothing"),
        ({"schema": "vmfuzz-errata-1", "errata": [erratum({**RFLAGS, "mutation": {"guest_rflag": "0x0"}})]}, "guest_rflag"),
    ],
)
def test_a_file_that_is_wrong_is_said_by_name(tmp_path: Path, data: object, said: str) -> None:
    path = tmp_path / "known.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError) as error:
        load_errata(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
