"""The kernel module's predicate in C and in Python refuse the same candidates for the same reasons."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicate_in_c import InC, RawBatch

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.kmod.abi import kmod_constants
from vmfuzz.execute.kmod.containment import BOLD, BROKEN_TIMERS, RULES, SAFE, KmodContainment, features
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

Families = Callable[..., Iterator[VmcsBatch]]


def both(
    library: ctypes.CDLL, executor: BochsExecutor, risk: int, poison: bool = False, virtual: bool = False
) -> tuple[InC, KmodContainment]:
    facts = (executor.capabilities(), executor.known_good(), executor.arena, risk, poison, virtual)
    return InC(library, *facts), KmodContainment(*facts)


def assert_equal(c: InC, python: KmodContainment, batch: VmcsBatch) -> npt.NDArray[np.int32]:
    in_c, in_python = c.rules(batch), python.refused(batch).rule
    in_python = np.where(in_python < 0, 0, in_python)
    for row in np.flatnonzero(in_c != in_python):
        values = {name: hex(int(column[row])) for name, column in batch.columns.items()}
        raise AssertionError(f"C: {RULES[in_c[row]]}; Python: {RULES[in_python[row]]}; row {values}")
    return in_c


def with_rule_fields(batch: VmcsBatch, names: list[str], rng: np.random.Generator) -> VmcsBatch:
    """Vary some of the fields that rules read, too: known value, one bit flipped, an edge, the arena's pages."""
    columns = dict(batch.columns)
    count = len(batch)
    for name in rng.choice(names, size=4, replace=False):
        field = FIELDS[str(name)]
        known = np.uint64(batch.base.get(field.name) or 0)
        edges = np.array([0, 1, 2, 3, 16, 1 << 31, 1 << 46, 1 << 63, field.mask, 0x10002000, 0x1001FFFF, 0x10020000], np.uint64)
        flipped = known ^ np.left_shift(np.uint64(1), rng.integers(0, field.width, count, dtype=np.uint64))
        column = np.where(rng.random(count) < 0.5, flipped, rng.choice(edges, count))
        columns[field.name] = np.where(rng.random(count) < 0.4, known, column) & np.uint64(field.mask)
    words = {}
    if rng.random() < 0.2:
        words = {int(0x10000000 + 8 * rng.integers(0, 4096)): np.zeros(count, np.uint64)}
    return VmcsBatch(batch.base, columns, words)


def test_every_rule_has_its_text() -> None:
    assert len(RULES) == kmod_constants()["RULE_COUNT"]


@pytest.mark.parametrize(("risk", "virtual"), [(0, False), (1, False), (1, True)])
def test_c_and_python_agree(library: ctypes.CDLL, each_cpu: BochsExecutor, random_families: Families, risk: int, virtual: bool) -> None:
    c, python = both(library, each_cpu, risk, virtual=virtual)
    base = each_cpu.known_good()
    names = [name for name in c.names if base.get(name) is not None]
    rng = np.random.default_rng(risk)
    for batch in random_families(base, seed=31 + risk, families=30, rows=100):
        assert_equal(c, python, with_rule_fields(batch, names, rng))


@pytest.mark.parametrize(("risk", "virtual"), [(0, False), (1, False), (1, True)])
def test_a_value_and_what_vmwrite_makes_of_it_are_judged_alike(
    library: ctypes.CDLL, each_cpu: BochsExecutor, random_families: Families, risk: int, virtual: bool
) -> None:
    """Values wider than their fields: the processor gets the low bits, so these are what both sides judge."""
    c, python = both(library, each_cpu, risk, virtual=virtual)
    base = each_cpu.known_good()
    names = [name for name in c.names if base.get(name) is not None]
    rng = np.random.default_rng(77 + risk)
    refused = 0
    for batch in random_families(base, seed=5 + risk, families=20, rows=100):
        batch = with_rule_fields(batch, names, rng)
        wide = {}
        for name, column in batch.columns.items():
            beyond = rng.integers(0, 1 << 64, len(batch), dtype=np.uint64) & ~np.uint64(FIELDS[name].mask)
            wide[name] = column | np.where(rng.random(len(batch)) < 0.5, beyond, np.uint64(0))
        raw = RawBatch(base, wide, dict(batch.memory_columns))
        rules = assert_equal(c, python, raw)
        assert (rules == c.rules(raw.cut())).all()
        refused += int((rules != 0).sum())
    assert refused


def test_every_field_is_cut_to_its_width(library: ctypes.CDLL) -> None:
    library.vmfuzz_field_mask.restype = ctypes.c_uint64
    for field in FIELDS.values():
        assert library.vmfuzz_field_mask(ctypes.c_uint64(field.encoding)) == field.mask, field.name


@pytest.mark.parametrize("wide", [0, 1 << 32, 1 << 63])
@pytest.mark.parametrize("state", [2, 3])
@pytest.mark.parametrize("rflags", [0, 2])
@pytest.mark.parametrize("risk", [0, 1])
def test_shutdown_and_wait_for_sipi_are_never_entered(
    library: ctypes.CDLL, bochs: BochsExecutor, wide: int, state: int, rflags: int, risk: int
) -> None:
    """Neither by a value of more than 32 bits, nor with the timer at 0, nor where another value must fail."""
    columns = {"guest_activity_state": np.array([wide | state], np.uint64), "guest_rflags": np.array([rflags], np.uint64)}
    assert assert_equal(*both(library, bochs, risk), RawBatch(bochs.known_good(), columns, {})).tolist() == [26]


def test_the_known_good_vmcs_may_run(library: ctypes.CDLL, each_cpu: BochsExecutor) -> None:
    """Under `safe` where the processor has a timer or EPT besides page tables, else under `bold`."""
    capabilities = each_cpu.capabilities()
    for risk in (SAFE, BOLD):
        c, python = both(library, each_cpu, risk)
        expected = 28 if risk == SAFE and not capabilities.preemption_timer and not capabilities.ept else 0
        assert assert_equal(c, python, VmcsBatch.of([each_cpu.known_good()])).tolist() == [expected]


def test_both_sides_know_the_same_of_a_processor(library: ctypes.CDLL, bochs: BochsExecutor) -> None:
    """Timers with an erratum, also in steppings that differ in reserved bits only; the types of INVEPT and INVVPID."""
    listed = list((ctypes.c_uint32 * len(BROKEN_TIMERS)).in_dll(library, "vmfuzz_broken_timer"))
    assert tuple(listed) == BROKEN_TIMERS
    assert len(BROKEN_TIMERS) == kmod_constants()["BROKEN_TIMERS"]
    here = bochs.capabilities()
    found = set()
    signatures = [*BROKEN_TIMERS, 0x306A9, 0x1000_0000 | 0x206E6, 0x306A8 | 0xC000, 0x50654]
    for signature in signatures:
        for types in (0, 1 << 20, 1 << 26, 1 << 20 | 1 << 26, 1 << 32, 1 << 42, 1 << 32 | 1 << 42, here.msrs[0x48C]):
            cpuid = {**here.cpuid, (1, 0): (signature, 0, 0, 0)}
            capabilities = Capabilities("imagined", {**here.msrs, 0x48C: types}, cpuid)
            pin = ctypes.c_uint64(capabilities.allowed_settings("pin")[1])
            in_c = library.vmfuzz_features(ctypes.c_uint32(signature), ctypes.c_uint64(types), pin)
            assert in_c == features(capabilities), (hex(signature), hex(types))
            found.add(in_c)
    assert found == set(range(8))


def imagined(
    bochs: BochsExecutor, library: ctypes.CDLL, risk: int, signature: int | None = None, **msrs: int
) -> tuple[InC, KmodContainment]:
    """Both predicates for the default CPU model with another CPUID.1:EAX or other MSRs (by "x" and their number)."""
    here = bochs.capabilities()
    cpuid = {**here.cpuid, (1, 0): (signature, *here.cpuid[(1, 0)][1:])} if signature is not None else here.cpuid
    changed = {int(name[1:], 16): value for name, value in msrs.items()}
    facts = (Capabilities("imagined", {**here.msrs, **changed}, cpuid), bochs.known_good(), bochs.arena, risk)
    return InC(library, *facts), KmodContainment(*facts)


def test_a_broken_timer_is_no_obstacle(library: ctypes.CDLL, bochs: BochsExecutor) -> None:
    """With such a timer, `safe` wants both walls, and nothing that relies on the timer's exit runs."""
    known = bochs.known_good()
    one_wall = known.replace(guest_cr3=0x1000)
    taken = known.replace(pin_based_controls=known["pin_based_controls"] & ~1)
    halted = known.replace(guest_activity_state=1)
    rows = VmcsBatch.of([known, one_wall, taken, halted])
    assert assert_equal(*both(library, bochs, SAFE), rows).tolist() == [0, 0, 0, 0]
    assert assert_equal(*imagined(bochs, library, SAFE, signature=0x106E5), rows).tolist() == [0, 28, 27, 26]
    assert assert_equal(*imagined(bochs, library, BOLD, signature=0x106E5), rows).tolist() == [0, 0, 27, 26]


def test_no_ept_or_vpid_where_translations_cannot_be_invalidated(library: ctypes.CDLL, bochs: BochsExecutor) -> None:
    known = bochs.known_good()
    secondary = known["secondary_processor_based_controls"]
    vpid = known.replace(secondary_processor_based_controls=secondary | 1 << 5)
    neither = known.replace(secondary_processor_based_controls=secondary & ~2)
    rows = VmcsBatch.of([known, vpid, neither])
    assert assert_equal(*both(library, bochs, SAFE), rows).tolist() == [0, 0, 0]
    types = bochs.capabilities().msrs[0x48C]
    assert assert_equal(*imagined(bochs, library, SAFE, x48C=types & ~(1 << 26)), rows).tolist() == [29, 29, 0]
    assert assert_equal(*imagined(bochs, library, SAFE, x48C=types & ~(1 << 42)), rows).tolist() == [0, 29, 0]


#: (control word, bit) that makes a processor use the virtual-APIC page, with or without "use TPR shadow".
USES_VIRTUAL_APIC: Final = (
    ("primary_processor_based_controls", 21),
    ("secondary_processor_based_controls", 0),
    ("secondary_processor_based_controls", 4),
    ("secondary_processor_based_controls", 8),
    ("secondary_processor_based_controls", 9),
    ("tertiary_processor_based_controls", 4),
    ("pin_based_controls", 7),
)


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize(("word", "bit"), USES_VIRTUAL_APIC)
def test_the_virtual_apic_page_is_harmless_whoever_uses_it(
    rich: tuple[InC, KmodContainment, Vmcs], word: str, bit: int, activated: bool
) -> None:
    """Whatever a second control says: "use TPR shadow", or those that activate secondary and tertiary controls."""
    c, python, known = rich
    base = known.replace(virtual_apic_address=0x1000, primary_processor_based_controls=1 << 31 | 1 << 17 if activated else 0)
    rows = VmcsBatch.of([base, base.replace(**{word: base[word] | 1 << bit})])
    assert assert_equal(c, python, rows).tolist() == [0, 24]


def test_a_page_that_is_written_lies_in_the_arena_to_its_end(rich: tuple[InC, KmodContainment, Vmcs]) -> None:
    """A processor that misses the check of alignment writes from the address on."""
    c, python, known = rich
    used = known.replace(primary_processor_based_controls=known["primary_processor_based_controls"] | 1 << 21)
    end = c.arena.base + c.arena.size
    addresses = (c.arena.base + 8191, c.arena.base + 8192, c.arena.base + 8193, end - 4096, end - 4095, end - 8, end)
    rows = VmcsBatch.of([used.replace(virtual_apic_address=address) for address in addresses])
    assert assert_equal(c, python, rows).tolist() == [24, 0, 0, 0, 24, 24, 24]


@pytest.mark.parametrize(
    "missed",
    [
        {"tertiary_processor_based_controls": 2, "primary_processor_based_controls": 1 << 31 | 1 << 17},
        {"tertiary_processor_based_controls": 2, "primary_processor_based_controls": 1 << 31},
        {"guest_cr0": 0x8000_0020},
    ],
    ids=["HLAT", "HLAT that is not activated", "paging without protection"],
)
def test_the_page_table_wall_rests_on_no_second_check(rich: tuple[InC, KmodContainment, Vmcs], missed: dict[str, int]) -> None:
    """Without EPT: HLAT would translate through tables of the guest, and what CR0.PG does without CR0.PE nobody says."""
    c, python, known = rich
    no_ept = known.replace(secondary_processor_based_controls=0, hlat_pointer=c.arena.base + 20 * 4096)
    assert assert_equal(c, python, VmcsBatch.of([no_ept, no_ept.replace(**missed)])).tolist() == [0, 22]


def test_a_notification_takes_no_interrupt_of_the_host(rich: tuple[InC, KmodContainment, Vmcs]) -> None:
    """Posted-interrupt processing acknowledges an interrupt without an exit, if its vector is the notification vector."""
    c, python, known = rich
    posted = known.replace(pin_based_controls=known["pin_based_controls"] | 1 << 7, vm_exit_controls=known["vm_exit_controls"] | 1 << 15)
    vectors = (0, 31, 32, 0xEF, 0x100, 0x1EF)
    rows = VmcsBatch.of([posted.replace(posted_interrupt_notification_vector=vector) for vector in vectors])
    assert assert_equal(c, python, rows).tolist() == [0, 0, 27, 27, 0, 27]


_SEVEN: Final = 0x0007_0007_0007_0007
#: What is flipped in the known-good VMCS so that exactly this rule refuses it, by the rule's number.
BREAKS: Final = {
    1: {"vm_entry_controls": 1 << 10},
    2: {"vm_entry_controls": 1 << 24},
    3: {"host_cr0": 1 << 16},
    4: {"host_cr3": 0x1000},
    5: {"host_cr4": 1 << 2},
    6: {"host_ds_selector": 0x18},
    7: {"host_gs_base": 1 << 20},
    8: {"host_ia32_sysenter_cs": 1},
    9: {"host_rsp": 8},
    10: {"host_rip": 8},
    11: {"host_ia32_pat": _SEVEN},
    12: {"host_ia32_efer": 1},
    13: {"host_ia32_perf_global_ctrl": 1},
    14: {"vm_exit_controls": 1 << 28, "host_ssp": 8},
    15: {"vm_exit_controls": 1 << 29, "host_ia32_pkrs": 1},
    16: {"vm_exit_controls": 1 << 31, "secondary_vm_exit_controls": 1 << 3},
    17: {"vm_entry_controls": 1 << 16},
    18: {"vm_entry_controls": 1 << 2, "guest_ia32_debugctl": 1 << 6},
    19: {"vm_exit_msr_store_count": 1},
    20: {"vm_exit_msr_load_count": 1},
    21: {"vm_entry_msr_load_count": 1},
    22: {"secondary_processor_based_controls": 2, "guest_cr3": 0x1000},
    23: {"eptp": 0x1000},
    24: {"pin_based_controls": 1 << 7, "posted_interrupt_descriptor": 1 << 30},
    25: {"vmcs_link_pointer": 0xFFFF_FFFF_FFFF_AFFF},
    26: {"guest_activity_state": 2},
    27: {"pin_based_controls": 1 << 6 | 1},
    28: {"pin_based_controls": 1 << 6},
}
#: of a processor's lack and not of a candidate: tests of their own
OF_PROCESSORS: Final = (29,)


def test_each_rule_has_its_candidate() -> None:
    assert sorted({*BREAKS, *OF_PROCESSORS}) == list(range(1, kmod_constants()["RULE_COUNT"]))


@pytest.fixture(scope="session")
def rich(library: ctypes.CDLL) -> Iterator[tuple[InC, KmodContainment, Vmcs]]:
    """Both predicates for a processor that has every field, and one entry control more than the module knows."""
    with BochsExecutor("arrow_lake") as executor:
        capabilities = executor.capabilities()
        msrs = {number: value | 1 << 56 if number in (0x484, 0x490) else value for number, value in capabilities.msrs.items()}
        facts = (Capabilities("more", msrs, capabilities.cpuid), executor.known_good(), executor.arena, 0)
        yield InC(library, *facts), KmodContainment(*facts), executor.known_good()


@pytest.mark.parametrize("rule", BREAKS)
def test_one_bit_too_many(rich: tuple[InC, KmodContainment, Vmcs], rule: int) -> None:
    """Bits flipped in the known-good VMCS break exactly this rule, on both sides."""
    c, python, known = rich
    candidate = known.replace(**{name: (known.get(name) or 0) ^ bits for name, bits in BREAKS[rule].items()})
    assert assert_equal(c, python, VmcsBatch.of([candidate])).tolist() == [rule]


@pytest.mark.parametrize("rule", [0, *BREAKS])
def test_each_rule_judges_the_bits_that_a_field_has(rich: tuple[InC, KmodContainment, Vmcs], rule: int) -> None:
    """Every narrow field that rules read with bits beyond its width, one bit a row: the rule stays what it was."""
    c, python, known = rich
    flips = {name: (known.get(name) or 0) ^ bits for name, bits in BREAKS.get(rule, {}).items()}
    narrow = [name for name in c.names if FIELDS[name].width < 64 and known.get(name) is not None]
    rows = [(name, bit) for name in narrow for bit in range(FIELDS[name].width, 64)]
    columns = {name: np.full(len(rows), flips.get(name, known.get(name) or 0), np.uint64) for name in {*narrow, *flips}}
    for row, (name, bit) in enumerate(rows):
        columns[name][row] |= np.uint64(1 << bit)
    assert set(assert_equal(c, python, RawBatch(known, columns)).tolist()) == {rule}


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_mixture_of_what_breaks_rules(rich: tuple[InC, KmodContainment, Vmcs], data: st.DataObject) -> None:
    """Several broken rules at once, some of their bits changed again: both sides name the same one."""
    c, python, known = rich
    values = {name: known.get(name) or 0 for name in c.names if known.get(name) is not None}
    for rule in data.draw(st.lists(st.sampled_from(sorted(BREAKS)), max_size=4)):
        for name, bits in BREAKS[rule].items():
            values[name] ^= bits
    for name in data.draw(st.lists(st.sampled_from(sorted(values)), max_size=3)):
        values[name] ^= 1 << data.draw(st.integers(0, FIELDS[name].width - 1))
    assert_equal(c, python, VmcsBatch.of([known.replace(**values)]))


@pytest.mark.parametrize(
    "changes",
    [
        {"host_cr3": 1 << 60},
        {"host_rip": 1 << 62},
        {"host_cr0": 1 << 40},
        {"host_cs_selector": 1},
        {"guest_activity_state": 4},
        {"pin_based_controls": 0x16, "guest_rflags": 0},
        {"vm_exit_msr_load_count": 1, "vm_exit_msr_load_address": 8},
    ],
)
def test_certain_failures_run(library: ctypes.CDLL, bochs: BochsExecutor, changes: dict[str, int]) -> None:
    candidate = bochs.known_good().replace(**changes)
    assert assert_equal(*both(library, bochs, 0), VmcsBatch.of([candidate])).tolist() == [0]
