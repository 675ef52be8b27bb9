"""What a WRMSR refuses, MSR by MSR, as far as the SDM says it for every processor or by CPUID (Vol. 4, "Architectural MSRs"; Vol. 2 "WRMSR").

msr_load.py makes checks of it. A refusal is certain where the manual names it. That a value is taken is certain only where existence and value are
all that counts: `Rule.open` says where more does. docs/model.md lists the MSRs that are left out, with the reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vmfuzz.arch.capabilities import MASK64
from vmfuzz.arch.registers import IA32_APIC_BASE, S_CET
from vmfuzz.model.expr import FALSE, TRUE, Bits, Cond, all_of, any_of
from vmfuzz.model.operands import cap, has, live

IA32_TIME_STAMP_COUNTER, IA32_TSC_ADJUST, IA32_SPEC_CTRL, IA32_PRED_CMD, IA32_SMM_MONITOR_CTL = 0x10, 0x3B, 0x48, 0x49, 0x9B
IA32_UMWAIT_CONTROL, IA32_FLUSH_CMD, IA32_TSX_CTRL = 0xE1, 0x10B, 0x122
IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP = 0x174, 0x175, 0x176
IA32_SMRR_PHYSBASE, IA32_SMRR_PHYSMASK = 0x1F2, 0x1F3
IA32_DEBUGCTL, IA32_PAT, IA32_MTRR_DEF_TYPE, IA32_PERF_GLOBAL_CTRL, IA32_RTIT_CTL, IA32_DS_AREA = 0x1D9, 0x277, 0x2FF, 0x38F, 0x570, 0x600
IA32_U_CET, IA32_S_CET, IA32_PL0_SSP, IA32_INTERRUPT_SSP_TABLE_ADDR, IA32_TSC_DEADLINE, IA32_PKRS = 0x6A0, 0x6A2, 0x6A4, 0x6A8, 0x6E0, 0x6E1
IA32_UINTR_RR, IA32_UINTR_HANDLER, IA32_UINTR_STACKADJUST, IA32_UINTR_MISC, IA32_UINTR_PD, IA32_UINTR_TT = range(0x985, 0x98B)
IA32_BNDCFGS, IA32_PASID, IA32_XSS, IA32_LBR_CTL, IA32_LBR_DEPTH = 0xD90, 0xD93, 0xDA0, 0x14CE, 0x14CF
IA32_FRED_STKLVLS, IA32_FRED_CONFIG = 0x1D0, 0x1D4
IA32_EFER, IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
IA32_FS_BASE, IA32_GS_BASE, IA32_KERNEL_GS_BASE, IA32_TSC_AUX = 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103

#: MSRs that can only be read: IA32_PLATFORM_ID, IA32_MKTME_KEYID_PARTITIONING, IA32_SMBASE, IA32_XAPIC_DISABLE_STATUS, IA32_CORE_CAPABILITIES,
#: IA32_MTRRCAP, IA32_ARCH_CAPABILITIES, IA32_MCG_CAP, IA32_OVERCLOCKING_STATUS, IA32_PERF_STATUS, IA32_PLATFORM_DCA_CAP, IA32_PERF_CAPABILITIES,
#: IA32_PERF_GLOBAL_STATUS, IA32_PERF_GLOBAL_INUSE, the capability MSRs of VMX, IA32_SGX_SVN_STATUS, IA32_HWP_CAPABILITIES, IA32_TME_CAPABILITY,
#: IA32_COPY_STATUS, IA32_IWKEYBACKUP_STATUS, IA32_QM_CTR, IA32_THREAD_STALL, IA32_THREAD_FEEDBACK_CHAR; and IA32_FEATURE_CONTROL, whose lock bit is
#: 1 in VMX operation. Where one does not exist a WRMSR faults too.
READ_ONLY: Final = (
    *(0x17, 0x3A, 0x87, 0x9E, 0xBD, 0xCF, 0xFE, 0x10A, 0x179, 0x195, 0x198, 0x1F8, 0x345, 0x38E, 0x392),
    *range(0x480, 0x494),
    *(0x500, 0x771, 0x981, 0x990, 0x991, 0xC8E, 0xDB2, 0x17D2),
)
#: MSRs that can be written in SMM only; where one does not exist a WRMSR faults too.
SMM_ONLY: Final = (IA32_SMM_MONITOR_CTL, IA32_SMRR_PHYSBASE, IA32_SMRR_PHYSMASK)
#: Bits 31:16 of the MSR numbers that no processor will have (40000000H to 4000FFFFH).
NEVER: Final = 0x4000
#: MSRs whose WRMSR refuses no value (of IA32_STAR and IA32_SYSENTER_CS: no 32-bit one).
FREE: Final = (IA32_TIME_STAMP_COUNTER, IA32_STAR, IA32_SYSENTER_CS)
SSPS: Final = tuple(range(IA32_PL0_SSP, IA32_PL0_SSP + 4))
FRED_RSPS, FRED_SSPS = (0x1CC, 0x1CD, 0x1CE, 0x1CF), (0x1D1, 0x1D2, 0x1D3)
#: MSRs that hold a linear address, which must be canonical; the low bits of some are flags.
LINEAR: Final = (
    *(IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_LSTAR, IA32_CSTAR, IA32_KERNEL_GS_BASE),
    *(IA32_DS_AREA, IA32_U_CET, IA32_S_CET, *SSPS, IA32_INTERRUPT_SSP_TABLE_ADDR, *FRED_RSPS, *FRED_SSPS, IA32_FRED_CONFIG),
    *(IA32_UINTR_HANDLER, IA32_UINTR_STACKADJUST, IA32_UINTR_PD, IA32_UINTR_TT, IA32_BNDCFGS),
)
MTRR_PHYSBASES, MTRR_PHYSMASKS = tuple(range(0x200, 0x214, 2)), tuple(range(0x201, 0x214, 2))
MTRR_FIXED: Final = (0x250, 0x258, 0x259, *range(0x268, 0x270))
#: IA32_MCi_STATUS of the 32 banks that there can be.
MC_STATUS: Final = tuple(range(0x401, 0x480, 4))


def _legal(_data: Bits) -> Cond:
    return TRUE


def _never_open(_data: Bits) -> Cond:
    return FALSE


def _always_open(_data: Bits) -> Cond:
    return TRUE


@dataclass(frozen=True)
class Rule:
    """When a WRMSR of some MSRs faults: they do not exist (`exists`), a bit of `reserved` is 1, or the value is not `legal`.

    `open`: whether something else may make it fault, for values that do not fault for these reasons.
    """

    msrs: tuple[int, ...]
    exists: Cond
    reserved: Bits | int = 0
    legal: Callable[[Bits], Cond] = _legal
    open: Callable[[Bits], Cond] = _never_open

    def takes(self, data: Bits) -> Cond:
        """No reason is there to fault."""
        return all_of(self.exists, (data & self.reserved) == 0, self.legal(data))


def _memory_type(value: Bits) -> Cond:
    """UC, WC, WT, WP or WB."""
    return value.one_of(0, 1, 4, 5, 6)


def valid_memory_types(index: Bits, data: Bits) -> Cond:
    """The memory types in an MTRR are defined ones."""
    each = all_of(*(_memory_type(data[8 * byte + 7 : 8 * byte]) for byte in range(8)))
    return all_of(
        index.one_of(*MTRR_PHYSBASES, IA32_MTRR_DEF_TYPE).implies(_memory_type(data[7:0])),
        index.one_of(*MTRR_FIXED).implies(each),
    )


def _apic_mode(data: Bits) -> Cond:
    """x2APIC mode only with the APIC enabled, and where it exists; from that mode the APIC can only be disabled."""
    return all_of(data[10].implies(all_of(data[11], has("x2apic"))), all_of(live.x2apic_mode == 1, data[11]).implies(data[10]))


def _no_suppress_while_tracking(data: Bits) -> Cond:
    return ~(data[S_CET.SUPPRESS] & data[S_CET.TRACKER])


def _depth(data: Bits) -> Cond:
    """8 (n + 1) entries, where CPUID.1CH:EAX[n] is 1."""
    return any_of(*(all_of(data == 8 * (n + 1), (cap.lbr_depths & 1 << n) != 0) for n in range(8)))


def _no_stibp(data: Bits) -> Cond:
    return all_of(~has("stibp"), data[1])


_HIGH: Final = 0xFFFF_FFFF_0000_0000
_CET: Final = any_of(has("cet_ss"), has("cet_ibt"))
RULES: Final = (
    Rule((IA32_SPEC_CTRL,), has("spec_ctrl"), cap.spec_ctrl_reserved, open=_no_stibp),
    Rule((IA32_PRED_CMD,), has("spec_ctrl"), MASK64 & ~1),
    Rule((IA32_FLUSH_CMD,), has("flush_l1d"), MASK64 & ~1),
    # bits 2 and 15:6 are model-specific
    Rule((IA32_DEBUGCTL,), TRUE, 0xFFFF_FFFF_FFFF_0038, open=lambda data: (data & 0xFFC4) != 0),
    Rule((IA32_PERF_GLOBAL_CTRL,), cap.performance_monitoring_version >= 2, cap.perf_global_reserved),
    Rule((IA32_PKRS,), has("pks"), _HIGH),
    Rule((IA32_FMASK,), has("intel64"), _HIGH),
    Rule((IA32_TSC_AUX,), has("rdtscp") | has("rdpid"), _HIGH),
    Rule((IA32_TSC_ADJUST,), has("tsc_adjust")),
    Rule((IA32_TSC_DEADLINE,), has("tsc_deadline")),
    # its address and mode: what WRMSR allows depends on the mode that the APIC is in
    Rule((IA32_APIC_BASE,), has("apic"), cap.beyond_maxphyaddr | 0x2FF, _apic_mode, _always_open),
    Rule((IA32_UMWAIT_CONTROL,), has("waitpkg"), _HIGH | 2),
    # whether it exists, IA32_ARCH_CAPABILITIES[7] says
    Rule((IA32_TSX_CTRL,), TRUE, MASK64 & ~3, open=_always_open),
    # how many exist, IA32_MTRRCAP says
    Rule(MTRR_PHYSBASES, has("mtrr"), cap.beyond_maxphyaddr | 0xF00, open=_always_open),
    Rule(MTRR_PHYSMASKS, has("mtrr"), cap.beyond_maxphyaddr | 0x7FF, open=_always_open),
    Rule(MTRR_FIXED, has("mtrr"), open=_always_open),
    Rule((IA32_MTRR_DEF_TYPE,), has("mtrr"), MASK64 & ~0xCFF, open=lambda data: data[10]),
    # how many exist, IA32_MCG_CAP says
    Rule(MC_STATUS, TRUE, MASK64, open=_always_open),
    # while tracing is on, and for combinations of settings, more faults
    Rule((IA32_RTIT_CTL,), has("pt"), cap.rtit_ctl_reserved, open=_always_open),
    # whether it exists, IA32_MISC_ENABLE[12] says too
    Rule((IA32_DS_AREA,), has("ds"), open=_always_open),
    Rule((IA32_U_CET, IA32_S_CET), _CET, cap.s_cet_reserved, _no_suppress_while_tracking),
    Rule(SSPS[:1], has("cet_ss") | has("fred"), 3),
    Rule(SSPS[1:], has("cet_ss"), 3),
    Rule((IA32_INTERRUPT_SSP_TABLE_ADDR,), has("cet_ss")),
    Rule((IA32_XSS,), has("xsaves"), cap.xss_reserved),
    Rule((IA32_BNDCFGS,), has("mpx"), 0xFFC),
    Rule((IA32_PASID,), has("enqcmd"), MASK64 & ~0x800F_FFFF),
    Rule((IA32_LBR_CTL,), has("arch_lbr"), cap.lbr_ctl_reserved),
    Rule((IA32_LBR_DEPTH,), has("arch_lbr"), 0, _depth),
    Rule(FRED_RSPS, has("fred"), 0x3F),
    Rule(FRED_SSPS, has("fred"), 7),
    Rule((IA32_FRED_STKLVLS,), has("fred")),
    Rule((IA32_FRED_CONFIG,), has("fred"), 0x834),
    Rule((IA32_UINTR_RR, IA32_UINTR_HANDLER), has("uintr")),
    Rule((IA32_UINTR_STACKADJUST,), has("uintr"), 6),
    Rule((IA32_UINTR_MISC,), has("uintr"), 0xFFFF_FF00_0000_0000),
    Rule((IA32_UINTR_PD,), has("uintr"), 0x3F),
    Rule((IA32_UINTR_TT,), has("uintr"), 0xE),
)
RULED: Final = tuple(msr for rule in RULES for msr in rule.msrs)
#: All MSRs of which something is certain.
MODELLED: Final = (*LINEAR, *FREE, *SMM_ONLY, *READ_ONLY, *RULED, IA32_FS_BASE, IA32_GS_BASE, IA32_PAT, IA32_EFER)


def takes(index: Bits, data: Bits) -> Cond:
    """The MSR exists and no reserved bit of the value is 1, for the MSRs of RULES."""
    return all_of(*(index.one_of(*rule.msrs).implies(rule.takes(data)) for rule in RULES))


def left_open(index: Bits, data: Bits) -> Cond:
    """Whether another reason may make the WRMSR fault, of a value that no rule here refuses."""
    return any_of(*(all_of(index.one_of(*rule.msrs), rule.open(data)) for rule in RULES if rule.open is not _never_open))
