"""Names of the bits of registers and VMCS fields, one table a register.

The controls are in controls.py. Sources: SDM Vol. 3A "System Architecture Overview" (control registers, EFER), Vol. 3C "Virtual
Machine Control Structures" (access rights, interruptibility state, pending debug exceptions, interruption information) and
Vol. 4 (MSRs).
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import Final

from vmfuzz.arch.controls import CONTROL_WORDS

#: Number of the MSR; its bits are APIC_BASE.
IA32_APIC_BASE: Final = 0x1B


class CR0(enum.IntEnum):
    """Control register CR0."""

    PE = 0
    MP = 1
    EM = 2
    TS = 3
    ET = 4
    NE = 5
    WP = 16
    AM = 18
    NW = 29
    CD = 30
    PG = 31


class CR4(enum.IntEnum):
    """Control register CR4."""

    VME = 0
    PVI = 1
    TSD = 2
    DE = 3
    PSE = 4
    PAE = 5
    MCE = 6
    PGE = 7
    PCE = 8
    OSFXSR = 9
    OSXMMEXCPT = 10
    UMIP = 11
    LA57 = 12
    VMXE = 13
    SMXE = 14
    FSGSBASE = 16
    PCIDE = 17
    OSXSAVE = 18
    KL = 19
    SMEP = 20
    SMAP = 21
    PKE = 22
    CET = 23
    PKS = 24
    UINTR = 25
    LASS = 27
    LAM_SUP = 28
    FRED = 32


class APIC_BASE(enum.IntEnum):
    """IA32_APIC_BASE: x2APIC mode (EXTD), APIC global enable (EN)."""

    EXTD = 10
    EN = 11


class EFER(enum.IntEnum):
    """IA32_EFER."""

    SCE = 0
    LME = 8
    LMA = 10
    NXE = 11


class RFLAGS(enum.IntEnum):
    """RFLAGS."""

    CF = 0
    RESERVED_1 = 1
    PF = 2
    AF = 4
    ZF = 6
    SF = 7
    TF = 8
    IF = 9
    DF = 10
    OF = 11
    NT = 14
    RF = 16
    VM = 17
    AC = 18
    VIF = 19
    VIP = 20
    ID = 21


class DEBUGCTL(enum.IntEnum):
    """IA32_DEBUGCTL."""

    LBR = 0
    BTF = 1
    BLD = 2
    TR = 6
    BTS = 7
    BTINT = 8
    BTS_OFF_OS = 9
    BTS_OFF_USR = 10
    FREEZE_LBRS_ON_PMI = 11
    FREEZE_PERFMON_ON_PMI = 12
    ENABLE_UNCORE_PMI = 13
    FREEZE_WHILE_SMM = 14
    RTM = 15


class AR(enum.IntEnum):
    """Access rights of a segment register; the segment type is bits 3:0, the DPL bits 6:5."""

    ACCESSED = 0
    S = 4
    P = 7
    AVL = 12
    L = 13
    DB = 14
    G = 15
    UNUSABLE = 16


class INTERRUPTIBILITY(enum.IntEnum):
    """Guest interruptibility state."""

    BLOCKING_BY_STI = 0
    BLOCKING_BY_MOV_SS = 1
    BLOCKING_BY_SMI = 2
    BLOCKING_BY_NMI = 3
    ENCLAVE_INTERRUPTION = 4


class PENDING_DEBUG(enum.IntEnum):
    """Guest pending debug exceptions."""

    B0 = 0
    B1 = 1
    B2 = 2
    B3 = 3
    BLD = 11
    ENABLED_BREAKPOINT = 12
    BS = 14
    RTM = 16


class INTERRUPTION_INFO(enum.IntEnum):
    """VM-entry interruption information; the vector is bits 7:0, the type bits 10:8."""

    DELIVER_ERROR_CODE = 11
    NESTED_EXCEPTION = 13
    VALID = 31


class EVENT(enum.IntEnum):
    """Interruption types (bits 10:8 of the VM-entry interruption information)."""

    EXTERNAL_INTERRUPT = 0
    RESERVED = 1
    NMI = 2
    HARDWARE_EXCEPTION = 3
    SOFTWARE_INTERRUPT = 4
    PRIVILEGED_SOFTWARE_EXCEPTION = 5
    SOFTWARE_EXCEPTION = 6
    OTHER_EVENT = 7


class ACTIVITY(enum.IntEnum):
    """Guest activity state."""

    ACTIVE = 0
    HLT = 1
    SHUTDOWN = 2
    WAIT_FOR_SIPI = 3


class S_CET(enum.IntEnum):
    """IA32_S_CET."""

    SH_STK_EN = 0
    WR_SHSTK_EN = 1
    ENDBR_EN = 2
    LEG_IW_EN = 3
    NO_TRACK_EN = 4
    SUPPRESS_DIS = 5
    SUPPRESS = 10
    TRACKER = 11


class RTIT_CTL(enum.IntEnum):
    """IA32_RTIT_CTL."""

    TRACE_EN = 0
    CYC_EN = 1
    OS = 2
    USER = 3
    PWR_EVT_EN = 4
    FUP_ON_PTW = 5
    FABRIC_EN = 6
    CR3_FILTER = 7
    TOPA = 8
    MTC_EN = 9
    TSC_EN = 10
    DIS_RETC = 11
    PTW_EN = 12
    BRANCH_EN = 13


class LBR_CTL(enum.IntEnum):
    """IA32_LBR_CTL."""

    LBR_EN = 0
    OS = 1
    USR = 2
    CALL_STACK = 3


class EPTP(enum.IntEnum):
    """EPT pointer; the memory type is bits 2:0, the page-walk length minus 1 bits 5:3."""

    ACCESSED_DIRTY = 6
    SUPERVISOR_SHADOW_STACK = 7


class PDPTE(enum.IntEnum):
    """Page-directory-pointer-table entry under PAE paging."""

    P = 0


class VMCS_HEADER(enum.IntEnum):
    """First doubleword of a VMCS region; bits 30:0 are the revision identifier."""

    SHADOW = 31


_ACCESS_RIGHTS_FIELDS = tuple(f"guest_{segment}_access_rights" for segment in "es cs ss ds fs gs ldtr tr".split())

#: The bit names of each field that has any beside the control words, for display.
FIELD_BITS: Final = MappingProxyType(
    {
        "guest_cr0": CR0,
        "host_cr0": CR0,
        "guest_cr4": CR4,
        "host_cr4": CR4,
        "guest_ia32_efer": EFER,
        "host_ia32_efer": EFER,
        "live_efer": EFER,
        "live_cr4": CR4,
        "guest_rflags": RFLAGS,
        "guest_ia32_debugctl": DEBUGCTL,
        **dict.fromkeys(_ACCESS_RIGHTS_FIELDS, AR),
        "guest_interruptibility_state": INTERRUPTIBILITY,
        "guest_pending_debug_exceptions": PENDING_DEBUG,
        "vm_entry_interruption_info": INTERRUPTION_INFO,
        "guest_ia32_s_cet": S_CET,
        "host_ia32_s_cet": S_CET,
        "guest_ia32_rtit_ctl": RTIT_CTL,
        "guest_ia32_lbr_ctl": LBR_CTL,
        "eptp": EPTP,
    }
)

#: Spans of several bits with one meaning, by field: (highest bit, lowest bit, the SDM's word for them).
FIELD_SPANS: Final = MappingProxyType(
    {
        **dict.fromkeys(_ACCESS_RIGHTS_FIELDS, ((3, 0, "type"), (6, 5, "DPL"))),
        "guest_rflags": ((13, 12, "IOPL"),),
        "vm_entry_interruption_info": ((7, 0, "vector"), (10, 8, "type")),
        "eptp": ((2, 0, "memory type"), (5, 3, "page-walk length minus 1")),
    }
)


#: Operands whose bits mean something each; all others are numbers.
BITWISE: Final = frozenset(word.field for word in CONTROL_WORDS.values()) | frozenset(FIELD_BITS)
