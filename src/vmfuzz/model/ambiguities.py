"""Where the SDM can be read in two ways, or says nothing: each place as data, with its readings and who is known to take which.

A check that names an ambiguity may be made or not; the prediction allows both, and a campaign records which reading a processor takes:
"strict" if it fails the VM entry, "lenient" if it does not. Each entry's `wording` is a sentence that would settle the question.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class Ambiguity:
    """One ambiguity: the text paraphrased, what each reading says, what is publicly known, and a wording that would settle it."""

    id: str
    title: str
    text: str
    strict: str
    lenient: str
    known: str
    wording: str


_ALL = (
    Ambiguity(
        "eptp-bit-7",
        "EPTP bit 7 where supervisor shadow-stack control is supported",
        "The check's sentence calls bits 11:7 of the EPTP reserved; the EPTP's own table defines bit 7 (supervisor shadow-stack control) for "
        "processors that report it in IA32_VMX_EPT_VPID_CAP[23].",
        "bit 7 must be 0 whatever the processor supports",
        "bit 7 may be 1 where IA32_VMX_EPT_VPID_CAP[23] is 1",
        "KVM's nested code treats bits 11:7 as reserved.",
        "Bits 11:8 must be 0, and bit 7 must be 0 if IA32_VMX_EPT_VPID_CAP[23] is 0.",
    ),
    Ambiguity(
        "apic-timer-rdtsc",
        "APIC-timer virtualization with RDTSC exiting",
        'As read here (in a translation only), the newest edition requires "RDTSC exiting" to be 0 if "APIC-timer virtualization" is 1.',
        "the two controls exclude each other",
        "they do not",
        "A series of patches for KVM by Intel's engineers (February 2026) checks this at a nested VM entry.",
        'If "APIC-timer virtualization" is 1, "RDTSC exiting" must be 0. (If that is meant.)',
    ),
    Ambiguity(
        "cp-error-code",
        "Error code of an injected control-protection exception (vector 21)",
        "The lists of vectors that must and must not have an error code were written before vector 21 had one; its exception delivers an "
        "error code, but where IA32_VMX_BASIC[56] is 0 the text leaves it among those that must not.",
        "the listed rule for vector 21 is enforced (must not have an error code, or must, as the two checks of this ambiguity say)",
        "vector 21 may be injected with or without an error code",
        "Public tests leave vector 21 out on purpose; processors with CET usually report IA32_VMX_BASIC[56] = 1.",
        "Add 21 to the vectors that deliver an error code if the processor supports CET.",
    ),
    Ambiguity(
        "error-code-bit-15",
        "Bit 15 of the VM-entry exception error code",
        "Older editions require bits 31:15 to be 0, newer ones only bits 31:16; bit 15 is the SGX bit of a page fault's error code.",
        "bit 15 must be 0",
        "bit 15 may be 1",
        "KVM and VirtualBox test bits 31:16.",
        "Bits 31:16 must be 0.",
    ),
    Ambiguity(
        "debugctl-model-specific",
        "Which bits of IA32_DEBUGCTL are reserved",
        "Reserved bits of guest IA32_DEBUGCTL must be 0 if debug controls are loaded; bits 63:16 and 5:3 are reserved on every processor, bits 2 and "
        "15:6 on some.",
        "the bit is reserved on this processor",
        "the bit is defined on this processor",
        "Erratum AZ61 (Core 2 Duo T8300): bit 14 may fail the VM entry although it is legal.",
        "A table of the bits by processor, or an enumeration in CPUID.",
    ),
    Ambiguity(
        "guest-s-cet-canonical",
        "Whether guest IA32_S_CET must be canonical",
        "The newest edition requires it of the guest field, as of the host field; KVM leaves it out for the guest on purpose.",
        "a guest IA32_S_CET that is not canonical fails the VM entry",
        "it does not",
        "KVM (since 2025) tests only the host field, and says that this is intended; Bochs tests both.",
        "State whether the rule applies to the guest field.",
    ),
    Ambiguity(
        "ssp-high-outside-64-bit-mode",
        "Bits 63:32 of guest SSP outside 64-bit mode",
        "The section on loading says that bits 63:32 of SSP have to be 0 if the guest will not be in 64-bit mode; the section on checks does not "
        "list it.",
        "it is a check",
        "it is not a check",
        "It is not known what any processor does.",
        "Move the sentence to the checks, or say that the bits are ignored.",
    ),
    Ambiguity(
        "lam-outside-ia32e",
        "Bits 62:61 of guest CR3 outside IA-32e mode",
        "If linear-address masking is supported, the two bits are no longer reserved in CR3. The text does not say whether that holds for a guest that "
        "will not be in IA-32e mode.",
        "the bits must be 0 outside IA-32e mode",
        "the bits may be 1 wherever LAM is supported",
        "It is not known what any processor does.",
        'If "IA-32e mode guest" is 0, bits 62:61 must be 0.',
    ),
    Ambiguity(
        "cs-unusable",
        "The unusable bit of guest CS",
        "No sentence requires bit 16 of the CS access rights to be 0; all other rules apply to CS whether or not it is set.",
        "a CS that is marked unusable fails the VM entry",
        "the bit is ignored for CS",
        "KVM leaves it to the processor.",
        "Add CS to the sentence that requires bit 16 = 0 for TR, or say that the bit is ignored for CS.",
    ),
    Ambiguity(
        "nmi-sti",
        "NMI injection with blocking by STI",
        "Older editions let a processor refuse NMI injection with blocking by STI (qualification 3); the newest states it as a rule.",
        "NMI injection with blocking by STI fails the VM entry, qualification 3",
        "it does not",
        "VirtualBox fails it with qualification 3; KVM leaves it to the processor.",
        "If an NMI is injected, there must be no blocking by STI; the exit qualification is 3.",
    ),
    Ambiguity(
        "pending-debug-bit-11",
        "Bit 11 of the pending debug exceptions",
        "The check's sentence lists bits 11:4 as reserved; the field's table defines bit 11 (bus lock detected) on newer processors.",
        "bit 11 must be 0",
        "bit 11 may be 1 where bus-lock debug exceptions are supported",
        "It is not known what any processor does.",
        "Bits 10:4 must be 0, and bit 11 must be 0 if CPUID.7.0:ECX[24] is 0.",
    ),
    Ambiguity(
        "btf-not-loaded",
        "Which BTF counts when debug controls are not loaded",
        'The rule on BS speaks of the IA32_DEBUGCTL field; if "load debug controls" is 0 the field is not loaded and the register keeps its value.',
        "the rule for this reading is enforced",
        "the rule for the other reading is enforced",
        "No report is known.",
        'Say whether the field or the register counts if "load debug controls" is 0.',
    ),
    Ambiguity(
        "key-identifier-bits",
        "Physical-address bits that hold a key identifier",
        "Addresses must not set bits beyond the physical-address width. The newest edition reduces that width, outside SEAM, by the "
        "key-identifier bits of IA32_TME_ACTIVATE (982H); older editions do not mention them, and CPUID reports the width with them.",
        "the key-identifier bits count as beyond the width",
        "the width is that of CPUID.80000008H",
        "Linux takes IA32_TME_ACTIVATE[35:32] from the width that it uses itself (detect_tme); it is not known what VM entry does on any processor.",
        "Say which bits of IA32_TME_ACTIVATE reduce the width, and that VM entry uses the reduced one.",
    ),
    Ambiguity(
        "host-rip-width",
        "The width by which host RIP is canonical",
        "With a 64-bit host, host RIP must be canonical, which is defined by the processor's linear-address width. On a processor with 57 bits, "
        "VM exit may load a CR4 with LA57 = 0, under which the next instruction fetch faults for an address of more than 48 bits.",
        "48 bits count where LA57 is 0, in the host CR4 field or in the launching processor's CR4",
        "the processor's width counts, whatever CR4.LA57 is",
        "KVM uses the host CR4 field, for host RIP alone; Bochs uses the launching processor's CR4 for all canonical addresses.",
        "Host RIP must be canonical relative to the paging mode that the VM exit establishes. (If that is meant.)",
    ),
    Ambiguity(
        "spec-ctrl-stibp",
        "IA32_SPEC_CTRL bit 1 without STIBP",
        "Reserved bits of the IA32_SPEC_CTRL fields must be 0. If CPUID reports IBRS and not STIBP, bit 1 has no function; Intel's guidance says "
        "that software may set it and that it is ignored.",
        "bit 1 is reserved without STIBP",
        "bit 1 is ignored where IBRS exists",
        "Xen lets guests set bit 1 on every processor with IBRS (msr_spec_ctrl_valid_bits). It is not known what any processor's VM entry does.",
        "Bit 1 is reserved only on processors that report neither IBRS nor STIBP.",
    ),
    Ambiguity(
        "fred-outside-ia32e",
        "FRED outside IA-32e mode",
        'CR4.FRED = 1 fails the VM entry if "IA-32e mode guest" is 0. The text does not say whether an event of type 7 with vector 1 or 2 is refused '
        "before that, or whether the FRED fields are checked for a guest (or a host) outside IA-32e mode.",
        "the event is refused with error 7; the fields are checked if they are loaded, whatever the mode",
        "the event is not refused for that; the fields are not checked outside IA-32e mode",
        "The KVM patch series for FRED refuses the event and checks the fields in IA-32e mode only; the source of Bochs from August 2026 leaves the event "
        "to the check of guest CR4.",
        'Say for both rules whether they need "IA-32e mode guest" (or "host address-space size") to be 1.',
    ),
)

#: Every ambiguity by id.
AMBIGUITIES: Final = MappingProxyType({ambiguity.id: ambiguity for ambiguity in _ALL})
