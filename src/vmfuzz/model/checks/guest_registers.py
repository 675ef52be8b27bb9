"""SDM Vol. 3C, "Checks on Guest Control Registers, Debug Registers, and MSRs": entry failure 33, qualification 0."""

from vmfuzz.arch.controls import Entry, Secondary
from vmfuzz.arch.registers import CR0, CR4, EFER, S_CET
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.memory_types import valid_pat
from vmfuzz.model.expr import all_of
from vmfuzz.model.operands import canonical, cap, enabled, has, may_be_1, vmcs

guest_registers = Section("Checks on Guest Control Registers, Debug Registers, and MSRs", Fails.GUEST)

INTEL64 = has("intel64")
UNRESTRICTED = enabled(Secondary.UNRESTRICTED_GUEST)
GUEST_64 = enabled(Entry.IA32E_MODE_GUEST)
PE_AND_PG = 1 << CR0.PE | 1 << CR0.PG

# Control registers

guest_registers.check(
    "guest.cr0.fixed.ones",
    'Every bit of guest CR0 that is fixed to 1 in VMX operation must be 1; if "unrestricted guest" is 1, PE and PG are exempt (NW and CD are '
    "never checked).",
    when=~UNRESTRICTED,
    must=(vmcs.guest_cr0 & cap.cr0_must_be_1) == cap.cr0_must_be_1,
)
guest_registers.check(
    "guest.cr0.fixed.ones.unrestricted",
    'If "unrestricted guest" is 1, every bit of guest CR0 but PE and PG that is fixed to 1 in VMX operation must be 1.',
    when=UNRESTRICTED,
    must=((vmcs.guest_cr0 | PE_AND_PG) & cap.cr0_must_be_1) == cap.cr0_must_be_1,
)
guest_registers.check(
    "guest.cr0.fixed.zeros",
    "Every bit of guest CR0 that is fixed to 0 in VMX operation must be 0 (NW and CD are never checked).",
    must=(vmcs.guest_cr0 & cap.cr0_must_be_0) == 0,
)
guest_registers.check(
    "guest.cr0.pg-pe",
    "If guest CR0.PG is 1, guest CR0.PE must be 1.",
    when=vmcs.guest_cr0[CR0.PG],
    must=vmcs.guest_cr0[CR0.PE],
)
guest_registers.check(
    "guest.cr4.fixed.ones",
    "Every bit of guest CR4 that is fixed to 1 in VMX operation must be 1.",
    must=(vmcs.guest_cr4 & cap.cr4_must_be_1) == cap.cr4_must_be_1,
)
guest_registers.check(
    "guest.cr4.fixed.zeros",
    "Every bit of guest CR4 that is fixed to 0 in VMX operation must be 0.",
    must=(vmcs.guest_cr4 & cap.cr4_must_be_0) == 0,
)
guest_registers.check(
    "guest.cr4.cet-wp",
    "If guest CR4.CET is 1, guest CR0.WP must be 1.",
    requires=has("cet_ss") | has("cet_ibt"),
    when=vmcs.guest_cr4[CR4.CET],
    must=vmcs.guest_cr0[CR0.WP],
)
LOAD_DEBUG = enabled(Entry.LOAD_DEBUG_CONTROLS)
guest_registers.check(
    "guest.debugctl",
    'If "load debug controls" is 1, bits 63:16 and 5:3 of guest IA32_DEBUGCTL (reserved on every processor) must be 0.',
    when=LOAD_DEBUG,
    must=(vmcs.guest_ia32_debugctl & 0xFFFF_FFFF_FFFF_0038) == 0,
)
guest_registers.check(
    "guest.debugctl.model",
    'If "load debug controls" is 1, bits of guest IA32_DEBUGCTL that are reserved on this processor must be 0; which of bits 2 and 15:6 are '
    "reserved is model-specific.",
    when=LOAD_DEBUG,
    must=(vmcs.guest_ia32_debugctl & 0xFFC4) == 0,
    ambiguity="debugctl-model-specific",
)
guest_registers.check(
    "guest.ia32e.pg",
    'If "IA-32e mode guest" is 1, guest CR0.PG must be 1.',
    requires=INTEL64,
    when=GUEST_64,
    must=vmcs.guest_cr0[CR0.PG],
)
guest_registers.check(
    "guest.ia32e.pae",
    'If "IA-32e mode guest" is 1, guest CR4.PAE must be 1.',
    requires=INTEL64,
    when=GUEST_64,
    must=vmcs.guest_cr4[CR4.PAE],
)
for bit, requires in ((CR4.PCIDE, has("pcid")), (CR4.FRED, has("fred"))):
    guest_registers.check(
        f"guest.cr4.{bit.name.lower()}",
        f'If "IA-32e mode guest" is 0, guest CR4.{bit.name} must be 0.',
        requires=requires,
        when=~GUEST_64,
        must=~vmcs.guest_cr4[bit],
    )
guest_registers.check(
    "guest.cr3.reserved",
    "Guest CR3 must not set bits beyond the physical-address width (bits 62:61 excepted where linear-address masking is supported).",
    requires=INTEL64,
    must=(vmcs.guest_cr3 & cap.cr3_reserved) == 0,
)
guest_registers.check(
    "guest.cr3.reserved.lam",
    'If "IA-32e mode guest" is 0, bits 62:61 of guest CR3 must be 0 even where linear-address masking is supported.',
    requires=all_of(INTEL64, has("lam")),
    when=~GUEST_64,
    must=vmcs.guest_cr3[62:61] == 0,
    ambiguity="lam-outside-ia32e",
)

# Debug registers and MSRs

guest_registers.check(
    "guest.dr7",
    'If "load debug controls" is 1, bits 63:32 of guest DR7 must be 0.',
    requires=INTEL64,
    when=LOAD_DEBUG,
    must=vmcs.guest_dr7[63:32] == 0,
)
for register, field in (("esp", vmcs.guest_ia32_sysenter_esp), ("eip", vmcs.guest_ia32_sysenter_eip)):
    guest_registers.check(
        f"guest.sysenter.{register}",
        f"Guest IA32_SYSENTER_{register.upper()} must be canonical.",
        requires=INTEL64,
        must=canonical(field),
    )
guest_registers.check(
    "guest.perfglobal",
    'If "load IA32_PERF_GLOBAL_CTRL" (VM entry) is 1, reserved bits of guest IA32_PERF_GLOBAL_CTRL must be 0.',
    when=enabled(Entry.LOAD_IA32_PERF_GLOBAL_CTRL),
    must=(vmcs.guest_ia32_perf_global_ctrl & cap.perf_global_reserved) == 0,
)
guest_registers.check(
    "guest.pat",
    'If "load IA32_PAT" (VM entry) is 1, each byte of guest IA32_PAT must be 0, 1, 4, 5, 6 or 7.',
    when=enabled(Entry.LOAD_IA32_PAT),
    must=valid_pat(vmcs.guest_ia32_pat),
)
LOAD_EFER = enabled(Entry.LOAD_IA32_EFER)
guest_registers.check(
    "guest.efer.reserved",
    'If "load IA32_EFER" (VM entry) is 1, reserved bits of guest IA32_EFER must be 0.',
    when=LOAD_EFER,
    must=(vmcs.guest_ia32_efer & cap.efer_reserved) == 0,
)
guest_registers.check(
    "guest.efer.lma",
    'If "load IA32_EFER" (VM entry) is 1, guest IA32_EFER.LMA must equal "IA-32e mode guest".',
    when=LOAD_EFER,
    must=vmcs.guest_ia32_efer[EFER.LMA].iff(GUEST_64),
)
guest_registers.check(
    "guest.efer.lme",
    'If "load IA32_EFER" (VM entry) is 1 and guest CR0.PG is 1, guest IA32_EFER.LME must equal IA32_EFER.LMA.',
    when=all_of(LOAD_EFER, vmcs.guest_cr0[CR0.PG]),
    must=vmcs.guest_ia32_efer[EFER.LME].iff(vmcs.guest_ia32_efer[EFER.LMA]),
)
LOAD_BNDCFGS = enabled(Entry.LOAD_IA32_BNDCFGS)
guest_registers.check(
    "guest.bndcfgs.reserved",
    'If "load IA32_BNDCFGS" is 1, bits 11:2 of guest IA32_BNDCFGS must be 0.',
    requires=may_be_1(Entry.LOAD_IA32_BNDCFGS),
    when=LOAD_BNDCFGS,
    must=vmcs.guest_ia32_bndcfgs[11:2] == 0,
)
guest_registers.check(
    "guest.bndcfgs.canonical",
    'If "load IA32_BNDCFGS" is 1, the linear address in bits 63:12 of guest IA32_BNDCFGS must be canonical.',
    requires=may_be_1(Entry.LOAD_IA32_BNDCFGS),
    when=LOAD_BNDCFGS,
    must=canonical(vmcs.guest_ia32_bndcfgs & 0xFFFF_FFFF_FFFF_F000),
)
guest_registers.check(
    "guest.rtit",
    'If "load IA32_RTIT_CTL" is 1, reserved bits of guest IA32_RTIT_CTL must be 0.',
    requires=may_be_1(Entry.LOAD_IA32_RTIT_CTL),
    when=enabled(Entry.LOAD_IA32_RTIT_CTL),
    must=(vmcs.guest_ia32_rtit_ctl & cap.rtit_ctl_reserved) == 0,
)
guest_registers.check(
    "guest.pkrs",
    'If "load PKRS" (VM entry) is 1, bits 63:32 of guest IA32_PKRS must be 0.',
    requires=may_be_1(Entry.LOAD_PKRS),
    when=enabled(Entry.LOAD_PKRS),
    must=vmcs.guest_ia32_pkrs[63:32] == 0,
)
guest_registers.check(
    "guest.uinv",
    'If "load UINV" is 1, bits 15:8 of guest UINV must be 0.',
    requires=may_be_1(Entry.LOAD_UINV),
    when=enabled(Entry.LOAD_UINV),
    must=vmcs.guest_uinv[15:8] == 0,
)
guest_registers.check(
    "guest.lbrctl",
    'If "load guest IA32_LBR_CTL" is 1, reserved bits of guest IA32_LBR_CTL must be 0.',
    requires=may_be_1(Entry.LOAD_GUEST_IA32_LBR_CTL),
    when=enabled(Entry.LOAD_GUEST_IA32_LBR_CTL),
    must=(vmcs.guest_ia32_lbr_ctl & cap.lbr_ctl_reserved) == 0,
)
LOAD_CET = enabled(Entry.LOAD_CET_STATE)
CET = may_be_1(Entry.LOAD_CET_STATE)
guest_registers.check(
    "guest.cet.scet.canonical",
    'If "load CET state" (VM entry) is 1, guest IA32_S_CET must be canonical.',
    requires=CET,
    when=LOAD_CET,
    must=canonical(vmcs.guest_ia32_s_cet),
    ambiguity="guest-s-cet-canonical",
)
guest_registers.check(
    "guest.cet.scet.reserved",
    'If "load CET state" (VM entry) is 1, reserved bits of guest IA32_S_CET must be 0.',
    requires=CET,
    when=LOAD_CET,
    must=(vmcs.guest_ia32_s_cet & cap.s_cet_reserved) == 0,
)
guest_registers.check(
    "guest.cet.scet.tracker",
    'If "load CET state" (VM entry) is 1, bits 10 (SUPPRESS) and 11 (TRACKER) of guest IA32_S_CET must not both be 1.',
    requires=CET,
    when=LOAD_CET,
    must=~(vmcs.guest_ia32_s_cet[S_CET.SUPPRESS] & vmcs.guest_ia32_s_cet[S_CET.TRACKER]),
)
guest_registers.check(
    "guest.cet.isst",
    'If "load CET state" (VM entry) is 1, guest IA32_INTERRUPT_SSP_TABLE_ADDR must be canonical.',
    requires=CET,
    when=LOAD_CET,
    must=canonical(vmcs.guest_ia32_interrupt_ssp_table_addr),
)
LOAD_FRED = enabled(Entry.LOAD_IA32_FRED)
FRED = may_be_1(Entry.LOAD_IA32_FRED)
guest_registers.check(
    "guest.fred.config.reserved",
    'If "load IA32_FRED" (VM entry) and "IA-32e mode guest" are 1, bits 2, 5:4 and 11 of guest IA32_FRED_CONFIG must be 0.',
    requires=FRED,
    when=all_of(LOAD_FRED, GUEST_64),
    must=(vmcs.guest_ia32_fred_config & 0x834) == 0,
)
guest_registers.check(
    "guest.fred.config.canonical",
    'If "load IA32_FRED" (VM entry) and "IA-32e mode guest" are 1, the address in guest IA32_FRED_CONFIG must be canonical.',
    requires=FRED,
    when=all_of(LOAD_FRED, GUEST_64),
    must=canonical(vmcs.guest_ia32_fred_config),
)
for number in (1, 2, 3):
    for register, low in (("rsp", 6), ("ssp", 3)):
        field = getattr(vmcs, f"guest_ia32_fred_{register}{number}")
        guest_registers.check(
            f"guest.fred.{register}.{number}.canonical",
            f'If "load IA32_FRED" (VM entry) and "IA-32e mode guest" are 1, guest IA32_FRED_{register.upper()}{number} must be canonical.',
            requires=FRED,
            when=all_of(LOAD_FRED, GUEST_64),
            must=canonical(field),
        )
        guest_registers.check(
            f"guest.fred.{register}.{number}.align",
            f'If "load IA32_FRED" (VM entry) and "IA-32e mode guest" are 1, bits {low - 1}:0 of guest IA32_FRED_{register.upper()}{number} must be 0.',
            requires=FRED,
            when=all_of(LOAD_FRED, GUEST_64),
            must=field[low - 1 : 0] == 0,
        )
guest_registers.check(
    "guest.fred.outside",
    'If "load IA32_FRED" (VM entry) is 1 and "IA-32e mode guest" is 0, the guest FRED fields must be as in IA-32e mode: '
    "reserved bits 0, addresses canonical and aligned.",
    requires=FRED,
    when=all_of(LOAD_FRED, ~GUEST_64),
    must=all_of(*(check.must for check in guest_registers.checks if check.id.startswith("guest.fred."))),
    ambiguity="fred-outside-ia32e",
)
guest_registers.check(
    "guest.speccontrol",
    'If "load IA32_SPEC_CTRL" (VM entry) is 1, reserved bits of guest IA32_SPEC_CTRL must be 0.',
    requires=may_be_1(Entry.LOAD_IA32_SPEC_CTRL),
    when=enabled(Entry.LOAD_IA32_SPEC_CTRL),
    must=(vmcs.guest_ia32_spec_ctrl & cap.spec_ctrl_reserved) == 0,
)
guest_registers.check(
    "guest.speccontrol.stibp",
    'If "load IA32_SPEC_CTRL" (VM entry) is 1 and CPUID does not report STIBP, bit 1 of guest IA32_SPEC_CTRL must be 0.',
    requires=all_of(may_be_1(Entry.LOAD_IA32_SPEC_CTRL), has("spec_ctrl"), ~has("stibp")),
    when=enabled(Entry.LOAD_IA32_SPEC_CTRL),
    must=~vmcs.guest_ia32_spec_ctrl[1],
    ambiguity="spec-ctrl-stibp",
)
