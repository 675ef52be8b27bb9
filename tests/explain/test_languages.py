"""Outcomes in people's words: eight languages, numbers in sentences, what is denied, supposed or listed."""

from __future__ import annotations

import pytest
from one_dump import read

from vmfuzz.explain.outcomes.words import identified

GUEST, CONTROLS, HOST = ("80000021", "7", "8")


def outcome(text: str) -> str:
    """The outcome of a text in short: exit reason or error number, "failed" without a number, "" for none."""
    reported = read(f"{text}\n").reported
    if reported is None or reported.entered:
        return ""
    if reported.exit_reason is not None:
        return f"{reported.exit_reason:08x}"
    return "failed" if not reported.error else str(reported.error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vmlaunch fails: invalid guest state", GUEST),
        ("VM entry fails because of an invalid guest state", GUEST),
        ("after vmresume I get VM-entry failure, guest state is invalid", GUEST),
        ("VMLAUNCH schlägt fehl: ungültiger Gastzustand", GUEST),
        ("VMLAUNCH schlägt mit Fehlercode 7 fehl", CONTROLS),
        ("vmlaunch échoue : état invité invalide", GUEST),
        ("vmlaunch échoue avec le code d'erreur 8", HOST),
        ("vmlaunch falla: estado de invitado inválido", GUEST),
        ("vmlaunch falla con código de error 7", CONTROLS),
        ("vmlaunch завершается с ошибкой: недопустимое состояние гостя", GUEST),
        ("vmlaunch не проходит, код ошибки 7", CONTROLS),
        ("vmlaunch 失败，无效的客户机状态", GUEST),
        ("执行 vmlaunch 失败，错误码为 7", CONTROLS),
        ("vmlaunchが失敗する: 無効なゲスト状態", GUEST),
        ("vmlaunchが失敗し、エラーコードは7", CONTROLS),
        ("vmlaunch 실패: 잘못된 게스트 상태", GUEST),
        ("vmlaunch 실패, 오류 코드 8", HOST),
        ("Vmlaunch 失败!\nErrorCode <7>\nErrorReason <0>", CONTROLS),
        ("By printing, the VMENTRY failure error code is 7", CONTROLS),
        ("vmresume failed\nVM instruction error number: 8", HOST),
        ("The first vmexit reason is 48, then vmresume fails with invalid guest state", GUEST),
        ("vmlaunch fails and I do not know why", "failed"),
        ("my vmlaunch keeps failing", "failed"),
        ("VM-Eintritt fehlgeschlagen", "failed"),
        ("запуск гостя: ошибка", "failed"),
        ("虚拟机进入失败", "failed"),
        ('{"error": "vmlaunch fails: invalid guest state"}', GUEST),
        ("vmlaunch fails, the control fields are invalid", CONTROLS),
    ],
)
def test_what_people_say_of_a_failed_entry(text: str, expected: str) -> None:
    assert outcome(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Instead of exiting with KVM_EXIT_FAIL_ENTRY, it exited with KVM_EXIT_UNKNOWN",
        "vmlaunch no longer fails with error 7",
        "vmlaunch does not fail",
        "VMLAUNCH schlägt nicht mehr mit Fehlercode 7 fehl",
        "vmlaunch 不再失败",
        "vmlaunch больше не завершается с ошибкой 7",
        "if vmlaunch fails with an invalid guest state, the VMM prints it",
        "kvm-intel.emulate_invalid_guest_state=0",
        "return VMXERR_ENTRY_INVALID_CONTROL_FIELD;",
        "case vmentry_invalid_ctrl:",
        "VMXERR_ENTRY_INVALID_CONTROL_FIELD = 7,\nVMXERR_ENTRY_INVALID_HOST_STATE_FIELD = 8,",
        "7: vmentry_invalid_ctrl\n8: vmentry_invalid_host_state\n26: VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS",
        "Handle deferred early VMLAUNCH/VMRESUME failure properly",
        "the state kInvalidGuestState of our own machine",
        "Section 26.7, VM-entry failures during or after loading guest state",
        "vm_entry_msr_load_address",
        "    [VMX_EXIT_FAILED_VMENTER_GS]  = exit_invalid_guest_state,",
        'hax_log(HAX_LOGE, "VM entry failed: RIP %08lx"',
        "@@ -12,3 +12,4 @@ static int vmlaunch_error(void) KVM_EXIT_FAIL_ENTRY",
    ],
)
def test_what_is_denied_supposed_or_listed_has_not_happened(text: str) -> None:
    assert outcome(text) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VM-instruction error number: vmentry_invalid_ctrl", CONTROLS),
        ("run failed: VMXERR_ENTRY_INVALID_CONTROL_FIELD", CONTROLS),
        ("Error: VmxError::VmEntryWithInvalidHostStateFields", HOST),
        ("panic: InstructionError.vmentry_invalid_host_state", HOST),
        ("VmInstrErrorVmEntryWithInvalidControlFields", CONTROLS),
        ("launch: kVmlaunchNonclearVmcs", "4"),
        ("vmresume: VMX_INSN_VMRESUME_NONLAUNCHED_VMCS", "5"),
        ("exit: EXIT_REASON_VMENTRY_FAIL_GUEST_STATE", GUEST),
        ("it crashes due to `kInvalidGuestState (0n33)`", GUEST),
        ("vcpu_vmexit_handler(): The first vmexit reason is 48.\nexit_invalid_guest_state(): the vmexit counter is 5.", GUEST),
        ("exit: VMX_EXIT_REASON_VMENTRY_FAILURE_MSR_LOADING", "80000022"),
        ("HM: VERR_VMX_INVALID_HOST_STATE", HOST),
        ("rc=VERR_VMX_UNABLE_TO_START_VM", "failed"),
        ("err: VM_INST_ERRNO_VMENTRY_EVENT_BLOCK_MOVSS", "26"),
    ],
)
def test_outcomes_as_identifiers(text: str, expected: str) -> None:
    assert outcome(text) == expected


#: What programs that are public call an outcome.
NAMES = {
    "4": "VMXERR_VMLAUNCH_NONCLEAR_VMCS VMX_INSN_VMLAUNCH_NONCLEAR_VMCS VM_INST_ERRNO_VMLAUNCH_NONCLEAR_VMCS VmlaunchWithNonClearVmcs",
    "5": "VMXERR_VMRESUME_NONLAUNCHED_VMCS VM_INST_ERRNO_VMRESUME_NONLAUNCH_VMCS VmresumeWithNonLaunchedVmcs",
    "6": "VMXERR_VMRESUME_AFTER_VMXOFF VmresumeAfterVmxoff vmresumeWithVMXOFF",
    "7": "VMXERR_ENTRY_INVALID_CONTROL_FIELD VMX_INSN_INVALID_CONTROL_STATE VM_INST_ERRNO_VMENTRY_INVALID_CTRL vmentry_invalid_ctrl "
    "VmEntryWithInvalidControlFields kEntryInvalidControlField VMENTRY_INVALID_CONTROL_FIELD",
    "8": "VMXERR_ENTRY_INVALID_HOST_STATE_FIELD VMX_INSN_INVALID_HOST_STATE VM_INST_ERRNO_VMENTRY_INVALID_HOST vmentry_invalid_host_state "
    "VmEntryWithInvalidHostStateFields kEntryInvalidHostStateField VERR_VMX_INVALID_HOST_STATE",
    "16": "VMXERR_ENTRY_INVALID_EXECUTIVE_VMCS_POINTER VmentryWithInvalidExecutiveVmcsPointer",
    "17": "VMXERR_ENTRY_NONLAUNCHED_EXECUTIVE_VMCS VmentryWithNonLaunchedExecutiveVmcs",
    "18": "VMXERR_ENTRY_EXECUTIVE_VMCS_POINTER_NOT_VMXON_POINTER",
    "25": "VMXERR_ENTRY_INVALID_VM_EXECUTION_CONTROLS_IN_EXECUTIVE_VMCS",
    "26": "VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS VMX_INSN_VMENTRY_BLOCKED_BY_MOV_SS VMENTRY_EVENT_BLOCK_MOVSS",
    GUEST: "EXIT_REASON_INVALID_GUEST_STATE EXIT_REASON_VMENTRY_FAIL_GUEST_STATE EXIT_REASON_VMENTRY_FAIL_GS VMX_INVALID_GUEST_STATE "
    "VMX_EXIT_REASON_ENTRY_FAILURE_GUEST_STATE VmExitReasonVmEntryFailureInvalidGuestState VMENTRY_FAILED_INVALID_GUEST_STATE "
    "VMX_VMEXIT_ERR_INVALID_GUEST_STATE VMX_EXIT_ERR_INVALID_GUEST_STATE VERR_VMX_INVALID_GUEST_STATE exit_invalid_guest_state "
    "kInvalidGuestState WHvRunVpExitReasonInvalidVpRegisterValue",
    "80000022": "EXIT_REASON_MSR_LOAD_FAIL EXIT_REASON_VMENTRY_FAIL_MSR_LOADING EXIT_REASON_VMENTRY_FAIL_MSR VMX_EXIT_ERR_MSR_LOAD "
    "VMX_VMEXIT_ERR_MSR_LOADING",
    "80000029": "EXIT_REASON_MCE_DURING_VMENTRY VMX_EXIT_REASON_VMENTRY_FAILURE_MACHINE_CHECK VMX_EXIT_ERR_MACHINE_CHECK",
    "0": "VERR_VMX_UNABLE_TO_START_VM VERR_VMX_UNABLE_TO_RESUME_VM",
    "VMfailInvalid": "VERR_VMX_INVALID_VMCS_PTR",
}


@pytest.mark.parametrize(("name", "expected"), [(name, outcome) for outcome, names in NAMES.items() for name in names.split()])
def test_every_public_name_is_recognised(name: str, expected: str) -> None:
    ((line, found),) = identified(f"exit reason 33: {name}\n")
    assert (line, found.text) == (0, name)
    outcome = f"{found.exit_reason:x}" if found.exit_reason else "VMfailInvalid" if found.error is None else str(found.error)
    assert outcome == expected
