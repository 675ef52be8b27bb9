"""Phrases about the event that a VM entry injects (VM-entry interruption-information field)."""

from vmfuzz.arch.controls import Secondary
from vmfuzz.arch.registers import CR0, EVENT, INTERRUPTION_INFO
from vmfuzz.model.expr import Bits, Cond, all_of
from vmfuzz.model.operands import enabled, vmcs

INFO: Bits = vmcs.vm_entry_interruption_info
VALID: Cond = INFO[INTERRUPTION_INFO.VALID]
TYPE: Bits = INFO[10:8]
VECTOR: Bits = INFO[7:0]
DELIVERS_ERROR_CODE: Cond = INFO[INTERRUPTION_INFO.DELIVER_ERROR_CODE]

#: The guest will be in real-address mode: "unrestricted guest" is 1 and CR0.PE in the guest field is 0.
REAL_MODE: Cond = all_of(enabled(Secondary.UNRESTRICTED_GUEST), ~vmcs.guest_cr0[CR0.PE])

#: Vectors whose exceptions deliver an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC.
ERROR_CODE_VECTORS = (8, 10, 11, 12, 13, 14, 17)
CONTROL_PROTECTION = 21


def injects(*types: EVENT) -> Cond:
    """The VM entry injects an event of one of these types."""
    return all_of(VALID, TYPE.one_of(*types))
