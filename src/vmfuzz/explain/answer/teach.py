"""Why the processor makes a check, for someone who meets it the first time: one paragraph a family of checks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from vmfuzz.explain.answer.english import activates, condition_words, in_words
from vmfuzz.explain.repair.edits import obstacles
from vmfuzz.model.check import Check
from vmfuzz.model.expr import Cond, parts_of
from vmfuzz.model.partial import Evaluator

_CANONICAL: Final = (
    "Base addresses and SYSENTER addresses are linear addresses and must be canonical: all bits above the highest that the processor implements (47, "
    "or 56 with 5-level paging) must be equal to it. They are always loaded, even if nothing will ever use them."
)
_TABLES: Final = (
    "The bases of GDTR and IDTR are linear addresses and must be canonical (all bits above the highest implemented one, 47 or 56, equal to it); the "
    "limits have 16 bits in the registers, so bits 31:16 of the fields must be 0."
)
_PAT: Final = (
    "IA32_PAT holds eight memory types, a byte each. 0 (UC), 1 (WC), 4 (WT), 5 (WP), 6 (WB) and 7 (UC-) exist; WRMSR of another would fault. The field "
    "counts only with the control \"load IA32_PAT\" (of VM entry for the guest's, of VM exit for the host's)."
)
_DEBUG: Final = (
    'IA32_DEBUGCTL and DR7 are loaded from their fields only with the VM-entry control "load debug controls". WRMSR would refuse reserved bits of the '
    "one, and MOV to DR7 those above bit 31 of the other."
)
_MSR_AREA: Final = (
    "The areas of MSRs to store and to load are lists in memory, 16 bytes an entry: aligned to 16 bytes, their last byte within the physical-address "
    "width. A count of 0 means that there is none, and the address is not looked at."
)
_TPR: Final = (
    "The TPR threshold is compared with bits 7:4 of VTPR (byte 80H of the virtual-APIC page); the guest exits when VTPR falls below it. A threshold above "
    "VTPR would make it exit at once, and is refused unless APIC accesses or interrupt delivery are virtualized."
)
_BUT: Final = ", but must be "
#: Beginning of a check's id -> the reason; the longest beginning that fits is taken.
_WHY: Final = {
    "basic": "VMLAUNCH and VMRESUME first look at the processor, not at the fields: there must be a current VMCS, in the right launch state.",
    "ctl": "The controls say how the processor runs the guest. They are checked before anything is loaded, so that a failure leaves the "
    "processor where it was: VMLAUNCH just returns with RFLAGS.ZF = 1 and error number 7.",
    "ctl.pin.allowed": "Each bit of a control word is allowed to be 0, to be 1, or both; the capability MSR says which (bits 31:0: must be 1, "
    "bits 63:32: may be 1). Reserved bits are treated the same way, so a word is made by (wanted | low half) & high half.",
    "ctl.inject": "VM entry can deliver an event to the guest as its first act. The processor demands that the event be one that could "
    "really occur: its vector, type and error code must fit each other, because it is delivered through the guest's IDT as if it had occurred.",
    "ctl.eptp": "The EPT pointer is the root of the tables that translate guest-physical addresses; memory type, walk length and address "
    "must be such that the processor can walk them.",
    "ctl.nmi": '"Virtual NMIs" replace the blocking of real NMIs by one that the VMM sees; so real NMIs must exit ("NMI exiting"), and '
    '"NMI-window exiting" means something only with virtual NMIs.',
    "ctl.tpr": _TPR,
    "ctl.entry.msr": _MSR_AREA,
    "ctl.exit.msr": _MSR_AREA,
    "ctl.vpid": "VPID 0 tags the translations of the VMM itself, so a guest with VPIDs enabled must have another.",
    "host": "The host state is what the processor loads on the next VM exit. A VM exit cannot fail gracefully, so whatever could make the "
    "load impossible is refused beforehand, with error number 8.",
    "host.sel": "On a VM exit the processor does not read descriptors: it fills the segment registers with flat ones. For that the selectors "
    "must refer to the GDT with RPL 0, and CS and TR must not be null.",
    "host.as": 'The processor mode after a VM exit is given by one control, "host address-space size"; the mode in which '
    "VMLAUNCH executes (IA32_EFER.LMA) and the control must agree, and the host's registers must be ones that this mode can have.",
    "host.base": _CANONICAL,
    "host.sysenter": _CANONICAL,
    "host.pat": _PAT,
    "host.efer": 'With the VM-exit control "load IA32_EFER", EFER is loaded from its field: no reserved bits, and LMA and LME both as "host '
    'address-space size" says.',
    "guest.cr0": "In VMX operation some bits of CR0 and CR4 are fixed (IA32_VMX_CR0_FIXED0/1, IA32_VMX_CR4_FIXED0/1). The guest's registers "
    'are real registers once loaded, so the same holds for them, whatever the guest sees through read shadows. With "unrestricted guest" PE and '
    "PG are free (but PG needs PE); NW and CD are never checked.",
    "guest.cr4": "In VMX operation some bits of CR0 and CR4 are fixed (IA32_VMX_CR4_FIXED0/1); VMXE (bit 13) is one that must be 1 in the "
    "guest's CR4 field too. Hide it from the guest with the CR4 guest/host mask and read shadow.",
    "guest.ia32e": 'A 64-bit guest needs paging with PAE; the VM-entry control "IA-32e mode guest" decides, not what the guest\'s EFER says.',
    "guest.efer": 'With the VM-entry control "load IA32_EFER" the guest\'s EFER is loaded from its field: no reserved bits, LMA (bit 10) equal to the '
    'control "IA-32e mode guest", and LME (bit 8) equal to LMA where the guest has paging (CR0.PG = 1).',
    "guest.debugctl": _DEBUG,
    "guest.dr7": _DEBUG,
    "guest.sysenter": _CANONICAL,
    "guest.gdtr": _TABLES,
    "guest.idtr": _TABLES,
    "guest.pat": _PAT,
    **dict.fromkeys(
        (f"guest.{name}" for name in ("perfglobal", "bndcfgs", "rtit", "pkrs", "uinv", "lbrctl", "speccontrol", "cet", "fred")),
        "This register is loaded from its field only where its own VM-entry control is 1, and the field must then hold what an instruction (WRMSR, for "
        "most) could have put into the register: no reserved bits, and canonical addresses. Which bits are reserved, CPUID and the processor's "
        "manual say.",
    ),
    "guest.ssp": "SSP points to the shadow stack: it must be aligned to 4 bytes, and an address that the guest's mode can have. The field counts only "
    'with the VM-entry control "load CET state".',
    "guest.cr3": "CR3 holds a physical address: bits beyond the processor's physical-address width must be 0. Bit 63 of a MOV to CR3 (no "
    "TLB flush) is no bit of the register.",
    "guest.v86": "In virtual-8086 mode a segment is what its selector says: base = selector * 16, limit FFFFH, access rights F3H.",
    "guest.cs": "The segment registers are loaded from four fields each (selector, base, limit, access rights), without reading a descriptor. "
    "The checks make sure that they hold what loading a descriptor could have put there.",
    "guest.ss": "The DPL of SS is the guest's CPL, also where SS is unusable. So its DPL must fit CS and its own RPL, and SS must be a writable data "
    "segment unless it is unusable.",
    "guest.tr": "TR is always usable and must describe a busy TSS: type 11 (or 3 for a 16-bit TSS outside IA-32e mode). In the GDT a TSS that "
    "has been loaded by LTR is busy too.",
    "guest.ldtr": "LDTR may be unusable (bit 16 of its access rights, 10000H), else it must describe an LDT: type 2, S = 0, present.",
    "guest.rflags": "RFLAGS has bits that are always 0, and bit 1, which is always 1. Virtual-8086 mode (VM) needs protected mode and does not exist in "
    "IA-32e mode. An external interrupt can be injected only into a guest that accepts one (IF = 1).",
    "guest.rip": "RIP must be an address that the guest's mode can have: bits 63:32 are 0 outside of 64-bit mode; in 64-bit mode the bits above the "
    "highest linear-address bit must all be alike.",
    "guest.activity": "The activity state must be one that the processor supports and that fits the blocking and the injected event.",
    "guest.intr": "The interruptibility state says which events are blocked because of the instruction before (STI, MOV SS), an NMI or an SMI. "
    "Blocking by STI exists only with IF = 1, and an event that is blocked cannot be injected.",
    "guest.pdbg": "Pending debug exceptions are what a single step or a breakpoint has left to deliver after this VM entry. BS (bit 14) stands for the "
    "single step: where the guest begins blocked by STI or by MOV SS, or halted, BS must be 1 if RFLAGS.TF = 1 and IA32_DEBUGCTL.BTF = 0 (the step is "
    "then still due), and else 0.",
    "guest.link": "The VMCS link pointer is all ones unless VMCS shadowing is used; anything else is the address of a VMCS that the processor checks.",
    "guest.pdpte": "Under PAE paging (CR0.PG = 1, CR4.PAE = 1, no IA-32e mode) the processor holds four page-directory-pointer-table entries in "
    "registers. VM entry loads them, with EPT from the VMCS fields, else from the table that CR3 points to, and refuses one that is present and has "
    "reserved bits set. The exit qualification is then 2.",
    "guest": "The guest state is checked after controls and host state have passed; a failure is reported like a VM exit, with exit reason 33 and "
    "bit 31 set, and control continues at the host RIP.",
    "msrload": "The VM-entry MSR-load area is loaded entry by entry as if by WRMSR; an entry that WRMSR would refuse fails the VM entry with exit "
    "reason 34, and the qualification is its number, counting from 1.",
}
_DATA_SEGMENT: Final = (
    "A data segment register that is usable (bit 16 of its access rights is 0) must look like one that was loaded from a descriptor: S = 1, "
    "present, accessed, no reserved bits, limit and granularity in agreement. The unusable bit marks a null selector: access rights "
    '10000H. Access rights of 0 do not mean "nothing there", but a usable system segment that is not present.'
)


_ADDRESS: Final = (
    "The field holds the physical address of a structure that the processor would read or write while the guest runs: aligned as that structure has to "
    "be (mostly to 4 KBytes), and without bits beyond the processor's physical-address width. It is looked at only where its control is 1."
)
_RESTS_ON: Final = (
    "One control can rest on another: without it the processor would have nothing to work with (no EPT tables, no virtual-APIC page). Such a control may "
    "be 1 only where the other is."
)


_GRANULARITY: Final = (
    "The limit field holds the limit in bytes. A descriptor with G = 1 counts in units of 4 KBytes, so what loading it gives has 1 in all of bits 11:0; "
    "one with G = 0 has 20 bits, so bits 31:20 are 0. A limit such as 67H, that of a TSS, therefore has G = 0."
)


def why(check: Check) -> str:
    """The reason for a check, in a paragraph."""
    words = check.id.split(".")
    if words[0] == "guest" and "g" in words[2:-1]:
        return _GRANULARITY
    if words[0] == "ctl" and not check.id.startswith(("ctl.entry.msr", "ctl.exit.msr", "ctl.eptp")) and {"align", "width"} & set(words):
        return _ADDRESS
    if words[0] == "ctl" and "needs-" in words[-1]:
        return _RESTS_ON
    if check.id.startswith(("guest.ds.", "guest.es.", "guest.fs.", "guest.gs.")):
        return _DATA_SEGMENT
    fitting = [beginning for beginning in _WHY if check.id.startswith(beginning)]
    if check.id.endswith(("allowed0", "allowed1", ".allowed")):
        return _WHY["ctl.pin.allowed"]
    return _WHY[max(fitting, key=len)] if fitting else _WHY["guest"]


def premises(condition: Cond) -> list[str]:
    """The parts of a premise in words."""
    parts = parts_of(condition)
    return [condition_words(part) for part in parts if part.op not in ("true", "false")]


def fault_lines(condition: Cond, evaluator: Evaluator) -> list[str]:
    """What keeps a condition from holding, one line a fault, none twice; where one of several things would do, they stand in one line."""
    if evaluator.judge(condition).truth is True:
        return []
    if condition.op == "all":
        # what is open beside a fault is no fault
        wrong = [part for part in condition.args if evaluator.judge(part).truth is False] or condition.args
        return _all_lines(wrong, evaluator)
    if condition.op == "not" and condition.args[0].op == "all":
        # a control and those that activate its word: that the control be 0 is what the check is about
        return [_either(_all_lines(_but_activating([~part for part in condition.args[0].args]), evaluator))]
    if condition.op == "any":
        return [_any_line(condition, evaluator)]
    return list(dict.fromkeys(in_words(obstacle, evaluator) for obstacle in obstacles(condition, True, evaluator)))


def _any_line(condition: Cond, evaluator: Evaluator) -> str:
    """What keeps all of several things, of which one would do, from holding."""
    others = dict.fromkeys(_alternative(part, evaluator) for part in condition.args)
    if not any(other.premise for other in others):
        return _either([other.faults for other in others])
    return "; or".join(map(str, others)).removeprefix(": ")


def _but_activating(parts: list[Cond]) -> list[Cond]:
    """The conditions but for those on controls that activate a control word, unless there are no others."""
    return [part for part in parts if not activates(part)] or parts


def _either(faults: list[str]) -> str:
    """Faults of which one is to be mended: "X is 7, but must be 0 or 6", "either X must be 1 (it is 0) or Y must be 0 (it is 1)"."""
    faults = list(dict.fromkeys(faults))
    parts = [fault.split(_BUT) for fault in faults]
    if len(faults) == 1 or any(len(part) != 2 or "; " in part[1] for part in parts):
        return "; or: ".join(faults)
    if len({part[0] for part in parts}) == 1:
        return f"{parts[0][0]}{_BUT}{' or '.join(part[1] for part in parts)}"
    said = []
    for now, wanted in parts:
        verb = " are " if " are " in now else " is "
        subject, _, value = now.rpartition(verb)
        said.append(f"{subject} must be {wanted} ({'they are' if verb == ' are ' else 'it is'} {value})")
    return f"either {' or '.join(said)}"


def _all_lines(parts: Iterable[Cond], evaluator: Evaluator) -> list[str]:
    return list(dict.fromkeys(line for part in parts for line in fault_lines(part, evaluator)))


class _Alternative(NamedTuple):
    """What keeps one of several things that would do from holding, and the premise that the text does not show, if it rests on one."""

    faults: str
    premise: str = ""

    def __str__(self) -> str:
        return f", if {self.premise}: {self.faults}" if self.premise else f": {self.faults}"


def _alternative(part: Cond, evaluator: Evaluator) -> _Alternative:
    pieces = parts_of(part)
    checked = [(piece, evaluator.judge(piece)) for piece in pieces]
    open_ones = [piece for piece, judgement in checked if judgement.truth is None and judgement.missing]
    faults = " and ".join(_all_lines([piece for piece, judgement in checked if judgement.truth is False], evaluator))
    if not open_ones or not faults:
        return _Alternative(faults or " and ".join(fault_lines(part, evaluator)))
    return _Alternative(faults, " and ".join(map(condition_words, _but_activating(open_ones))))
