"""What userspace gets from KVM (struct kvm_sregs and kvm_regs) are the registers as the guest sees them, not the VMCS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from vmfuzz.arch.controls import Entry
from vmfuzz.arch.registers import AR
from vmfuzz.explain.dump import ALL, Reading, Standing, Warned
from vmfuzz.explain.evidence import Kept

SEEN: Final = "KVM's structures show the guest's registers, not the VMCS"
#: KVM adds to these before they reach the VMCS.
CHANGED: Final = ("guest_cr0", "guest_cr3", "guest_cr4", "guest_ia32_efer")
#: The bits of access rights, all of which have a name of their own in the structures.
_RIGHTS: Final = 0x1F0FF
#: The bits of a type that KVM may set: "busy" of a TSS, none of an LDT, and "accessed" of others (with unrestricted guest).
_MAY_BE_SET: Final = {"guest_tr_access_rights": 2, "guest_ldtr_access_rights": 0}
_ACCESSED: Final = 1 << AR.ACCESSED
_NOT_ACCESSED: Final = (
    '{0} has type {1}, which is not "accessed" (bit 0 is 0). Where the processor has unrestricted guest, KVM sets that bit; elsewhere the entry '
    "fails. Give {0} type {2}"
)
#: "IA-32e mode guest", which KVM makes from the bit above it in IA32_EFER, LMA.
_IA32E: Final = 1 << Entry.IA32E_MODE_GUEST


def as_viewed(places: Sequence[Reading]) -> Kept:
    """The places with what is known of the VMCS; beside a dump of the VMCS the structures say nothing new."""
    if any(one.standing is Standing.SHOWN for one in places):
        return [one for one in places if one.standing is Standing.SHOWN or not _is_view(one.name, one.label)], []
    unusable, doubtful = _unusable(places)
    kept, warned = list[Reading](), list[Warned]()
    for one in places:
        if not _is_view(one.name, one.label):
            kept.append(one)
            continue
        if one.standing is not Standing.BITS:
            kept.append(one._replace(assumed=SEEN))
        elif one.name not in doubtful:
            may_be_set = _MAY_BE_SET.get(one.name, _ACCESSED) & one.known & ~one.value if one.name not in unusable else 0
            kept.append(one._replace(assumed=SEEN, known=(one.known | ALL & ~_RIGHTS) & ~may_be_set))
            if may_be_set & _ACCESSED:
                register, kind = one.label.split()[0], one.value & 0xF
                warned.append(Warned(one.line, _NOT_ACCESSED.format(register, kind, kind | _ACCESSED)))
        if one.name == "guest_ia32_efer":
            kept.append(one._replace(name="vm_entry_controls", value=one.value >> 1 & _IA32E, known=_IA32E, assumed=SEEN))
    return kept, warned


def _unusable(places: Sequence[Reading]) -> tuple[set[str], set[str]]:
    """The access rights that say "unusable", and others that say "not present": newer versions of KVM make those unusable too."""
    bits = [one for one in places if one.standing is Standing.BITS]
    unusable = {one.name for one in bits if one.value >> AR.UNUSABLE & 1}
    return unusable, {one.name for one in bits if (one.known & ~one.value) >> AR.P & 1} - unusable


def _is_view(name: str, label: str) -> bool:
    return name.startswith("guest") and not re.search("guest|vmcs", label, re.IGNORECASE)
