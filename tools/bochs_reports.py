"""docs/bochs-reports.md: a report for each known deviation of Bochs that is still in its newest source, ready to be sent.

    python tests/system/every_image_case.py docs/report/images.jsonl     # boots an image of each in Debian's Bochs
    python tools/bochs_reports.py                                        # writes the page

The rule, the case, the outcomes and the CPU models are those of the list of deviations, of the corpus and of the kept runs. Written here is only what a reader of
Bochs's source knows: where the rule belongs, what condition would make it, and which commit has mended it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vmfuzz.cli.places import stand_in
from vmfuzz.comparison.case import base_value
from vmfuzz.corpus.entries import Entry, entry_files, load
from vmfuzz.files import write_text
from vmfuzz.model.bochs_cet_fred_deviations import BOCHS_CET_FRED_DEVIATIONS
from vmfuzz.model.bochs_deviations import BOCHS_DEVIATIONS
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.deviations import Deviation
from vmfuzz.model.sections import Citation
from vmfuzz.prose import wrapped

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "bochs-reports.md"
IMAGES: Final = ROOT / "docs" / "report" / "images.jsonl"
CORPUS: Final = ROOT / "corpus"
#: The newest source that was read for this page.
COMMIT: Final = "783b58fd6"
COMMIT_DATE: Final = "22 August 2026"


@dataclass(frozen=True)
class Mend:
    """Where in Bochs's source, what condition would make the rule, and what of it newer sources have mended; `section`: where no check names one."""

    where: str
    condition: str
    section: str = ""
    mended_in_part: str = ""


_CONTROLS: Final = "`VMenterLoadCheckVmControls`, cpu/vmx.cc"
_HOST: Final = "`VMenterLoadCheckHostState`, cpu/vmx.cc"
_GUEST: Final = "`VMenterLoadCheckGuestState`, cpu/vmx.cc"
_WRMSR: Final = "`wrmsr` and `handle_unknown_wrmsr`, cpu/msr.cc"
_ASYNC: Final = "`handleAsyncEvent`, cpu/event.cc"

#: Deviations that the newest source still has.
MENDS: Final = {
    "bochs-shadow-vmcs": Mend(
        "`VMLAUNCH`, cpu/vmx.cc",
        "after the test of `BX_CPU_THIS_PTR vmcsptr`, `VMfailInvalid()` if `VMXReadRevisionID((bx_phy_address) BX_CPU_THIS_PTR vmcsptr) & BX_VMCS_SHADOW_BIT_MASK`",
    ),
    "bochs-entry-to-smm": Mend(
        _CONTROLS,
        "fail with VMXERR_VMENTRY_INVALID_VM_CONTROL_FIELD if `(vm->vmentry_ctrls.SMM_ENTER() || vm->vmentry_ctrls.DEACTIVATE_DUAL_MONITOR_TREATMENT()) && ! "
        "BX_CPU_THIS_PTR in_smm`",
    ),
    "bochs-perf-global-ctrl": Mend(
        f"{_HOST}; `VMenterLoadCheckGuestState`",
        'if "load IA32_PERF_GLOBAL_CTRL" of VM exit (of VM entry) is 1, read the host (guest) field and fail if a bit is set for a counter that CPUID.0AH does not report',
    ),
    "bochs-debugctl": Mend(
        _GUEST,
        "fail if `vm->vmentry_ctrls.LOAD_DBG_CTRLS() && (guest.ia32_debugctl_msr & BX_CONST64(0xFFFFFFFFFFFF0038))`",
    ),
    "bochs-pending-debug-high": Mend(
        _GUEST,
        "test the field before it is cut to 32 bits: `VMread_natural(VMCS_GUEST_PENDING_DBG_EXCEPTIONS) & BX_CONST64(0xFFFFFFFFFFFFAFF0)`",
    ),
    "bochs-pending-debug-bs": Mend(
        _GUEST,
        "after the checks of the interruptibility state: if it has blocking by STI or MOV SS, or the activity state is HLT, fail unless bit 14 of the field equals "
        "`(guest.rflags & EFlagsTFMask) && ! (guest.ia32_debugctl_msr & 2)`",
    ),
    "bochs-rip-identical": Mend(
        _GUEST,
        "for `x86_64_guest` with CS.L = 1, fail unless `(Bit64s) guest.rip >> N` is 0 or -1, N the linear-address width of CPUID.80000008H",
    ),
    "bochs-ss-null-selector": Mend(
        _GUEST,
        "leave out the `continue` for an SS whose selector is null: `invalid` (the unusable bit) already exempts it",
    ),
    "bochs-ia32e-without-paging": Mend(_GUEST, "fail if `x86_64_guest && (guest.cr0 & BX_CR0_PG_MASK) == 0`"),
    "bochs-vm86-real-mode": Mend(_GUEST, "fail if `v8086_guest && (guest.cr0 & BX_CR0_PE_MASK) == 0`"),
    "bochs-inject-hlt": Mend(
        _GUEST,
        "in the part on injected events: fail if `guest.activity_state == BX_ACTIVITY_STATE_HLT` and the event is none of BX_EXTERNAL_INTERRUPT, BX_NMI, BX_HARDWARE_EXCEPTION "
        "with vector 1 or 18, BX_EVENT_OTHER with vector 0",
    ),
    "bochs-inject-shutdown": Mend(
        _GUEST,
        "in the test for BX_ACTIVITY_STATE_SHUTDOWN, `event_type != BX_NMI && ! (event_type == BX_HARDWARE_EXCEPTION && vector == BX_MC_EXCEPTION)`",
    ),
    "bochs-nmi-sti": Mend(
        _GUEST,
        "in the case of BX_NMI, set `*qualification = VMENTER_ERR_GUEST_STATE_INJECT_NMI_BLOCKING_EVENTS` if the blocking is by STI",
    ),
    "bochs-posted-interrupts-tpr-shadow": Mend(
        _CONTROLS,
        "move the block that begins with `if (vm->pin_vmexec_ctrls.PROCESS_POSTED_INTERRUPTS())` after the branch for `vm->vmexec_ctrls1.TPR_SHADOW()`",
    ),
    "bochs-msr-load-smm-monitor-ctl": Mend(_WRMSR, "refuse 9BH: `return false` where `! BX_CPU_THIS_PTR in_smm`"),
    "bochs-msr-load-unknown": Mend(
        _WRMSR,
        "give each MSR that can only be read a descriptor, and let its case return false; give IA32_DEBUGCTL, IA32_PERF_GLOBAL_CTRL, IA32_DS_AREA and IA32_MCi_STATUS "
        "descriptors with their reserved bits",
        mended_in_part="a52f78955 (January 2026) made an MSR fault if Bochs knows it and the CPU model lacks it. An MSR that Bochs does not know is still ignored.",
    ),
    "bochs-msr-load-high": Mend(
        "`wrmsr` and `relocate_apic`, cpu/msr.cc",
        "give BX_MSR_IA32_UMWAIT_CONTROL the reserved bits `BX_CONST64(0xFFFFFFFF00000002)` in its descriptor; in the cases of BX_MSR_FMASK and BX_MSR_TSC_AUX, `if (val32_hi) return false`; in "
        "relocate_apic, test the reserved bits also where the APIC is off",
    ),
    "bochs-timer-blocking": Mend(
        _ASYNC,
        "look at BX_EVENT_VMX_PREEMPTION_TIMER_EXPIRED before `interrupts_inhibited(BX_INHIBIT_INTERRUPTS)`: blocking by STI and MOV SS does not hold back that VM exit",
        section="VMX-Preemption Timer",
    ),
    "bochs-pending-breakpoint": Mend(
        f"{_GUEST}, non-register state",
        "if bit 12 of the field is set, make a debug trap even if bits 14 and 3:0 are 0",
        section="Delivery of Pending Debug Exceptions after VM Entry",
    ),
    "bochs-pending-debug-shutdown": Mend(
        f"{_GUEST}, non-register state",
        "leave `debug_trap` at 0 if `guest.activity_state` is BX_ACTIVITY_STATE_SHUTDOWN or BX_ACTIVITY_STATE_WAIT_FOR_SIPI",
        section="Delivery of Pending Debug Exceptions after VM Entry",
    ),
    "bochs-tpr-threshold-shutdown": Mend(
        "`VMLAUNCH`, cpu/vmx.cc, its last lines",
        "call `VMX_TPR_Virtualization()` only if the activity state that was entered is BX_ACTIVITY_STATE_ACTIVE or BX_ACTIVITY_STATE_HLT",
        section="VM Exits Induced by the TPR Threshold",
    ),
    "bochs-mtf-control": Mend(
        "`VMenterLoadCheckGuestState` and `VMexit`, cpu/vmx.cc; `handleAsyncEvent`, cpu/event.cc",
        "VMenterInjectEvents unmasks BX_EVENT_VMX_MONITOR_TRAP_FLAG when it injects one; VMexit unmasks it when it clears it",
        section="Pending MTF VM Exits",
    ),
    "bochs-secondary-exit-controls-high": Mend(
        _CONTROLS, "compare in 64 bits: `vm->vmexit_ctrls2.get() & ~ (Bit64u) VMX_VMEXIT_CTRL2_SUPPORTED_BITS`"
    ),
    "bochs-canonical-la57": Mend(
        f"`IsCanonical`, cpu/cpu.h, in {_HOST} and `VMenterLoadCheckGuestState`",
        "use `IsCpuidCanonical` in both functions",
        mended_in_part="baad1bcf0 (July 2026) corrected it in WRMSR, and so in the VM-entry MSR-load area.",
    ),
    "bochs-msr-area-end": Mend(
        _CONTROLS,
        "multiply in 64 bits, in three places: `vm->vmentry_msr_load_addr + (Bit64u) vm->vmentry_msr_load_cnt * 16 - 1`",
    ),
    "bochs-spec-ctrl-fixed": Mend(
        "`isValidMSR_IA32_SPEC_CTRL`, cpu/msr.cc",
        "make the mask of CPUID.(07H,0):EDX and CPUID.(07H,2):EDX of the CPU model instead of a constant",
    ),
}

#: Deviations that the newest source no longer has -> the commits that mended them.
MENDED: Final = {
    "bochs-posted-interrupt-descriptor-page": "a77e02ff3 (June 2025)",
    "bochs-nmi-virtual": "203b044f5 (October 2025)",
    "bochs-inject-other-event": "7a0d34c14 and 4ef9eec7e (February 2026)",
}


def entry_of(deviation: Deviation) -> tuple[Path, Entry] | None:
    """The first entry of a deviation in the corpus; None where it has none."""
    folder = CORPUS / f"deviation.{deviation.id}"
    if not folder.is_dir():
        return None
    path = entry_files(folder)[0]
    return path, load(path)


def images() -> dict[str, dict[str, Any]]:
    """What each image said, by the entry's id."""
    return {image["id"]: image for image in map(json.loads, IMAGES.read_text(encoding="utf-8").splitlines())}


def page() -> str:
    """The page."""
    said = images()
    parts = [(deviation, entry) for deviation in BOCHS_DEVIATIONS if deviation.id in MENDS and (entry := entry_of(deviation)) is not None]
    read = [
        deviation
        for deviation in (*BOCHS_DEVIATIONS, *BOCHS_CET_FRED_DEVIATIONS)
        if deviation.id not in MENDED and entry_of(deviation) is None
    ]
    lines = list(_head(len(parts), len(read)))
    for number, (deviation, (path, entry)) in enumerate(parts, 1):
        lines += ["", f"## {number}. {deviation.title}", "", *_report(deviation, path, entry, said[entry.id])]
    lines += ["", "## Without an image", "", *_without_image(read), "", "## Corrected in the newest source", "", *_mended()]
    return wrapped("\n".join(lines) + "\n")


def _head(count: int, read: int) -> Iterator[str]:
    yield "# Where Bochs departs from the manual: reports"
    yield ""
    yield "For authors of Bochs, and for everybody who wants to send them one of these"
    yield f"reports. You will find {count} deviations, each as a report by itself: the rule, its"
    yield "place in the source, what the manual says (in other words), a bootable image"
    yield f"that shows the deviation, what is expected and what happens. {read} more deviations"
    yield "have no image."
    yield ""
    yield f"All of them are in the source of {COMMIT_DATE} ({COMMIT}), the newest that"
    yield "was read. Outcomes come from two emulated processors: Bochs 3.0 as a library"
    yield "(bochscpu-python 0.4.0), and a whole machine in Debian 12's Bochs 2.7, which"
    yield "booted the image. Nobody has built and run the newest source for this page."
    yield ""
    yield "The commands write the image; they need vmfuzz, but no compiler. The image boots"
    yield "in Bochs as a CD (`ata1-master: type=cdrom, path=case.iso, status=inserted` and"
    yield "`boot: cdrom`), and says on the screen and on COM1 what is expected and what"
    yield "happens ([corpus.md](corpus.md#a-bootable-image)). Section numbers are those of"
    yield "the SDM of June 2026, Vol. 3C."
    yield ""
    yield "`python tools/bochs_reports.py` writes this page from the lists of deviations,"
    yield "the corpus and `docs/report/images.jsonl`."


def _report(deviation: Deviation, path: Path, entry: Entry, image: dict[str, Any]) -> Iterator[str]:
    result = entry.main_result
    shown = sorted({each.name for result in entry.results if result.comparison == entry.verdict for each in result.processors})
    mend = MENDS[deviation.id]
    yield f"{deviation.text}"
    yield ""
    yield f"- **where**: {mend.where}. {deviation.source}"
    yield from (f"- **manual**: {line}" for line in _manual(deviation, entry, mend))
    yield f"- **CPU models** of Bochs 3.0 on which it shows: {', '.join(shown)}"
    yield f"- **state**: `{entry.case.base}` with {', '.join(_changes(path, entry, image['cpu']))}"
    yield f"- **image**: `vmfuzz export {entry.id} --cpu {image['cpu']} --uncontained --image case.iso`"
    yield f"- **expected**: {' or '.join(result.predicted)}"
    yield f"- **actual**: {result.actual} (Bochs 3.0, in process{_message(result.message)})"
    yield f"- **line of the image** in {image['emulator']}, corei7_skylake_x: {_line(image['said'])}"
    yield f"- **proposed condition**: {mend.condition}"
    if mend.mended_in_part:
        yield f"- **corrected in part**: {mend.mended_in_part}"


def _manual(deviation: Deviation, entry: Entry, mend: Mend) -> Iterator[str]:
    own = [id for id in entry.checks if id in deviation.skips] or entry.checks
    for check in (BY_ID[id] for id in own if id in BY_ID):
        yield f'{Citation(check.section.title).number}, "{check.section.title}": {check.text}'
    if mend.section:
        yield f'"{mend.section}": what it demands is in the text above'


def _changes(path: Path, entry: Entry, cpu: str) -> Iterator[str]:
    base = stand_in(path, entry, cpu).base(entry.case.base)
    assert base is not None
    for key, value in entry.case.mutation.items():
        yield f"{key} = {value:X}H (was {base_value(base, key):X}H)"


def _message(message: str | None) -> str:
    return f', which says "{message}"' if message else ""


def _line(said: str | None) -> str:
    return f"`{said}`" if said else "none: this Bochs stopped, or said nothing for 150 s"


def _without_image(read: list[Deviation]) -> Iterator[str]:
    yield "The corpus has no case of these deviations. No CPU model of bochscpu-python has CET, PKS or FRED; bochs-canonical-la57 shows in campaigns on sapphire_rapids ([agreement.md](agreement.md))."
    for deviation in read:
        yield ""
        yield f"- **{deviation.title}** (`{deviation.id}`): {deviation.text} Where: {deviation.source}"
        if deviation.id in MENDS:
            mend = MENDS[deviation.id]
            yield f"  Proposed: {mend.condition}. Corrected in part: {mend.mended_in_part}"


def _mended() -> Iterator[str]:
    yield "Bochs 3.0 has these deviations, and the newest source does not."
    yield ""
    yield "| deviation | corrected by |"
    yield "|---|---|"
    for deviation in BOCHS_DEVIATIONS:
        if deviation.id in MENDED:
            yield f"| {deviation.title} | {MENDED[deviation.id]} |"


if __name__ == "__main__":
    write_text(PAGE, page())
