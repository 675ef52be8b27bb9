"""The leaves that checks are written with: `vmcs.FIELD`, `live.CONDITION`, `memory.WORD`, `cap.FACT`, and phrases the SDM repeats.

A misspelt name raises at import. The capability facts are the table `FACTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple

from vmfuzz.arch.capabilities import IA32_PERF_CAPABILITIES, MASK64, Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS, Control, word_of
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.fields import FIELDS, field_named
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import UnknownNameError
from vmfuzz.model.expr import Bits, Cond, all_of, any_of, capability, operand

#: How many entries of the VM-entry MSR-load area the model reads.
MSR_LOAD_ENTRIES: Final = 4


class MemoryOperand(NamedTuple):
    """Where a memory operand lies: at (`address_field` & `address_mask`) + `offset`; it has `width` bits."""

    address_field: str
    address_mask: int
    offset: int
    width: int


#: Operands that VM entry reads from memory. msr_load_N_* are entry N (1-based) of the VM-entry MSR-load area.
MEMORY_OPERANDS: Final[Mapping[str, MemoryOperand]] = MappingProxyType(
    {
        "memory_link_dword": MemoryOperand("vmcs_link_pointer", MASK64 & ~7, 0, 32),
        "memory_vtpr": MemoryOperand("virtual_apic_address", MASK64 & ~7, 0x80, 8),
        **{f"memory_pdpte{index}": MemoryOperand("guest_cr3", 0xFFFFFFE0, 8 * index, 64) for index in range(4)},
        **{
            f"memory_msr_load_{number}_{part}": MemoryOperand("vm_entry_msr_load_address", MASK64 & ~7, 16 * (number - 1) + offset, 64)
            for number in range(1, MSR_LOAD_ENTRIES + 1)
            for part, offset in (("index", 0), ("data", 8))
        },
    }
)
#: Truths (1-bit operands): whether the memory that an operand lies in is described by the case at all.
KNOWN_SUFFIX: Final = "_known"


class _Vmcs:
    """`vmcs.guest_cr0` is the field as a value."""

    def __getattr__(self, name: str) -> Bits:
        return operand(name, field_named(name).width)


class _Live:
    """`live.smm` is the live condition `live_smm` as a value."""

    def __getattr__(self, name: str) -> Bits:
        full = f"live_{name}"
        if full not in LIVE:
            raise UnknownNameError("live condition", full, LIVE)
        return operand(full, LIVE[full].width)


class _Memory:
    """`memory.vtpr` is a memory operand as a value; `memory.vtpr_known` whether the case says what lies there."""

    def __getattr__(self, name: str) -> Bits:
        full = f"memory_{name}"
        base = full.removesuffix(KNOWN_SUFFIX)
        if base not in MEMORY_OPERANDS:
            raise UnknownNameError("memory operand", full, MEMORY_OPERANDS)
        return operand(full, 1 if full != base else MEMORY_OPERANDS[base].width)


def _perf_global_reserved(caps: Capabilities) -> int:
    """Bits that IA32_PERF_GLOBAL_CTRL does not define: it has one for each counter that exists, and bit 48 (EN_PERF_METRICS).

    General counters: CPUID.0AH:EAX[15:8]; fixed counter i: CPUID.0AH:ECX[i] or CPUID.0AH:EDX[4:0] > i. The bitmaps of CPUID.23H.1 (EAX general,
    EBX fixed) have precedence where they exist. Bit 48: IA32_PERF_CAPABILITIES[15].
    """
    eax, _, ecx, edx = caps.registers(0xA)
    general = (1 << (eax >> 8 & 0xFF)) - 1
    fixed = ecx | (1 << (edx & 0x1F)) - 1
    if caps.registers(0x23)[0] & 1 << 1:
        general, fixed = caps.registers(0x23, 1)[:2]
    metrics = caps.msr(IA32_PERF_CAPABILITIES) >> 15 & 1
    return MASK64 & ~(general | fixed << 32 | metrics << 48)


def _key_identifier_bits(caps: Capabilities) -> int:
    """The uppermost bits within the physical-address width that hold a key identifier."""
    width = caps.physical_address_width
    return (1 << width) - (1 << width - min(width, caps.key_identifier_bits))


def _efer_reserved(caps: Capabilities) -> int:
    """Bits that IA32_EFER does not define: all but SCE, LME, LMA and, with execute-disable, NXE."""
    defined = 1 << 0 | 1 << 8 | 1 << 10 | (1 << 11 if caps.has("nx") else 0)
    return MASK64 & ~defined


def _s_cet_reserved(caps: Capabilities) -> int:
    """Reserved bits of IA32_S_CET: 9:6 always, 1:0 without shadow stacks, 5:2 and 63:10 without indirect-branch tracking."""
    reserved = 0x3C0
    if not caps.has("cet_ss"):
        reserved |= 0x3
    if not caps.has("cet_ibt"):
        reserved |= 0x3C | (MASK64 & ~0x3FF)
    return reserved


def _rtit_ctl_reserved(caps: Capabilities) -> int:
    """Reserved bits of IA32_RTIT_CTL (CPUID.14H; SDM "Intel Processor Trace", table of the MSR)."""
    _, ebx, ecx, _ = caps.registers(0x14)
    ranges = caps.registers(0x14, 1)[0] & 7
    defined = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 10 | 1 << 11 | 1 << 13  # TraceEn, OS, User, TSCEn, DisRETC, BranchEn
    for present, bits in (
        (ebx & 1, 1 << 7),
        (ebx & 2, 1 << 1 | 0xF << 19 | 0xF << 24),
        (ebx & 8, 1 << 9 | 0xF << 14),
        (ebx & 0x10, 1 << 5 | 1 << 12),
        (ebx & 0x20, 1 << 4),
        (ebx & 0x40, 1 << 56),
        (ebx & 0x80, 1 << 31),
        (ebx & 0x100, 1 << 55),
        (ecx & 1, 1 << 8),
        (ecx & 8, 1 << 6),
        (ebx & 4, ((1 << 4 * ranges) - 1) << 32),
    ):
        defined |= bits if present else 0
    return MASK64 & ~defined


def _lbr_ctl_reserved(caps: Capabilities) -> int:
    """Reserved bits of IA32_LBR_CTL (CPUID.1CH:EBX: 0 CPL filtering, 1 branch filtering, 2 call-stack mode)."""
    ebx = caps.registers(0x1C)[1]
    defined = 1 | (0x6 if ebx & 1 else 0) | (0x7F << 16 if ebx & 2 else 0) | (8 if ebx & 4 else 0)
    return MASK64 & ~defined


def _spec_ctrl_reserved(caps: Capabilities) -> int:
    """Reserved bits of IA32_SPEC_CTRL (CPUID.7.0:EDX and CPUID.7.2:EDX); bit 1 (STIBP) not where IBRS exists (an ambiguity has it)."""
    edx = caps.registers(7, 2)[3]
    defined = int(caps.has("spec_ctrl")) | int(caps.has("stibp") or caps.has("spec_ctrl")) << 1 | int(caps.has("ssbd")) << 2
    for present, bits in ((edx & 1, 1 << 7), (edx & 2, 3 << 3), (edx & 4, 3 << 5), (edx & 8, 1 << 8), (edx & 16, 1 << 10)):
        defined |= bits if present else 0
    return MASK64 & ~defined


#: CR0.NW and CR0.CD, which are never checked (SDM "Checks on Host Control Registers, MSRs, and SSP").
_NEVER_CHECKED: Final = 3 << 29


#: Every capability fact that checks may read: name -> how it is computed.
FACTS: Final[Mapping[str, Callable[[Capabilities], int]]] = MappingProxyType(
    {
        **{
            f"{key}_must_be_1": (lambda caps, key=key: caps.allowed_settings(key)[0])  # type: ignore[misc]
            for key in CONTROL_WORDS
        },
        **{
            f"{key}_may_be_1": (lambda caps, key=key: caps.allowed_settings(key)[1])  # type: ignore[misc]
            for key in CONTROL_WORDS
        },
        **{f"has_{name}": (lambda caps, name=name: int(caps.has(name))) for name in FEATURES},  # type: ignore[misc]
        "revision": lambda caps: caps.revision,
        "dual_monitor": lambda caps: int(caps.dual_monitor),
        "error_code_optional": lambda caps: int(caps.error_code_optional),
        "nested_exception": lambda caps: int(caps.nested_exception),
        "beyond_physical_width": lambda caps: caps.beyond_physical_width,
        "beyond_maxphyaddr": lambda caps: MASK64 & ~((1 << caps.physical_address_width) - 1),
        "cr3_reserved": lambda caps: caps.cr3_reserved,
        "key_identifier_bits": _key_identifier_bits,
        "beyond_physical_width_or_key": lambda caps: caps.beyond_physical_width | _key_identifier_bits(caps),
        "beyond_maxphyaddr_or_key": lambda caps: MASK64 & ~((1 << caps.physical_address_width) - 1) | _key_identifier_bits(caps),
        "cr3_reserved_or_key": lambda caps: caps.cr3_reserved | _key_identifier_bits(caps),
        "canonical_bias": lambda caps: 1 << (caps.linear_address_width - 1),
        "canonical_limit": lambda caps: (1 << caps.linear_address_width) - 1,
        "identical_low_maximum": lambda caps: (1 << caps.linear_address_width) - 1,
        "identical_high_minimum": lambda caps: MASK64 & ~((1 << caps.linear_address_width) - 1),
        "cr0_must_be_1": lambda caps: caps.cr0_fixed[0] & ~_NEVER_CHECKED,
        "cr0_must_be_0": lambda caps: MASK64 & ~caps.cr0_fixed[1] & ~_NEVER_CHECKED,
        "cr4_must_be_1": lambda caps: caps.cr4_fixed[0],
        "cr4_must_be_0": lambda caps: MASK64 & ~caps.cr4_fixed[1],
        "cr3_target_limit": lambda caps: caps.cr3_target_limit,
        "activity_states": lambda caps: caps.activity_states,
        "instruction_length_minimum": lambda caps: 0 if caps.instruction_length_0 else 1,
        "ept_vpid_cap": lambda caps: caps.msr(0x48C),
        "efer_reserved": _efer_reserved,
        "s_cet_reserved": _s_cet_reserved,
        "perf_global_reserved": _perf_global_reserved,
        "performance_monitoring_version": lambda caps: caps.registers(0xA)[0] & 0xFF,
        "rtit_ctl_reserved": _rtit_ctl_reserved,
        "lbr_ctl_reserved": _lbr_ctl_reserved,
        "spec_ctrl_reserved": _spec_ctrl_reserved,
        "xss_reserved": lambda caps: MASK64 & ~(caps.registers(0xD, 1)[2] | caps.registers(0xD, 1)[3] << 32),
        "lbr_depths": lambda caps: caps.registers(0x1C)[0] & 0xFF,
    }
)


class _Cap:
    """`cap.revision` is a capability fact as a value."""

    def __getattr__(self, name: str) -> Bits:
        if name not in FACTS:
            raise UnknownNameError("capability fact", name, FACTS)
        return capability(name)


vmcs: Final = _Vmcs()
live: Final = _Live()
memory: Final = _Memory()
cap: Final = _Cap()


def capability_reader(capabilities: Capabilities) -> Callable[[str], int]:
    """The function that gives each capability fact of `capabilities` as a number."""

    @cache
    def read(name: str) -> int:
        return FACTS[name](capabilities)

    return read


# Phrases that the SDM repeats


def enabled(control: Control) -> Cond:
    """The control is 1 and counts: the control that activates its word, if there is one, is 1 too."""
    word = word_of(control)
    bit = operand(word.field, field_named(word.field).width)[control]
    return bit if word.activated_by is None else all_of(enabled(word.activated_by), bit)


def may_be_1(control: Control) -> Cond:
    """The processor allows the control to be 1."""
    return (capability(f"{word_of(control).key}_may_be_1") & 1 << control) != 0


def has(feature: str) -> Cond:
    """CPUID reports the feature."""
    if feature not in FEATURES:
        raise UnknownNameError("CPUID feature", feature, FEATURES)
    return capability(f"has_{feature}") == 1


def within_physical_width(address: Bits) -> Cond:
    """The address sets no bit beyond the physical-address width (nor, with IA32_VMX_BASIC[48], beyond 32 bits)."""
    return (address & cap.beyond_physical_width) == 0


def aligned(address: Bits, bits: int) -> Cond:
    """The low `bits` bits of the address are 0."""
    return address[bits - 1 : 0] == 0


def canonical(address: Bits) -> Cond:
    """Bits 63:N-1 of the address are identical, N the processor's linear-address width."""
    return address + cap.canonical_bias <= cap.canonical_limit


def canonical_48(address: Bits) -> Cond:
    """Bits 63:47 of the address are identical: canonical under paging with four levels."""
    return address + (1 << 47) <= (1 << 48) - 1


def identical_above(address: Bits) -> Cond:
    """Bits 63:N of the address are identical; bit N-1 may differ (weaker than canonical)."""
    return any_of(address <= cap.identical_low_maximum, address >= cap.identical_high_minimum)


def operand_width(name: str) -> int:
    """Width in bits of a field, live condition or memory operand."""
    if name in FIELDS:
        return FIELDS[name].width
    if name in LIVE:
        return LIVE[name].width
    if name.endswith(KNOWN_SUFFIX):
        return 1
    return MEMORY_OPERANDS[name].width
