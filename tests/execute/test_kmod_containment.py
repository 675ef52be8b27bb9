"""The kernel module's predicate in C and in Python refuse the same candidates for the same reasons."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.execute.bochs import BochsExecutor
from vmfuzz.execute.containment_kmod import RULES, KmodContainment
from vmfuzz.execute.family import Arena
from vmfuzz.execute.kmod_abi import kmod_constants, kmod_dtype
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

Families = Callable[..., Iterator[VmcsBatch]]
KMOD = Path(__file__).parents[2] / "kmod"
WORDS = ("pin", "primary", "secondary", "tertiary", "exit", "entry", "secondary_exit")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    path = tmp_path_factory.mktemp("kmod") / "containment.so"
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", path, KMOD / "containment.c"], check=True)
    return ctypes.CDLL(str(path))


class InC:
    """The predicate of containment.c on batches."""

    def __init__(self, library: ctypes.CDLL, capabilities: Capabilities, known: Vmcs, arena: Arena, risk: int) -> None:
        self.library = library
        self.arena = arena
        count = kmod_constants()["SLOT_COUNT"]
        encodings = (ctypes.c_uint16 * count).in_dll(library, "vmfuzz_slot_encoding")
        self.names = [BY_ENCODING[encoding].name for encoding in encodings]
        limits: Any = np.zeros(1, kmod_dtype("limits"))
        limits["risk"], limits["physical_bits"] = risk, capabilities.physical_address_width
        limits["linear_bits"], limits["activity_states"] = capabilities.linear_address_width, capabilities.activity_states
        limits["arena_pa"], limits["arena_bytes"] = arena.base, arena.size
        for register, fixed in (("cr0", capabilities.cr0_fixed), ("cr4", capabilities.cr4_fixed)):
            limits[f"{register}_fixed0"], limits[f"{register}_fixed1"] = fixed
        for slot, key in enumerate(WORDS):
            limits["must"][0, slot], limits["may"][0, slot] = capabilities.allowed_settings(key)
        limits["captured"][0] = [known.get(name) or 0 for name in self.names]
        self.limits = limits

    def rules(self, batch: VmcsBatch) -> npt.NDArray[np.int32]:
        pages = {(word - self.arena.base) // 4096 for word in (*batch.base.memory, *batch.memory_columns)}
        self.limits["walls"] = (0 not in pages) * 1 | (1 not in pages) * 2
        slots = np.zeros((len(batch), len(self.names)), np.uint64)
        for number, name in enumerate(self.names):
            slots[:, number] = batch.columns.get(name, np.uint64(batch.base.get(name) or 0))
        refuse = self.library.vmfuzz_refuse
        found = [refuse(ctypes.c_void_p(self.limits.ctypes.data), ctypes.c_void_p(row.ctypes.data)) for row in slots]
        return np.array(found, np.int32)


class RawBatch(VmcsBatch):
    """A batch whose columns hold any 64 bits, as a program's request may."""

    def __init__(self, base: Vmcs, columns: dict[str, npt.NDArray[np.uint64]], words: dict[int, npt.NDArray[np.uint64]]) -> None:
        self.base, self.columns, self.memory_columns = base, MappingProxyType(columns), MappingProxyType(words)
        self.count = len(next(iter(columns.values())))

    def cut(self) -> VmcsBatch:
        """What VMWRITE makes of it."""
        return VmcsBatch(self.base, {n: c & np.uint64(FIELDS[n].mask) for n, c in self.columns.items()}, self.memory_columns)


def both(library: ctypes.CDLL, executor: BochsExecutor, risk: int) -> tuple[InC, KmodContainment]:
    facts = (executor.capabilities(), executor.known_good(), executor.arena, risk)
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


@pytest.mark.parametrize("risk", [0, 1])
def test_c_and_python_agree(library: ctypes.CDLL, each_cpu: BochsExecutor, random_families: Families, risk: int) -> None:
    c, python = both(library, each_cpu, risk)
    base = each_cpu.known_good()
    names = [name for name in c.names if base.get(name) is not None]
    rng = np.random.default_rng(risk)
    for batch in random_families(base, seed=31 + risk, families=30, rows=100):
        assert_equal(c, python, with_rule_fields(batch, names, rng))


@pytest.mark.parametrize("risk", [0, 1])
def test_a_value_and_what_vmwrite_makes_of_it_are_judged_alike(
    library: ctypes.CDLL, each_cpu: BochsExecutor, random_families: Families, risk: int
) -> None:
    """Values wider than their fields: the processor gets the low bits, so these are what both sides judge."""
    c, python = both(library, each_cpu, risk)
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


def test_the_known_good_vmcs_may_run(library: ctypes.CDLL, each_cpu: BochsExecutor) -> None:
    for risk in (0, 1):
        c, python = both(library, each_cpu, risk)
        assert assert_equal(c, python, VmcsBatch.of([each_cpu.known_good()])).tolist() == [0]


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


def test_each_rule_has_its_candidate() -> None:
    assert sorted(BREAKS) == list(range(1, kmod_constants()["RULE_COUNT"]))


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
        {"guest_activity_state": 3, "guest_rflags": 0},
        {"pin_based_controls": 0x16, "guest_rflags": 0},
        {"vm_exit_msr_load_count": 1, "vm_exit_msr_load_address": 8},
    ],
)
def test_certain_failures_run(library: ctypes.CDLL, bochs: BochsExecutor, changes: dict[str, int]) -> None:
    candidate = bochs.known_good().replace(**changes)
    assert assert_equal(*both(library, bochs, 0), VmcsBatch.of([candidate])).tolist() == [0]
