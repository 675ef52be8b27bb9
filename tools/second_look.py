"""Checks that none of the implementations read makes at a VM entry that it emulates, with what a second look at each found: a section of docs/checks.md.

Read were KVM's nested VMX (6.1, 6.12, the newest), Bochs (August 2026), VirtualBox (6.1.36, trunk), Xen's nested VMX and ACRN. Where a check stands in an
edition that was read only in translation, a second source is named if there is one.
"""

from __future__ import annotations

from typing import Final

_TRANSLATION: Final = "In the newest edition only, which was read in translation"

#: (checks: ids or beginnings of ids, what the second look found); sentences say what holds the check besides the manual, or that nothing does.
SECOND_LOOK: Final = (
    (
        ("ctl.pt.trace-vs-load",),
        "Kept. The text says 0, where one would expect 1. Processors make it: KVM's developers report failed VM entries while the host traces "
        '("KVM: VMX: Bury Intel PT virtualization", November 2024, and a series of August 2022).',
    ),
    (
        ("ctl.apictimer.needs-vid", "ctl.apictimer.needs-rdtsc", "ctl.apictimer.vector"),
        f"Kept. {_TRANSLATION}; a series of Intel's for KVM (February 2026) now makes the same three. The second stays an ambiguity until an "
        "edition in English has been read.",
    ),
    (
        ("host.fred.config.canonical", "guest.fred.config.canonical", "host.as.32.fred"),
        "Kept. KVM's series for FRED (October 2025) makes all three, of bits 63:12 as the model does; Bochs has FRED and makes none of them (deviations "
        "bochs-fred-config-canonical and bochs-host-fred-32).",
    ),
    (
        ("ctl.ipiv.needs-tprshadow", "ctl.ipiv.table"),
        f"Kept. {_TRANSLATION}. KVM uses the feature only for its own guests, with a page-aligned table and the TPR shadow on, which says nothing. "
        "The end is the last entry's first byte; since the table is aligned to 8 bytes, its last byte gives the same.",
    ),
    (
        ("ctl.pt.needs-ept", "ctl.pt.gpa-needs-load"),
        "Kept. In every edition since 2018. KVM turns the three controls on together or not at all, and only with EPT, as the rules want it.",
    ),
    (
        ("ctl.pebs.needs-ept", "ctl.hlat.needs-ept", "ctl.eptpw.needs-ept", "ctl.gpv.needs-ept"),
        f"Kept. {_TRANSLATION}; each feature is defined by EPT structures and could not work without. Nothing else holds them.",
    ),
    (
        ("ctl.hlat.ptr",),
        f"Kept. {_TRANSLATION}. The HLAT pointer has the format of CR3 (bits 4:3 are PWT and PCD), which the mask FE7H follows. Nothing else holds them.",
    ),
    (
        ("ctl.pasid.low", "ctl.pasid.high"),
        f"Kept. {_TRANSLATION}. They are worded like those of every other page address. Nothing else holds them.",
    ),
    (
        ("ctl.entry.smm.outside.entry", "ctl.entry.smm.both"),
        "Kept. In every edition. No hypervisor offers the control, so that its rule on allowed settings fails first; Bochs makes the rule on the "
        "other control "
        "only (deviation bochs-entry-to-smm).",
    ),
    (
        ("guest.rtit", "guest.lbrctl"),
        "Kept. The text says no more than that reserved bits must be 0; which those are is WRMSR's, from CPUID leaves 14H and 1CH. What WRMSR "
        "refuses besides "
        "(combinations) is not part of the rule. KVM judges a guest's WRMSR by the same leaves.",
    ),
    (
        ("ctl.inject.errcode.required.cp",),
        "Stays an ambiguity (cp-error-code): processors with CET report IA32_VMX_BASIC[56] = 1 and make neither.",
    ),
    (
        ("ctl.inject.errcode.value.bit15",),
        "Stays an ambiguity (error-code-bit-15): an older edition's text; KVM, Bochs and VirtualBox demand bits 31:16 only, VirtualBox with a "
        "comment that asks.",
    ),
    (
        ("guest.cr3.reserved.lam",),
        "Stays an ambiguity (lam-outside-ia32e): the text names the two bits and no mode.",
    ),
)
