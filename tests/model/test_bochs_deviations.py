"""Deviations of Bochs: where each may explain another outcome than the manual's, and where not."""

from __future__ import annotations

import pytest

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS, Entry, Exit, SecondaryExit, word_of
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.arch.registers import CR0, CR4
from vmfuzz.comparison.compare import AlteredModel
from vmfuzz.model.deviations import MARK, altered_checks
from vmfuzz.model.known_deviations import DEVIATIONS
from vmfuzz.model.outcome_codes import mask_of
from vmfuzz.model.predict import Model, model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

ARROW_LAKE = capabilities("arrow_lake")
SAPPHIRE_RAPIDS = capabilities("sapphire_rapids")
GOOD = known_good(ARROW_LAKE)
#: Canonical in 57 bits and not in 48.
WIDE = 1 << 50
BY_NAME = {deviation.id: deviation for deviation in DEVIATIONS}


def newer(base: Capabilities) -> Capabilities:
    """The processor with CET, PKS and FRED: features, controls, CR4 bits."""
    leaves = {key: list(registers) for key, registers in base.cpuid.items()}
    for feature in ("cet_ss", "cet_ibt", "fred"):
        leaf, subleaf, register, bit = FEATURES[feature]
        leaves.setdefault((leaf, subleaf), [0, 0, 0, 0])[register] |= 1 << bit
    msrs = dict(base.msrs)
    for control in (
        Exit.LOAD_CET_STATE, Exit.LOAD_PKRS, Exit.ACTIVATE_SECONDARY_CONTROLS, SecondaryExit.LOAD_IA32_FRED,
        Entry.LOAD_CET_STATE, Entry.LOAD_PKRS, Entry.LOAD_IA32_FRED,
    ):  # fmt: skip
        word = CONTROL_WORDS[word_of(control).key]
        for number in filter(None, (word.msr, word.true_msr)):
            msrs[number] = msrs.get(number, 0) | 1 << control + (0 if word.only_allowed_1 else 32)
    msrs[0x489] |= 1 << CR4.CET | 1 << CR4.FRED
    return Capabilities("newer", msrs, {key: (a, b, c, d) for key, (a, b, c, d) in leaves.items()})


NEWER = newer(ARROW_LAKE)


def explains(id: str, state: Vmcs, outcome: Outcome, caps: Capabilities = ARROW_LAKE) -> bool:
    """Whether the manual refuses the outcome and the deviation alone allows it."""
    batch = VmcsBatch(state, {}, count=1)
    altered = Model(caps, altered_checks([BY_NAME[id]]))
    bit = mask_of((outcome,))
    allowed = [int(model.predict_batch(batch).allowed[0]) for model in (model_of(caps), altered)]
    return not allowed[0] & bit and allowed[1] & bit == bit


FAIL_8 = Outcome(Kind.VMFAIL_VALID, 8)
FAIL_33 = Outcome(Kind.ENTRY_FAILURE, 33, 0)
ENTERS = Outcome(Kind.EXIT, 52)


@pytest.mark.parametrize(
    ("field", "outcome"), [("host_gs_base", FAIL_8), ("guest_ia32_sysenter_esp", FAIL_33)], ids=["host GS base", "guest SYSENTER_ESP"]
)
def test_the_width_of_addresses_explains_nothing_where_the_launching_processor_has_five_levels(field: str, outcome: Outcome) -> None:
    wide = known_good(SAPPHIRE_RAPIDS).replace(**{field: WIDE})
    assert explains("bochs-canonical-la57", wide.replace(live_cr4=0), outcome, SAPPHIRE_RAPIDS)
    assert not explains("bochs-canonical-la57", wide.replace(live_cr4=1 << CR4.LA57), outcome, SAPPHIRE_RAPIDS)


def test_the_captured_state_says_what_the_launching_processors_cr4_is() -> None:
    assert GOOD["live_cr4"] == GOOD["host_cr4"]


def cet(**changes: int) -> Vmcs:
    state = known_good(NEWER)
    return state.replace(vm_entry_controls=state["vm_entry_controls"] | 1 << Entry.LOAD_CET_STATE, **changes)


def host(*controls: Exit, clear: int = 0, **changes: int) -> Vmcs:
    state = known_good(NEWER)
    return state.replace(vm_exit_controls=(state["vm_exit_controls"] | sum(1 << c for c in controls)) & ~clear, **changes)


FRED = {"secondary_vm_exit_controls": 1 << SecondaryExit.LOAD_IA32_FRED, "host_ia32_fred_config": 1 << 60}
CET_ON = known_good(NEWER)["host_cr4"] | 1 << CR4.CET
WP_OFF = known_good(NEWER)["host_cr0"] & ~(1 << CR0.WP)


@pytest.mark.parametrize(
    ("id", "state", "outcome"),
    [
        ("bochs-ssp-canonical", cet(guest_ssp=1 << 47), FAIL_33),
        ("bochs-pkrs-high", host(Exit.LOAD_PKRS, host_ia32_pkrs=1 << 32), ENTERS),
        ("bochs-host-cet-wp", host(host_cr4=CET_ON, host_cr0=WP_OFF), ENTERS),
        ("bochs-fred-config-canonical", host(Exit.ACTIVATE_SECONDARY_CONTROLS, **FRED), ENTERS),
    ],
)
def test_what_newer_features_bring_is_explained(id: str, state: Vmcs, outcome: Outcome) -> None:
    assert explains(id, state, outcome, NEWER)


def test_host_cet_without_wp_is_refused_where_cet_state_is_loaded() -> None:
    assert not explains("bochs-host-cet-wp", host(Exit.LOAD_CET_STATE, host_cr4=CET_ON, host_cr0=WP_OFF), ENTERS, NEWER)


@pytest.mark.parametrize("cpu", ["arrow_lake", "corei7_skylake_x"])
def test_deviations_of_features_that_a_processor_lacks_explain_nothing_there(cpu: str) -> None:
    caps = capabilities(cpu)
    newer_only = [known for known in DEVIATIONS if known.id in {"bochs-cet-error-code", "bochs-pkrs-high", "bochs-host-fred-32"}]
    assert len(newer_only) == 3
    marks = {compiled.check.ambiguity for compiled in Model(caps, altered_checks(newer_only)).compiled}
    assert not marks & {MARK + known.id for known in newer_only}
    assert AlteredModel(caps, newer_only).deviations == tuple(newer_only)
