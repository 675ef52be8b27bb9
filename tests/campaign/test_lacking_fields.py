"""A processor may lack fields that its capabilities promise, as hypervisors do: what exists is what VMWRITE took at capture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.store import Store
from vmfuzz.cli.main import main
from vmfuzz.cluster.members import FarProcessor
from vmfuzz.comparison.case import Case
from vmfuzz.comparison.processor import processor_of
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry, save
from vmfuzz.corpus.replay import keep_capabilities, replay
from vmfuzz.differences.difference import Pairing
from vmfuzz.errors import UsageError
from vmfuzz.execute import conformance
from vmfuzz.execute.base import lacking_fields
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.minimize import Minimized
from vmfuzz.findings.triage import entry_of
from vmfuzz.generate.families import Generator
from vmfuzz.model.predict import model_of
from vmfuzz.state.profiles import capabilities, known_good

STORED = capabilities("corei7_skylake_x")
#: one that no profile describes
CAPS = Capabilities("a hypervisor", {**STORED.msrs, 0x48A: 0x42}, STORED.cpuid)
GOOD = known_good(CAPS)
#: what KVM's nested VMX lacks
LACKING = ("executive_vmcs_pointer", "guest_smbase")
WHOLE = ModelExecutor(CAPS, GOOD)


def opened_less(*_arguments: object, **_options: object) -> ModelExecutor:
    """Another one of the processor without them, for what closes it."""
    return ModelExecutor(CAPS, GOOD.without(*LACKING))


LESS = opened_less()
CASES = [Case("64-bit/plain/nothing", {"guest_smbase": 0x30000}), Case("64-bit/plain/nothing", {"guest_rflags": 0})]
SAYS = f"{LESS.name} lacks guest_smbase"


def vmfuzz(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def entry(case: Case) -> Entry:
    return entry_of(Minimized(case, (), True), Trial(WHOLE).observe(case), processor_of(WHOLE))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus recorded on the processor with all fields: one case sets a field that the other lacks, one does not."""
    for case in CASES:
        save(tmp_path, entry(case))
    keep_capabilities(tmp_path, CAPS)
    return tmp_path


def test_the_executor_that_lacks_them_refuses_them_and_passes_conformance() -> None:
    assert lacking_fields(WHOLE) == ()
    assert lacking_fields(LESS) == LACKING
    with pytest.raises(UsageError, match="guest_smbase: the batch writes it, but model a hypervisor lacks this field"):
        LESS.run([LESS.known_good().replace(guest_smbase=0)])
    conformance.every_field_varies(LESS)


def test_a_campaign_never_varies_them_and_says_so() -> None:
    done = Campaign(LESS, seed=0).run(60_000)
    data = done.to_json()
    assert data["candidates"] == 60_000
    assert data["findings"] == []
    assert data["lacking_fields"] == list(LACKING)
    assert len(done.bases) > 20


@pytest.mark.parametrize(
    "lacking", [("tsc_multiplier", "guest_pdpte2"), ("secondary_processor_based_controls",), ("virtual_apic_address", "vpid")]
)
def test_bases_hold_no_field_that_the_processor_lacks(lacking: tuple[str, ...]) -> None:
    captured = GOOD.without(*lacking)
    generator = Generator(model_of(CAPS), captured)
    assert {"64-bit", "32-bit"} <= set(generator.bases.modes)
    for name, state in generator.bases.possible.items():
        assert not set(lacking) & set(state), name
    assert not any(generator.can_vary(name) for name in lacking)


def test_replay_does_not_run_their_cases_says_so_and_counts_them(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmfuzz.corpus.replay.open_executor", opened_less)
    report = replay([(corpus, entry(case)) for case in CASES], "kmod", corpus)
    assert (report.executed, report.predicted_only, report.changed) == (1, 0, [])
    assert dict(report.lacking) == {SAYS: 1}
    done = vmfuzz("replay", str(corpus), "--executor", "kmod", "--junit", str(corpus / "junit"))
    assert done.exit_code == 0
    assert f"1 record not run: {SAYS}" in done.stdout
    assert f"not run: {SAYS}" in (corpus / "junit").read_text(encoding="utf-8")
    assert json.loads(vmfuzz("replay", str(corpus), "--executor", "kmod", "--json").stdout)["not_run"] == {SAYS: 1}


def test_minimize_names_the_field(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmfuzz.cli.minimize.open_executor", opened_less)
    done = vmfuzz("minimize", CASES[0].id, "--corpus", str(corpus), "--executor", "kmod")
    assert done.exit_code == 2
    assert f"{CASES[0].id}: not run: {SAYS}; name an executor that has it with --executor" in done.stderr


def test_diff_counts_what_one_of_the_two_cannot_have() -> None:
    told = Pairing(LESS, WHOLE).run_cases(CASES)
    assert (told.compared, told.not_comparable, dict(told.lacking)) == (1, 1, {SAYS: 1})
    drawn = Pairing(WHOLE, LESS).run(30_000)
    assert drawn.found == {}
    assert set(drawn.lacking) <= {f"{LESS.name} lacks {name}" for name in LACKING}
    assert sum(drawn.lacking.values()) > 0
    assert drawn.compared > 20_000


def test_a_campaign_is_not_resumed_on_a_processor_with_other_fields(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        Campaign(WHOLE, 0).run(100, store=store)
    with Store(tmp_path) as store, pytest.raises(UsageError, match="another lacking_fields"):
        Campaign(LESS, 0).run(200, store=store)


def test_workers_with_other_fields_are_other_processors() -> None:
    whole = FarProcessor(WHOLE.name, "1", "kmod", None, (CAPS, WHOLE.known_good()))
    assert whole.key != replace(whole, facts=(CAPS, LESS.known_good())).key
    assert whole.key == replace(whole, facts=(CAPS, GOOD.replace(guest_rip=0))).key
