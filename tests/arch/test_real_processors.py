"""The capability MSRs of real processors, of which nothing else is known: every derived answer makes sense, and what rests on CPUID is not modelled.

Each different set among 53 processors is in the repository; where the file with all of them is beside the project, all of them are tried.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS, Entry, Exit, Primary, Secondary
from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.compare import Verdict
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.generate.parts import set_controls
from vmfuzz.model.predict import predict
from vmfuzz.state.profiles import known_good

KEPT = Path(__file__).with_name("vmx_capability_msrs.csv")
MEASURED = Path(__file__).parents[3] / "shared" / "data" / "vmx_capability_msrs.csv"
#: The controls that must be 1 on the first processors with VMX (SDM "Reserved Controls and Default Settings").
DEFAULT1 = {"pin": 0x16, "primary": 0x0401E172, "exit": 0x00036DFF, "entry": 0x000011FF}
WORDS_WITH_TRUE_MSRS = tuple(key for key, word in CONTROL_WORDS.items() if word.true_msr)


def processors(path: Path) -> list[Capabilities]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [
        Capabilities(
            row["processor"],
            {int(column.removeprefix("msr_"), 16): int(text, 16) for column, text in row.items() if column.startswith("msr_") and text},
        )
        for row in csv.DictReader(lines)
    ]


each_processor = pytest.mark.parametrize("caps", processors(MEASURED if MEASURED.exists() else KEPT), ids=lambda caps: caps.name)
each_set = pytest.mark.parametrize("caps", processors(KEPT), ids=lambda caps: caps.name)


def test_every_set_of_the_53_processors_is_kept() -> None:
    kept = processors(KEPT)
    assert len(kept) == 26
    if not MEASURED.exists():
        pytest.skip(f"{MEASURED} is not present")
    every = processors(MEASURED)
    assert len(every) == 53
    assert set(kept) == set(every)


#: Values whose check rests on CPUID: on the counters that exist, the features of IA32_EFER, the physical-address width.
RESTS_ON_CPUID = {
    "host_ia32_perf_global_ctrl": (1, Exit.LOAD_IA32_PERF_GLOBAL_CTRL),
    "guest_ia32_perf_global_ctrl": (1 << 48, Entry.LOAD_IA32_PERF_GLOBAL_CTRL),
    "host_ia32_efer": (0xD01, Exit.LOAD_IA32_EFER),
    "guest_ia32_efer": (0xD01, Entry.LOAD_IA32_EFER),
    "io_bitmap_a": (1 << 45, Primary.USE_IO_BITMAPS),
    "host_cr3": (1 << 40, None),
    "guest_cr3": (1 << 40, None),
}


@each_set
def test_what_rests_on_cpuid_is_not_modelled(caps: Capabilities) -> None:
    state = known_good(caps)
    tried = 0
    for field, (value, control) in RESTS_ON_CPUID.items():
        with_control = state if control is None else set_controls(state, caps, control)
        if with_control is not None and field in state:
            tried += 1
            prediction = predict(with_control.replace(**{field: value}), caps)
            assert prediction.not_modelled, field
            assert prediction.enters, field
    assert tried >= 3


@each_set
def test_what_rests_on_no_cpuid_stays_certain(caps: Capabilities) -> None:
    # no processor of the file allows CR4.LA57, so addresses have 48 bits
    for field in ("host_rip", "guest_gdtr_base"):
        prediction = predict(known_good(caps).replace(**{field: 1 << 50}), caps)
        assert not prediction.enters, field
        assert not prediction.not_modelled, field


@pytest.mark.parametrize("name", ["Intel(R) Core(TM)2 CPU T5600 @ 1.83GHz", "Intel(R) Xeon(R) Gold 6140 CPU @ 2.30GHz"])
def test_a_campaign_on_msrs_alone_agrees(name: str) -> None:
    caps = next(each for each in processors(KEPT) if each.name == name)
    campaign = Campaign(ModelExecutor(caps, known_good(caps)), seed=1)
    tally = campaign.run(4_000).progress.tally
    assert tally.verdicts[Verdict.AGREES] + tally.verdicts[Verdict.NOT_MODELLED] == tally.candidates == 4_000
    assert tally.verdicts[Verdict.NOT_MODELLED] > 0


@each_processor
def test_controls_that_must_be_1_may_be_1(caps: Capabilities) -> None:
    for key in CONTROL_WORDS:
        must, may = caps.allowed_settings(key)
        assert must & ~may == 0, key
        assert caps.adjust(key, 0) == must
        assert caps.adjust(key, (1 << 64) - 1) == may


@each_processor
def test_true_msrs_relax_only_default1_controls(caps: Capabilities) -> None:
    for key in WORDS_WITH_TRUE_MSRS:
        plain = caps.msr(CONTROL_WORDS[key].msr) & 0xFFFFFFFF
        must = caps.allowed_settings(key)[0]
        assert must & ~plain == 0, key
        assert plain & ~must & ~DEFAULT1[key] == 0, key
        assert plain & DEFAULT1[key] == DEFAULT1[key], key


@each_processor
def test_fixed_bits_of_cr0_and_cr4_agree(caps: Capabilities) -> None:
    for must, may in (caps.cr0_fixed, caps.cr4_fixed):
        assert must & ~may == 0
    assert caps.cr0_fixed[0] & 0x8000_0001 == 0x8000_0001  # PE and PG
    assert caps.cr4_fixed[0] >> 13 & 1  # VMXE


@each_processor
def test_words_and_the_msrs_behind_them_exist_together(caps: Capabilities) -> None:
    assert (0x48B in caps.msrs) == caps.may_be_1(Primary.ACTIVATE_SECONDARY_CONTROLS)
    assert (0x48D in caps.msrs) == caps.true_controls
    assert (0x492 in caps.msrs) == caps.may_be_1(Primary.ACTIVATE_TERTIARY_CONTROLS)
    assert (0x493 in caps.msrs) == caps.may_be_1(Exit.ACTIVATE_SECONDARY_CONTROLS)
    ept_or_vpid = caps.ept or caps.may_be_1(Secondary.ENABLE_VPID)
    assert bool(caps.msr(0x48C)) == ept_or_vpid
    assert not caps.unrestricted_guest or caps.ept


@each_processor
def test_fields_exist_consistently(caps: Capabilities) -> None:
    names = {field.name for field in caps.fields}
    assert ("eptp" in names) == caps.ept
    assert ("guest_pdpte0" in names) == caps.ept
    assert ("vpid" in names) == caps.may_be_1("enable_vpid")
    assert ("vmx_preemption_timer_value" in names) == caps.preemption_timer
    assert ("secondary_processor_based_controls" in names) == caps.may_be_1(Primary.ACTIVATE_SECONDARY_CONTROLS)
    assert ("cr3_target_value_3" in names) == (caps.cr3_target_limit >= 4)
    assert {"guest_rip", "host_rip", "vm_entry_controls", "guest_gs_access_rights"} <= names
    assert "shared_ept_pointer" not in names


@each_processor
def test_single_answers_are_plausible(caps: Capabilities) -> None:
    assert 0 < caps.revision < 1 << 31
    assert caps.region_size in (1024, 2048, 4096)
    assert not caps.addresses_limited_to_32_bits  # it is 0 on every processor with Intel 64
    assert caps.cr3_target_limit == 4
    assert caps.activity_states & 1
    assert caps.may_be_1(Entry.IA32E_MODE_GUEST)
    assert caps.may_be_1(Exit.HOST_ADDRESS_SPACE_SIZE)
    assert caps.may_be_1("nmi_exiting")


@each_processor
def test_the_derived_known_good_state_is_predicted_to_enter(caps: Capabilities) -> None:
    state = known_good(caps)
    prediction = predict(state, caps)
    assert [violation.sentence for violation in prediction.violations] == []
    assert prediction.enters
    assert not prediction.not_modelled


@each_processor
def test_the_derived_known_good_state_has_exactly_the_fields_of_the_processor(caps: Capabilities) -> None:
    written = {name for name in known_good(caps) if not name.startswith("live_")}
    assert {field.name for field in caps.fields if field.writable} <= written <= {field.name for field in caps.fields}
