"""Outcomes as programs name them: VMXERR_ENTRY_INVALID_CONTROL_FIELD, vmentry_invalid_ctrl, VmEntryWithInvalidHostStateFields.

Public hypervisors spell the same few names in C, Rust, Zig, Go and Swift, so names are compared by their words, without the prefix that each
program puts before them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache, lru_cache
from typing import Final

from vmfuzz.explain.outcomes.context import CODE, has_happened, place_of
from vmfuzz.explain.reported import FAILED_ENTRY, Reported
from vmfuzz.patterns import deferred

#: Names that differ in more than `words_of` takes away -> their outcome (error 0: the name gives no number). VMXERR_ is of Linux' asm/vmx.h and of
#: HAXM; others have the same words: Xen's VMX_INSN_, XMHF's VM_INST_ERRNO_, Ymir's vmentry_invalid_ctrl, HyperPlatform's kEntryInvalidControlField,
#: VmEntryWithInvalidControlFields of hvpp and of Rust's x86 crate.
_NAMES: Final = {
    "VMXERR_VMLAUNCH_NONCLEAR_VMCS": Reported("", error=4),
    "VMXERR_VMRESUME_NONLAUNCHED_VMCS": Reported("", error=5),
    "VMXERR_VMRESUME_AFTER_VMXOFF": Reported("", error=6),
    "VMXERR_ENTRY_INVALID_CONTROL_FIELD VMX_INSN_INVALID_CONTROL_STATE": Reported("", error=7),
    "VMXERR_ENTRY_INVALID_HOST_STATE_FIELD VMX_INSN_INVALID_HOST_STATE": Reported("", error=8),
    "VMXERR_ENTRY_INVALID_EXECUTIVE_VMCS_POINTER": Reported("", error=16),
    "VMXERR_ENTRY_NONLAUNCHED_EXECUTIVE_VMCS": Reported("", error=17),
    "VMXERR_ENTRY_EXECUTIVE_VMCS_POINTER_NOT_VMXON_POINTER": Reported("", error=18),
    "VMXERR_ENTRY_INVALID_VM_EXECUTION_CONTROLS_IN_EXECUTIVE_VMCS": Reported("", error=25),
    "VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS VMX_INSN_VMENTRY_BLOCKED_BY_MOV_SS": Reported("", error=26),
    # FreeBSD's vmm, HAXM's functions, HyperPlatform, QEMU; then HAXM's constants; Bochs and VirtualBox; Windows' WinHvPlatformDefs.h
    "EXIT_REASON_INVALID_GUEST_STATE EXIT_REASON_VMENTRY_FAIL_GUEST_STATE VMENTRY_FAILED_INVALID_GUEST_STATE": Reported(
        "", FAILED_ENTRY | 33
    ),
    "VMX_EXIT_ERR_INVALID_GUEST_STATE WHvRunVpExitReasonInvalidVpRegisterValue": Reported("", FAILED_ENTRY | 33),
    # Linux; then others; Bochs and VirtualBox
    "EXIT_REASON_MSR_LOAD_FAIL EXIT_REASON_VMENTRY_FAIL_MSR_LOADING EXIT_REASON_VMENTRY_FAIL_MSR": Reported("", FAILED_ENTRY | 34),
    "VMX_EXIT_ERR_MSR_LOAD": Reported("", FAILED_ENTRY | 34),
    "EXIT_REASON_MCE_DURING_VMENTRY VMX_EXIT_REASON_VMENTRY_FAILURE_MACHINE_CHECK VMX_EXIT_ERR_MACHINE_CHECK": Reported(
        "", FAILED_ENTRY | 41
    ),
    # VirtualBox' include/VBox/err.h
    "VERR_VMX_INVALID_VMCS_PTR": Reported(""),
    "VERR_VMX_UNABLE_TO_START_VM VERR_VMX_UNABLE_TO_RESUME_VM": Reported(
        "", error=0, remark="VBox.log gives the VM-instruction error near this name"
    ),
}
#: Where words are written as one.
_SEAM: Final = deferred(
    r"vmx?(?=entry|enter|launch|resume|exit|off)|(?<=non)(?=clear|launch)|(?<=mov)(?=ss)|(?<=t)(?=state)", re.IGNORECASE
)
_WORD: Final = deferred(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
#: Endings that say no more, and spellings of one word without them.
_ENDING: Final = deferred(r"(?:ure|ed|ing|s)$")
_SPELLED: Final = {
    "enter": "entry", "ctrl": "control", "ctl": "control", "inval": "invalid", "err": "fail", "g": "guest", "ptr": "pointer", "mce": "machine check",
}  # fmt: skip
#: What a program puts around the words of an outcome, without such endings.
_AFFIXES: Final = frozenset(
    "k e vm vmx vmc hv error errno verr vmxerr vmerr vminstr vminst instr instruction insn inst code with by due to in after dur i reason exit field "
    "state the rc statu result".split()
)
_IDENTIFIER: Final = deferred(r"(?<![\w$])[A-Za-z_]\w{7,80}(?!\w|\((?!\):))")
#: What says, in the name or beside it, that it is one of a VM entry.
_OF_ENTRY: Final = deferred(
    r"entry|enter|launch|resume|vm(?:[x_e]|inst|fail)|exit[_ ]?(?:reason|invalid)|whv|\b(?:0x21|0n33|33)\b", re.IGNORECASE
)


@lru_cache(maxsize=1 << 12)
def words_of(name: str) -> str:
    """The words of a name that say which outcome it is, in one spelling: "entry invalid control"."""
    words = (_ENDING.sub("", word.lower()) for word in _WORD.findall(_SEAM.sub("_", name)))
    return " ".join(_SPELLED.get(word, word) for word in words if word not in _AFFIXES)


@cache
def _by_words() -> dict[str, Reported]:
    """The outcome for the words of each name of the table."""
    return {words_of(name): outcome for names, outcome in _NAMES.items() for name in names.split()}


def meant(words: str) -> Reported | None:
    """The outcome that a person means who gives nothing but its name, or the words of one: "invalid guest state"."""
    outcome = _by_words().get(words_of(words.replace(" ", "_")))
    return outcome and replace(outcome, text=words)


def identified(text: str) -> list[tuple[int, Reported]]:
    """The outcomes that identifiers in the text name, with the numbers of their lines, where they are not denied and no program text."""
    found = []
    for match in _IDENTIFIER.finditer(text):
        outcome = _by_words().get(words_of(match.group(0)))
        place = place_of(text, *match.span()) if outcome is not None else None
        if outcome and place and _OF_ENTRY.search("".join(place)) and has_happened(place, CODE):
            found.append((text.count("\n", 0, match.start()), replace(outcome, text=match.group(0))))
    return found
