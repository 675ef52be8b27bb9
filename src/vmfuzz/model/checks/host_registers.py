"""SDM Vol. 3C, "Checks on Host Control Registers, MSRs, and SSP": all fail with VMfailValid, error 8."""

from vmfuzz.arch.controls import Exit, SecondaryExit
from vmfuzz.arch.registers import CR0, CR4, EFER, S_CET
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.memory_types import valid_pat
from vmfuzz.model.expr import all_of
from vmfuzz.model.operands import aligned, canonical, cap, enabled, has, may_be_1, vmcs

host_registers = Section("Checks on Host Control Registers, MSRs, and SSP", Fails.HOST)

INTEL64 = has("intel64")

host_registers.check(
    "host.cr0.fixed.ones",
    "Every bit of host CR0 that is fixed to 1 in VMX operation must be 1 (NW and CD are never checked).",
    must=(vmcs.host_cr0 & cap.cr0_must_be_1) == cap.cr0_must_be_1,
)
host_registers.check(
    "host.cr0.fixed.zeros",
    "Every bit of host CR0 that is fixed to 0 in VMX operation must be 0 (NW and CD are never checked).",
    must=(vmcs.host_cr0 & cap.cr0_must_be_0) == 0,
)
host_registers.check(
    "host.cr4.fixed.ones",
    "Every bit of host CR4 that is fixed to 1 in VMX operation must be 1.",
    must=(vmcs.host_cr4 & cap.cr4_must_be_1) == cap.cr4_must_be_1,
)
host_registers.check(
    "host.cr4.fixed.zeros",
    "Every bit of host CR4 that is fixed to 0 in VMX operation must be 0.",
    must=(vmcs.host_cr4 & cap.cr4_must_be_0) == 0,
)
host_registers.check(
    "host.cr4.cet-wp",
    "If host CR4.CET is 1, host CR0.WP must be 1.",
    requires=has("cet_ss") | has("cet_ibt"),
    when=vmcs.host_cr4[CR4.CET],
    must=vmcs.host_cr0[CR0.WP],
)
host_registers.check(
    "host.cr3.reserved",
    "Host CR3 must not set bits beyond the physical-address width (bits 62:61 excepted where linear-address masking is supported).",
    requires=INTEL64,
    must=(vmcs.host_cr3 & cap.cr3_reserved) == 0,
)
for register, field in (("esp", vmcs.host_ia32_sysenter_esp), ("eip", vmcs.host_ia32_sysenter_eip)):
    host_registers.check(
        f"host.sysenter.{register}",
        f"Host IA32_SYSENTER_{register.upper()} must be canonical.",
        requires=INTEL64,
        must=canonical(field),
    )
host_registers.check(
    "host.perfglobal",
    'If "load IA32_PERF_GLOBAL_CTRL" (VM exit) is 1, reserved bits of host IA32_PERF_GLOBAL_CTRL must be 0.',
    when=enabled(Exit.LOAD_IA32_PERF_GLOBAL_CTRL),
    must=(vmcs.host_ia32_perf_global_ctrl & cap.perf_global_reserved) == 0,
)
host_registers.check(
    "host.pat",
    'If "load IA32_PAT" (VM exit) is 1, each byte of host IA32_PAT must be 0, 1, 4, 5, 6 or 7.',
    when=enabled(Exit.LOAD_IA32_PAT),
    must=valid_pat(vmcs.host_ia32_pat),
)
LOAD_EFER = enabled(Exit.LOAD_IA32_EFER)
HOST_64 = enabled(Exit.HOST_ADDRESS_SPACE_SIZE)
host_registers.check(
    "host.efer.reserved",
    'If "load IA32_EFER" (VM exit) is 1, reserved bits of host IA32_EFER must be 0.',
    when=LOAD_EFER,
    must=(vmcs.host_ia32_efer & cap.efer_reserved) == 0,
)
for bit in (EFER.LMA, EFER.LME):
    host_registers.check(
        f"host.efer.{bit.name.lower()}",
        f'If "load IA32_EFER" (VM exit) is 1, host IA32_EFER.{bit.name} must equal "host address-space size".',
        when=LOAD_EFER,
        must=vmcs.host_ia32_efer[bit].iff(HOST_64),
    )
LOAD_CET = enabled(Exit.LOAD_CET_STATE)
host_registers.check(
    "host.cet.scet.reserved",
    'If "load CET state" (VM exit) is 1, reserved bits of host IA32_S_CET must be 0.',
    requires=may_be_1(Exit.LOAD_CET_STATE),
    when=LOAD_CET,
    must=(vmcs.host_ia32_s_cet & cap.s_cet_reserved) == 0,
)
host_registers.check(
    "host.cet.scet.tracker",
    'If "load CET state" (VM exit) is 1, bits 10 (SUPPRESS) and 11 (TRACKER) of host IA32_S_CET must not both be 1.',
    requires=may_be_1(Exit.LOAD_CET_STATE),
    when=LOAD_CET,
    must=~(vmcs.host_ia32_s_cet[S_CET.SUPPRESS] & vmcs.host_ia32_s_cet[S_CET.TRACKER]),
)
host_registers.check(
    "host.cet.ssp.align",
    'If "load CET state" (VM exit) is 1, bits 1:0 of host SSP must be 0.',
    requires=may_be_1(Exit.LOAD_CET_STATE),
    when=LOAD_CET,
    must=aligned(vmcs.host_ssp, 2),
)
host_registers.check(
    "host.pkrs",
    'If "load PKRS" (VM exit) is 1, bits 63:32 of host IA32_PKRS must be 0.',
    requires=may_be_1(Exit.LOAD_PKRS),
    when=enabled(Exit.LOAD_PKRS),
    must=vmcs.host_ia32_pkrs[63:32] == 0,
)
LOAD_FRED = enabled(SecondaryExit.LOAD_IA32_FRED)
host_registers.check(
    "host.fred.config.reserved",
    'If "load IA32_FRED" (VM exit) and "host address-space size" are 1, bits 2, 5:4 and 11 of host IA32_FRED_CONFIG must be 0.',
    requires=may_be_1(SecondaryExit.LOAD_IA32_FRED),
    when=all_of(LOAD_FRED, HOST_64),
    must=(vmcs.host_ia32_fred_config & 0x834) == 0,
)
host_registers.check(
    "host.fred.config.canonical",
    'If "load IA32_FRED" (VM exit) and "host address-space size" are 1, the address in host IA32_FRED_CONFIG must be canonical.',
    requires=may_be_1(SecondaryExit.LOAD_IA32_FRED),
    when=all_of(LOAD_FRED, HOST_64),
    must=canonical(vmcs.host_ia32_fred_config),
)
for number in (1, 2, 3):
    for register, low in (("rsp", 6), ("ssp", 3)):
        field = getattr(vmcs, f"host_ia32_fred_{register}{number}")
        host_registers.check(
            f"host.fred.{register}.{number}.canonical",
            f'If "load IA32_FRED" (VM exit) and "host address-space size" are 1, host IA32_FRED_{register.upper()}{number} must be canonical.',
            requires=may_be_1(SecondaryExit.LOAD_IA32_FRED),
            when=all_of(LOAD_FRED, HOST_64),
            must=canonical(field),
        )
        host_registers.check(
            f"host.fred.{register}.{number}.align",
            f'If "load IA32_FRED" (VM exit) and "host address-space size" are 1, bits {low - 1}:0 of host IA32_FRED_{register.upper()}{number} must be 0.',
            requires=may_be_1(SecondaryExit.LOAD_IA32_FRED),
            when=all_of(LOAD_FRED, HOST_64),
            must=aligned(field, low),
        )
host_registers.check(
    "host.fred.outside",
    'If "load IA32_FRED" (VM exit) is 1 and "host address-space size" is 0, the host FRED fields must be as in IA-32e mode: '
    "reserved bits 0, addresses canonical and aligned.",
    requires=may_be_1(SecondaryExit.LOAD_IA32_FRED),
    when=all_of(LOAD_FRED, ~HOST_64),
    must=all_of(*(check.must for check in host_registers.checks if check.id.startswith("host.fred."))),
    ambiguity="fred-outside-ia32e",
)
host_registers.check(
    "host.speccontrol",
    'If "load IA32_SPEC_CTRL" (VM exit) is 1, reserved bits of host IA32_SPEC_CTRL must be 0.',
    requires=may_be_1(SecondaryExit.LOAD_IA32_SPEC_CTRL),
    when=enabled(SecondaryExit.LOAD_IA32_SPEC_CTRL),
    must=(vmcs.host_ia32_spec_ctrl & cap.spec_ctrl_reserved) == 0,
)
host_registers.check(
    "host.speccontrol.stibp",
    'If "load IA32_SPEC_CTRL" (VM exit) is 1 and CPUID does not report STIBP, bit 1 of host IA32_SPEC_CTRL must be 0.',
    requires=all_of(may_be_1(SecondaryExit.LOAD_IA32_SPEC_CTRL), has("spec_ctrl"), ~has("stibp")),
    when=enabled(SecondaryExit.LOAD_IA32_SPEC_CTRL),
    must=~vmcs.host_ia32_spec_ctrl[1],
    ambiguity="spec-ctrl-stibp",
)
