"""Findings as tests for the hypervisors' own people: plain C, a test in the style of kvm-unit-tests, a syzkaller program, a program for KVM.

The last is whole (kvm_selftest.py). What the others write is what the case changes against the simplest known-good state: first what makes its
base, then the mutation. Fields made of bits are given as bits to set and to clear, so that they fit a VMCS whose other bits differ; all others
as values. Fields that point to memory of vmfuzz's own harness are left to the reader, as comments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.arch.registers import BITWISE
from vmfuzz.comparison.case import base_value, is_memory, word_address
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry
from vmfuzz.corpus.kvm_selftest import kvm_selftest
from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.state.vmcs import Vmcs

_SIMPLEST: Final = "64-bit/plain/nothing"
#: Bytes around the captured I/O bitmap A that belong to the harness.
_HARNESS: Final = 1 << 26
#: Calls of one syzkaller program of this kind, at most; and the last 64-bit fields that its description knows (sys/linux/dev_kvm_amd64.txt).
_SYZ_CALLS: Final = 32
_SYZ_LAST: Final[Mapping[int, int]] = MappingProxyType(
    {0x2000: 0x2033, 0x2800: 0x2813, 0x2C00: 0x2C05, 0x4800: 0x482E, 0x6800: 0x6826, 0x6C00: 0x6C16}
)
_AREAS: Final = ("control", "ro", "guest", "host")
_WIDTHS: Final = ("16", "64", "32", "_nat")


@dataclass(frozen=True)
class Write:
    """One VMWRITE: (old & ~clear) | set. `note` is set where it cannot be exported: what the reader has to do instead."""

    field: str
    set: int
    clear: int
    why: str
    note: str | None = None

    @property
    def encoding(self) -> int:
        """The field's encoding."""
        return FIELDS[self.field].encoding

    @property
    def whole(self) -> bool:
        """Whether the field gets a value whatever it was."""
        return self.clear == FIELDS[self.field].mask

    def value(self, read: str) -> str:
        """The value as a C expression; `read` is the function that reads a field."""
        if self.whole:
            return f"{self.set:#x}ull"
        old = f"{read}({self.encoding:#06x})" + (f" & ~{self.clear:#x}ull" if self.clear else "")
        return f"({old}) | {self.set:#x}ull" if self.set and self.clear else f"{old} | {self.set:#x}ull" if self.set else old


def export_entry(entry: Entry, trial: Trial, form: str) -> str:
    """The entry in one of the FORMS, for the processor of `trial`; raises UsageError where the processor lacks the case."""
    if form not in FORMS:
        raise UnknownNameError("form", form, FORMS)
    base, simplest = trial.base(entry.case.base), trial.base(_SIMPLEST)
    if base is None or simplest is None or not trial.applies(entry.case):
        raise UsageError(f"{entry.id}: {trial.model.capabilities.name} lacks the base {entry.case.base} or an operand")
    if form == _PROGRAM:
        return kvm_selftest(entry, base)
    fields = {key: value for key, value in entry.case.mutation.items() if not is_memory(key) and key in FIELDS}
    writes = [
        *_writes(simplest, {name: base.get(name) or 0 for name in base if name in FIELDS}, f"base {entry.case.base}"),
        *_writes(base, fields, "the finding"),
    ]
    return _PARTS[form](entry, writes, _by_hand(entry, base))


def _writes(before: Vmcs, after: Mapping[str, int], why: str) -> Iterator[Write]:
    start = before["io_bitmap_a"] - _HARNESS // 2
    for name, value in sorted(after.items(), key=lambda item: FIELDS[item[0]].encoding):
        old = before.get(name) or 0
        if old == value:
            continue
        if name in BITWISE:
            yield Write(name, value & ~old, old & ~value, why)
        elif 0 <= value - start < _HARNESS:
            yield Write(name, 0, 0, why, f"point {name} to memory of yours (here offset {value & 0xFFF:#x} in a page)")
        else:
            yield Write(name, value, FIELDS[name].mask, why)


def _by_hand(entry: Entry, base: Vmcs) -> list[str]:
    """What no VMWRITE can bring about: words of memory, entries before this one, live conditions."""
    memory = {key: value for key, value in entry.case.mutation.items() if is_memory(key)}
    addresses = {word_address(base, key) for key in memory}
    before = () if entry.behind is None else entry.behind.before
    return [
        *(
            f"the 64-bit word at {address:#x} of the harness is {word:#x} in the base"
            for address, word in base.memory.items()
            if word and address in addresses
        ),
        *(f"before it, in the same virtual machine, an entry with {_changes(row)}" for row in before),
        *(f"memory: {key} = {value:#x} (was {base_value(base, key):#x})" for key, value in memory.items()),
        *(f"{key} = {value:#x} ({LIVE[key].meaning})" for key, value in _live(entry, base).items()),
    ]


def _changes(row: Mapping[str, int]) -> str:
    return ", ".join(f"{key} = {value:#x}" for key, value in row.items()) or "no change of the base"


def _live(entry: Entry, base: Vmcs) -> dict[str, int]:
    """The live conditions that the case gives, and those of its base that are not 0 and that somebody can bring about."""
    of_base = {key: base[key] for key in base if key in LIVE and base[key] and (LIVE[key].settable or LIVE[key].of_batch)}
    return of_base | {key: value for key, value in entry.case.mutation.items() if key in LIVE}


def _head(entry: Entry) -> list[str]:
    result = entry.main_result
    return [
        f"vmfuzz {entry.id}: {entry.kind}" + (f" ({', '.join(entry.checks)})" if entry.checks else ""),
        f"The SDM allows: {', '.join(result.predicted)}.",
        f"{result.processors[0].executor} did: {result.actual}.",
    ]


def _name(entry: Entry) -> str:
    return f"vmfuzz_{entry.id}"


def _c(entry: Entry, writes: list[Write], by_hand: list[str]) -> str:
    body: list[str] = []
    for write in writes:
        if write.note:
            body.append(f"\t/* {write.note} */")
        else:
            body.append(f"\tvmwrite({write.encoding:#06x}, {write.value('vmread')}); /* {write.field}: {write.why} */")
    return "\n".join(
        [
            "/*",
            *(f" * {line}" for line in _head(entry)),
            " * Call it with a valid VMCS current, in VMX root operation, just before VMLAUNCH.",
            " */",
            "#include <stdint.h>",
            "",
            "static inline uint64_t vmread(uint64_t field)",
            "{",
            "\tuint64_t value;",
            '\t__asm__ volatile("vmread %1, %0" : "=r"(value) : "r"(field) : "cc");',
            "\treturn value;",
            "}",
            "",
            "static inline void vmwrite(uint64_t field, uint64_t value)",
            "{",
            '\t__asm__ volatile("vmwrite %1, %0" : : "r"(field), "r"(value) : "cc", "memory");',
            "}",
            "",
            f"void {_name(entry)}(void);",
            f"void {_name(entry)}(void)",
            "{",
            "\t(void)vmread;",
            "\t(void)vmwrite;",
            *(f"\t/* by hand: {note} */" for note in by_hand),
            *body,
            "}",
            "",
        ]
    )


def _kvm_unit_test(entry: Entry, writes: list[Write], by_hand: list[str]) -> str:
    exported = [write for write in writes if write.note is None]
    names = {write.encoding: f"saved_{index}" for index, write in enumerate(exported)}
    changes: list[str] = []
    for write in writes:
        if write.note:
            changes.append(f"\t/* {write.note} */")
        else:
            value = write.value("vmcs_read")
            changes.append(f"\tvmcs_write({write.encoding:#06x}, {value}); /* {write.field}: {write.why} */")
    return "\n".join(
        [
            "/*",
            *(f" * {line}" for line in _head(entry)),
            f" * For x86/vmx_tests.c: add TEST({_name(entry)}_test) to the table of tests.",
            " */",
            f"static void {_name(entry)}_test(void)",
            "{",
            *(f"\tu64 {name} = vmcs_read({encoding:#06x});" for encoding, name in names.items()),
            "",
            *(f"\t/* by hand: {note} */" for note in by_hand),
            *changes,
            "",
            *_expectation(entry),
            "",
            *(f"\tvmcs_write({encoding:#06x}, {name});" for encoding, name in names.items()),
            "}",
            "",
        ]
    )


def _expectation(entry: Entry) -> list[str]:
    """What a test has to see: the first outcome that the SDM allows, with the harness's way to enter that expects it."""
    allowed = entry.main_result.predicted
    wanted = next((text for text in allowed if not text.startswith("entered")), allowed[0])
    if wanted.startswith("VMfailValid("):
        number = wanted.removeprefix("VMfailValid(").rstrip(")")
        return [
            "\tenter_guest_with_bad_controls();",
            f'\treport(vmcs_read(VMX_INST_ERROR) == {number}, "VM-instruction error {number}");',
        ]
    if wanted.startswith("entry failure"):
        number = wanted.split()[2]
        return [
            "\tenter_guest_with_invalid_guest_state();",
            f'\treport(vmcs_read(EXI_REASON) == (VMX_ENTRY_FAILURE | {number}), "exit reason {number}, VM-entry failure");',
        ]
    return ["\tenter_guest();", '\treport(true, "the VM entry succeeds");']


def _syz(entry: Entry, writes: list[Write], by_hand: list[str]) -> str:
    masks = []
    for write in writes:
        if write.note is None:
            encoding = write.encoding
            member = f"{_AREAS[encoding >> 10 & 3]}{_WIDTHS[encoding >> 13 & 3]}"
            masks.append(
                f"@nested_intel_vmwrite_mask={{AUTO, AUTO, {{0x0, @{member}={encoding:#x}, {write.set:#x}, {write.clear:#x}, 0x0}}}}"
            )
    # the guest's code is HLT: whatever the entry does, the first exit tells
    calls = ["@enable_nested={AUTO, AUTO, 0x0}", "@nested_create_vm={AUTO, AUTO, 0x0}", '@nested_load_code={AUTO, AUTO, {0x0, "f4"}}']
    calls += [*masks, "@nested_vmlaunch={AUTO, AUTO, 0x0}"]
    return "\n".join(
        [
            *(f"# {line}" for line in _head(entry)),
            *_syz_limits(writes, len(calls)),
            "# requires: arch=amd64 -threaded",
            *(f"# by hand: {note}" for note in [*by_hand, *(write.note for write in writes if write.note)]),
            "#",
            "r0 = openat$kvm(0, &AUTO='/dev/kvm\\x00', 0x0, 0x0)",
            "r1 = ioctl$KVM_CREATE_VM(r0, AUTO, 0x0)",
            "r2 = syz_kvm_setup_syzos_vm$x86(r1, &(0x7f0000c00000/0x400000)=nil)",
            f"r3 = syz_kvm_add_vcpu$x86(r2, &AUTO={{0x0, &AUTO=[{', '.join(calls)}], AUTO}})",
            "r4 = ioctl$KVM_GET_VCPU_MMAP_SIZE(r0, AUTO)",
            "r5 = mmap$KVM_VCPU(&(0x7f0000009000/0x1000)=nil, r4, 0x3, 0x1, r3, 0x0)",
            "ioctl$KVM_RUN(r3, AUTO, 0x0)",
            "",
        ]
    )


def _syz_limits(writes: list[Write], calls: int) -> list[str]:
    """What of the program is beyond syzkaller's description of these calls (vmcs_field_encoding, kvm_text$x86)."""
    beyond = [write.field for write in writes if write.note is None and write.encoding > _SYZ_LAST.get(write.encoding & ~0x3FF, 0xFFFF)]
    lines = [f"# beyond the ranges that syzkaller's vmcs_field_encoding has: {', '.join(beyond)}"] if beyond else []
    if calls > _SYZ_CALLS:
        lines.append(f"# {calls} calls; syzkaller's kvm_text$x86 has at most {_SYZ_CALLS}: leave out writes of the base")
    return lines


#: The forms that are made of single writes, by name.
_PARTS: Final[Mapping[str, Callable[[Entry, list[Write], list[str]], str]]] = MappingProxyType(
    {"c": _c, "kvm-unit-test": _kvm_unit_test, "syz": _syz}
)
_PROGRAM: Final = "kvm-selftest"
#: The names of all forms.
FORMS: Final = (*_PARTS, _PROGRAM)
