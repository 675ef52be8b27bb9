"""Write the profiles of processors (src/vmfuzz/state/processors/) and docs/processors.md anew, from facts and their sources.

    python tools/write_processors.py

What a processor reports stands in processors/NAME.tsv beside this script, a line a fact with its source (SOURCES). Facts of the synthetic ones are
computed from the names of controls and CPUID features in src/vmfuzz/arch. The state of each is what the engine would capture there under
Linux (LINUX): kmod/engine.c says which controls it sets and which registers it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_campaigns import results
from processors_page import page
from vmfuzz.arch.capabilities import Capabilities, Leaf, Registers
from vmfuzz.arch.controls import CONTROL_WORDS, Control, Entry, Exit, Pin, Primary, Secondary, Tertiary
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.registers import CR4
from vmfuzz.files import write_text
from vmfuzz.state.profiles import capabilities, known_good, write_profile
from vmfuzz.state.vmcs import Vmcs

ROOT: Final = Path(__file__).parents[1]
FACTS: Final = Path(__file__).with_name("processors")
PROFILES: Final = ROOT / "src" / "vmfuzz" / "state" / "processors"
PAGE: Final = ROOT / "docs" / "processors.md"

#: What stands in the column "source" of the tables of facts, and what it means.
SOURCES: Final[Mapping[str, str]] = {
    "dump": "read from the processor: the CPUID and MSR dump named in the heading, https://github.com/InstLatx64/InstLatx64 (commit 087af2c), "
    "logical processor 0 (of a hybrid processor a performance core); capability MSRs are the same on all of its logical processors",
    "syscall": "bit 11 (SYSCALL) added: the dump was made by a 32-bit program, and CPUID reports SYSCALL in 64-bit mode only (SDM Vol. 2A, CPUID)",
    "perf-linux": "synthetic: the bits of IA32_PERF_CAPABILITIES that Linux's perf expects of this processor (arch/x86/events/intel: LBR format, PEBS "
    "format 4 with baseline, freezing in SMM, full-width writes, PERF_METRICS). Checks look at bit 15 alone",
    "vmfunc": 'synthetic: the dump ends at 490H; "enable VM functions" may be 1, and EPTP switching is the only VM function that the SDM defines',
    "ipi-virt": 'synthetic: the dump ends at 490H; "activate tertiary controls" may be 1, and Linux reports IPI virtualization ("ipi_virt" among the '
    "vmx flags of /proc/cpuinfo) on server processors from Sapphire Rapids on and on the client generation of this one",
    "hlat": "synthetic: the dump ends at 490H; Intel's datasheets of client processors from the 12th generation on name HLAT, which comes with "
    "paging-write control and guest-paging verification",
    "exit-2": 'synthetic: the dump ends at 490H; "activate secondary controls" may be 1, and so may "prematurely busy shadow stack", since '
    "IA32_VMX_EPT_VPID_CAP reports supervisor shadow-stack control",
    "tme-off": "synthetic: the processor has total memory encryption, and firmware leaves it off by default: no key bits",
    "sdm": "synthetic: computed from the SDM's tables of controls, registers and CPUID features as src/vmfuzz/arch has them",
}


@dataclass(frozen=True)
class Fact:
    """One thing that a processor reports: `what` is "MSR 480H" or "CPUID 7.0", the value in hexadecimal as a person compares it, its source."""

    what: str
    value: str
    source: str


@dataclass(frozen=True)
class Processor:
    """A processor whose profile ships: its name, one line on what it is, what is known of it, and the dump that tells it."""

    name: str
    description: str
    facts: tuple[Fact, ...]
    dump: str | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the facts say."""
        msrs: dict[int, int] = {}
        cpuid: dict[Leaf, Registers] = {}
        for fact in self.facts:
            kind, number = fact.what.split(" ")
            if kind == "MSR":
                msrs[int(number.removesuffix("H"), 16)] = int(fact.value, 16)
            else:
                leaf, subleaf = (int(part, 16) for part in number.split("."))
                eax, ebx, ecx, edx = (int(word, 16) for word in fact.value.split(" "))
                cpuid[leaf, subleaf] = eax, ebx, ecx, edx
        return Capabilities(self.name, msrs, cpuid)


def read(path: Path) -> Processor:
    """The processor of a table of facts."""
    title, dump, _, *lines = path.read_text(encoding="utf-8").splitlines()
    facts = tuple(Fact(*line.split("\t")) for line in lines)
    for fact in facts:
        for word in fact.source.split(", "):
            if word not in SOURCES:
                raise SystemExit(f"{path}: {fact.what}: source {word!r} is none of {', '.join(SOURCES)}")
    return Processor(
        path.stem, f"{title.removeprefix('# ')}: what a public dump holds, the rest synthetic", facts, dump.removeprefix("# dump: ")
    )


# Processors that nobody has

#: Controls that only the TDX module may set.
_SEAM: Final = {"tertiary": Tertiary.SEAM_GUEST_PHYSICAL_ADDRESS_WIDTH, "entry": Entry.ALLOW_SEAM_GUEST_TELEMETRY}
#: Controls that are reserved and 1 (SDM Vol. 3D, "Reserved Controls and Default Settings"), and those of them that the TRUE MSRs let be 0.
_DEFAULT_1: Final = {"pin": 0x16, "primary": 0x0401E172, "exit": 0x00036DFF, "entry": 0x000011FF}
_TRUE_0: Final = {"pin": 0, "primary": 1 << 15 | 1 << 16, "exit": 1 << 2, "entry": 1 << 2}


def _mask(key: str) -> int:
    return sum(1 << bit for bit in CONTROL_WORDS[key].bits if bit is not _SEAM.get(key))


def _control_msrs() -> dict[int, int]:
    """The MSRs that report controls, each of which may be 1."""
    msrs = {0x48B: _mask("secondary") << 32}
    for key, must in _DEFAULT_1.items():
        word, may = CONTROL_WORDS[key], _mask(key) | must
        assert word.true_msr is not None
        msrs[word.msr], msrs[word.true_msr] = may << 32 | must, may << 32 | must & ~_TRUE_0[key]
    return {**msrs, **{word.msr: _mask(word.key) for word in CONTROL_WORDS.values() if word.only_allowed_1}}


def _everything() -> tuple[dict[int, int], dict[Leaf, Registers]]:
    """The newest processor there is a dump of, and all that it lacks."""
    newest = read(FACTS / "granite_rapids.tsv").capabilities
    msrs = {
        **newest.msrs,
        **_control_msrs(),
        0x480: newest.msrs[0x480] | 1 << 58,  # nested exceptions, which come with FRED
        0x489: sum(1 << bit for bit in CR4) | 1 << 8,
        0x48A: max(field.encoding for field in FIELDS.values()) & 0x3FE,
    }
    cpuid = {key: list(registers) for key, registers in newest.cpuid.items()}
    for leaf, subleaf, register, bit in FEATURES.values():
        cpuid[leaf, subleaf][register] |= 1 << bit
    cpuid[0x14, 0][1] |= 0x1FF  # Intel PT: every feature that a bit of IA32_RTIT_CTL belongs to
    cpuid[0x14, 0][2] |= 0xF
    cpuid[0x1C, 0][1] |= 7
    cpuid[0x80000008, 0][0] = 0x3934
    return msrs, {key: (eax, ebx, ecx, edx) for key, (eax, ebx, ecx, edx) in cpuid.items()}


def _facts(msrs: Mapping[int, int], cpuid: Mapping[Leaf, Registers]) -> tuple[Fact, ...]:
    return (
        *(Fact(f"MSR {number:X}H", f"{value:016X}", "sdm") for number, value in sorted(msrs.items())),
        *(
            Fact(f"CPUID {leaf:X}.{subleaf:X}", " ".join(f"{register:08X}" for register in registers), "sdm")
            for (leaf, subleaf), registers in sorted(cpuid.items())
        ),
    )


def synthetic() -> tuple[Processor, ...]:
    """The processor with everything, and one on which what is optional is not: rules that some features lift hold there."""
    msrs, cpuid = _everything()
    strict = {**msrs, 0x480: msrs[0x480] & ~(1 << 56), 0x485: msrs[0x485] & ~(1 << 30)}
    eax, ebx, ecx, edx = cpuid[7, 1]
    no_lam = {**cpuid, (7, 1): (eax & ~(1 << 26), ebx, ecx, edx)}
    return (
        Processor("synthetic_everything", "no processor that exists: all that the SDM knows", _facts(msrs, cpuid)),
        Processor(
            "synthetic_strict",
            "no processor that exists: all that the SDM knows but what lifts rules (error codes not optional, no injection with length 0, no LAM)",
            _facts(strict, no_lam),
        ),
    )


def processors() -> tuple[Processor, ...]:
    """All processors whose profiles ship."""
    return (*(read(path) for path in sorted(FACTS.glob("*.tsv"))), *synthetic())


# The state


def _cr4(caps: Capabilities) -> int:
    ebx, ecx = caps.cpuid[7, 0][1:3]
    bits = {CR4.PSE, CR4.PAE, CR4.MCE, CR4.PGE, CR4.OSFXSR, CR4.OSXMMEXCPT, CR4.OSXSAVE, CR4.VMXE}
    for bit, present in (
        (CR4.UMIP, ecx >> 2 & 1),
        (CR4.LA57, caps.has("la57")),
        (CR4.FSGSBASE, ebx & 1),
        (CR4.PCIDE, caps.has("pcid")),
        (CR4.SMEP, ebx >> 7 & 1),
        (CR4.SMAP, ebx >> 20 & 1),
        (CR4.PKE, ecx >> 3 & 1),
        (CR4.CET, caps.has("cet_ss") or caps.has("cet_ibt")),
        (CR4.FRED, caps.has("fred")),
    ):
        bits |= {bit} if present else set()
    return sum(1 << bit for bit in bits)


def _perf_global_ctrl(caps: Capabilities) -> int:
    eax, _, ecx, edx = caps.cpuid[0xA, 0]
    general, fixed = (1 << (eax >> 8 & 0xFF)) - 1, ecx | (1 << (edx & 0x1F)) - 1
    if (0x23, 1) in caps.cpuid:
        general, fixed = caps.cpuid[0x23, 1][:2]
    return general | fixed << 32 | (caps.msr(0x345) >> 15 & 1) << 48


def _five_levels(with_them: int, without: int) -> Callable[[Capabilities], int]:
    return lambda caps: with_them if caps.has("la57") else without


@dataclass(frozen=True)
class Register:
    """What Linux leaves in a host-state field: a number, or how it follows from what the processor has; and where Linux does so."""

    field: str
    value: int | Callable[[Capabilities], int]
    source: str

    def of(self, caps: Capabilities) -> int:
        """The value on a processor."""
        return self.value if isinstance(self.value, int) else self.value(caps)


#: A 64-bit Linux 6.12 or newer, in the system call from which the module enters. Addresses are such as Linux has there, each on a machine's own.
LINUX: Final = (
    Register("host_cs_selector", 0x10, "__KERNEL_CS"),
    Register("host_ss_selector", 0x18, "__KERNEL_DS, from SYSCALL"),
    Register("host_tr_selector", 0x40, "GDT_ENTRY_TSS"),
    *(Register(f"host_{name}_selector", 0, "null: 64-bit code does not use it") for name in ("es", "ds", "fs", "gs")),
    Register("host_ia32_pat", 0x0407050600070106, "pat_bp_init (arch/x86/mm/pat/memtype.c): WB, WC, UC-, UC, WB, WP, UC-, WT"),
    Register("host_ia32_efer", 0xD01, "SCE, LME, LMA, NXE (arch/x86/kernel/head_64.S)"),
    Register(
        "host_ia32_perf_global_ctrl",
        _perf_global_ctrl,
        "every counter, and EN_PERF_METRICS (bit 48) where IA32_PERF_CAPABILITIES reports PERF_METRICS (intel_pmu_init, arch/x86/events/intel/core.c)",
    ),
    Register("host_ia32_pkrs", 0, "no user of supervisor protection keys"),
    Register("host_ia32_sysenter_cs", 0x10, "__KERNEL_CS"),
    Register("host_cr0", 0x80050033, "CR0_STATE (arch/x86/include/uapi/asm/processor-flags.h): PE, MP, ET, NE, WP, AM, PG"),
    Register("host_cr3", 0x10A26002, "page tables, with PCID 2"),
    Register(
        "host_cr4",
        _cr4,
        "what the processor has of UMIP, LA57, FSGSBASE, PCIDE, SMEP, SMAP, PKE (PKRU), CET, FRED, and what every 64-bit one has "
        "(arch/x86/kernel/cpu/common.c); VMXE",
    ),
    Register("host_fs_base", 0x00007F3A5C1D2740, "the process's"),
    Register(
        "host_gs_base", _five_levels(0xFF11003FBF600000, 0xFFFF88903F600000), "per-CPU area, in the map of all memory of the paging mode"
    ),
    Register("host_tr_base", 0xFFFFFE0000003000, "CPU entry area (arch/x86/include/asm/cpu_entry_area.h)"),
    Register("host_gdtr_base", 0xFFFFFE0000001000, "CPU entry area"),
    Register("host_idtr_base", 0xFFFFFE0000000000, "CPU entry area"),
    Register("host_ia32_sysenter_esp", 0xFFFFFE0000003000, "entry stack, in the CPU entry area"),
    Register("host_ia32_sysenter_eip", 0xFFFFFFFF82001270, "entry_SYSENTER_compat"),
    Register(
        "host_rsp", _five_levels(0xFFA0000007A7FE00, 0xFFFFC90007A7FE00), "the driver's stack, in the vmalloc area of the paging mode"
    ),
    Register("host_rip", 0xFFFFFFFFC0A03120, "the engine's exit handler, in the area of modules"),
    Register("host_ia32_s_cet", lambda caps: 4 if caps.has("cet_ibt") else 0, "ENDBR_EN: kernel IBT (arch/x86/kernel/cpu/common.c)"),
    Register("host_ssp", 0, "no supervisor shadow stacks"),
    Register("host_ia32_interrupt_ssp_table_addr", 0, "no supervisor shadow stacks"),
)
#: Controls that the engine sets where it may (kmod/engine.c, capture_controls).
_CAPTURED: Final[tuple[Control, ...]] = (
    *(Pin.EXTERNAL_INTERRUPT_EXITING, Pin.NMI_EXITING, Pin.ACTIVATE_VMX_PREEMPTION_TIMER),
    *(Primary.HLT_EXITING, Primary.ACTIVATE_SECONDARY_CONTROLS, Secondary.ENABLE_EPT),
    *(Exit.HOST_ADDRESS_SPACE_SIZE, Exit.LOAD_IA32_PERF_GLOBAL_CTRL, Exit.LOAD_IA32_PAT, Exit.LOAD_IA32_EFER),
    *(Exit.CLEAR_IA32_BNDCFGS, Exit.LOAD_CET_STATE, Exit.LOAD_PKRS),
    *(Entry.IA32E_MODE_GUEST, Entry.LOAD_IA32_PAT, Entry.LOAD_IA32_EFER),
)
#: Limit and access rights of the segments of LINUX (arch/x86/kernel/cpu/common.c, the GDT).
_SEGMENTS: Final = {"cs": (0xFFFFFFFF, 0xA09B), "ss": (0xFFFFFFFF, 0xC093), "tr": (0x4087, 0x8B)}
#: Guest registers that the engine takes from the host's.
_SHARED: Final = (
    *("cr0", "cr4", "ia32_pat", "ia32_efer", "ia32_sysenter_cs", "ia32_sysenter_esp", "ia32_sysenter_eip"),
    *("fs_base", "gs_base", "tr_base", "gdtr_base", "idtr_base"),
)


def state(caps: Capabilities) -> Vmcs:
    """What the engine captures under Linux on a processor with these capabilities."""
    emulated = known_good(capabilities("corei7_skylake_x"))
    values = {field.name: 0 for field in caps.fields if field.writable}
    values |= {name: value for name, value in emulated.items() if name in values or name not in FIELDS}
    for word in CONTROL_WORDS.values():
        if word.field in values:
            values[word.field] = caps.adjust(word.key, sum(1 << bit for bit in _CAPTURED if isinstance(bit, word.bits)))
    host = {register.field: register.of(caps) for register in LINUX}
    values |= {name: value for name, value in host.items() if name in values}
    values |= {f"guest_{name}": host[f"host_{name}"] for name in _SHARED}
    for segment in ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"):
        limit, rights = _SEGMENTS.get(segment, (0, 0x10000))
        values[f"guest_{segment}_selector"] = host.get(f"host_{segment}_selector", 0)
        values[f"guest_{segment}_limit"], values[f"guest_{segment}_access_rights"] = limit, rights
    values |= {
        "guest_gdtr_limit": 0x7F,
        "guest_idtr_limit": 0xFFF,
        "cr0_read_shadow": host["host_cr0"],
        "cr4_read_shadow": host["host_cr4"],
    }
    return Vmcs({**values, "live_efer": host["host_ia32_efer"]}, emulated.memory)


def text() -> str:
    """docs/processors.md."""
    return page(processors(), SOURCES, LINUX, {processor.name: state(processor.capabilities) for processor in processors()}, results())


def main() -> None:
    """Write the profiles and the page."""
    for processor in processors():
        caps = processor.capabilities
        print(write_profile(PROFILES, processor.name, caps, state(caps), processor.description))
    write_text(PAGE, text())


if __name__ == "__main__":
    main()
