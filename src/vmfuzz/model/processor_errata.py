"""Errata of Intel processors about VM entry, from public specification updates and from the sources of hypervisors that work around them.

Each says on which processors (family 6; CPUID.1 names the model), in which state it shows, and how: as a VM entry that fails or does not, or as a value
that a VM exit leaves and the next entry then meets. Facts only, in own words; the numbers are Intel's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vmfuzz.arch.controls import Entry, Exit, Primary
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.check import Check, Fails
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import FALSE, TRUE, Cond, all_of
from vmfuzz.model.operands import enabled, vmcs
from vmfuzz.model.sections import Citation

_FAMILY: Final = 6


class Signature(NamedTuple):
    """A processor as CPUID.1 names it."""

    family: int
    model: int
    stepping: int | None = None

    @classmethod
    def of(cls, eax: int) -> Signature:
        """The signature in EAX of CPUID.1 (SDM Vol. 2A, "CPUID", "Version Information")."""
        family, model = eax >> 8 & 0xF, eax >> 4 & 0xF
        if family in (6, 15):
            model |= (eax >> 16 & 0xF) << 4
        return cls(family + (eax >> 20 & 0xFF if family == 15 else 0), model, eax & 0xF)

    def __str__(self) -> str:
        return f"family {self.family}, model {self.model} ({hexadecimal(self.model)})" + (
            "" if self.stepping is None else f", stepping {self.stepping}"
        )


@dataclass(frozen=True)
class ProcessorErratum:
    """One erratum.

    `id` is its number in one specification update, `also` in others; `models`: of family 6, whatever stepping, as far as no source says more.
    `when`: the state in which it shows, as far as fields tell. `msrs`: MSRs of which an entry in the VM-entry MSR-load area shows it, (first, last).
    `outcomes`: exit reasons (with bit 31) and VM-instruction errors that it gives, empty where the entry itself is as the manual says.
    """

    id: str
    also: tuple[str, ...]
    title: str
    processors: str
    models: tuple[int, ...]
    text: str
    remedy: str
    source: str
    when: Cond = FALSE
    msrs: tuple[tuple[int, int], ...] = ()
    outcomes: tuple[int, ...] = ()
    skips: dict[str, Cond] = field(default_factory=dict)
    adds: tuple[Check, ...] = ()

    def affects(self, processor: Signature) -> bool:
        """Whether this is one of its processors."""
        return processor.family == _FAMILY and processor.model in self.models


_INVALID_STATE: Final = 0x80000021
_MSR_LOADING: Final = 0x80000022
_LOAD_DEBUG: Final = enabled(Entry.LOAD_DEBUG_CONTROLS)
_FREEZE_WHILE_SMM: Final = vmcs.guest_ia32_debugctl[14:14] == 1
_TPR_SHADOW: Final = enabled(Primary.USE_TPR_SHADOW)
_SINGLE_STEP_ON_BRANCHES: Final = all_of(
    vmcs.guest_ia32_debugctl[1:1] == 1, vmcs.guest_rflags[8:8] == 1, vmcs.guest_pending_debug_exceptions[14:14] == 1
)
_VTPR: Final = BY_ID["ctl.tpr.threshold.vtpr"]

PROCESSOR_ERRATA: Final = (
    ProcessorErratum(
        "AZ61",
        (),
        "VM entry may fail where it sets IA32_DEBUGCTL.FREEZE_WHILE_SMM_EN",
        "Core 2 Duo mobile processors T8000 and T9000",
        (0x17,),
        "Bit 14 of the guest's IA32_DEBUGCTL may make VM entry fail with exit reason 80000021H, qualification 0, although it is legal. A VM exit "
        "saves the "
        "bit, so that it comes back by itself.",
        "clear bit 14 of guest IA32_DEBUGCTL (2802H) before every entry, and set it by an entry for MSR 1D9H in the VM-entry MSR-load area; a BIOS "
        "may have a "
        "workaround",
        "specification update of the Core 2 Duo mobile processor T8300",
        when=all_of(_LOAD_DEBUG, _FREEZE_WHILE_SMM),
        outcomes=(_INVALID_STATE,),
        adds=(
            Check(
                "errata.az61",
                Citation("Checks on Guest Control Registers, Debug Registers, and MSRs"),
                'If "load debug controls" is 1, bit 14 of guest IA32_DEBUGCTL must be 0 (erratum AZ61).',
                ~_FREEZE_WHILE_SMM,
                _LOAD_DEBUG,
                TRUE,
                Fails.GUEST,
            ),
        ),
    ),
    ProcessorErratum(
        "AZ62",
        (),
        "VM entry may look at a wrong address for the virtual-APIC page",
        "Core 2 Duo mobile processors T8000 and T9000",
        (0x17,),
        'With XCR0.SSE = 1, a VM entry with "use TPR shadow" may take the VTPR from another address, so that the check of the TPR threshold passes '
        "or fails "
        "wrongly, and other memory may be written.",
        "keep the TPR threshold (401CH) at 0, or XCR0 without SSE while entering",
        "specification update of the Core 2 Duo mobile processor T8300",
        when=all_of(_TPR_SHADOW, ~(vmcs.tpr_threshold[3:0] == 0)),
        outcomes=(7,),
        skips=skipping(_VTPR.id),
        adds=(
            Check(
                "errata.az62",
                Citation(_VTPR.section.title),
                'With "use TPR shadow" the check of the TPR threshold may fail whatever the virtual-APIC page holds (erratum AZ62).',
                vmcs.tpr_threshold[3:0] == 0,
                _VTPR.when,
                TRUE,
                Fails.CONTROLS,
            ),
        ),
    ),
    ProcessorErratum(
        "AH74",
        (),
        "a VM exit on MOV to CR8 sets BS in the pending debug exceptions wrongly",
        "Core 2 Duo mobile processors of family 6, model 15",
        (0x0F,),
        "With single-stepping on branches (IA32_DEBUGCTL.BTF = 1 and RFLAGS.TF = 1) in a 64-bit guest, the exit that MOV to CR8 makes below the TPR "
        "threshold "
        "sets bit 14 (BS) of the guest's pending debug exceptions. The next entry meets a value that the manual forbids.",
        "clear BS in the guest's pending debug exceptions (6822H) after an exit with reason 43 (TPR below threshold)",
        "specification update of the Core 2 Duo mobile processors (document of the LE80537)",
        when=_SINGLE_STEP_ON_BRANCHES,
        outcomes=(_INVALID_STATE,),
    ),
    ProcessorErratum(
        "AH115",
        (),
        'a VM exit with reason 43 ("TPR below threshold") right after an entry clears blocking by STI and by MOV SS',
        "Core 2 Duo mobile processors of family 6, model 15",
        (0x0F,),
        "The entry is right; the exit that follows it at once leaves bits 1:0 of the guest's interruptibility state 0, whatever was entered.",
        "do not enter with a TPR threshold above the TPR shadow: handle that as the exit would be",
        "specification update of the Core 2 Duo mobile processors (document of the LE80537)",
    ),
    ProcessorErratum(
        "HSM182",
        ("HSD172", "HSE117", "BDM127", "BDD117", "BDW117", "BDF85", "BDH75", "BDX88", "BDE105"),
        "a last-branch record that was read cannot be written back where TSX is off",
        "Core processors of the 4th and 5th generation and their Xeons, if microcode or CPUID takes TSX away",
        (0x3C, 0x3F, 0x45, 0x46, 0x3D, 0x47, 0x4F, 0x56),
        "What RDMSR gives for the sources of last-branch records has bits 62:61 of a processor with TSX; without TSX, WRMSR wants the sign there "
        "and refuses. "
        "So a VM entry that restores these MSRs fails with exit reason 80000022H.",
        "write bits 62:61 of each value as copies of bit 60 before it goes into the VM-entry MSR-load area",
        "Xen, xen/arch/x86/hvm/vmx/vmx.c (lbr_tsx_fixup_check), which names the specification updates",
        msrs=((0x1DB, 0x1DB), (0x680, 0x69F)),
        outcomes=(_MSR_LOADING,),
    ),
    ProcessorErratum(
        "BDF93",
        ("BDM131",),
        "the last-event record that was read cannot be written back",
        "Core processors of the 5th generation and their Xeons",
        (0x3D, 0x47, 0x4F),
        "RDMSR of MSR_LER_TO_LIP (1DEH) may give bits 63:61 that differ from bit 47, and WRMSR refuses such a value. So a VM entry that restores "
        "this MSR fails "
        "with exit reason 80000022H.",
        "write bits 63:48 of the value as copies of bit 47 before it goes into the VM-entry MSR-load area",
        "Xen, xen/arch/x86/hvm/vmx/vmx.c (ler_to_fixup_check), which names the specification updates",
        msrs=((0x1DE, 0x1DE),),
        outcomes=(_MSR_LOADING,),
    ),
    ProcessorErratum(
        "AAK155",
        ("AAP115", "AAT100", "BC86", "AAY89", "BD102", "BA97"),
        'a VM exit with "load IA32_PERF_GLOBAL_CTRL" may clear bits 34:32 of that MSR',
        "Core and Xeon processors of the families Nehalem and Westmere",
        (0x1A, 0x1E, 0x25, 0x2C, 0x2E),
        "The entry is right; after the exit the fixed-function counters may be off, and a monitor that saves the MSR then enters with another value.",
        "switch IA32_PERF_GLOBAL_CTRL by the MSR-load areas instead of the controls",
        "Linux, arch/x86/kvm/vmx/vmx.c (cpu_has_perf_global_ctrl_bug), which names the specification updates",
        when=enabled(Exit.LOAD_IA32_PERF_GLOBAL_CTRL),
    ),
    ProcessorErratum(
        "AAU30",
        (),
        "the VMCS may be accessed with another memory type than IA32_VMX_BASIC says",
        "Core i3 desktop processors 500",
        (0x25,),
        "Bits 53:50 of IA32_VMX_BASIC say write-back, but the VMCS and what it points to may be accessed with the memory type that the MTRRs give their "
        "addresses.",
        "keep the VMCS and all that it points to in memory that the MTRRs make write-back",
        "specification update of the Core i3-500 desktop processor series",
    ),
)
ERRATA_BY_ID: Final = {id: erratum for erratum in PROCESSOR_ERRATA for id in (erratum.id, *erratum.also)}


def known_on(processor: Signature) -> tuple[Deviation, ...]:
    """The errata of a processor that show as another outcome of a VM entry, as deviations from the manual."""
    return tuple(
        Deviation(erratum.id, "", erratum.title, erratum.text, erratum.source, erratum.skips, erratum.adds)
        for erratum in PROCESSOR_ERRATA
        if erratum.affects(processor) and (erratum.skips or erratum.adds)
    )
