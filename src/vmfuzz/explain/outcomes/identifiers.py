"""Outcomes as programs name them: VMXERR_ENTRY_INVALID_CONTROL_FIELD, vmentry_invalid_ctrl, VmEntryWithInvalidHostStateFields.

Public hypervisors spell the same few names in C, Rust, Zig, Go and Swift, so names are compared by their words, without the prefix that each
program puts before them.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final, NamedTuple

from vmfuzz.explain.outcomes.context import first_told, has_happened, place_of
from vmfuzz.explain.reported import FAILED_ENTRY, Reported
from vmfuzz.patterns import deferred


class OutcomeNames(NamedTuple):
    """An outcome under the names that programs have for it: exit reason or VM-instruction error, as in `Reported`; error 0: no number."""

    exit_reason: int | None
    error: int | None
    names: tuple[str, ...]
    remark: str = ""


#: One row an outcome; beside each name a public source that has it.
OUTCOMES: Final = (
    OutcomeNames(
        None,
        4,
        (
            "VMXERR_VMLAUNCH_NONCLEAR_VMCS",  # Linux arch/x86/include/asm/vmx.h, HAXM
            "VMX_INSN_VMLAUNCH_NONCLEAR_VMCS",  # Xen arch/x86/include/asm/hvm/vmx/vmcs.h
            "VM_INST_ERRNO_VMLAUNCH_NONCLEAR_VMCS",  # XMHF
            "VmlaunchWithNonClearVmcs",  # hvpp, Rust's x86 crate
        ),
    ),
    OutcomeNames(
        None,
        5,
        (
            "VMXERR_VMRESUME_NONLAUNCHED_VMCS",  # Linux
            "VM_INST_ERRNO_VMRESUME_NONLAUNCH_VMCS",  # XMHF
            "VmresumeWithNonLaunchedVmcs",  # hvpp, x86 crate
        ),
    ),
    OutcomeNames(
        None,
        6,
        (
            "VMXERR_VMRESUME_AFTER_VMXOFF",  # Linux
            "VmresumeAfterVmxoff",  # hvpp, x86 crate
            "vmresumeWithVMXOFF",  # a hypervisor in Swift
        ),
    ),
    OutcomeNames(
        None,
        7,
        (
            "VMXERR_ENTRY_INVALID_CONTROL_FIELD",  # Linux
            "VMX_INSN_INVALID_CONTROL_STATE",  # Xen
            "VM_INST_ERRNO_VMENTRY_INVALID_CTRL",  # XMHF
            "vmentry_invalid_ctrl",  # Ymir and other hypervisors in Zig and Rust
            "VmEntryWithInvalidControlFields",  # x86 crate
            "VmEntryInvalidControlFields",  # Rust
            "kEntryInvalidControlField",  # HyperPlatform
            "VMENTRY_INVALID_CONTROL_FIELD",  # Linux' trace of the processor below
            "VMENTRY_INVALID_CONTROLS",
        ),
    ),
    OutcomeNames(
        None,
        8,
        (
            "VMXERR_ENTRY_INVALID_HOST_STATE_FIELD",  # Linux
            "VMX_INSN_INVALID_HOST_STATE",  # Xen
            "VM_INST_ERRNO_VMENTRY_INVALID_HOST",  # XMHF
            "vmentry_invalid_host_state",  # Ymir
            "VmEntryWithInvalidHostStateFields",  # x86 crate
            "kEntryInvalidHostStateField",  # HyperPlatform
            "VERR_VMX_INVALID_HOST_STATE",  # VirtualBox include/VBox/err.h
        ),
    ),
    OutcomeNames(None, 16, ("VMXERR_ENTRY_INVALID_EXECUTIVE_VMCS_POINTER", "VmentryWithInvalidExecutiveVmcsPointer")),  # Linux, hvpp
    OutcomeNames(None, 17, ("VMXERR_ENTRY_NONLAUNCHED_EXECUTIVE_VMCS", "VmentryWithNonLaunchedExecutiveVmcs")),  # Linux, hvpp
    OutcomeNames(None, 18, ("VMXERR_ENTRY_EXECUTIVE_VMCS_POINTER_NOT_VMXON_POINTER",)),  # Linux
    OutcomeNames(None, 25, ("VMXERR_ENTRY_INVALID_VM_EXECUTION_CONTROLS_IN_EXECUTIVE_VMCS",)),  # Linux
    OutcomeNames(
        None,
        26,
        (
            "VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS",  # Linux
            "VMX_INSN_VMENTRY_BLOCKED_BY_MOV_SS",  # Xen
            "VMENTRY_EVENT_BLOCK_MOVSS",  # XMHF
        ),
    ),
    OutcomeNames(
        FAILED_ENTRY | 33,
        None,
        (
            "EXIT_REASON_INVALID_GUEST_STATE",  # FreeBSD sys/amd64/vmm
            "VMX_EXIT_REASON_ENTRY_FAILURE_GUEST_STATE",
            "VMX_EXIT_REASON_VMENTRY_FAILURE_GUEST_STATE",
            "EXIT_REASON_VMENTRY_FAIL_GUEST_STATE",
            "EXIT_REASON_VMENTRY_FAIL_INVALID_GUEST_STATE",
            "EXIT_REASON_VMENTRY_FAIL_GUEST",
            "EXIT_REASON_VMENTRY_FAIL_GS",
            "EXIT_REASON_VMENTRY_FAILURE_INVALID_GUEST_STATE",
            "VMEXIT_REASON_INVALID_GUEST_STATE",
            "VmExitReasonVmEntryFailureInvalidGuestState",
            "VMENTRY_FAILURE_INVALID_GUEST_STATE",
            "VMENTRY_FAILED_INVALID_GUEST_STATE",
            "VMX_VMEXIT_ERR_INVALID_GUEST_STATE",  # Bochs
            "VMX_EXIT_ERR_INVALID_GUEST_STATE",  # VirtualBox
            "VERR_VMX_INVALID_GUEST_STATE",  # VirtualBox
            "exit_invalid_guest_state",  # HAXM core/vcpu.c, which logs its functions' names
            "kInvalidGuestState",  # HyperPlatform
            "VMX_INVALID_GUEST_STATE",  # QEMU target/i386/kvm
        ),
    ),
    OutcomeNames(
        FAILED_ENTRY | 34,
        None,
        (
            "EXIT_REASON_MSR_LOAD_FAIL",  # Linux
            "EXIT_REASON_VMENTRY_FAIL_MSR_LOADING",
            "EXIT_REASON_VMENTRY_FAIL_MSR",
            "VMX_EXIT_REASON_VMENTRY_FAILURE_MSR_LOADING",
            "VMX_EXIT_ERR_MSR_LOAD",  # VirtualBox
            "VMX_VMEXIT_ERR_MSR_LOADING",  # Bochs
        ),
    ),
    OutcomeNames(
        FAILED_ENTRY | 41,
        None,
        (
            "EXIT_REASON_MCE_DURING_VMENTRY",  # Linux
            "VMX_EXIT_REASON_VMENTRY_FAILURE_MACHINE_CHECK",
            "VMX_EXIT_ERR_MACHINE_CHECK",  # VirtualBox
        ),
    ),
    OutcomeNames(
        FAILED_ENTRY | 33,
        None,
        ("WHvRunVpExitReasonInvalidVpRegisterValue",),  # WinHvPlatformDefs.h
        "the name that the Windows Hypervisor Platform has for it",
    ),
    OutcomeNames(
        None,
        0,
        ("VERR_VMX_UNABLE_TO_START_VM", "VERR_VMX_UNABLE_TO_RESUME_VM"),  # VirtualBox
        "VBox.log gives the VM-instruction error near this name",
    ),
    OutcomeNames(None, None, ("VERR_VMX_INVALID_VMCS_PTR",)),  # VirtualBox, for VMfailInvalid
)

#: What a program puts around the words of an outcome.
_AFFIXES: Final = frozenset(
    "k e vm vmx vmcs hv error errors errno verr vmxerr vmerr vminstr vminst instr instruction insn inst code with by due to in is reason "
    "exit vmexit field fields state the rc status result".split()
)
#: Spellings of one word.
_SPELLED: Final = {
    "vmentry": "entry", "vmenter": "entry", "enter": "entry", "vmlaunch": "launch", "vmresume": "resume", "ctrl": "control", "ctrls": "control",
    "ctl": "control", "ctls": "control", "controls": "control", "inval": "invalid", "failure": "fail", "failed": "fail", "err": "fail", "gs": "guest",
    "nonclear": "non clear", "nonlaunched": "non launched", "nonlaunch": "non launched", "ptr": "pointer", "hoststate": "host",
    "gueststate": "guest", "events": "event", "blocked": "block", "movss": "mov ss", "loading": "load", "mce": "machine check",
    "during": "", "withvmxoff": "after vmxoff",
}  # fmt: skip
_IDENTIFIER: Final = deferred(r"(?<![\w$])[A-Za-z_]\w{7,80}(?!\w|\((?!\):))")
_WORDS: Final = deferred(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
#: Every name has one of these in it.
_TELLING: Final = (
    "inval", "nonclear", "non_clear", "nonlaunch", "non_launch", "vmxoff", "entry", "msr_load", "msrload", "machine_check", "unable", "whv",
)  # fmt: skip
_OF_ENTRY: Final = deferred(r"entry|enter|launch|resume|vmx|vm_?e|vm_?inst|exit_?(?:reason|invalid)|whv", re.IGNORECASE)
#: What on the same line says the same of a name that does not: the number of its exit reason.
_NUMBER: Final = deferred(r"\b(?:0x21|0n33|33)\b")
#: What of a line is program text, in which a name has not happened.
_CODE: Final = deferred(r"[=!]=|\breturn\b|\?|[{}]|;\s*$|\|\|")


@lru_cache(maxsize=1 << 12)
def words_of(name: str) -> str:
    """The words of a name that say which outcome it is, in one spelling: "entry invalid control"."""
    spaced = name.replace("VmEntry", "Vmentry").replace("VMEntry", "Vmentry").replace("VmxOff", "vmxoff").replace("VMXOFF", "vmxoff")
    words = (part.lower() for word in spaced.split("_") for part in _WORDS.findall(word))
    spelled = " ".join(_SPELLED.get(word, word) for word in words).split()
    return " ".join(word for word in spelled if word not in _AFFIXES)


@cache
def _by_words() -> dict[str, OutcomeNames]:
    return {words_of(name): named for named in OUTCOMES for name in named.names}


def identified(text: str) -> Reported | None:
    """The outcome that an identifier in the text names, where it is no program text and no list of them; the first that is not denied."""
    small = text.lower()
    if not any(word in small for word in _TELLING):
        return None
    names = ((match, _by_words().get(words_of(match.group(0)))) for match in _IDENTIFIER.finditer(text) if _tells(match.group(0)))
    return first_told(
        [
            (text.count("\n", 0, match.start()), Reported(match.group(0), named.exit_reason, named.error, remark=named.remark))
            for match, named in names
            if named is not None and _is_told(text, match)
        ]
    )


def _tells(name: str) -> bool:
    small = name.lower()
    return any(word in small for word in _TELLING)


def _is_told(text: str, match: re.Match[str]) -> bool:
    """Whether a name stands for an outcome of a VM entry, and that has happened."""
    place = place_of(text, match.start(), match.end())
    of_entry = _OF_ENTRY.search(match.group(0)) or _NUMBER.search(place.line)
    return of_entry is not None and not _CODE.search(place.line) and has_happened(place)
