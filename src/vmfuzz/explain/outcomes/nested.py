"""What a person has to know of a failed entry where hypervisors are nested: whose VMCS a dump shows, and who has checked it."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from vmfuzz.arch.controls import Secondary
from vmfuzz.arch.registers import CR4
from vmfuzz.explain.dump import Dump

#: What shows nesting, in small letters -> how that is said.
_SHOWN: Final = {
    "vmcs12|vmcs02|kvm_nested_|nested_vmx_|vvmx|nested vm|nested kvm|nested guest|nested virt|nested hypervisor|nested entry|l2 guest|l2 vm|l2 vcpu": (
        "The text speaks of nested virtualization."
    ),
    "hypervisor detected: |hardware name: qemu|hardware name: google|hardware name: vmware|hardware name: microsoft corporation virtual|"
    "hardware name: amazon ec2": "The machine that printed this is itself a guest (L1).",
}
_PREPARED: Final = "This guest is prepared to run guests of its own (L1): its CR4 has VMXE, or VMCS shadowing is on."
_XEN: Final = "(xen)|vvmx"
#: What shows which hypervisor prints the text, in small letters -> what that one does; neither Xen nor VirtualBox prints vmcs02 by that name.
_DOES: Final = {
    _XEN: "Xen runs L2 in a VMCS of its own (the shadow VMCS), made from the one that L1 wrote (the virtual VMCS): what Xen prints is the one that "
    "the processor refused. Xen checks little of what L1 writes and passes the processor's error or exit reason on to L1.",
    "kvmxvdiag_|verr_vmx_": "VirtualBox makes the checks of L1's VMCS itself before it runs L2 in a VMCS of its own: kVmxVDiag_Vmentry_... in its log "
    "names the check that failed, and no processor has looked at that VMCS.",
    "": "L0's KVM prints vmcs02, the VMCS in which it really runs L2: guest state from L1's VMCS (vmcs12), host state its own, controls from both. A "
    "dump made in L1 shows vmcs12. Who checks an entry of L1: of controls and host state (errors 7 and 8) and of some guest state L0's software, which "
    "need not do all that a processor does; of the rest of the guest state the processor, in vmcs02. L0 says which of its own checks failed: enable the "
    "trace event kvm:kvm_nested_vmenter_failed there and read /sys/kernel/tracing/trace. (kvm_intel.nested=N on L0 takes VMX away from L1.)",
}


def note(text: str, dump: Dump) -> str:
    """What to know of nesting, "" where neither the text nor the fields speak of it."""
    first, by_whom = _said(text)
    shadow, secondary = (dump.readings.get(name) for name in ("cr4_read_shadow", "secondary_processor_based_controls"))
    prepared = shadow is not None and shadow.value >> CR4.VMXE & 1
    shadowing = secondary is not None and secondary.value >> Secondary.VMCS_SHADOWING & 1 and by_whom is not _DOES[_XEN]
    return f"{first or _PREPARED} {by_whom}" if first or prepared or shadowing else ""


@lru_cache(maxsize=1)
def _said(text: str) -> tuple[str, str]:
    """What the text says of nesting, "" if nothing, and what to know of the hypervisor that prints it; a text may have many dumps."""
    small = text.lower()
    first, by_whom = (
        next((said for shown, said in rows.items() if any(part in small for part in shown.split("|"))), "") for rows in (_SHOWN, _DOES)
    )
    return first, by_whom
