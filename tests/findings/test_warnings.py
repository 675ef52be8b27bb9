"""Warnings of the kernel whose KVM is tested: kept with the family after which they came, and with its findings, and shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.store import Store
from vmfuzz.cli.main import main
from vmfuzz.cli.results import exit_code
from vmfuzz.cli.summary import print_summary
from vmfuzz.corpus.entries import Entry, load, save
from vmfuzz.corpus.replay import keep_capabilities
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND
from vmfuzz.execute.base import warnings_of
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.triage import settled
from vmfuzz.generate.families import FamilyPlan
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.report.data import Processor
from vmfuzz.report.minimal import minimal_cases
from vmfuzz.report.source import Source
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

BASE = "64-bit/plain/nothing"
WARNING = "WARNING at arch/x86/kvm/vmx/nested.c:4719 nested_vmx_vmexit"


class Warning(ModelExecutor):
    """Refuses a CR3-target value with bit 20 set, which makes the kernel warn once if `of_it`; a TSC offset with bit 40 set does, in any case."""

    def __init__(self, of_it: bool = True) -> None:
        known = capabilities("corei7_skylake_x")
        super().__init__(known, known_good(known))
        self.of_it = of_it
        self.warnings: list[str] = []

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        outcomes = super().run(batch)
        assert isinstance(batch, VmcsBatch)
        values = OperandValues(batch)
        refused, warned = (
            np.broadcast_to(np.asarray(values(name) >> np.uint64(bit) & np.uint64(1), np.bool_), len(batch))
            for name, bit in (("cr3_target_value_1", 20), ("tsc_offset", 40))
        )
        outcomes.kind[refused], outcomes.number[refused], outcomes.raw_reason[refused] = Kind.VMFAIL_VALID, 7, 0
        outcomes.entry_interruption_info[refused] = 0
        if WARNING not in self.warnings and ((self.of_it and refused.any()) or warned.any()):
            self.warnings.append(WARNING)
        return outcomes


class OneFamily(Campaign):
    """Varies one operand in one base."""

    operand = "cr3_target_value_1"

    def plan(self, number: int) -> list[FamilyPlan]:
        return [FamilyPlan(BASE, number + 1, 500, (self.operand,))]


class OfTheOffset(OneFamily):
    """Nothing of it disagrees."""

    operand = "tsc_offset"


@pytest.fixture
def campaign() -> OneFamily:
    campaign = OneFamily(Warning(), 0)
    campaign.run(500)
    return campaign


def entry_of(campaign: Campaign) -> Entry:
    (entry,) = settled(campaign, 3600).entries.values()
    return entry


def test_an_executor_without_a_kernel_has_none() -> None:
    known = capabilities("corei7_skylake_x")
    assert warnings_of(ModelExecutor(known, known_good(known))) == []
    assert warnings_of(Warning()) == []


def test_it_is_kept_with_the_family_and_its_finding(campaign: OneFamily) -> None:
    data = campaign.summary(stopped=False).to_json()
    (finding,) = data["findings"]
    assert finding["warnings"] == [WARNING]
    assert data["kernel_warnings"] == [{"warnings": [WARNING], "base": BASE, "seed": 1, "candidates": 500, "findings": [finding["id"]]}]


def test_without_a_warning_nothing_is_said() -> None:
    campaign = OneFamily(Warning(of_it=False), 0)
    data = campaign.run(500).to_json()
    assert [finding["warnings"] for finding in data["findings"]] == [[]]
    assert data["kernel_warnings"] == []
    assert entry_of(campaign).warnings == ()


def test_a_warning_alone_is_found_too() -> None:
    campaign = OfTheOffset(Warning(), 0)
    summary = campaign.run(500)
    assert summary.to_json()["findings"] == []
    assert [warned.findings for warned in campaign.progress.warned] == [()]
    assert exit_code(summary) == EXIT_FOUND
    quiet = OfTheOffset(Warning(), 0)
    quiet.executor.warnings.append(WARNING)  # type: ignore[attr-defined]
    assert exit_code(quiet.run(500)) == EXIT_AGREEMENT


def test_it_survives_an_interruption(campaign: OneFamily, tmp_path: Path) -> None:
    first = OneFamily(Warning(), 0)
    with Store(tmp_path) as store:
        first.run(500, store=store)
    again = OneFamily(Warning(), 0)
    with Store(tmp_path) as store:
        store.attach(again, 500)
    assert again.progress.warned == first.progress.warned == campaign.progress.warned
    assert [finding.warnings for finding in again.progress.findings.by_id.values()] == [[WARNING]]


def output(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_people_see_it(campaign: OneFamily, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = campaign.summary(stopped=False)
    data: dict[str, Any] = {**summary.to_json(), "command": "vmfuzz run"}
    print_summary(summary, data)
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        f"the kernel warned {WARNING} after a family of 500 candidates (base {BASE}, seed 1); its findings: {data['findings'][0]['id']}"
        in printed
    )
    entry = entry_of(campaign)
    assert entry.warnings == (WARNING,)
    path = save(tmp_path, entry)
    assert json.loads(path.read_text())["warnings"] == [WARNING]
    assert load(path).warnings == (WARNING,)
    keep_capabilities(tmp_path, campaign.model.capabilities)
    assert f"the kernel of the machine warned: {WARNING}" in output("show", entry.id, "--corpus", tmp_path)
    assert f"the kernel warned: {WARNING}" in output("findings", tmp_path)
    (case,) = minimal_cases(Processor("model", "1", [Source("a", data)]))
    assert case.notes == (f"The kernel of the machine warned: {WARNING}.",)
