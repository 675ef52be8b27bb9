"""SDM Vol. 3C, "Checks on Guest Non-Register State": entry failure 33; qualification 0, or 3 and 4 where said."""

from vmfuzz.arch.controls import Entry, Pin, Secondary
from vmfuzz.arch.live import NO_POINTER
from vmfuzz.arch.registers import ACTIVITY, DEBUGCTL, EVENT, INTERRUPTIBILITY, PENDING_DEBUG, RFLAGS, VMCS_HEADER
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.event_injection import TYPE, VALID, VECTOR, injects
from vmfuzz.model.expr import all_of, any_of
from vmfuzz.model.operands import aligned, cap, enabled, has, live, memory, vmcs, within_physical_width

non_register = Section("Checks on Guest Non-Register State", Fails.GUEST)

STATE = vmcs.guest_activity_state
INTERRUPTIBILITY_STATE = vmcs.guest_interruptibility_state
STI = INTERRUPTIBILITY_STATE[INTERRUPTIBILITY.BLOCKING_BY_STI]
MOV_SS = INTERRUPTIBILITY_STATE[INTERRUPTIBILITY.BLOCKING_BY_MOV_SS]
SMI = INTERRUPTIBILITY_STATE[INTERRUPTIBILITY.BLOCKING_BY_SMI]
NMI = INTERRUPTIBILITY_STATE[INTERRUPTIBILITY.BLOCKING_BY_NMI]
ENCLAVE = INTERRUPTIBILITY_STATE[INTERRUPTIBILITY.ENCLAVE_INTERRUPTION]
SS_DPL = vmcs.guest_ss_access_rights[6:5]
HALTED = STATE == ACTIVITY.HLT

# Activity state

non_register.check(
    "guest.activity.range",
    "The activity state must be 0 (active), 1 (HLT), 2 (shutdown) or 3 (wait-for-SIPI), and one that the processor supports.",
    must=any_of(
        STATE == ACTIVITY.ACTIVE,
        *(
            all_of(STATE == state, (cap.activity_states & 1 << state) != 0)
            for state in (ACTIVITY.HLT, ACTIVITY.SHUTDOWN, ACTIVITY.WAIT_FOR_SIPI)
        ),
    ),
)
non_register.check(
    "guest.activity.hlt.dpl",
    "If the activity state is HLT, the SS DPL must be 0.",
    when=HALTED,
    must=SS_DPL == 0,
)
non_register.check(
    "guest.activity.blocking",
    "If there is blocking by STI or by MOV SS, the activity state must be active.",
    when=any_of(STI, MOV_SS),
    must=STATE == ACTIVITY.ACTIVE,
)
non_register.check(
    "guest.activity.inject.hlt",
    "If an event is injected and the activity state is HLT, the event must be an external interrupt, an NMI, a hardware exception with vector "
    "1 (#DB) or 18 (#MC), or a pending MTF VM exit.",
    when=all_of(VALID, HALTED),
    must=any_of(
        TYPE.one_of(EVENT.EXTERNAL_INTERRUPT, EVENT.NMI),
        all_of(TYPE == EVENT.HARDWARE_EXCEPTION, VECTOR.one_of(1, 18)),
        all_of(TYPE == EVENT.OTHER_EVENT, VECTOR == 0),
    ),
)
non_register.check(
    "guest.activity.inject.shutdown",
    "If an event is injected and the activity state is shutdown, the event must be an NMI or a hardware exception with vector 18 (#MC).",
    when=all_of(VALID, STATE == ACTIVITY.SHUTDOWN),
    must=any_of(TYPE == EVENT.NMI, all_of(TYPE == EVENT.HARDWARE_EXCEPTION, VECTOR == 18)),
)
non_register.check(
    "guest.activity.inject.wfs",
    "If the activity state is wait-for-SIPI, no event may be injected.",
    when=STATE == ACTIVITY.WAIT_FOR_SIPI,
    must=~VALID,
)
ENTRY_TO_SMM = enabled(Entry.ENTRY_TO_SMM)
non_register.check(
    "guest.activity.smm-entry",
    'If "entry to SMM" is 1, the activity state must not be wait-for-SIPI.',
    when=ENTRY_TO_SMM,
    must=STATE != ACTIVITY.WAIT_FOR_SIPI,
)

# Interruptibility state

non_register.check(
    "guest.intr.reserved",
    "Bits 31:5 of the interruptibility state must be 0.",
    must=INTERRUPTIBILITY_STATE[31:5] == 0,
)
non_register.check(
    "guest.intr.sti-movss",
    "There must not be both blocking by STI and blocking by MOV SS.",
    when=STI,
    must=~MOV_SS,
)
non_register.check(
    "guest.intr.sti-if",
    "If there is blocking by STI, guest RFLAGS.IF must be 1.",
    when=STI,
    must=vmcs.guest_rflags[RFLAGS.IF],
)
non_register.check(
    "guest.intr.extint.sti",
    "If an external interrupt is injected, there must be no blocking by STI.",
    when=injects(EVENT.EXTERNAL_INTERRUPT),
    must=~STI,
)
non_register.check(
    "guest.intr.extint.movss",
    "If an external interrupt is injected, there must be no blocking by MOV SS.",
    when=injects(EVENT.EXTERNAL_INTERRUPT),
    must=~MOV_SS,
)
non_register.check(
    "guest.intr.nmi-movss",
    "If an NMI is injected, there must be no blocking by MOV SS.",
    when=injects(EVENT.NMI),
    must=~MOV_SS,
)
non_register.check(
    "guest.intr.nmi-sti",
    "If an NMI is injected, there must be no blocking by STI, on processors that demand it (qualification 3).",
    when=injects(EVENT.NMI),
    must=~STI,
    fails=Fails.NMI_STI,
    ambiguity="nmi-sti",
)
non_register.check(
    "guest.intr.smi-outside",
    "If the processor is not in SMM, there must be no blocking by SMI.",
    when=live.smm == 0,
    must=~SMI,
)
non_register.check(
    "guest.intr.smi-entry",
    'If "entry to SMM" is 1, there must be blocking by SMI.',
    when=ENTRY_TO_SMM,
    must=SMI,
)
non_register.check(
    "guest.intr.nmi-virtual",
    'If "virtual NMIs" is 1 and an NMI is injected, there must be no blocking by NMI.',
    when=all_of(enabled(Pin.VIRTUAL_NMIS), injects(EVENT.NMI)),
    must=~NMI,
)
non_register.check(
    "guest.intr.enclave.sgx",
    "If the processor does not support SGX, the enclave-interruption bit (bit 4) must be 0.",
    requires=~has("sgx"),
    must=~ENCLAVE,
)
non_register.check(
    "guest.intr.enclave.movss",
    "If the enclave-interruption bit is 1, there must be no blocking by MOV SS.",
    requires=has("sgx"),
    when=ENCLAVE,
    must=~MOV_SS,
)

# Pending debug exceptions

PENDING = vmcs.guest_pending_debug_exceptions
BS = PENDING[PENDING_DEBUG.BS]
TF = vmcs.guest_rflags[RFLAGS.TF]
BTF = vmcs.guest_ia32_debugctl[DEBUGCTL.BTF]
LOAD_DEBUG = enabled(Entry.LOAD_DEBUG_CONTROLS)
BLOCKED_OR_HALTED = any_of(STI, MOV_SS, HALTED)

non_register.check(
    "guest.pdbg.reserved",
    "Bits 10:4, 13, 15 and 63:17 of the pending debug exceptions must be 0.",
    must=(PENDING & 0xFFFF_FFFF_FFFE_A7F0) == 0,
)
non_register.check(
    "guest.pdbg.bld",
    "If the processor does not support bus-lock debug exceptions, bit 11 of the pending debug exceptions must be 0.",
    requires=~has("bus_lock_debug"),
    must=~PENDING[PENDING_DEBUG.BLD],
)
non_register.check(
    "guest.pdbg.bld.text",
    "Bit 11 of the pending debug exceptions must be 0: the check's sentence lists it as reserved even where the processor supports bus-lock "
    "debug exceptions and the field's table defines it.",
    requires=has("bus_lock_debug"),
    must=~PENDING[PENDING_DEBUG.BLD],
    ambiguity="pending-debug-bit-11",
)
non_register.check(
    "guest.pdbg.bs.must1",
    "If there is blocking by STI or MOV SS or the activity state is HLT, and RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0, BS (bit 14) of the "
    "pending debug exceptions must be 1.",
    when=all_of(BLOCKED_OR_HALTED, TF, ~BTF),
    must=BS,
)
non_register.check(
    "guest.pdbg.bs.must0.tf",
    "If there is blocking by STI or MOV SS or the activity state is HLT, and RFLAGS.TF is 0, BS (bit 14) of the pending debug exceptions must "
    "be 0.",
    when=all_of(BLOCKED_OR_HALTED, ~TF),
    must=~BS,
)
non_register.check(
    "guest.pdbg.bs.must0.btf",
    'If there is blocking by STI or MOV SS or the activity state is HLT, and IA32_DEBUGCTL.BTF is 1 and loaded ("load debug controls" is 1), '
    "BS (bit 14) of the pending debug exceptions must be 0.",
    when=all_of(BLOCKED_OR_HALTED, TF, BTF, LOAD_DEBUG),
    must=~BS,
)
non_register.check(
    "guest.pdbg.bs.must0.unloaded",
    "If the same holds but BTF is 1 only in a guest IA32_DEBUGCTL field that is not loaded, BS must be 0 (the field counts).",
    when=all_of(BLOCKED_OR_HALTED, TF, BTF, ~LOAD_DEBUG),
    must=~BS,
    ambiguity="btf-not-loaded",
)
non_register.check(
    "guest.pdbg.bs.must1.unloaded",
    "If the same holds but BTF is 1 only in a guest IA32_DEBUGCTL field that is not loaded, BS must be 1 (the register counts, and its BTF is "
    "0).",
    when=all_of(BLOCKED_OR_HALTED, TF, BTF, ~LOAD_DEBUG),
    must=BS,
    ambiguity="btf-not-loaded",
)
RTM = PENDING[PENDING_DEBUG.RTM]
non_register.check(
    "guest.pdbg.rtm.supported",
    "If the processor does not support RTM, bit 16 of the pending debug exceptions must be 0.",
    requires=~has("rtm"),
    must=~RTM,
)
non_register.check(
    "guest.pdbg.rtm.reserved",
    "If bit 16 (RTM) of the pending debug exceptions is 1, bits 11:0, 15:13 and 63:17 must be 0.",
    when=RTM,
    must=(PENDING & 0xFFFF_FFFF_FFFE_EFFF) == 0,
)
non_register.check(
    "guest.pdbg.rtm.enabled",
    "If bit 16 (RTM) of the pending debug exceptions is 1, bit 12 must be 1.",
    when=RTM,
    must=PENDING[PENDING_DEBUG.ENABLED_BREAKPOINT],
)
non_register.check(
    "guest.pdbg.rtm.movss",
    "If bit 16 (RTM) of the pending debug exceptions is 1, there must be no blocking by MOV SS.",
    when=RTM,
    must=~MOV_SS,
)

# VMCS link pointer; all ones skips all of these

LINK = vmcs.vmcs_link_pointer
LINKED = LINK != NO_POINTER
READABLE = all_of(LINKED, aligned(LINK, 12), within_physical_width(LINK))
non_register.check(
    "guest.link.align",
    "If the VMCS link pointer is not FFFFFFFF_FFFFFFFFH, its bits 11:0 must be 0.",
    when=LINKED,
    must=aligned(LINK, 12),
    fails=Fails.LINK_POINTER,
)
non_register.check(
    "guest.link.width",
    "If the VMCS link pointer is not FFFFFFFF_FFFFFFFFH, it must not set bits beyond the physical-address width.",
    when=LINKED,
    must=within_physical_width(LINK),
    fails=Fails.LINK_POINTER,
)
non_register.check(
    "guest.link.revision",
    "If the VMCS link pointer is not FFFFFFFF_FFFFFFFFH, bits 30:0 of the doubleword that it points to must be the VMCS revision identifier.",
    when=READABLE,
    must=memory.link_dword[30:0] == cap.revision,
    fails=Fails.LINK_POINTER,
    known=memory.link_dword_known == 1,
)
non_register.check(
    "guest.link.shadow",
    'If the VMCS link pointer is not FFFFFFFF_FFFFFFFFH, bit 31 of the doubleword that it points to must equal "VMCS shadowing".',
    when=READABLE,
    must=memory.link_dword[VMCS_HEADER.SHADOW].iff(enabled(Secondary.VMCS_SHADOWING)),
    fails=Fails.LINK_POINTER,
    known=memory.link_dword_known == 1,
)
non_register.check(
    "guest.link.current",
    'If the VMCS link pointer is not FFFFFFFF_FFFFFFFFH and the processor is not in SMM or "entry to SMM" is 1, it must not be the current-VMCS '
    "pointer.",
    when=all_of(LINKED, any_of(live.smm == 0, ENTRY_TO_SMM), live.current_vmcs_pointer != NO_POINTER),
    must=LINK != live.current_vmcs_pointer,
    fails=Fails.LINK_POINTER,
)
