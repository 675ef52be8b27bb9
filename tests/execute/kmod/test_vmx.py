"""What the module does to a processor, step by step, on an imagined one: registers that are memory, and a log of what is done to them.

What no emulator here has: errata, PEBS, machine checks, processors without INVEPT, exits that give back wrong values. The instructions themselves
(kmod/processor.h) run in the whole machines of tests/system.
"""

from __future__ import annotations

import ctypes
import errno
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from vmfuzz.arch.outcomes import Kind

KMOD: Final = Path(__file__).parents[3] / "kmod"
FAKE: Final = Path(__file__).parent / "fake_kernel"
#: The module without device and engine.
FILES: Final = ("machine.c", "vmx.c", "ready.c", "host.c", "host_fields.c", "msr_lists.c", "containment.c")
#: enum fake_register of processor.h
MSR, CR, DR, SEGMENT, TR, LDTR, LIMIT, LEAF, GDT, IDT, CS = range(11)
PERF_GLOBAL_CTRL, PEBS_ENABLE, DEBUGCTL, MCG_STATUS, EFER, GS_BASE, PAT = 0x38F, 0x3F1, 0x1D9, 0x17A, 0xC0000080, 0xC0000101, 0x277
TSC, APIC_BASE, TSC_ADJUST, PRED_CMD, LSTAR, NOWHERE = 0x10, 0x1B, 0x3B, 0x49, 0xC0000082, 0x1234
EVERY_TYPE: Final = 1 << 20 | 1 << 26 | 1 << 32 | 1 << 42

#: (register, number, value) as a kernel leaves a processor with performance monitoring, PEBS and machine checks.
IDLE: Final = (
    *((LEAF, number << 8 | register, value) for number, register, value in (
        (0, 0, 0x16), (1, 0, 0x50654), (1, 2, 1 << 5), (1, 3, 1 << 14 | 1 << 21), (7, 1, 1 << 25), (10, 0, 0x0730_0404), (0x80000008, 0, 48 << 8 | 46),
    )),
    *((MSR, number, value) for number, value in (
        (0x3A, 5), (0x480, 1 << 55 | 4), (0x48D, 0x7F << 32), (0x48C, EVERY_TYPE), (PERF_GLOBAL_CTRL, 0x7_0000_000F), (EFER, 0xD01),
        (GS_BASE, 0xFFFF_8880_0000_0000), (PAT, 0x0007_0406_0007_0406),
    )),
    (CR, 0, 0x8005_0033), (CR, 3, 0x1000), (CR, 4, 0x20), (DR, 6, 0xFFFF_0FF0), (DR, 7, 0x400), (SEGMENT, 1, 0x18), (TR, 0, 0x40), (LIMIT, 0, 0x206F),
    (GDT, 0, 0xFFFF_FE00_0000_1000), (GDT, 1, 0x7F), (IDT, 0, 0xFFFF_FE00_0000_0000), (IDT, 1, 0xFFF),
)  # fmt: skip


class Processor:
    """The imagined processor, with the module's driver on it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.fake_text.restype = ctypes.c_char_p
        library.fake_get.restype = ctypes.c_uint64
        library.fake_reset()
        for register, number, value in IDLE:
            self.set(register, number, value)

    def set(self, register: int, number: int, value: int) -> None:
        self._library.fake_set(register, ctypes.c_uint64(number), ctypes.c_uint64(value))

    def get(self, register: int, number: int) -> int:
        return int(self._library.fake_get(register, ctypes.c_uint64(number)))

    def exit_sets(self, register: int, number: int, value: int) -> None:
        """What the exit of each row does to a register."""
        self._library.fake_exit_sets(register, ctypes.c_uint64(number), ctypes.c_uint64(value))

    def outcome(self, kind: Kind, events: int = 0) -> None:
        self._library.fake_outcome(int(kind), ctypes.c_uint32(events))

    def fails_loading(self, number: int) -> None:
        """Each row fails to load this entry of its VM-entry MSR-load list."""
        self._library.fake_fails_loading(ctypes.c_uint64(number))

    def sticks(self, msr: int) -> None:
        """From the row on an MSR keeps the value that the exit gives it."""
        self._library.fake_sticks(ctypes.c_uint64(msr))

    def rows_list(self, *msrs: int) -> None:
        """The rows' VM-entry MSR-load list gets these entries more."""
        for msr in msrs:
            self._library.fake_rows_list(ctypes.c_uint32(msr))

    def rows_set(self, encoding: int) -> None:
        """The rows have another value in a host-state field than the host."""
        self._library.fake_rows_set(ctypes.c_uint32(encoding))

    def may_be_lost(self) -> None:
        self._library.fake_virtual()

    def invept_fails(self) -> None:
        self._library.fake_failing_invept()

    def capture(self) -> int:
        return -int(self._library.fake_capture())

    def rows(self, count: int = 1) -> int:
        """Run rows in one slice; the errno, or 0."""
        return int(self._library.fake_rows(count))

    def leaves(self) -> int:
        """How many times the last rows executed CPUID."""
        return int(self._library.fake_leaves())

    @property
    def log(self) -> list[str]:
        """What was done, in order, since the rows began."""
        return str(self._library.fake_text().decode()).splitlines()

    def between(self, first: str, last: str) -> list[str]:
        """What was done after the first `first` up to the first `last` behind it."""
        log = self.log[self.log.index(first) + 1 :]
        return log[: log.index(last)]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("vmx")
    for path in (*KMOD.glob("*.h"), *(KMOD / name for name in FILES), *FAKE.iterdir()):
        shutil.copy(path, folder)
    text = "".join((folder / name).read_text() for name in FILES)
    headers = set(re.findall(r"#include <((?:linux|asm)/[^>]+)>", text)) | {"linux/types.h"}
    for name in headers:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text('#include "fake_kernel.h"\n')
    sources = [folder / name for name in (*FILES, "fake.c")]
    flags = [
        "-O1",
        "-Wall",
        "-Wextra",
        "-Wno-sign-compare",
        "-Wno-missing-field-initializers",
        "-Werror",
        "-shared",
        "-fPIC",
        f"-I{folder}",
    ]
    subprocess.run(["gcc", *flags, "-o", folder / "vmx.so", *sources], check=True)
    return ctypes.CDLL(str(folder / "vmx.so"))


@pytest.fixture
def processor(library: ctypes.CDLL) -> Iterator[Processor]:
    """After a capture on the idle processor."""
    processor = Processor(library)
    assert processor.capture() == 0
    return processor


def test_a_row_is_alone_in_vmx_operation(processor: Processor) -> None:
    assert processor.rows(2) == 0
    begin = ["interrupts off", "cr4 = 2020", "vmxon", "invept", "invvpid"]
    end = ["vmxoff", "cr4 = 20", "interrupts on"]
    assert processor.log == [*begin, *end, *[*begin, "row", *end] * 2, "interrupts off", "interrupts on"]


def test_translations_are_invalidated_before_each_row_as_far_as_the_processor_can(library: ctypes.CDLL) -> None:
    for types, done in ((0, []), (1 << 20 | 1 << 26, ["invept"]), (1 << 32 | 1 << 42, ["invvpid"]), (1 << 20 | 1 << 32, [])):
        processor = Processor(library)
        processor.set(MSR, 0x48C, types)
        assert processor.capture() == 0
        assert processor.rows(3) == 0
        assert processor.log.count("row") == 3
        assert [line for line in processor.log if line.startswith("inv")] == done * 4


def test_a_row_executes_no_cpuid(processor: Processor) -> None:
    """In a virtual machine each CPUID is an exit. What they say is asked for once a slice."""
    assert processor.rows(1) == 0
    once = processor.leaves()
    assert once > 0
    assert processor.rows(9) == 0
    assert processor.leaves() == once


def test_translations_that_cannot_be_invalidated_end_it(processor: Processor) -> None:
    processor.invept_fails()
    assert processor.rows() == errno.EIO
    assert "row" not in processor.log
    assert processor.between("invept", "interrupts on")[:2] == ["vmxoff", "cr4 = 20"]


def test_performance_counters_come_back(processor: Processor) -> None:
    """By an erratum of Nehalem and Westmere an exit clears bits 34:32; an entry may load what the host had when it was captured."""
    processor.exit_sets(MSR, PERF_GLOBAL_CTRL, 0xF)
    assert processor.rows() == 0
    assert processor.get(MSR, PERF_GLOBAL_CTRL) == 0x7_0000_000F
    processor.set(MSR, PERF_GLOBAL_CTRL, 0x3)
    assert processor.rows() == 0
    assert processor.get(MSR, PERF_GLOBAL_CTRL) == 0x3


def test_a_processor_without_that_msr_is_left_alone(library: ctypes.CDLL) -> None:
    processor = Processor(library)
    processor.set(LEAF, 0xA00, 0x0730_0401)
    processor.set(MSR, PERF_GLOBAL_CTRL, 0)
    assert processor.capture() == 0
    processor.exit_sets(MSR, PERF_GLOBAL_CTRL, 1)
    assert processor.rows() == 0
    assert processor.get(MSR, PERF_GLOBAL_CTRL) == 1


@pytest.mark.parametrize(
    ("msr", "value", "refused"),
    [(PEBS_ENABLE, 1, True), (DEBUGCTL, 1 << 6, True), (DEBUGCTL, 1 << 7, True), (DEBUGCTL, 1, False), (0x570, 1, True), (0x570, 8, False)],
)
def test_no_row_while_something_writes_to_the_host_behind_its_back(processor: Processor, msr: int, value: int, refused: bool) -> None:
    """PEBS, branch traces and Intel PT write where the guest's tables lead."""
    processor.set(MSR, msr, value)
    assert processor.rows() == (errno.EPROTONOSUPPORT if refused else 0)
    assert ("vmxon" in processor.log) != refused


def test_pebs_that_the_processor_lacks_is_not_asked_for(library: ctypes.CDLL) -> None:
    processor = Processor(library)
    processor.set(MSR, 0x1A0, 1 << 12)
    processor.set(MSR, PEBS_ENABLE, 1)
    assert processor.capture() == 0
    assert processor.rows() == 0


@pytest.mark.parametrize("kind", [Kind.EXIT, Kind.ENTRY_FAILURE])
def test_a_machine_check_that_the_guest_took_is_raised_again(processor: Processor, kind: Kind) -> None:
    """Whatever the exit's reason: IA32_MCG_STATUS.MCIP says so. Left at 1, the next machine check would shut the processor down."""
    processor.outcome(kind)
    processor.exit_sets(MSR, MCG_STATUS, 5)
    assert processor.rows() == 0
    assert processor.get(MSR, MCG_STATUS) == 0
    log = processor.log
    assert log.index("vmxoff") < log.index("int 18") < log.index("print vmfuzz: a machine check ended a VM entry or a guest")


def test_no_machine_check_without_an_exit_or_without_one_in_progress(processor: Processor) -> None:
    processor.outcome(Kind.EXIT, events=2)
    assert processor.rows() == 0
    assert "int 18" not in processor.log
    processor.outcome(Kind.VMFAIL_VALID)
    processor.set(MSR, MCG_STATUS, 4)
    assert processor.rows() == 0
    assert "int 18" not in processor.log


#: What a processor might leave in a register: register, number, the value, the name in the log.
LEFT: Final = (
    (CR, 0, 0x8000_0011, "CR0"),
    (CR, 3, 0x2000, "CR3"),
    (CR, 4, 0x2000, "CR4"),
    (SEGMENT, 0, 0x18, "ES"),
    (SEGMENT, 4, 0x18, "GS"),
    (TR, 0, 0x50, "TR"),
    (GDT, 0, 0x1000, "GDTR"),
    (IDT, 0, 0x1000, "IDTR"),
    (MSR, EFER, 0x500, "IA32_EFER"),
    (MSR, GS_BASE, 0, "IA32_GS_BASE"),
    (MSR, PAT, 0, "IA32_PAT"),
)


@pytest.mark.parametrize(("register", "number", "value", "name"), LEFT, ids=[name for *_, name in LEFT])
def test_what_came_back_wrong_is_repaired_before_anything_else_runs(
    processor: Processor, register: int, number: int, value: int, name: str
) -> None:
    """Before interrupts are on again, and before a word is printed; then the device refuses further work."""
    before = processor.get(register, number)
    processor.exit_sets(register, number, value)
    assert processor.rows(3) == errno.EIO
    assert processor.get(register, number) == before
    log = processor.log
    assert log.count("row") == 1
    printed = [number for number, line in enumerate(log) if line.startswith("print")]
    assert printed == [len(log) - 1]
    assert log[printed[0]].startswith(f"print vmfuzz: {name} came back as {value:X}H instead of")
    if register in (CR, MSR, SEGMENT):
        write = {CR: "cr", MSR: "msr ", SEGMENT: "segment "}[register] + f"{number:x} = "
        assert any(line.startswith(write) for line in processor.between("row", "vmxoff"))
    assert processor.rows() == errno.EIO


def test_what_every_exit_changes_comes_back(processor: Processor) -> None:
    for register, number, value in ((DR, 7, 0x403), (LDTR, 0, 0x48)):
        processor.set(register, number, value)
    processor.exit_sets(DR, 6, 0xFFFF_4FF0)
    processor.exit_sets(SEGMENT, 1, 0)
    assert processor.rows(2) == 0
    kept = ((DR, 6), (DR, 7), (LDTR, 0), (SEGMENT, 1), (GDT, 1), (IDT, 1), (LIMIT, 0))
    assert [processor.get(*place) for place in kept] == [0xFFFF_0FF0, 0x403, 0x48, 0x18, 0x7F, 0xFFF, 0x206F]


def test_the_local_descriptor_table_is_that_of_the_row(processor: Processor) -> None:
    """Another thread may install one between two rows of a slice."""
    assert processor.rows() == 0
    processor.set(LDTR, 0, 0x48)
    assert processor.rows(2) == 0
    assert processor.log.count("ldtr 0 = 48") == 2


#: The host-state field of each register of LEFT.
FIELDS: Final = {
    "CR0": 0x6C00, "CR4": 0x6C04, "ES": 0x0C00, "GS": 0x0C0A, "TR": 0x0C0C, "GDTR": 0x6C0C, "IDTR": 0x6C0E, "IA32_EFER": 0x2C02,
    "IA32_GS_BASE": 0x6C08, "IA32_PAT": 0x2C00,
}  # fmt: skip


@pytest.mark.parametrize(("register", "number", "value", "name"), [left for left in LEFT if left[-1] in FIELDS], ids=list(FIELDS))
@pytest.mark.parametrize("lost", [False, True])
def test_what_a_row_set_comes_back_without_a_word_where_the_machine_may_be_lost(
    processor: Processor, register: int, number: int, value: int, name: str, lost: bool
) -> None:
    """Elsewhere the same row would have failed for certain: what was loaded all the same is told."""
    before = processor.get(register, number)
    processor.exit_sets(register, number, value)
    processor.rows_set(FIELDS[name])
    if lost:
        processor.may_be_lost()
    assert processor.rows(3) == (0 if lost else errno.EIO)
    assert processor.get(register, number) == before
    assert any("came back" in line for line in processor.log) != lost


def test_another_register_than_the_row_set_is_still_told(processor: Processor) -> None:
    processor.may_be_lost()
    processor.rows_set(FIELDS["CR4"])
    processor.exit_sets(CR, 0, 0x8000_0011)
    assert processor.rows() == errno.EIO
    assert any("CR0 came back" in line for line in processor.log)


def test_cs_and_the_task_register_are_loaded_again_where_a_row_set_them(processor: Processor) -> None:
    """No instruction reads TR's base."""
    table = ctypes.create_string_buffer(0x80)  # its base is read from there
    processor.set(GDT, 0, ctypes.addressof(table))
    processor.may_be_lost()
    processor.exit_sets(CS, 0, 0x1000)
    processor.exit_sets(LIMIT, 0, 0x67)
    assert processor.rows() == 0
    assert (processor.get(CS, 0), [line for line in processor.log if line.startswith("cs")]) == (0x1000, [])
    processor.rows_set(0x0C02)
    processor.rows_set(0x6C0A)
    assert processor.rows() == 0
    assert processor.get(CS, 0) == 0x10


def test_what_the_list_named_comes_back(processor: Processor) -> None:
    """Whether the entry succeeds or fails at a later entry of the list; also where an exit loads the MSR, and where it is one of the kept."""
    processor.may_be_lost()
    processor.set(MSR, LSTAR, 5)
    processor.rows_list(LSTAR, PAT)
    processor.exit_sets(MSR, LSTAR, 6)
    processor.exit_sets(MSR, PAT, 0)
    assert processor.rows() == 0
    assert (processor.get(MSR, LSTAR), processor.get(MSR, PAT)) == (5, 0x0007_0406_0007_0406)
    processor.fails_loading(3)
    assert processor.rows() == 0
    assert processor.get(MSR, LSTAR) == 5


def test_elsewhere_no_list_is_looked_at(processor: Processor) -> None:
    processor.set(MSR, LSTAR, 5)
    processor.rows_list(LSTAR)
    processor.exit_sets(MSR, LSTAR, 6)
    assert processor.rows() == 0
    assert processor.get(MSR, LSTAR) == 6


def test_what_cannot_be_given_back_ends_it(processor: Processor) -> None:
    processor.may_be_lost()
    processor.set(MSR, LSTAR, 5)
    processor.rows_list(LSTAR)
    processor.exit_sets(MSR, LSTAR, 6)
    processor.sticks(LSTAR)
    assert processor.rows() == errno.EIO
    assert "print vmfuzz: MSR C0000082H was loaded and cannot be given back: 6H instead of 5H" in processor.log


@pytest.mark.parametrize(
    ("msr", "failing", "expected"),
    [(NOWHERE, 0, errno.EIO), (NOWHERE, 3, errno.EIO), (NOWHERE, 2, 0), (NOWHERE, 1, 0), (PRED_CMD, 0, 0)],
)
def test_an_msr_that_cannot_be_read_and_was_loaded_ends_it(processor: Processor, msr: int, failing: int, expected: int) -> None:
    """It is entry 2; `failing`: the entry that the processor refused, 0: none. A command leaves nothing behind."""
    processor.may_be_lost()
    processor.rows_list(PAT, msr)
    if failing:
        processor.fails_loading(failing)
    assert processor.rows() == expected


def test_the_local_apic_leaves_x2apic_mode_by_way_of_off(processor: Processor) -> None:
    processor.may_be_lost()
    processor.set(MSR, APIC_BASE, 0xFEE0_0900)
    processor.rows_list(APIC_BASE)
    processor.exit_sets(MSR, APIC_BASE, 0xFEE0_0D00)
    assert processor.rows() == 0
    assert [line for line in processor.log if line.startswith("msr 1b")] == ["msr 1b = fee00100", "msr 1b = fee00900"]


@pytest.mark.parametrize("adjusts", [False, True])
def test_the_time_stamp_counter_comes_back_by_its_adjustment(processor: Processor, adjusts: bool) -> None:
    """Writing it changes IA32_TSC_ADJUST, and the other way round; it never reads as it did."""
    processor.may_be_lost()
    processor.set(MSR, TSC, 1000)
    processor.rows_list(TSC)
    processor.exit_sets(MSR, TSC, 5)
    if adjusts:
        processor.set(MSR, TSC_ADJUST, 7)
        processor.exit_sets(MSR, TSC_ADJUST, -988 & (1 << 64) - 1)
    assert processor.rows() == 0
    assert [line for line in processor.log if line.startswith("msr")] == ["msr 3b = 7" if adjusts else "msr 10 = 3e8"]


@pytest.mark.parametrize(
    ("leaf", "said"), [(0xFFFF00, "was told not to use VMX"), (0xFFFF01, "paravirtualized guest of Xen")], ids=["clearcpuid", "xen"]
)
def test_a_kernel_that_keeps_vmx_from_its_users(library: ctypes.CDLL, leaf: int, said: str) -> None:
    processor = Processor(library)
    processor.set(LEAF, leaf, 1)
    assert processor.capture() == errno.ENODEV
    assert any(said in line for line in processor.log)
