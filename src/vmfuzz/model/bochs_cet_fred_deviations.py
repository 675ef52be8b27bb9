"""Known deviations of Bochs in what CET, PKS and FRED add to the checks.

They are in every version from the one that brought the feature (CET and PKS: 2.7, FRED: after 3.0) to the source of August 2026 (783b58fd6), but no
CPU model of bochscpu-python 0.4.0 has one of the features, so that no campaign on it can meet them. Each entry says whether a campaign has: those
through the kernel module on Debian's Bochs 2.7 had a model with CET. Functions named are those of cpu/vmx.cc.
"""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.controls import Entry, Exit
from vmfuzz.arch.registers import CR4
from vmfuzz.model.check import Check, Fails
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import TRUE, all_of, any_of
from vmfuzz.model.operands import canonical, canonical_48, enabled, has, live, vmcs
from vmfuzz.model.sections import Citation

_BOCHS: Final = "bochs"
_CET: Final = has("cet_ss") | has("cet_ibt")
_LOAD_CET: Final = enabled(Entry.LOAD_CET_STATE)
_NOT_MET: Final = " This was read in the source; no campaign has shown it."

BOCHS_CET_FRED_DEVIATIONS: Final = (
    Deviation(
        "bochs-cet-error-code",
        _BOCHS,
        "on processors with CET, whether an injected event may have an error code is not checked",
        "IA32_VMX_BASIC[56] leaves the error code of a hardware exception open; events of other types, and all events of an unrestricted guest with "
        "CR0.PE = 0, still must not have one. On processors with CET, Bochs skips the whole comparison.",
        "VMenterLoadCheckVmControls, event injection: the comparison of push_error is made only without CET. A campaign through the kernel "
        "module found it.",
        skips=dict.fromkeys(("ctl.inject.errcode.forbidden.type", "ctl.inject.errcode.forbidden.realmode"), _CET),
    ),
    Deviation(
        "bochs-ssp-canonical",
        _BOCHS,
        "guest SSP must be canonical",
        "The SDM requires of a 64-bit guest's SSP only that bits beyond the linear-address width are identical; the bit below them may differ. Bochs "
        "requires a canonical address.",
        "VMenterLoadCheckGuestState, CET state: IsCanonical of the field. A campaign through the kernel module found it.",
        adds=(
            Check(
                "guest.cet.ssp.canonical",
                Citation(BY_ID["guest.cet.isst"].section.title),
                "Guest SSP must be canonical (Bochs).",
                any_of(canonical_48(vmcs.guest_ssp), all_of(live.cr4[CR4.LA57], canonical(vmcs.guest_ssp))),
                _LOAD_CET,
                TRUE,
                Fails.GUEST,
            ),
        ),
    ),
    Deviation(
        "bochs-s-cet-high",
        _BOCHS,
        "guest IA32_S_CET must fit 32 bits outside IA-32e mode",
        'If "IA-32e mode guest" is 0, bits 63:32 of guest SSP must be 0, but guest IA32_S_CET need only be canonical. Bochs requires bits '
        "63:32 of both to be "
        "0.",
        "VMenterLoadCheckGuestState, CET state: GET32H of the field stands in the condition next to IsCanonical. A campaign through the "
        "kernel module found it.",
        adds=(
            Check(
                "guest.cet.scet.high",
                Citation(BY_ID["guest.cet.scet.canonical"].section.title),
                'Bits 63:32 of guest IA32_S_CET must be 0 where "IA-32e mode guest" is 0 (Bochs).',
                vmcs.guest_ia32_s_cet[63:32] == 0,
                all_of(_LOAD_CET, ~enabled(Entry.IA32E_MODE_GUEST)),
                TRUE,
                Fails.GUEST,
            ),
        ),
    ),
    Deviation(
        "bochs-host-cet-wp",
        _BOCHS,
        'host CR4.CET with CR0.WP = 0 is refused only if "load CET state" is 1',
        'If host CR4.CET is 1, host CR0.WP must be 1, whatever the VM-exit controls are. Bochs tests this only if "load CET state" (VM exit) is 1; '
        "otherwise the VM exit loads that CR0 and that CR4." + _NOT_MET,
        "VMenterLoadCheckHostState: the test is the last of those inside the branch for the control.",
        skips=skipping("host.cr4.cet-wp", when=~enabled(Exit.LOAD_CET_STATE)),
    ),
    Deviation(
        "bochs-pkrs-high",
        _BOCHS,
        "bits 63:32 of the IA32_PKRS fields are never checked",
        "If PKRS is loaded, bits 63:32 of the field must be 0. Bochs keeps only 32 bits of it, so its test never fails." + _NOT_MET,
        "VMenterLoadCheckHostState and VMenterLoadCheckGuestState test GET32H of a 32-bit member (cpu/vmx.h) to which the field was assigned.",
        skips=skipping("host.pkrs", "guest.pkrs"),
    ),
    Deviation(
        "bochs-fred-config-canonical",
        _BOCHS,
        "the address in IA32_FRED_CONFIG need not be canonical",
        "If FRED state is loaded, the address in IA32_FRED_CONFIG must be canonical. Bochs tests its reserved bits only." + _NOT_MET,
        "VMenterLoadCheckHostState and VMenterLoadCheckGuestState: no IsCanonical test of the field, unlike of the stack pointers after it.",
        skips=skipping("host.fred.config.canonical", "guest.fred.config.canonical"),
    ),
    Deviation(
        "bochs-host-fred-32",
        _BOCHS,
        "host CR4.FRED may be 1 with a 32-bit host",
        'If "host address-space size" is 0, host CR4.FRED must be 0. Bochs tests host CR4.PCIDE there and not FRED.' + _NOT_MET,
        "VMenterLoadCheckHostState, its last branch.",
        skips=skipping("host.as.32.fred"),
    ),
)
