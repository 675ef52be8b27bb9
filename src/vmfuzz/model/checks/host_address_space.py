"""SDM Vol. 3C, "Checks Related to Address-Space Size".

The section names no error number: rules about one host field give error 8, rules that tie controls to each other or to the processor's
mode may give 7 or 8.
"""

from vmfuzz.arch.controls import Entry, Exit
from vmfuzz.arch.registers import CR4, EFER
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.expr import all_of, any_of
from vmfuzz.model.operands import canonical, canonical_48, enabled, has, live, may_be_1, vmcs

address_space = Section("Checks Related to Address-Space Size", Fails.HOST)

INTEL64 = has("intel64")
HOST_64 = enabled(Exit.HOST_ADDRESS_SPACE_SIZE)
GUEST_64 = enabled(Entry.IA32E_MODE_GUEST)
LONG_MODE = live.efer[EFER.LMA]
LOAD_CET = enabled(Exit.LOAD_CET_STATE)

address_space.check(
    "host.as.lma0.entry",
    'If IA32_EFER.LMA is 0 at the time of VM entry, "IA-32e mode guest" must be 0.',
    requires=INTEL64,
    when=~LONG_MODE,
    must=~GUEST_64,
    fails=Fails.CONTROLS_OR_HOST,
)
address_space.check(
    "host.as.lma0.exit",
    'If IA32_EFER.LMA is 0 at the time of VM entry, "host address-space size" must be 0.',
    requires=INTEL64,
    when=~LONG_MODE,
    must=~HOST_64,
    fails=Fails.CONTROLS_OR_HOST,
)
address_space.check(
    "host.as.lma1.exit",
    'If IA32_EFER.LMA is 1 at the time of VM entry, "host address-space size" must be 1.',
    requires=INTEL64,
    when=LONG_MODE,
    must=HOST_64,
    fails=Fails.CONTROLS_OR_HOST,
)
address_space.check(
    "host.as.ia32e",
    'If "host address-space size" is 0, "IA-32e mode guest" must be 0.',
    requires=INTEL64,
    when=~HOST_64,
    must=~GUEST_64,
    fails=Fails.CONTROLS_OR_HOST,
)
for name, bit, requires in (
    ("pcide", CR4.PCIDE, all_of(INTEL64, has("pcid"))),
    ("fred", CR4.FRED, all_of(INTEL64, has("fred"))),
):
    address_space.check(
        f"host.as.32.{name}",
        f'If "host address-space size" is 0, host CR4.{bit.name} must be 0.',
        requires=requires,
        when=~HOST_64,
        must=~vmcs.host_cr4[bit],
    )
address_space.check(
    "host.as.32.rip",
    'If "host address-space size" is 0, bits 63:32 of host RIP must be 0.',
    requires=INTEL64,
    when=~HOST_64,
    must=vmcs.host_rip[63:32] == 0,
)
for name, field in (("s_cet", vmcs.host_ia32_s_cet), ("ssp", vmcs.host_ssp)):
    address_space.check(
        f"host.as.32.cet.{name}",
        f'If "host address-space size" is 0 and "load CET state" (VM exit) is 1, bits 63:32 of host {name.upper()} must be 0.',
        requires=may_be_1(Exit.LOAD_CET_STATE),
        when=all_of(~HOST_64, LOAD_CET),
        must=field[63:32] == 0,
    )
address_space.check(
    "host.as.64.pae",
    'If "host address-space size" is 1, host CR4.PAE must be 1.',
    requires=INTEL64,
    when=HOST_64,
    must=vmcs.host_cr4[CR4.PAE],
)
address_space.check(
    "host.as.64.rip",
    'If "host address-space size" is 1, host RIP must be canonical.',
    requires=INTEL64,
    when=HOST_64,
    must=canonical(vmcs.host_rip),
)
address_space.check(
    "host.as.64.rip.la57",
    'If "host address-space size" is 1 and CR4.LA57 is 0 in the host field or in the launching processor, bits 63:47 of host RIP must be identical.',
    requires=all_of(INTEL64, has("la57")),
    when=all_of(HOST_64, canonical(vmcs.host_rip), any_of(~vmcs.host_cr4[CR4.LA57], ~live.cr4[CR4.LA57])),
    must=canonical_48(vmcs.host_rip),
    ambiguity="host-rip-width",
)
for name, field in (("s_cet", vmcs.host_ia32_s_cet), ("ssp", vmcs.host_ssp)):
    address_space.check(
        f"host.as.64.cet.{name}",
        f'If "host address-space size" is 1 and "load CET state" (VM exit) is 1, host {name.upper()} must be canonical.',
        requires=may_be_1(Exit.LOAD_CET_STATE),
        when=all_of(HOST_64, LOAD_CET),
        must=canonical(field),
    )
address_space.check(
    "host.as.cet.isst",
    'If "load CET state" (VM exit) is 1, host IA32_INTERRUPT_SSP_TABLE_ADDR must be canonical.',
    requires=may_be_1(Exit.LOAD_CET_STATE),
    when=LOAD_CET,
    must=canonical(vmcs.host_ia32_interrupt_ssp_table_addr),
)
address_space.check(
    "host.as.no64.entry",
    'If the processor does not support Intel 64, "IA-32e mode guest" must be 0.',
    requires=~INTEL64,
    must=~GUEST_64,
    fails=Fails.CONTROLS_OR_HOST,
)
address_space.check(
    "host.as.no64.exit",
    'If the processor does not support Intel 64, "host address-space size" must be 0.',
    requires=~INTEL64,
    must=~HOST_64,
    fails=Fails.CONTROLS_OR_HOST,
)
