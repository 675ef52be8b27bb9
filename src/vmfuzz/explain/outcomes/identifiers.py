"""Outcomes as programs name them: VMXERR_ENTRY_INVALID_CONTROL_FIELD, vmentry_invalid_ctrl, VmEntryWithInvalidHostStateFields.

Public hypervisors spell the same few names in C, Rust, Zig, Go and Swift, so names are compared by their words, without the prefix that each
program puts before them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache, lru_cache
from typing import Final

from vmfuzz.explain.outcomes.context import has_happened, is_code, place_of
from vmfuzz.explain.reported import FAILED_ENTRY, Reported
from vmfuzz.patterns import deferred

#: VM-instruction error (0: a failure of which the name gives no number) or basic exit reason, and its names, each with public sources that have it.
#: Names that differ only in what `words_of` takes away stand for each other.
_NAMES: Final = """
error 4: VMXERR_VMLAUNCH_NONCLEAR_VMCS (Linux arch/x86/include/asm/vmx.h, HAXM), VMX_INSN_VMLAUNCH_NONCLEAR_VMCS (Xen asm/hvm/vmx/vmcs.h),
    VM_INST_ERRNO_VMLAUNCH_NONCLEAR_VMCS (XMHF), VmlaunchWithNonClearVmcs (hvpp, Rust's x86 crate)
error 5: VMXERR_VMRESUME_NONLAUNCHED_VMCS (Linux), VM_INST_ERRNO_VMRESUME_NONLAUNCH_VMCS (XMHF), VmresumeWithNonLaunchedVmcs (hvpp, x86 crate)
error 6: VMXERR_VMRESUME_AFTER_VMXOFF (Linux), VmresumeAfterVmxoff (hvpp, x86 crate), vmresumeWithVMXOFF (a hypervisor in Swift)
error 7: VMXERR_ENTRY_INVALID_CONTROL_FIELD (Linux), VMX_INSN_INVALID_CONTROL_STATE (Xen), VM_INST_ERRNO_VMENTRY_INVALID_CTRL (XMHF),
    vmentry_invalid_ctrl (Ymir and others in Zig and Rust), VmEntryWithInvalidControlFields (x86 crate), kEntryInvalidControlField (HyperPlatform),
    VMENTRY_INVALID_CONTROL_FIELD (Linux' trace of the processor below)
error 8: VMXERR_ENTRY_INVALID_HOST_STATE_FIELD (Linux), VMX_INSN_INVALID_HOST_STATE (Xen), VM_INST_ERRNO_VMENTRY_INVALID_HOST (XMHF),
    vmentry_invalid_host_state (Ymir), VmEntryWithInvalidHostStateFields (x86 crate), kEntryInvalidHostStateField (HyperPlatform),
    VERR_VMX_INVALID_HOST_STATE (VirtualBox include/VBox/err.h)
error 16: VMXERR_ENTRY_INVALID_EXECUTIVE_VMCS_POINTER (Linux), VmentryWithInvalidExecutiveVmcsPointer (hvpp)
error 17: VMXERR_ENTRY_NONLAUNCHED_EXECUTIVE_VMCS (Linux), VmentryWithNonLaunchedExecutiveVmcs (hvpp)
error 18: VMXERR_ENTRY_EXECUTIVE_VMCS_POINTER_NOT_VMXON_POINTER (Linux)
error 25: VMXERR_ENTRY_INVALID_VM_EXECUTION_CONTROLS_IN_EXECUTIVE_VMCS (Linux)
error 26: VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS (Linux), VMX_INSN_VMENTRY_BLOCKED_BY_MOV_SS (Xen), VMENTRY_EVENT_BLOCK_MOVSS (XMHF)
reason 33: EXIT_REASON_INVALID_GUEST_STATE (FreeBSD sys/amd64/vmm), EXIT_REASON_VMENTRY_FAIL_GUEST_STATE, EXIT_REASON_VMENTRY_FAIL_GS,
    VMX_EXIT_REASON_ENTRY_FAILURE_GUEST_STATE, VmExitReasonVmEntryFailureInvalidGuestState, VMENTRY_FAILED_INVALID_GUEST_STATE,
    VMX_VMEXIT_ERR_INVALID_GUEST_STATE (Bochs), VMX_EXIT_ERR_INVALID_GUEST_STATE (VirtualBox), VERR_VMX_INVALID_GUEST_STATE (VirtualBox),
    exit_invalid_guest_state (HAXM core/vcpu.c, which logs its functions' names), kInvalidGuestState (HyperPlatform),
    VMX_INVALID_GUEST_STATE (QEMU target/i386/kvm), WHvRunVpExitReasonInvalidVpRegisterValue (Windows' WinHvPlatformDefs.h)
reason 34: EXIT_REASON_MSR_LOAD_FAIL (Linux), EXIT_REASON_VMENTRY_FAIL_MSR_LOADING, EXIT_REASON_VMENTRY_FAIL_MSR,
    VMX_EXIT_ERR_MSR_LOAD (VirtualBox), VMX_VMEXIT_ERR_MSR_LOADING (Bochs)
reason 41: EXIT_REASON_MCE_DURING_VMENTRY (Linux), VMX_EXIT_REASON_VMENTRY_FAILURE_MACHINE_CHECK, VMX_EXIT_ERR_MACHINE_CHECK (VirtualBox)
error 0: VERR_VMX_UNABLE_TO_START_VM (VirtualBox), VERR_VMX_UNABLE_TO_RESUME_VM (VirtualBox)
VMfailInvalid -: VERR_VMX_INVALID_VMCS_PTR (VirtualBox)
"""
_VBOX_LOG: Final = "VBox.log gives the VM-instruction error near this name"
#: What a program puts around the words of an outcome.
_AFFIXES: Final = frozenset(
    "k e vm vmx vmcs hv error errors errno verr vmxerr vmerr vminstr vminst instr instruction insn inst code with by due to in after is reason "
    "exit vmexit field fields state the rc status result".split()
)
#: Spellings of one word.
_SPELLED: Final = {
    "vmentry": "entry", "vmenter": "entry", "enter": "entry", "vmlaunch": "launch", "vmresume": "resume", "ctrl": "control", "ctrls": "control",
    "ctl": "control", "ctls": "control", "controls": "control", "inval": "invalid", "failure": "fail", "failed": "fail", "err": "fail", "gs": "guest",
    "nonclear": "non clear", "nonlaunched": "non launched", "nonlaunch": "non launched", "ptr": "pointer", "hoststate": "host",
    "gueststate": "guest", "events": "event", "blocked": "block", "movss": "mov ss", "loading": "load", "mce": "machine check",
    "during": "",
}  # fmt: skip
_IDENTIFIER: Final = deferred(r"(?<![\w$])[A-Za-z_]\w{7,80}(?!\w|\((?!\):))")
_ONE_WORD: Final = deferred(r"V[mM](?:Entry|xOff|XOFF)")
_WORDS: Final = deferred(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
#: What says, in the name or beside it, that it is one of a VM entry.
_OF_ENTRY: Final = deferred(
    r"entry|enter|launch|resume|vmx|vm_?e|vm_?inst|exit[_ ]?(?:reason|invalid)|whv|vm_?fail|\b(?:0x21|0n33|33)\b", re.IGNORECASE
)


@lru_cache(maxsize=1 << 12)
def words_of(name: str) -> str:
    """The words of a name that say which outcome it is, in one spelling: "entry invalid control"."""
    joined = _ONE_WORD.sub(lambda match: match[0].capitalize(), name)
    words = (part.lower() for word in joined.split("_") for part in _WORDS.findall(word))
    spelled = " ".join(_SPELLED.get(word, word) for word in words).split()
    return " ".join(word for word in spelled if word not in _AFFIXES)


@cache
def outcomes() -> dict[str, Reported]:
    """The outcome for each name of the table."""
    found = {}
    for row in _NAMES.replace("\n    ", " ").strip().splitlines():
        head, _, names = row.partition(": ")
        kind, number = head.split()
        reason, error = (FAILED_ENTRY | int(number), None) if kind == "reason" else (None, int(number) if kind == "error" else None)
        for name in re.findall(r"(\w+)(?: \([^)]*\))?(?:, |$)", names):
            found[name] = Reported(name, reason, error, remark=_VBOX_LOG if error == 0 else "")
    return found


@cache
def _by_words() -> dict[str, Reported]:
    return {words_of(name): outcome for name, outcome in outcomes().items()}


def meant(words: str) -> Reported | None:
    """The outcome that a person means who gives nothing but its name, or the words of one: "invalid guest state"."""
    return _by_words().get(words_of(words.replace(" ", "_")))


def identified(text: str) -> list[tuple[int, Reported]]:
    """The outcomes that identifiers in the text name, with the numbers of their lines, where they are not denied and no program text."""
    found = []
    for match in _IDENTIFIER.finditer(text):
        outcome = _by_words().get(words_of(match.group(0)))
        place = place_of(text, *match.span()) if outcome is not None else None
        if outcome and place and _OF_ENTRY.search(place.line) and not is_code(place.line) and has_happened(place):
            found.append((text.count("\n", 0, match.start()), replace(outcome, text=match.group(0))))
    return found
