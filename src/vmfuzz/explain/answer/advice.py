"""What a reported outcome means and proves, what to collect next, and how to make each hypervisor print it; VirtualBox's own error numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from types import MappingProxyType
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import ANY_EXIT, EXIT_REASONS, INSTRUCTION_ERRORS, Kind, Outcome
from vmfuzz.explain.dump import Format
from vmfuzz.explain.names.spoken import with_encoding
from vmfuzz.explain.reported import ENTRY_ERRORS, FAILED_ENTRY, Report, Reported
from vmfuzz.hexadecimal import as_wide

#: What decides an outcome: in words, and which fields (a pattern of their names; "" for what no field holds).
_Groups = tuple[tuple[str, str], ...]
_SEGMENT: Final = "guest_([cdefgs]s|tr|ldtr)_(selector|base|limit|access_rights)"
_GUEST_FIELDS: Final[_Groups] = (
    ("guest CR0, CR3, CR4, RFLAGS, RIP, DR7", "guest_(cr[034]|rflags|rip|dr7)"),
    ("selector, base, limit and access rights of CS, SS, DS, ES, FS, GS, TR, LDTR", _SEGMENT),
    ("GDTR and IDTR", "guest_[gi]dtr_(base|limit)"),
    (
        "interruptibility, activity state, pending debug exceptions",
        "guest_(interruptibility_state|activity_state|pending_debug_exceptions)",
    ),
    ("VMCS link pointer", "vmcs_link_pointer"),
    ("VM-entry interruption info", "vm_entry_interruption_info"),
    ("the control words", ".*_controls"),
    ("the guest's MSRs that a VM-entry control loads", "guest_ia32_.*"),
)
_PDPTE_FIELDS: Final[_Groups] = (
    ("guest PDPTE0 to PDPTE3 (280AH to 2810H)", "guest_pdpte[0-3]"),
    ("guest CR0, CR3, CR4", "guest_cr[034]"),
    ("guest IA32_EFER (2806H)", "guest_ia32_efer"),
    ("the control words", "(vm_entry|(primary|secondary)_processor_based)_controls"),
    ("without EPT, the 32 bytes of memory at guest CR3 (with bits 4:0 as 0)", ""),
)
_CONTROL_FIELDS: Final[_Groups] = (
    ("pin-based, primary, secondary and tertiary controls, VM-exit and VM-entry controls", ".*_controls"),
    ("the capability MSRs 480H to 493H", ""),
    (
        "VM-entry interruption info with error code and instruction length",
        "vm_entry_(interruption_info|exception_error_code|instruction_length)",
    ),
    ("EPT pointer, VPID", "eptp|vpid"),
    ("addresses of bitmaps and MSR areas with their counts", ".*(bitmap.*|_address|_count)"),
)
_HOST_FIELDS: Final[_Groups] = (
    ("host CR0, CR3, CR4", "host_cr[034]"),
    ("host selectors", "host_.._selector"),
    ("host FS, GS, TR, GDTR and IDTR bases", "host_.*_base"),
    ("host SYSENTER ESP and EIP, RIP", "host_(ia32_sysenter_e[si]p|rip)"),
    ("host IA32_PAT, IA32_EFER", "host_ia32_(pat|efer)"),
    ("VM-exit controls", "(vm_exit|secondary_vm_exit)_controls"),
    ("the processor's IA32_EFER when it executes VMLAUNCH", ""),
    ("CR0 and CR4 fixed MSRs 486H to 489H", ""),
)
_MSR_FIELDS: Final[_Groups] = (
    ("the VM-entry MSR-load area: its address (200AH), its count (4014H)", "vm_entry_msr_load_(address|count)"),
    ("index and value of the entry that failed", ""),
)
_ALL_FIELDS: Final[_Groups] = (
    ("exit reason (4402H), exit qualification (6400H), VM-instruction error (4400H), and all the fields of the VMCS", ""),
)
#: So many fields are named one by one.
_FEW: Final = 8

#: How to make each hypervisor print a VMCS.
HOW_TO_DUMP: Final = (
    (
        "Linux KVM: run this, let the entry fail again, then `sudo dmesg`",
        "echo Y | sudo tee /sys/module/kvm_intel/parameters/dump_invalid_vmcs",
    ),
    ("Xen: prints the VMCS when the entry fails (debug key v prints all)", "xl dmesg"),
    ("VirtualBox: these lines of VBox.log", 'grep -A30 "VT-x info" VBox.log'),
    ("Your own hypervisor: a function that prints every field (--rust for Rust)", "vmfuzz dump-code --c"),
)

#: VM-instruction errors of other instructions, which a VMCS may still hold from before.
_OTHER_ERRORS: Final = MappingProxyType(
    {
        1: "VMCALL executed in VMX root operation",
        2: "VMCLEAR with invalid physical address",
        3: "VMCLEAR with VMXON pointer",
        9: "VMPTRLD with invalid physical address",
        10: "VMPTRLD with VMXON pointer",
        11: "VMPTRLD with incorrect VMCS revision identifier",
        12: INSTRUCTION_ERRORS[12],
        13: INSTRUCTION_ERRORS[13],
        15: "VMXON executed in VMX root operation",
        19: "VMCALL with non-clear VMCS",
        20: "VMCALL with invalid VM-exit control fields",
        22: "VMCALL with incorrect MSEG revision identifier",
        23: "VMXOFF under dual-monitor treatment of SMIs and SMM",
        24: "VMCALL with invalid SMM-monitor features",
        28: "invalid operand to INVEPT or INVVPID",
    }
)
#: What follows the number of an error.
_NAMED_ERRORS: Final = MappingProxyType(
    {error: f", which no VM entry gives: {name}" for error, name in _OTHER_ERRORS.items()}
    | {error: f": {INSTRUCTION_ERRORS[error]}" for error in ENTRY_ERRORS}
)

#: Failures that are none of a VM entry.
_NO_ENTRY: Final = (Report.INSTRUCTION, Report.INTERNAL)


def verdict(reported: Reported) -> str:
    """The sentence that comes first: whether the entry failed, and with what; less where the outcome does not tell."""
    if reported.kind in _NO_ENTRY:
        return f"{headline(reported)}. {reported.means}"
    if reported.kind is Report.ATTEMPTED:
        return (
            f'KVM printed this VMCS ("{reported.text}"): either the VM entry failed, or KVM did not expect the exit. The end of the dump is '
            "missing, with the controls and the exit reason; paste the whole dump."
        )
    if reported.kind is Report.DOUBTFUL and reported.other is not None:
        return _either(reported, reported.other)
    if reported.error and reported.error not in ENTRY_ERRORS:
        return f"{headline(reported)}. This error alone does not say that a VM entry failed."
    return f"{'This VM entry did not fail' if reported.entered else 'The VM entry failed'}: {headline(reported)}."


def _either(by_error: Reported, by_reason: Reported) -> str:
    reason = by_reason.exit_reason or 0
    ended = (
        "succeeded, and the guest ran until that exit" if by_reason.entered else "failed with it, after controls and host state had passed"
    )
    last = {7: ", and a check of the controls failed", 8: ", and a check of the host state failed"}.get(by_error.error or 0, "")
    return (
        f"One VM entry cannot give both: {headline(by_error)}; and exit reason {reason & 0xFFFF} ({_exit_name(reason)}). A VM exit does not change the "
        "error, and a VMLAUNCH or VMRESUME that fails with an error does not change the exit reason, so one of the two is left over from an "
        f"earlier entry. If the error is newer, the entry failed{last}. If the exit reason is newer, the entry {ended}."
    )


def _exit_name(reason: int) -> str:
    return EXIT_REASONS.get(reason & 0xFFFF, "a VM exit that vmfuzz has no name for")


def of_checks(reported: Reported | None) -> bool:
    """Whether checks of VMCS fields decide what is reported: it has a cause among them, shown or not."""
    if reported is None or reported.kind is Report.DOUBTFUL:
        return False
    return reported.error in (7, 8) or (reported.exit_reason or 0) in (FAILED_ENTRY | 33, FAILED_ENTRY | 34)


def spoken_outcome(outcome: Outcome) -> str:
    """An outcome in the words of the manual: VM-instruction error 7, not VMfailValid(7)."""
    if outcome.kind is Kind.VMFAIL_VALID:
        return f"VM-instruction error {outcome.number}: {INSTRUCTION_ERRORS.get(outcome.number, 'unknown error number')}"
    return str(outcome)


def numbers_of(outcome: Outcome) -> str:
    """The numbers of a failed entry: exit reason 80000021H, qualification 0."""
    if outcome.kind is Kind.VMFAIL_VALID:
        return f"VM-instruction error {outcome.number}"
    if outcome.kind is Kind.ENTRY_FAILURE:
        qualification = "" if outcome.qualification is None else f", qualification {outcome.qualification}"
        return f"exit reason {as_wide(FAILED_ENTRY | outcome.number, 32)}{qualification}"
    return outcome.short()


def headline(reported: Reported) -> str:
    """One sentence: what the reported outcome is."""
    if reported.kind in _NO_ENTRY:
        named = _OTHER_ERRORS.get(reported.error or 0)
        return f"This is no failed VM entry: {reported.text}{f' ({named})' if named else ''}"
    if reported.kind is Report.REFUSED:
        gets = f". That hypervisor sees {headline(reported.other)}" if reported.other is not None else ""
        return f"KVM refused the VMCS of the hypervisor in its guest (vmcs12), because this condition in its source is true: {reported.text}{gets}"
    if reported.exit_reason == ANY_EXIT:
        return f'"{reported.text}" in a trace, so the guest ran until that exit'
    if reported.exit_reason is None and reported.error is None:
        return "VMfailInvalid: there was no current VMCS when VMLAUNCH or VMRESUME executed"
    if reported.kind is Report.UNNUMBERED:
        return f'"{reported.text}", without the number that says why'
    if reported.error == 0:
        return "the hypervisor gave up and does not say why (its error is 0 or not shown)"
    if reported.error is not None:
        return f"VM-instruction error {reported.error}{_NAMED_ERRORS.get(reported.error, ', a number that no VM entry gives')}"
    reason = reported.exit_reason or 0
    number = reason & 0xFFFF
    name = _exit_name(reason)
    if reported.entered:
        return f"exit reason {number} ({name}) without bit 31, so the guest ran until that exit"
    qualification = "" if reported.qualification is None else f", qualification {reported.qualification}"
    return f"{name} (exit reason {as_wide(reason, 32)}{qualification})"


#: What an error proves, or what to do about it.
_OF_ERROR: Final = MappingProxyType(
    {
        0: "That proves nothing yet. Either VMLAUNCH or VMRESUME failed without a number (VMfailInvalid: no current VMCS), or the guest ran and came "
        "back with an exit that the hypervisor does not handle. The exit reason (4402H) and the VM-instruction error (4400H) say which.",
        4: "VMLAUNCH needs a VMCS in the clear state: execute VMCLEAR first, or use VMRESUME if the VMCS has been launched.",
        5: "VMRESUME needs a VMCS that VMLAUNCH has launched on this processor: use VMLAUNCH after VMCLEAR.",
        7: "A check of the VM-execution, VM-exit or VM-entry controls failed. The guest state was not checked; the host state may be wrong too.",
        8: "A check of the host state failed. The controls may be wrong too: the processor may check controls and host state in either order.",
        12: "A VMREAD or VMWRITE named a field that this processor does not have: check its encoding and its capability MSR.",
        13: "A VMWRITE named a read-only field.",
        26: "The instruction before was MOV SS or POP SS: put another instruction between it and VMLAUNCH.",
    }
)
#: What a qualification of exit reason 33 says.
_OF_QUALIFICATION: Final = MappingProxyType(
    {
        2: " Qualification 2: a PDPTE.",
        3: " Qualification 3: an NMI injected while blocking by STI is 1.",
        4: " Qualification 4: the VMCS link pointer.",
    }
)


def proves(reported: Reported) -> str:
    """What the outcome proves; "" if nothing."""
    if reported.kind in (Report.DOUBTFUL, Report.ATTEMPTED, *_NO_ENTRY):
        return ""
    if reported.kind is Report.REFUSED:
        return (
            "No processor has seen it: KVM makes this check in software, before it enters the guest. Correct in L1's VMCS what the check names; if L1 "
            "asked for nothing wrong, look for the mistake in L0's KVM."
        )
    if reported.kind is Report.UNNUMBERED:
        return (
            "Either VMLAUNCH or VMRESUME failed (the VM-instruction error, 4400H, says why), or the processor refused the guest state (the exit "
            "reason, 4402H, is then 80000021H, 80000022H or 80000029H). KVM gives one of the two as hardware_entry_failure_reason."
        )
    if reported.error is not None:
        return _OF_ERROR.get(reported.error, "No check of VMCS fields gives this error.")
    if reported.exit_reason is None:
        return "Either VMPTRLD has not been executed on this processor, or the VMCS was current and a VMCLEAR ended that."
    return "All checks of controls, host state and guest state passed." if reported.entered else _of_reason(reported)


def _of_reason(reported: Reported) -> str:
    """What the exit reason of a failed entry proves."""
    number = (reported.exit_reason or 0) & 0xFFFF
    if number == 33:
        details = _OF_QUALIFICATION.get(reported.qualification or 0, "")
        return f"The controls and the host state passed all their checks; the mistake is in the guest state.{details}"
    if number == 34:
        entry = reported.qualification or reported.msr_entry
        which = f" It is entry {entry}, counting from 1." if entry else ""
        return f"Controls, host state and guest state passed; an entry of the VM-entry MSR-load area could not be loaded.{which}"
    return "Controls and host state passed; a machine-check event occurred while the guest state was loaded. The VMCS is not at fault."


def collect_next(reported: Reported, given: Collection[str] = (), missing: Collection[str] = ()) -> list[str]:
    """What decides this outcome; where a text has given fields, only what its undecided checks miss."""
    groups = _deciding(reported)
    if not given or groups is _ALL_FIELDS:
        return [words for words, _ in groups]
    if groups is _PDPTE_FIELDS or groups is _MSR_FIELDS:
        absent = [name for name in FIELDS if name not in given]
        return [words for words, pattern in groups if not pattern or _matching(pattern, absent)]
    if len(missing) <= _FEW:
        return [with_encoding(name) for name in missing]
    return list(dict.fromkeys(text for words, pattern in groups for text in _of_group(words, pattern, given, missing)))


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if re.fullmatch(pattern, name)]


def _of_group(words: str, pattern: str, given: Collection[str], missing: Collection[str]) -> list[str]:
    """What is wanted of one group: its words, but only its missing fields where the text gives some of the group."""
    if not pattern:
        return [words]
    wanted = _matching(pattern, [name for name in missing if name not in given])
    if len(wanted) <= _FEW and _matching(pattern, given):
        return [with_encoding(name) for name in wanted]
    return [words] if wanted else []


def _deciding(reported: Reported) -> _Groups:
    if reported.kind in (Report.REFUSED, *_NO_ENTRY):
        return ()
    if reported.error == 0:
        return _ALL_FIELDS
    if reported.error is not None:
        return {7: _CONTROL_FIELDS, 8: _HOST_FIELDS}.get(reported.error, ())
    if reported.exit_reason is None or reported.entered:
        return ()
    if reported.exit_reason & 0xFFFF == 34:
        return _MSR_FIELDS
    return _PDPTE_FIELDS if reported.exit_reason & 0xFFFF == 33 and reported.qualification == 2 else _GUEST_FIELDS


def how_to_print(form: Format, reported: Reported, cr3: int | None) -> list[tuple[str, str]]:
    """How to have the fields printed, for a text of this form: (who or what, command). `cr3`: the guest's, where it is known."""
    own = {
        Format.KVM: ("Linux KVM: the whole dump, with its lines in the order in which they were printed", "sudo dmesg"),
        Format.QEMU: HOW_TO_DUMP[0],
        Format.XEN: HOW_TO_DUMP[1],
        Format.VIRTUALBOX: HOW_TO_DUMP[2],
    }.get(form)
    found = [own] if own is not None else list(HOW_TO_DUMP)
    if _deciding(reported) is _PDPTE_FIELDS:
        found.append(("QEMU's monitor, for the memory at guest CR3", f"xp /4gx {'CR3' if cr3 is None else f'{cr3 & 0xFFFFFFE0:#x}'}"))
    return found


def how_to_read(msrs: Iterable[int]) -> list[tuple[str, str]]:
    """How to read these capability MSRs, as lines that `vmfuzz check` reads: (who or what, commands)."""
    who = "Linux, with msr-tools, after `sudo modprobe msr`"
    commands = "\n".join(f'echo "{FACT_MSRS[number]} 0x$(sudo rdmsr {number:#x})"' for number in dict.fromkeys(msrs))
    return [(who, commands)] if commands else []
