"""What a known-good state has pending at its entry: an injected event, an activity state, blocking, debug exceptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import Pin
from vmfuzz.arch.registers import ACTIVITY, EVENT, RFLAGS
from vmfuzz.state.vmcs import Vmcs

#: What makes one known-good state of another; None where the processor lacks what it needs.
Part = Callable[[Vmcs, Capabilities], Vmcs | None]


def _nothing(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
    return vmcs


def _first_fetch(vmcs: Vmcs, _caps: Capabilities) -> Vmcs | None:
    """No VMX-preemption timer: the guest lives until it fetches its first instruction, from memory that is not mapped."""
    active = vmcs["pin_based_controls"] >> Pin.ACTIVATE_VMX_PREEMPTION_TIMER & 1
    return vmcs.replace(pin_based_controls=vmcs["pin_based_controls"] ^ 1 << Pin.ACTIVATE_VMX_PREEMPTION_TIMER) if active else None


def _inject(kind: EVENT, vector: int, error_code: int | None = None) -> Part:
    info = 1 << 31 | kind << 8 | vector | (1 << 11 if error_code is not None else 0)

    def part(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
        rflags = vmcs["guest_rflags"] | (1 << RFLAGS.IF if kind is EVENT.EXTERNAL_INTERRUPT else 0)
        software = kind in (EVENT.SOFTWARE_INTERRUPT, EVENT.SOFTWARE_EXCEPTION, EVENT.PRIVILEGED_SOFTWARE_EXCEPTION)
        return vmcs.replace(
            vm_entry_interruption_info=info,
            vm_entry_exception_error_code=error_code or 0,
            vm_entry_instruction_length=1 if software else 0,
            guest_rflags=rflags,
        )

    return part


def _state(activity: ACTIVITY = ACTIVITY.ACTIVE, interruptibility: int = 0, rflags: int = 0, pending: int = 0) -> Part:
    def part(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
        if not caps.activity_states >> activity & 1:
            return None
        return vmcs.replace(
            guest_activity_state=activity,
            guest_interruptibility_state=interruptibility,
            guest_rflags=vmcs["guest_rflags"] | rflags,
            guest_pending_debug_exceptions=pending,
        )

    return part


_IF: Final = 1 << RFLAGS.IF
_TF: Final = 1 << RFLAGS.TF

EVENTS: Final[Mapping[str, Part]] = MappingProxyType(
    {
        "nothing": _nothing,
        "external-interrupt": _inject(EVENT.EXTERNAL_INTERRUPT, 0x20),
        "nmi": _inject(EVENT.NMI, 2),
        "debug-exception": _inject(EVENT.HARDWARE_EXCEPTION, 1),
        "general-protection": _inject(EVENT.HARDWARE_EXCEPTION, 13, 0),
        "machine-check": _inject(EVENT.HARDWARE_EXCEPTION, 18),
        "software-interrupt": _inject(EVENT.SOFTWARE_INTERRUPT, 0x80),
        "software-exception": _inject(EVENT.SOFTWARE_EXCEPTION, 3),
        "privileged-software-exception": _inject(EVENT.PRIVILEGED_SOFTWARE_EXCEPTION, 1),
        "monitor-trap-flag": _inject(EVENT.OTHER_EVENT, 0),
        "hlt": _state(ACTIVITY.HLT),
        "shutdown": _state(ACTIVITY.SHUTDOWN),
        "blocking-by-sti": _state(interruptibility=1, rflags=_IF),
        "blocking-by-mov-ss": _state(interruptibility=2),
        "single-step": _state(interruptibility=1, rflags=_IF | _TF, pending=1 << 14),
        "pending-breakpoint": _state(pending=1 << 12 | 1),
        "trap-flag": _state(rflags=_TF),
        "first-fetch": _first_fetch,
    }
)
