"""What a person has to know of a failed entry where hypervisors are nested: whose VMCS a dump shows, and who has checked it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from vmfuzz.arch.registers import CR4
from vmfuzz.explain.dump import Dump
from vmfuzz.patterns import deferred

_WORDS: Final = deferred(
    r"\bvmcs(?:12|02)\b|\bkvm_nested_\w+|\bnested_vmx_\w+|\bvvmx\b|\bnested (?:vm|kvm|guest|virt|hypervisor|entry)|\bL2 (?:guest|vm|vcpu)\b",
    re.IGNORECASE,
)
_VIRTUAL_HOST: Final = deferred(
    r"Hypervisor detected: \w+|Hardware name: (?:QEMU|Google|VMware|Microsoft Corporation Virtual|Amazon EC2)", re.IGNORECASE
)
_SHADOWING: Final = 1 << 14
_WHOSE: Final = (
    "L0's KVM prints vmcs02, the VMCS in which it really runs L2: guest state from L1's VMCS (vmcs12), host state its own, controls from both. A dump "
    "made in L1 shows vmcs12."
)
#: What Xen and VirtualBox do: neither prints vmcs02 by that name, and VirtualBox makes the checks itself.
_BY_XEN: Final = (
    "Xen runs L2 in a VMCS of its own (the shadow VMCS), made from the one that L1 wrote (the virtual VMCS): what Xen prints is the one that the "
    "processor refused. Xen checks little of what L1 writes and passes the processor's error or exit reason on to L1."
)
_BY_VIRTUALBOX: Final = (
    "VirtualBox makes the checks of L1's VMCS itself before it runs L2 in a VMCS of its own: kVmxVDiag_Vmentry_... in its log names the check that "
    "failed, and no processor has looked at that VMCS."
)
_WHO: Final = (
    "Who checks an entry of L1: of controls and host state (errors 7 and 8) and of some guest state L0's software, which need not do all that a "
    "processor does; of the rest of the guest state the processor, in vmcs02. L0 says which of its own checks failed: enable the trace event "
    "kvm:kvm_nested_vmenter_failed there and read /sys/kernel/tracing/trace. (kvm_intel.nested=N on L0 takes VMX away from L1.)"
)

_PREPARED: Final = "This guest is prepared to run guests of its own (L1): its CR4 has VMXE, or VMCS shadowing is on."


def note(text: str, dump: Dump) -> str:
    """What to know of nesting, "" where neither the text nor the fields speak of it."""
    shadow = dump.readings.get("cr4_read_shadow")
    secondary = dump.readings.get("secondary_processor_based_controls")
    first, by_whom = _told(text)
    shadowing = secondary is not None and secondary.value & _SHADOWING and by_whom is not _BY_XEN
    if not first and not (shadow is not None and shadow.value >> CR4.VMXE & 1) and not shadowing:
        return ""
    return f"{first or _PREPARED} {by_whom}"


@lru_cache(maxsize=1)
def _told(text: str) -> tuple[str, str]:
    """What the text says of nesting, "" if nothing, and what to know of the hypervisor that prints it; a text may have many dumps."""
    small = text.lower()
    nested, is_guest = _WORDS.search(text), _VIRTUAL_HOST.search(text)
    first = (
        "The text speaks of nested virtualization."
        if nested
        else "The machine that printed this is itself a guest (L1)."
        if is_guest
        else ""
    )
    if "(XEN)" in text or "vvmx" in small:
        return first, _BY_XEN
    return first, _BY_VIRTUALBOX if "kvmxvdiag_" in small or "verr_vmx_" in small else f"{_WHOSE} {_WHO}"
