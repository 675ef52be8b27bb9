"""SDM Vol. 3C, "Checks on Guest RIP, RFLAGS, and SSP": entry failure 33, qualification 0. RSP is not checked."""

from vmfuzz.arch.controls import Entry
from vmfuzz.arch.registers import AR, CR0, EVENT, RFLAGS
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.event_injection import injects
from vmfuzz.model.expr import all_of, any_of
from vmfuzz.model.operands import aligned, enabled, has, identical_above, may_be_1, vmcs

rip_rflags = Section("Checks on Guest RIP, RFLAGS, and SSP", Fails.GUEST)

INTEL64 = has("intel64")
GUEST_64 = enabled(Entry.IA32E_MODE_GUEST)
IN_64_BIT_MODE = all_of(GUEST_64, vmcs.guest_cs_access_rights[AR.L])

rip_rflags.check(
    "guest.rip.high",
    'If "IA-32e mode guest" is 0 or the L bit of CS is 0, bits 63:32 of guest RIP must be 0.',
    requires=INTEL64,
    when=~IN_64_BIT_MODE,
    must=vmcs.guest_rip[63:32] == 0,
)
rip_rflags.check(
    "guest.rip.ident",
    'If "IA-32e mode guest" is 1 and the L bit of CS is 1, bits 63:N of guest RIP must be identical, N the linear-address width (RIP need not '
    "be canonical).",
    requires=INTEL64,
    when=IN_64_BIT_MODE,
    must=identical_above(vmcs.guest_rip),
)
rip_rflags.check(
    "guest.rflags.reserved.zeros",
    "Bits 63:22, 15, 5 and 3 of guest RFLAGS must be 0.",
    must=(vmcs.guest_rflags & 0xFFFF_FFFF_FFC0_8028) == 0,
)
rip_rflags.check(
    "guest.rflags.reserved.one",
    "Bit 1 of guest RFLAGS must be 1.",
    must=vmcs.guest_rflags[RFLAGS.RESERVED_1],
)
rip_rflags.check(
    "guest.rflags.vm.ia32e",
    'If "IA-32e mode guest" is 1, guest RFLAGS.VM must be 0.',
    requires=INTEL64,
    when=GUEST_64,
    must=~vmcs.guest_rflags[RFLAGS.VM],
)
rip_rflags.check(
    "guest.rflags.vm.pe",
    "If guest CR0.PE is 0, guest RFLAGS.VM must be 0.",
    when=~vmcs.guest_cr0[CR0.PE],
    must=~vmcs.guest_rflags[RFLAGS.VM],
)
rip_rflags.check(
    "guest.rflags.if.extint",
    "If an external interrupt is injected, guest RFLAGS.IF must be 1.",
    when=injects(EVENT.EXTERNAL_INTERRUPT),
    must=vmcs.guest_rflags[RFLAGS.IF],
)
LOAD_CET = enabled(Entry.LOAD_CET_STATE)
CET = may_be_1(Entry.LOAD_CET_STATE)
rip_rflags.check(
    "guest.ssp.align",
    'If "load CET state" (VM entry) is 1, bits 1:0 of guest SSP must be 0.',
    requires=CET,
    when=LOAD_CET,
    must=aligned(vmcs.guest_ssp, 2),
)
rip_rflags.check(
    "guest.ssp.ident",
    'If "load CET state" (VM entry) is 1, bits 63:N of guest SSP must be identical, N the linear-address width.',
    requires=CET,
    when=LOAD_CET,
    must=identical_above(vmcs.guest_ssp),
)
rip_rflags.check(
    "guest.ssp.high",
    'If "load CET state" (VM entry) is 1 and the guest will not be in 64-bit mode, bits 63:32 of guest SSP must be 0 (said where the state is '
    "loaded, not where it is checked).",
    requires=CET,
    when=all_of(LOAD_CET, any_of(~IN_64_BIT_MODE)),
    must=vmcs.guest_ssp[63:32] == 0,
    ambiguity="ssp-high-outside-64-bit-mode",
)
