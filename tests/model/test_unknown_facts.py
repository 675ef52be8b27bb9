"""Checks that rest on facts of the processor: right where the facts are known, "not modelled" where they are not."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from vmfuzz.arch.capabilities import Capabilities, Registers
from vmfuzz.arch.completions import completions
from vmfuzz.arch.controls import Entry, Exit, Primary, SecondaryExit
from vmfuzz.generate.families import Generator
from vmfuzz.generate.schedule import Schedule
from vmfuzz.model.predict import Model, Prediction, model_of, predict
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

ICE_LAKE = capabilities("corei7_icelake_u")
METRICS = 1 << 48


def processor(
    cpuid: dict[tuple[int, int], Registers] | None = None, without: tuple[tuple[int, int], ...] = (), **msrs: int
) -> Capabilities:
    """The emulated Ice Lake with other leaves and MSRs; `without` leaves nothing known of those."""
    leaves = {leaf: registers for leaf, registers in {**ICE_LAKE.cpuid, **(cpuid or {})}.items() if leaf not in without}
    given = {int(name.removeprefix("msr_"), 16): value for name, value in msrs.items()}
    return Capabilities("made up", {**ICE_LAKE.msrs, **given}, leaves)


def msrs_only(caps: Capabilities = ICE_LAKE) -> Capabilities:
    return Capabilities("MSRs only", {number: value for number, value in caps.msrs.items() if number >= 0x480}, {})


MSRS_ONLY = msrs_only()


def loading(control: Exit | Entry, **fields: int) -> Vmcs:
    base = known_good(ICE_LAKE)
    word = "vm_exit_controls" if isinstance(control, Exit) else "vm_entry_controls"
    return base.replace(**{word: (base.get(word) or 0) | 1 << control}, **fields)


def host_perf_global(value: int, caps: Capabilities) -> Prediction:
    return predict(loading(Exit.LOAD_IA32_PERF_GLOBAL_CTRL, host_ia32_perf_global_ctrl=value), caps)


def judged(prediction: Prediction) -> str:
    ids = [violation.check.id for violation in prediction.violations]
    return "not modelled" if prediction.not_modelled else "enters" if not ids else " ".join(ids)


@pytest.mark.parametrize(
    ("caps", "value", "answer"),
    [
        (processor(), 0xF_0000_00FF, "enters"),
        (processor(), 0x10_0000_00FF, "host.perfglobal"),
        (processor(), 0x1_0000_01FF, "host.perfglobal"),
        (processor(), METRICS, "host.perfglobal"),
        (processor(msr_345=1 << 15), METRICS | 0xF_0000_00FF, "enters"),
        # fixed counters: the bitmap, or fewer than the number
        (processor({(0xA, 0): (0x8300805, 0, 0b1_0100, 0x8602)}), 0x17_0000_0000, "enters"),
        (processor({(0xA, 0): (0x8300805, 0, 0b1_0100, 0x8602)}), 0x8_0000_0000, "host.perfglobal"),
        # the bitmaps of leaf 23H have precedence
        (processor({(0, 0): (0x23, 0, 0, 0), (0x23, 0): (3, 0, 0, 0), (0x23, 1): (0x300, 0x40, 0, 0)}), 0x40_0000_0300, "enters"),
        (processor({(0, 0): (0x23, 0, 0, 0), (0x23, 0): (3, 0, 0, 0), (0x23, 1): (0x300, 0x40, 0, 0)}), 1, "host.perfglobal"),
        (processor({(0, 0): (0x23, 0, 0, 0), (0x23, 0): (1, 0, 0, 0)}), 0xF_0000_00FF, "enters"),
    ],
)
def test_perf_global_ctrl_has_a_bit_for_each_counter_and_for_the_metrics(caps: Capabilities, value: int, answer: str) -> None:
    assert judged(host_perf_global(value, caps)) == answer


@pytest.mark.parametrize(
    ("caps", "value", "answer"),
    [
        (replace(processor(), msrs=msrs_only().msrs), METRICS, "not modelled"),  # PDCM is 1, and the MSR was not read
        (replace(processor(), msrs=msrs_only().msrs), 0xF_0000_00FF, "enters"),
        (replace(processor(), msrs=msrs_only().msrs), METRICS | 1 << 20, "host.perfglobal"),  # bit 20 is reserved whatever bit 48 is
        (processor(without=((0xA, 0),)), 1, "not modelled"),
        (msrs_only(), METRICS, "not modelled"),
        (msrs_only(), 1, "not modelled"),
        (msrs_only(), 0, "enters"),
        (msrs_only(), 1 << 49, "host.perfglobal"),
    ],
)
def test_perf_global_ctrl_is_not_modelled_in_bits_that_rest_on_what_is_not_known(caps: Capabilities, value: int, answer: str) -> None:
    assert judged(host_perf_global(value, caps)) == answer


ALL_64 = (1 << 64) - 1
#: A processor on which every VM-entry and VM-exit control may be 1, of which only the MSRs are known.
NO_CPUID = Capabilities(
    "every control, no CPUID",
    {
        **{number: value for number, value in ICE_LAKE.msrs.items() if number >= 0x480},
        **{number: ICE_LAKE.msrs[number] | 0xFFFFFFFF << 32 for number in (0x483, 0x484, 0x48F, 0x490)},
        0x493: ALL_64,
    },
    {},
)


def judged_alone(caps: Capabilities, control: Exit | Entry | SecondaryExit, field: str, value: int) -> str:
    base = known_good(caps)
    words = {"vm_exit_controls": base.get("vm_exit_controls") or 0, "vm_entry_controls": base.get("vm_entry_controls") or 0}
    if isinstance(control, SecondaryExit):
        words["vm_exit_controls"] |= 1 << Exit.ACTIVATE_SECONDARY_CONTROLS
        words["secondary_vm_exit_controls"] = 1 << control
    else:
        words["vm_exit_controls" if isinstance(control, Exit) else "vm_entry_controls"] |= 1 << control
    return judged(predict(base.replace(**words, **{field: value}), caps))


@pytest.mark.parametrize(
    ("control", "field", "unknown", "reserved"),
    [
        (Entry.LOAD_IA32_RTIT_CTL, "guest_ia32_rtit_ctl", 1 << 7, 1 << 63),
        (Entry.LOAD_GUEST_IA32_LBR_CTL, "guest_ia32_lbr_ctl", 1 << 1, 1 << 40),
        (Entry.LOAD_IA32_SPEC_CTRL, "guest_ia32_spec_ctrl", 1 << 0, 1 << 20),
        (SecondaryExit.LOAD_IA32_SPEC_CTRL, "host_ia32_spec_ctrl", 1 << 2, 1 << 20),
        (Entry.LOAD_IA32_EFER, "guest_ia32_efer", 0xD00, 0x700),
        (Exit.LOAD_IA32_EFER, "host_ia32_efer", 0xD00, 0x700),
        (Entry.LOAD_CET_STATE, "guest_ia32_s_cet", 1 << 0, 1 << 6),
        (Exit.LOAD_CET_STATE, "host_ia32_s_cet", 1 << 2, 1 << 6),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mask_that_rests_on_cpuid_is_not_modelled_in_its_unknown_bits(
    control: Exit | Entry | SecondaryExit, field: str, unknown: int, reserved: int
) -> None:
    caps = replace(NO_CPUID, msrs={**NO_CPUID.msrs, 0x489: NO_CPUID.msrs[0x489] | 1 << 23})  # CR4.CET may be 1
    assert judged_alone(caps, control, field, unknown & ~reserved) == "not modelled"
    assert judged_alone(caps, control, field, reserved) not in ("enters", "not modelled")


@pytest.mark.parametrize(
    ("field", "value", "answer"),
    [
        ("host_cr3", 1 << 40, "not modelled"),
        ("host_cr3", 1 << 52, "host.cr3.reserved"),
        ("msr_bitmap", 1 << 45, "not modelled"),
        ("msr_bitmap", 1 << 52, "ctl.msrbitmap.width"),
        ("msr_bitmap", 1 << 35, "enters"),
    ],
)
def test_the_physical_address_width_is_36_to_52_bits_where_it_is_not_known(field: str, value: int, answer: str) -> None:
    base = known_good(MSRS_ONLY)
    controls = {"primary_processor_based_controls": (base.get("primary_processor_based_controls") or 0) | 1 << Primary.USE_MSR_BITMAPS}
    assert judged(predict(base.replace(**controls, **{field: value}), MSRS_ONLY)) == answer


@pytest.mark.parametrize(("la57", "answer"), [(True, "enters"), (False, "host.sysenter.esp")])
def test_the_linear_address_width_follows_from_cr4_where_cpuid_is_not_known(la57: bool, answer: str) -> None:
    fixed = MSRS_ONLY.msrs[0x489] & ~(1 << 12) | la57 << 12
    caps = replace(MSRS_ONLY, msrs={**MSRS_ONLY.msrs, 0x489: fixed})
    assert judged(predict(known_good(caps).replace(host_ia32_sysenter_esp=1 << 50), caps)) == answer


def test_a_check_that_exists_without_a_feature_is_not_modelled_where_the_feature_is_not_known() -> None:
    in_enclave = known_good(MSRS_ONLY).replace(guest_interruptibility_state=0x10)  # whether there is SGX, CPUID tells
    assert judged(predict(in_enclave, MSRS_ONLY)) == "not modelled"
    assert judged(predict(in_enclave, processor({(7, 0): (0, 0, 0, 0)}))) == "guest.intr.enclave.sgx"


def completed(caps: Capabilities, random: Random) -> Capabilities:
    """A processor that `caps` may be: each bit that is not known is chosen."""
    most, least = completions(caps)
    leaves: dict[tuple[int, int], Registers] = {}
    for leaf, all_of_it in most.cpuid.items():
        bits = [one & (random.getrandbits(32) | other) for one, other in zip(all_of_it, least.cpuid[leaf], strict=True)]
        leaves[leaf] = bits[0], bits[1], bits[2], bits[3]
    leaves[0xA, 0] = random.randrange(33) << 8 | 5, 0, leaves[0xA, 0][2], random.randrange(17)
    leaves[0x80000008, 0] = (least.linear_address_width << 8 | random.randrange(36, 53), 0, 0, 0)
    return Capabilities("completed", {**caps.msrs, 0x345: random.getrandbits(1) << 15, 0x982: 0}, leaves)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("caps", [MSRS_ONLY, NO_CPUID], ids=lambda caps: caps.name)
def test_what_is_modelled_is_so_on_every_processor_that_it_may_be(caps: Capabilities, seed: int) -> None:
    model, random = model_of(caps), Random(seed)
    generator = Generator(model, known_good(caps))
    each = [Model(completed(caps, random)) for _ in range(3)]
    not_modelled = 0
    for plan in Schedule(generator, seed, lambda batch: np.ones(len(batch), np.bool_)).chunk(0, [])[:40]:
        batch = generator.expand(plan)
        told = model.predict_batch(batch)
        not_modelled += int(told.not_modelled.sum())
        for other in each:
            exact = other.predict_batch(batch)
            assert not (exact.allowed & ~told.allowed).any()
            assert (exact.allowed == told.allowed)[~told.not_modelled].all()
    assert not_modelled
