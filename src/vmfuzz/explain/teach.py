"""Why the processor makes a check, for someone who meets it the first time: one paragraph a family of checks."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.atoms import in_words, obstacles, spoken
from vmfuzz.model.check import Check
from vmfuzz.model.expr import Bits, Cond
from vmfuzz.model.partial import Evaluator
from vmfuzz.model.wording import bit_name, describe

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
    "ctl.vpid": "VPID 0 tags the translations of the VMM itself, so a guest with VPIDs enabled must have another.",
    "host": "The host state is what the processor loads on the next VM exit. A VM exit cannot fail gently, so everything that could make the "
    "load impossible is refused beforehand, with error number 8.",
    "host.sel": "On a VM exit the processor does not read descriptors: it fills the segment registers with flat ones. For that the selectors "
    "must refer to the GDT with RPL 0, and CS and TR must not be null.",
    "host.as": 'The processor mode after a VM exit is given by one control, "host address-space size"; the mode now and the control must agree.',
    "guest.cr0": "In VMX operation some bits of CR0 and CR4 are fixed (IA32_VMX_CR0_FIXED0/1, IA32_VMX_CR4_FIXED0/1). The guest's registers "
    "are real registers once loaded, so the same holds for them, whatever the guest sees through read shadows.",
    "guest.cr4": "In VMX operation some bits of CR0 and CR4 are fixed (IA32_VMX_CR4_FIXED0/1); VMXE (bit 13) is one that must be 1 in the "
    "guest's CR4 field too. Hide it from the guest with the CR4 guest/host mask and read shadow.",
    "guest.ia32e": 'A 64-bit guest needs paging with PAE; the VM-entry control "IA-32e mode guest" decides, not what the guest\'s EFER says.',
    "guest.efer": 'With "load IA32_EFER" the guest\'s EFER is loaded from its field; LMA and LME must say the same as the control '
    '"IA-32e mode guest".',
    "guest.cr3": "CR3 holds a physical address: bits beyond the processor's physical-address width must be 0. Bit 63 of a MOV to CR3 (no "
    "TLB flush) is no bit of the register.",
    "guest.v86": "In virtual-8086 mode a segment is what its selector says: base = selector * 16, limit FFFFH, access rights F3H.",
    "guest.cs": "The segment registers are loaded from four fields each (selector, base, limit, access rights), without reading a descriptor. "
    "The checks make sure that they hold what loading a descriptor could have put there.",
    "guest.ss": "SS's DPL is the guest's CPL. So SS must fit CS, and must be a writable data segment unless it is unusable.",
    "guest.tr": "TR is always usable and must describe a busy TSS: type 11 (or 3 for a 16-bit TSS outside IA-32e mode). In the GDT a TSS that "
    "has been loaded by LTR is busy too.",
    "guest.ldtr": "LDTR may be unusable (bit 16 of its access rights, 10000H), else it must describe an LDT: type 2, S = 0, present.",
    "guest.rip": "RIP must be an address that the guest's mode can have.",
    "guest.rflags": "RFLAGS has bits that are always 0 or 1; and an external interrupt can be injected only into a guest that accepts one (IF = 1).",
    "guest.activity": "The activity state must be one that the processor supports and that fits the blocking and the injected event.",
    "guest.intr": "The interruptibility state says which events are blocked because of the instruction before (STI, MOV SS), an NMI or an SMI. "
    "Blocking by STI exists only with IF = 1, and an event that is blocked cannot be injected.",
    "guest.pdbg": "Pending debug exceptions are what a single step or a breakpoint has left to deliver; they must fit RFLAGS.TF and the blocking.",
    "guest.link": "The VMCS link pointer is all ones unless VMCS shadowing is used; anything else is the address of a VMCS that the processor checks.",
    "guest.pdpte": "Under PAE paging the processor holds four page-directory-pointer-table entries in registers; VM entry loads and checks them.",
    "guest": "The guest state is checked after controls and host state have passed; a failure is reported like a VM exit, with exit reason 33 and "
    "bit 31 set, and control continues at the host RIP.",
    "msrload": "The VM-entry MSR-load area is loaded entry by entry as if by WRMSR; an entry that WRMSR would refuse fails the VM entry with exit "
    "reason 34, and the qualification is its number, counting from 1.",
}
_DATA_SEGMENT: Final = (
    "A data segment register that is usable (bit 16 of its access rights is 0) must look like one that was loaded from a descriptor: S = 1, "
    "present, accessed, no reserved bits, limit and granularity in agreement. A null selector is told by the unusable bit: access rights "
    '10000H. Access rights of 0 do not mean "nothing there", but a usable system segment that is not present.'
)


def why(check: Check) -> str:
    """The reason for a check, in a paragraph."""
    if check.id.startswith(("guest.ds.", "guest.es.", "guest.fs.", "guest.gs.")):
        return _DATA_SEGMENT
    fitting = [beginning for beginning in _WHY if check.id.startswith(beginning)]
    if check.id.endswith(("allowed0", "allowed1", ".allowed")):
        return _WHY["ctl.pin.allowed"]
    return _WHY[max(fitting, key=len)] if fitting else _WHY["guest"]


def premises(condition: Cond) -> list[str]:
    """The parts of a premise in words."""
    parts = condition.args if condition.op == "all" else (condition,)
    return [_premise(part) for part in parts if part.op not in ("true", "false")]


def _premise(part: Cond) -> str:
    inner, is_one = (part.args[0], False) if part.op == "not" else (part, True)
    if inner.op == "bit" and inner.args[0].op == "operand":
        name, index = inner.args[0].args[0], inner.args[1]
        label = bit_name(name, index)
        return f"{spoken(name)} bit {index}{f' ({label})' if label else ''} is {int(is_one)}"
    if part.op in ("all", "any"):
        joiner = " and " if part.op == "all" else " or "
        return joiner.join(_premise(piece) for piece in part.args)
    if part.op == "one_of" and part.args[0].op == "slice":
        values = ", ".join(str(value) if value < 10 else f"{value:X}H" for value in part.args[1])
        return f"{_slice_words(part.args[0])} {'are one of ' if len(part.args[1]) > 1 else 'are '}{values}"
    if part.op == "eq" and part.args[0].op == "slice" and part.args[1].op == "const":
        return f"{_slice_words(part.args[0])} are {part.args[1].args[0]:X}H"
    return describe(part)


def _activates(condition: Cond) -> bool:
    """Whether a condition is about a control that activates a control word."""
    bit = condition.args[0] if condition.op == "not" else condition
    return bit.op == "bit" and bit.args[0].op == "operand" and (bit_name(bit.args[0].args[0], bit.args[1]) or "").startswith('"activate')


def _slice_words(bits: Bits) -> str:
    name = spoken(bits.args[0].args[0]) if bits.args[0].op == "operand" else describe(bits.args[0])
    return f"{name} bits {bits.args[1]}:{bits.args[2]}"


def fault_lines(condition: Cond, evaluator: Evaluator) -> list[str]:
    """What keeps a condition from holding, one line a fault, none twice; where one of several things would do, they stand in one line."""
    if evaluator.judge(condition).truth is True:
        return []
    if condition.op == "all":
        return list(dict.fromkeys(line for part in condition.args for line in fault_lines(part, evaluator)))
    if condition.op == "not" and condition.args[0].op == "all":
        # a control and those that activate its word: that the control be 0 is what the check is about
        parts = [~part for part in condition.args[0].args]
        own = [part for part in parts if not _activates(part)] or parts
        return ["; or: ".join(dict.fromkeys(line for part in own for line in fault_lines(part, evaluator)))]
    if condition.op != "any":
        return list(dict.fromkeys(in_words(obstacle, evaluator) for obstacle in obstacles(condition, True, evaluator)))
    # an exemption by fields that the text does not show is no help to anybody who has another way
    given = [part for part in condition.args if all(evaluator.operand(name).known for name in part.reads)] or list(condition.args)
    ways = [" and ".join(fault_lines(part, evaluator)) for part in given]
    return ["; or: ".join(dict.fromkeys(way for way in ways if way))]
