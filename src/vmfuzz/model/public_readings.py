"""How public implementations read the manual's ambiguities, from their public sources: which reading, and where it stands.

Facts about other programs' sources, each with the file and function at the version that was read. "neither" means that the implementation
does not offer what the ambiguity is about, "processor" that it leaves the question to the physical processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class PublicReading:
    """One implementation's reading of one ambiguity ("strict", "lenient", "processor", "neither", ...), and where its source says so."""

    implementation: str
    reading: str
    where: str


#: Implementation -> the source that was read.
SOURCES: Final = MappingProxyType(
    {
        "Bochs": "github.com/bochs-emu/Bochs, tag REL_3_0_FINAL (02c851a93), bochs/cpu/vmx.cc",
        "KVM (nested)": (
            'github.com/gregkh/linux, commit 0e729a536892, arch/x86/kvm/vmx/nested.c; for CET the series merged in 2025 ("KVM: nVMX: Add consistency '
            'checks for CET states"); for what is not merged the series posted to kvm@vger.kernel.org on FRED (October 2025, v9) and on APIC-timer '
            "virtualization (February 2026)"
        ),
        "VirtualBox (nested)": (
            "github.com/mirror/vbox, commit 00ffcff7d660, src/VBox/VMM/VMMAll/IEMAllCImplVmxInstr.cpp.h; masks in include/VBox/vmm/hm_vmx.h"
        ),
        "Xen (nested)": "github.com/xen-project/xen, commit 00550e808c10, xen/arch/x86/hvm/vmx/vvmx.c",
    }
)
_BOCHS, _KVM, _VBOX, _XEN = SOURCES
_XEN_LEAVES: Final = (
    _XEN,
    "processor",
    "nvmx_vmresume looks at the I/O and MSR bitmaps only; the rest of the VMCS is judged when the processor enters the merged one",
)


def _readings(*rows: tuple[str, str, str]) -> tuple[PublicReading, ...]:
    return tuple(PublicReading(*row) for row in (*rows, _XEN_LEAVES))


#: Ambiguity id -> readings.
PUBLIC_READINGS: Final = MappingProxyType(
    {
        "eptp-bit-7": _readings(
            (_BOCHS, "lenient", "is_eptptr_valid: bit 7 may be 1 where the CPU model has CET, bits 11:8 are reserved"),
            (_KVM, "strict", "nested_vmx_check_eptp: bits 11:7 must be 0"),
            (_VBOX, "neither", "no nested EPT in this version (comment in iemVmxVmentryCheckGuestPdptes)"),
        ),
        "apic-timer-rdtsc": _readings(
            (_BOCHS, "neither", "APIC-timer virtualization is named in vmx.h as not implemented"),
            (_KVM, "strict", "series of February 2026, nested_check_vm_execution_controls: RDTSC exiting must be 0"),
            (_VBOX, "neither", "no tertiary controls"),
        ),
        "cp-error-code": _readings(
            (_BOCHS, "lenient", "VMenterLoadCheckVmControls: CPU models with CET do not tie the error code to the vector at all"),
            (
                _KVM,
                "strict",
                "nested_check_vm_entry_controls: the bit must equal x86_exception_has_error_code, which knows the vectors 8, 10-14 and 17 only; since "
                "the CET series not if L1 is offered IA32_VMX_BASIC[56]",
            ),
            (_VBOX, "strict", "iemVmxVmentryCheckEntryCtls: an error code is refused for vector 21; that it is missing is not checked"),
        ),
        "error-code-bit-15": _readings(
            (_BOCHS, "lenient", "VMenterLoadCheckVmControls: the upper 16 bits must be 0"),
            (_KVM, "lenient", "nested_check_vm_entry_controls: bits 31:16 must be 0"),
            (_VBOX, "lenient", "iemVmxVmentryCheckEntryCtls: the valid bits are 15:0; a comment there asks the question and decides so"),
        ),
        "debugctl-model-specific": _readings(
            (_BOCHS, "lenient", "VMenterLoadCheckGuestState reads the field and tests no bit of it (known deviation bochs-debugctl)"),
            (_KVM, "strict", "nested_vmx_check_guest_state: bits outside of what KVM offers the guest are refused (vmx_is_valid_debugctl)"),
            (_VBOX, "strict", "iemVmxVmentryCheckGuestControlRegsMsrs: bits outside of one mask for all Intel processors are refused"),
        ),
        "guest-s-cet-canonical": _readings(
            (_BOCHS, "strict", "VMenterLoadCheckGuestState: a guest IA32_S_CET that is not canonical fails the entry"),
            (
                _KVM,
                "lenient",
                "CET series, nested_vmx_check_guest_state: only reserved bits and SUPPRESS with TRACKER; that it need not be canonical is said on purpose",
            ),
            (_VBOX, "neither", "no CET"),
        ),
        "ssp-high-outside-64-bit-mode": _readings(
            (
                _BOCHS,
                "strict",
                'VMenterLoadCheckGuestState: bits 63:32 of SSP must be 0 if "IA-32e mode guest" is 0 (CS.L is not looked at)',
            ),
            (_KVM, "lenient", "CET series, nested_vmx_check_guest_state: bits 1:0 clear and bits 63:N identical, in every mode"),
            (_VBOX, "neither", "no CET"),
        ),
        "lam-outside-ia32e": _readings(
            (_BOCHS, "neither", "no CPU model has LAM; VMenterLoadCheckGuestState refuses the bits as beyond the physical-address width"),
            (
                _KVM,
                "lenient",
                "nested_vmx_load_cr3 uses kvm_vcpu_is_legal_cr3 (arch/x86/kvm/cpuid.h), which allows both bits to guests with LAM in any mode",
            ),
            (_VBOX, "neither", "no LAM; iemVmxVmentryCheckGuestControlRegsMsrs refuses the bits as beyond the physical-address width"),
        ),
        "cs-unusable": _readings(
            (
                _BOCHS,
                "lenient",
                "VMenterLoadCheckGuestState: the bit spares the checks for every segment register but CS, and is not checked for CS",
            ),
            (
                _KVM,
                "processor",
                "nested_vmx_check_guest_state has no check of segment registers (except where it cannot use unrestricted guest)",
            ),
            (
                _VBOX,
                "lenient",
                "iemVmxVmentryCheckGuestSegRegs: all checks of CS are made whatever the bit says, and the bit is not checked for CS",
            ),
        ),
        "nmi-sti": _readings(
            (_BOCHS, "strict", "VMenterLoadCheckGuestState: fails the entry, but with qualification 0 (known deviation bochs-nmi-sti)"),
            (_KVM, "processor", "nested_check_guest_non_reg_state looks at the activity state only"),
            (_VBOX, "strict", "iemVmxVmentryCheckGuestNonRegState: qualification 3"),
        ),
        "pending-debug-bit-11": _readings(
            (_BOCHS, "strict", "VMenterLoadCheckGuestState: bits 11:4 must be 0; no CPU model has bus-lock debug exceptions"),
            (_KVM, "processor", "nested_check_guest_non_reg_state looks at the activity state only"),
            (_VBOX, "strict", "iemVmxVmentryCheckGuestNonRegState: the valid bits are 3:0, 12, 14 and 16"),
        ),
        "btf-not-loaded": _readings(
            (_BOCHS, "neither", "VMenterLoadCheckGuestState makes no rule about BS at all (known deviation bochs-pending-debug-bs)"),
            (
                _KVM,
                "the register counts",
                "prepare_vmcs02: if debug controls are not loaded, the register's value from before the entry is entered with",
            ),
            (_VBOX, "the field counts", 'iemVmxVmentryCheckGuestNonRegState reads the field whatever "load debug controls" is'),
        ),
        "key-identifier-bits": _readings(
            (_BOCHS, "lenient", "IsValidPhyAddr and IsValidPageAlignedPhyAddr compare with BX_PHY_ADDRESS_WIDTH; no CPU model has TME"),
            (_KVM, "lenient", "page_address_valid: the width of the guest's CPUID (cpuid_maxphyaddr); IA32_TME_ACTIVATE is not emulated"),
            (_VBOX, "neither", "no TME; the width is that of CPUID (cMaxPhysAddrWidth)"),
        ),
        "host-rip-width": _readings(
            (
                _BOCHS,
                "the launching processor's CR4",
                "VMenterLoadCheckHostState: IsCanonical goes by linaddr_width (deviation bochs-canonical-la57)",
            ),
            (_KVM, "the host CR4 field", "is_l1_noncanonical_address_on_vmexit takes 57 or 48 bits from LA57 in vmcs12's host_cr4"),
            (_VBOX, "neither", "no LA57"),
        ),
        "spec-ctrl-stibp": _readings(
            (
                _BOCHS,
                "lenient",
                "isValidMSR_IA32_SPEC_CTRL (msr.cc): bit 1 is defined on every CPU model (deviation bochs-spec-ctrl-fixed)",
            ),
            (_KVM, "neither", "nested VMX offers no control that loads IA32_SPEC_CTRL"),
            (_VBOX, "neither", "no control that loads IA32_SPEC_CTRL"),
        ),
        "fred-outside-ia32e": _readings(
            (_BOCHS, "neither", "no FRED in this version"),
            (
                _KVM,
                "neither",
                'no FRED in this version; the patch "Add FRED-related VMCS field checks" (v8) refuses the event and spares the fields',
            ),
            (_VBOX, "neither", "no FRED"),
        ),
    }
)
