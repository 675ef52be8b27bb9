"""The profiles of processors that no emulator here is: current, ready for a campaign, and made of facts that have a source."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vmfuzz.arch.capabilities import IA32_PERF_CAPABILITIES, Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS, Control, Entry, Exit, Tertiary
from vmfuzz.arch.registers import CR4
from vmfuzz.campaign.loop import Campaign
from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.events import EVENTS
from vmfuzz.generate.parts import FEATURES, MODES
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.predict import model_of, predict
from vmfuzz.state.profiles import (
    capabilities,
    capabilities_named,
    description,
    emulated_names,
    known_good,
    processor_names,
    profile_names,
)

ROOT = Path(__file__).parents[2]
AGAIN = "run `python tools/write_processors.py`"
#: Features of a base that a processor lacks, by the control that it does not allow.
LACKS = {"icelake": {"shadowing"}, "sapphire_rapids_w7": {"shadowing"}}

each_processor = pytest.mark.parametrize("name", processor_names())


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """tools/write_processors.py as a module."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import write_processors
    finally:
        sys.path.pop(0)
    return write_processors


def test_the_profiles_are_told_apart() -> None:
    assert not set(emulated_names()) & set(processor_names())
    assert sorted((*emulated_names(), *processor_names())) == list(profile_names())
    assert {"icelake", "granite_rapids", "meteor_lake", "sapphire_rapids_w7", "synthetic_everything"} <= set(processor_names())
    with pytest.raises(UsageError, match="tigerlake: an emulated CPU model has no description"):
        description("tigerlake")


def test_the_profiles_are_what_their_facts_say(writer: ModuleType) -> None:
    processors = {processor.name: processor for processor in writer.processors()}
    assert tuple(sorted(processors)) == processor_names(), AGAIN
    for name, processor in processors.items():
        caps = processor.capabilities
        assert caps.to_json() == capabilities(name).to_json(), AGAIN
        assert writer.state(caps).to_json() == known_good(capabilities(name)).to_json(), AGAIN
        assert processor.description == description(name), AGAIN


def test_the_page_of_processors_is_current(writer: ModuleType) -> None:
    assert writer.text() == (ROOT / "docs" / "processors.md").read_text(encoding="utf-8"), AGAIN


def test_every_source_is_used_and_what_is_not_from_the_dump_is_called_synthetic(writer: ModuleType) -> None:
    used = {word for processor in writer.processors() for fact in processor.facts for word in fact.source.split(", ")}
    assert used == set(writer.SOURCES)
    assert all(text.startswith("synthetic: ") for word, text in writer.SOURCES.items() if word not in ("dump", "syscall"))
    for processor in writer.processors():
        if {fact.source for fact in processor.facts} == {"sdm"}:
            assert processor.name.startswith("synthetic_")


@each_processor
def test_the_state_that_linux_leaves_is_predicted_to_enter(name: str) -> None:
    caps = capabilities(name)
    prediction = predict(known_good(caps), caps)
    assert [violation.sentence for violation in prediction.violations] == []
    assert prediction.enters
    assert not prediction.not_modelled


@each_processor
def test_linux_leaves_on_what_the_processor_has(name: str) -> None:
    caps = capabilities(name)
    state = known_good(caps)
    cr4 = state["host_cr4"]
    assert state["host_ia32_perf_global_ctrl"] >> 48 & 1
    assert cr4 >> CR4.PKE & 1
    assert bool(cr4 >> CR4.LA57 & 1) == caps.has("la57")
    assert bool(cr4 >> CR4.CET & 1) == caps.has("cet_ibt")
    if caps.has("cet_ibt"):
        assert state["host_ia32_s_cet"] == 4
        assert state["vm_exit_controls"] >> Exit.LOAD_CET_STATE & 1


@each_processor
def test_the_state_has_exactly_the_fields_that_can_be_written_there(name: str) -> None:
    caps = capabilities(name)
    assert {field for field in known_good(caps) if not field.startswith("live_")} == {field.name for field in caps.fields if field.writable}


@each_processor
def test_bases_exist_in_every_mode_and_with_every_feature_that_the_processor_has(name: str) -> None:
    caps = capabilities(name)
    bases = Bases(model_of(caps), known_good(caps))
    assert bases.modes == tuple(MODES)
    assert bases.events == tuple(EVENTS)
    assert set(bases.features) == set(FEATURES) - LACKS.get(name, set())


@each_processor
def test_a_campaign_agrees(name: str) -> None:
    with open_executor("model", cpu=name) as executor:
        assert executor.name == f"model {name}"
        summary = Campaign(executor, seed=1).run(3_000)
    assert not summary.progress.findings.by_id
    assert summary.progress.tally.executed == summary.progress.tally.candidates == 3_000


def test_the_synthetic_processor_with_everything_allows_every_control_but_those_of_the_tdx_module() -> None:
    caps = capabilities("synthetic_everything")
    refused: list[Control] = [bit for word in CONTROL_WORDS.values() for bit in word.bits if not caps.may_be_1(bit)]
    assert refused == [Tertiary.SEAM_GUEST_PHYSICAL_ADDRESS_WIDTH, Entry.ALLOW_SEAM_GUEST_TELEMETRY]


#: Checks of processors without Intel 64, with IBRS and without STIBP, and of those whose firmware gives address bits to key identifiers.
ON_NO_PROFILE = {
    *("host.as.no64.entry", "host.as.no64.exit"),
    *("host.speccontrol.stibp", "guest.speccontrol.stibp"),
    *("ctl.key-bits", "host.cr3.key-bits", "guest.cr3.key-bits", "guest.link.key-bits", "guest.pdpte.key-bits"),
}


def test_every_check_exists_on_some_profile_but_those_that_none_can_have() -> None:
    exists = {compiled.check.id for name in profile_names() for compiled in model_of(capabilities(name)).compiled}
    assert {check.id for check in CHECKS} - exists == ON_NO_PROFILE


def test_a_capabilities_file_is_a_processor_too(tmp_path: Path) -> None:
    path = tmp_path / "sent.json"
    path.write_text(json.dumps(capabilities("icelake").to_json()), encoding="utf-8")
    caps = capabilities_named(str(path))
    assert caps == capabilities("icelake")
    assert caps.name == str(path)
    assert capabilities_named("icelake").name == "icelake"
    with pytest.raises(UsageError, match=r"cannot read /nowhere/caps\.json"):
        capabilities_named("/nowhere/caps.json")


def test_only_msrs_known_means_not_modelled_and_not_strict() -> None:
    bare = Capabilities("bare", capabilities("icelake").msrs)
    state = known_good(bare)
    assert predict(state, bare).enters


def test_a_campaign_without_a_state_to_begin_from_says_which_checks_are_in_the_way() -> None:
    caps = capabilities("icelake")
    broken = known_good(caps).replace(host_ia32_perf_global_ctrl=1 << 47)
    with pytest.raises(
        EnvironmentUnusable, match=r"model icelake: the model predicts that the captured state fails VM entry \(host\.perfglobal\)"
    ):
        Campaign(ModelExecutor(caps, broken), seed=1)
    unread = Capabilities("icelake", {number: value for number, value in caps.msrs.items() if number != IA32_PERF_CAPABILITIES}, caps.cpuid)
    with pytest.raises(EnvironmentUnusable, match=r"depends on something that is not modelled \(host\.perfglobal\)"):
        Campaign(ModelExecutor(unread, known_good(caps)), seed=1)


def test_campaigns_ended_with_agreement_and_what_never_decides_alone_has_a_reason(writer: ModuleType) -> None:
    kept = writer.results()
    assert set(kept["campaigns"]) >= set(processor_names()), "run `python tools/model_campaigns.py run`"
    assert kept["sets"], "run `python tools/model_campaigns.py sets`"
    for name, result in [*kept["campaigns"].items(), *kept["sets"].items()]:
        assert result["findings"] == 0, name
        assert result["agree"] + result["not_modelled"] == result["candidates"], name
    answers = {answer for found in kept["proofs"].values() for answer in found.values()}
    assert answers <= {"proven", "not required"}, "a check that can decide alone was not seen doing so"
    assert "not known" not in writer.text()
