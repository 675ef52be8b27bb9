"""Known deviations that Bochs 2.7 (Debian 12's package) has besides those of Bochs 3.0.

They belong to executors whose name begins with "bochs-2.7", which is to say that both lists apply there and only the other one to "bochs".
Functions named are those of cpu/vmx.cc at the tag REL_2_7_FINAL.
"""

from __future__ import annotations

from typing import Final

from vmfuzz.model.bochs_msr_load_deviations import msr_load_rules
from vmfuzz.model.check import Check, Fails
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import TRUE, Cond
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, has, vmcs
from vmfuzz.model.sections import Citation

_BOCHS_2_7: Final = "bochs-2.7"
_RPL: Final = vmcs.guest_cs_selector[1:0]
_DPL: Final = vmcs.guest_cs_access_rights[6:5]


def _of_rpl(id: str, text: str, must: Cond) -> Check:
    """The check that takes the place of `id`."""
    like = BY_ID[id]
    return Check(f"{id}.rpl", Citation(like.section.title), text, must, like.when, TRUE, Fails.GUEST)


BOCHS_2_7_DEVIATIONS: Final = (
    Deviation(
        "bochs-2.7-cs-dpl",
        _BOCHS_2_7,
        "the DPL of CS is compared with the RPL of CS instead of the DPL of SS",
        "The DPL of a non-conforming CS must equal the DPL in the SS access rights, that of a conforming CS must not be greater, even if "
        "SS is unusable or the guest is unrestricted; the RPL of CS does not matter. Bochs 2.7 compares with the RPL of the CS selector, "
        "so it enters where "
        "only SS differs and refuses where only the RPL does. Bochs 3.0 compares with SS.",
        "VMenterLoadCheckGuestState, loop over segment registers, switch on the CS type.",
        skips=skipping("guest.cs.dpl.nonconf", "guest.cs.dpl.conf"),
        adds=(
            _of_rpl("guest.cs.dpl.nonconf", "The DPL of CS must equal the RPL of CS (Bochs 2.7).", _DPL == _RPL),
            _of_rpl("guest.cs.dpl.conf", "The DPL of CS must not be greater than the RPL of CS (Bochs 2.7).", _DPL <= _RPL),
        ),
    ),
    Deviation(
        "bochs-2.7-data-dpl-type-11",
        _BOCHS_2_7,
        "a data-segment register of type 11 may have a DPL below the RPL of its selector",
        'If "unrestricted guest" is 0, the DPL of a usable DS, ES, FS or GS of type 0 to 11 must not be less than the RPL of its selector. '
        "Bochs 2.7 makes the test for types 0 to 10 only; 11 is readable, accessed, non-conforming code. Bochs 3.0 includes it.",
        "VMenterLoadCheckGuestState, loop over segment registers, last test for DS, ES, FS and GS: 'less than 11' leaves 11 out.",
        skips={f"guest.{name}.dpl": getattr(vmcs, f"guest_{name}_access_rights")[3:0] == 11 for name in ("ds", "es", "fs", "gs")},
    ),
    Deviation(
        "bochs-2.7-msr-load-capabilities",
        _BOCHS_2_7,
        "IA32_VMX_PROCBASED_CTLS3 and IA32_VMX_EXIT_CTLS2 may be in the VM-entry MSR-load area",
        "A WRMSR of a capability MSR of VMX faults, so an entry that names one fails the VM entry (exit reason 34). Bochs ignores writes of MSRs that it "
        "does not know, and Bochs 2.7 knows those up to 491H. Bochs 3.0 knows 492H and 493H too.",
        "wrmsr and handle_unknown_wrmsr (cpu/msr.cc), MSR numbers of cpu/msr.h.",
        skips=msr_load_rules({"read-only": lambda index, _: index.one_of(0x492, 0x493)}),
    ),
    Deviation(
        "bochs-2.7-msr-load-x2apic",
        _BOCHS_2_7,
        "MSRs 800H to 8FFH may be in the VM-entry MSR-load area on CPU models without x2APIC",
        "An entry with bits 31:8 = 8 in its MSR number fails the VM entry (exit reason 34) on every processor. Bochs 2.7 looks at them only "
        "on CPU models with x2APIC; on others it ignores the write, as it does of MSRs that it does not know. Bochs 3.0 looks at them on all.",
        "LoadMSRs (cpu/vmx.cc), test of the MSR's number.",
        skips={f"msrload.x2apic.{number}": ~has("x2apic") for number in range(1, MSR_LOAD_ENTRIES + 1)},
    ),
)
