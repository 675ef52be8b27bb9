"""Real campaigns for the tests of the report: two emulated CPU models, and a processor that leaves out checks and so has findings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import to_json
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.triage import triage
from vmfuzz.model.checks import CHECKS
from vmfuzz.report.data import Report, gather
from vmfuzz.report.source import load
from vmfuzz.state.profiles import capabilities, known_good

CPUS = ("corei7_skylake_x", "arrow_lake")
LEFT_OUT = ("guest.gs.base", "ctl.cr3target.count")


@dataclass
class Campaigns:
    files: list[Path]
    data: list[dict[str, Any]]
    report: Report


def _summary(cpu: str) -> dict[str, Any]:
    with open_executor(cpu=cpu) as executor:
        return {**Campaign(executor, 0).run(20_000).to_json(), "minimized": []}


def _with_findings() -> dict[str, Any]:
    caps = capabilities(CPUS[0])
    executor = ModelExecutor(caps, known_good(caps), [check for check in CHECKS if check.id not in LEFT_OUT])
    campaign = Campaign(executor, 0)
    summary = campaign.run(20_000)
    trial = Trial(executor, campaign.model, campaign.generator, campaign.altered)
    found = triage(trial, campaign.progress.findings.by_id.values(), 60.0)
    return {**summary.to_json(), "minimized": [to_json(entry) for entry in found.entries.values()], "counted": found.counted}


@pytest.fixture(scope="session")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> Campaigns:
    """Three campaigns as files, as data and as one report: two emulated CPUs, then the processor with findings."""
    folder = tmp_path_factory.mktemp("campaigns")
    data = [*(_summary(cpu) for cpu in CPUS), _with_findings()]
    files = []
    for number, each in enumerate(data):
        files.append(folder / f"{number}.json")
        files[-1].write_text(json.dumps(each), encoding="utf-8")
    return Campaigns(files, data, gather([load(path) for path in files]))
