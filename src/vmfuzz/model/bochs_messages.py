"""Which checks each of Bochs' failure messages stands for: a second oracle, which compares the check and not only the outcome.

Keys are the format strings that Bochs 3.0 logs when a VM entry fails (cpu/vmx.cc); values are ids of checks, `*` for one or more words. Where
a message names several checks, Bochs makes them in one test. The table was read off campaigns in which one check decided alone.
"""

from __future__ import annotations

import fnmatch
from functools import cache
from types import MappingProxyType
from typing import Final

from vmfuzz.model.checks import CHECKS

MESSAGES: Final = MappingProxyType(
    {
        "VMENTER FAIL: No guest interruptions are allowed when entering Wait-For-Sipi state": ("guest.activity.inject.wfs",),
        "VMENTER FAIL: The activity state must not indicate the wait-for-SIPI state if entering to SMM guest": (
            "guest.activity.smm-entry",
        ),
        "VMENTER FAIL: VMCS SMM guest should block SMI": ("guest.intr.smi-entry",),
        "VMFAIL: VMCS x86-64 host control invalid on VMENTRY": ("host.as.lma1.exit",),
        "VMFAIL: invalid value in host IA32_SPEC_CTRL_MSR": ("host.speccontrol",),
        "VMFAIL: save_VMX_preemption_timer VMEXIT control is set but VMX_preemption_timer VMEXEC control is clear": ("ctl.exit.savetimer",),
        "VMENTER FAIL: Enter to x86-64 guest with RFLAGS.VM": ("guest.rflags.vm.ia32e",),
        "VMENTER FAIL: Only NMI or #MC guest interruption is allowed when entering shutdown state": ("guest.activity.inject.shutdown",),
        "VMENTER FAIL: RFLAGS reserved bits are set": ("guest.rflags.reserved.zeros",),
        "VMENTER FAIL: RFLAGS[1] cleared": ("guest.rflags.reserved.one",),
        "VMENTER FAIL: VMCS CR4.PCIDE set in 32-bit guest": ("guest.cr4.pcide",),
        "VMENTER FAIL: VMCS SMI blocked when not in SMM mode": ("guest.intr.smi-outside",),
        "VMENTER FAIL: VMCS guest %s not ACCESSED": ("guest.*.type.accessed",),
        "VMENTER FAIL: VMCS guest %s not present": ("guest.*.p",),
        "VMENTER FAIL: VMCS guest %s not segment": ("guest.*.s",),
        "VMENTER FAIL: VMCS guest %s.AR/LIMIT malformed": (
            "guest.*.ar.rsvd-high",
            "guest.*.ar.rsvd-low",
            "guest.*.g.high",
            "guest.*.g.low",
        ),
        "VMENTER FAIL: VMCS guest %s.BASE > 32 bit": ("guest.*.base",),
        "VMENTER FAIL: VMCS guest %s.BASE non canonical": (
            "guest.fs.base",
            "guest.gs.base",
        ),
        "VMENTER FAIL: VMCS guest CODE segment %s not READABLE": ("guest.*.type.readable",),
        "VMENTER FAIL: VMCS guest CR4.PAE=0 in x86-64 mode": ("guest.ia32e.pae",),
        "VMENTER FAIL: VMCS guest CS.RPL != SS.RPL": ("guest.ss.sel.rpl",),
        "VMENTER FAIL: VMCS guest CS.TYPE": ("guest.cs.type",),
        "VMENTER FAIL: VMCS guest EFER (0x%08x) inconsistent value !": ("guest.efer.lme",),
        "VMENTER FAIL: VMCS guest EFER reserved bits set !": ("guest.efer.reserved",),
        "VMENTER FAIL: VMCS guest EFER.LMA doesn't match x86_64_guest !": ("guest.efer.lma",),
        "VMENTER FAIL: VMCS guest GDTR/IDTR limit > 0xFFFF": (
            "guest.gdtr.limit",
            "guest.idtr.limit",
        ),
        "VMENTER FAIL: VMCS guest HLT state with SS.DPL=%d": ("guest.activity.hlt.dpl",),
        "VMENTER FAIL: VMCS guest IDTR/IDTR.BASE non canonical": (
            "guest.gdtr.base",
            "guest.idtr.base",
        ),
        "VMENTER FAIL: VMCS guest LDTR is not system segment": ("guest.ldtr.s",),
        "VMENTER FAIL: VMCS guest LDTR not present": ("guest.ldtr.p",),
        "VMENTER FAIL: VMCS guest LDTR.AR/LIMIT malformed": (
            "guest.ldtr.g.high",
            "guest.ldtr.g.low",
            "guest.ldtr.rsvd-high",
            "guest.ldtr.rsvd-low",
        ),
        "VMENTER FAIL: VMCS guest LDTR.BASE non canonical": ("guest.ldtr.base",),
        "VMENTER FAIL: VMCS guest LDTR.TI set": ("guest.ldtr.sel.ti",),
        "VMENTER FAIL: VMCS guest RIP > 32 bit": ("guest.rip.high",),
        "VMENTER FAIL: VMCS guest SS.RPL <> SS.DPL": ("guest.ss.dpl.rpl",),
        "VMENTER FAIL: VMCS guest SS.TYPE": ("guest.ss.type",),
        "VMENTER FAIL: VMCS guest SYSENTER_EIP_MSR non canonical": ("guest.sysenter.eip",),
        "VMENTER FAIL: VMCS guest SYSENTER_ESP_MSR non canonical": ("guest.sysenter.esp",),
        "VMENTER FAIL: VMCS guest TR invalid": ("guest.tr.unusable",),
        "VMENTER FAIL: VMCS guest TR is not system segment": ("guest.tr.s",),
        "VMENTER FAIL: VMCS guest TR not present": ("guest.tr.p",),
        "VMENTER FAIL: VMCS guest TR.AR/LIMIT malformed": (
            "guest.tr.g.high",
            "guest.tr.g.low",
            "guest.tr.rsvd-high",
            "guest.tr.rsvd-low",
        ),
        "VMENTER FAIL: VMCS guest TR.BASE non canonical": ("guest.tr.base",),
        "VMENTER FAIL: VMCS guest TR.TI set": ("guest.tr.sel.ti",),
        "VMENTER FAIL: VMCS guest activity state %d": ("guest.activity.range",),
        "VMENTER FAIL: VMCS guest incorrect LDTR type (%d)": ("guest.ldtr.type",),
        "VMENTER FAIL: VMCS guest incorrect TR type": (
            "guest.tr.type.ia32e",
            "guest.tr.type.legacy",
        ),
        "VMENTER FAIL: VMCS guest interruptibility state broken": (
            "guest.intr.enclave.sgx",
            "guest.intr.reserved",
            "guest.intr.sti-movss",
        ),
        "VMENTER FAIL: VMCS guest interruptibility state broken when entering non active CPU state %d": ("guest.activity.blocking",),
        "VMENTER FAIL: VMCS guest interrupts blocked when injecting NMI": ("guest.intr.nmi-movss",),
        "VMENTER FAIL: VMCS guest interrupts blocked when injecting external interrupt": (
            "guest.intr.extint.movss",
            "guest.intr.extint.sti",
            "guest.rflags.if.extint",
        ),
        "VMENTER FAIL: VMCS guest interrupts can't be blocked by STI when EFLAGS.IF = 0": ("guest.intr.sti-if",),
        "VMENTER FAIL: VMCS guest invalid CR0": (
            "guest.cr0.fixed.ones",
            "guest.cr0.fixed.ones.unrestricted",
            "guest.cr0.fixed.zeros",
        ),
        "VMENTER FAIL: VMCS guest invalid CR3": ("guest.cr3.reserved",),
        "VMENTER FAIL: VMCS guest invalid CR4": (
            "guest.cr4.fixed.ones",
            "guest.cr4.fixed.zeros",
        ),
        "VMENTER FAIL: VMCS guest invalid DR7": ("guest.dr7",),
        "VMENTER FAIL: VMCS guest non-conforming %s.RPL < %s.DPL": ("guest.*.dpl",),
        "VMENTER FAIL: VMCS guest non-conforming CS.DPL <> SS.DPL": ("guest.cs.dpl.nonconf",),
        "VMENTER FAIL: VMCS guest non-conforming CS.DPL > SS.DPL": ("guest.cs.dpl.conf",),
        "VMENTER FAIL: VMCS guest tmpDR6 reserved bits": ("guest.pdbg.bld", "guest.pdbg.reserved", "guest.pdbg.rtm.*"),
        "VMENTER FAIL: VMCS unrestricted guest CR0.PG without CR0.PE": (
            "guest.cr0.fixed.zeros",
            "guest.cr0.pg-pe",
        ),
        "VMENTER FAIL: VMCS unrestricted guest CS.DPL != 0": ("guest.cs.dpl.data",),
        "VMENTER FAIL: VMCS unrestricted guest SS.DPL != 0": ("guest.ss.dpl.zero",),
        "VMENTER FAIL: VMCS v8086 guest %s.AR != 0xF3": ("guest.v86.ar.*",),
        "VMENTER FAIL: VMCS v8086 guest %s.LIMIT != 0xFFFF": ("guest.v86.limit.*",),
        "VMENTER FAIL: VMCS v8086 guest bad %s.BASE": ("guest.v86.base.*",),
        "VMENTER FAIL: VMCS x86_64 guest wrong CS.D_B/L": ("guest.cs.db-l",),
        "VMENTER FAIL: invalid Memory Type in guest MSR_PAT": ("guest.pat",),
        "VMENTER: EPT Guest State PDPTRs Checks Failed": ("guest.pdpte.fields.*",),
        "VMENTER: Guest State PDPTRs Checks Failed": ("guest.pdpte.memory.*",),
        "VMFAIL: VMCS EXEC CTRL: APIC virtualization is enabled without TPR shadow": ("ctl.*.needs-tprshadow",),
        "VMFAIL: VMCS EXEC CTRL: I/O bitmap %c phy addr malformed": (
            "ctl.iobitmap.align.a",
            "ctl.iobitmap.align.b",
            "ctl.iobitmap.width.a",
            "ctl.iobitmap.width.b",
        ),
        "VMFAIL: VMCS EXEC CTRL: MBE is enabled without EPT": ("ctl.mbec.needs-ept",),
        "VMFAIL: VMCS EXEC CTRL: MSR bitmap phy addr malformed": (
            "ctl.msrbitmap.align",
            "ctl.msrbitmap.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: PML base phy addr malformed": (
            "ctl.pml.align",
            "ctl.pml.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: PML is enabled without EPT": ("ctl.pml.needs-ept",),
        "VMFAIL: VMCS EXEC CTRL: Posted Interrupt Descriptor phy addr malformed": (
            "ctl.pir.desc.align",
            "ctl.pir.desc.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: SPP base phy addr malformed": (
            "ctl.spp.align",
            "ctl.spp.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: SPP is enabled without EPT": ("ctl.spp.needs-ept",),
        "VMFAIL: VMCS EXEC CTRL: TPR threshold > TPR shadow": ("ctl.tpr.threshold.vtpr",),
        "VMFAIL: VMCS EXEC CTRL: TPR threshold too big": ("ctl.tpr.threshold.reserved",),
        "VMFAIL: VMCS EXEC CTRL: TSC multiplier should be non zero": ("ctl.tscscale.nonzero",),
        "VMFAIL: VMCS EXEC CTRL: VMREAD bitmap phy addr malformed": (
            "ctl.shadow.vmread.align",
            "ctl.shadow.vmread.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: VMWRITE bitmap phy addr malformed": (
            "ctl.shadow.vmwrite.align",
            "ctl.shadow.vmwrite.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: VMX pin-based controls allowed 0-settings": ("ctl.pin.allowed0",),
        "VMFAIL: VMCS EXEC CTRL: VMX pin-based controls allowed 1-settings": ("ctl.pin.allowed1",),
        "VMFAIL: VMCS EXEC CTRL: VMX proc-based controls allowed 0-settings": ("ctl.prim.allowed0",),
        "VMFAIL: VMCS EXEC CTRL: VMX proc-based controls allowed 1-settings": ("ctl.prim.allowed1",),
        "VMFAIL: VMCS EXEC CTRL: VMX secondary controls allowed 1-settings": ("ctl.sec.allowed",),
        "VMFAIL: VMCS EXEC CTRL: VMX tertiary controls allowed 1-settings": ("ctl.tert.allowed",),
        "VMFAIL: VMCS EXEC CTRL: VMX vmentry controls allowed 0-settings": ("ctl.entry.allowed0",),
        "VMFAIL: VMCS EXEC CTRL: VMX vmentry controls allowed 1-settings": ("ctl.entry.allowed1",),
        "VMFAIL: VMCS EXEC CTRL: VMX vmexit controls allowed 0-settings": ("ctl.exit.allowed0",),
        "VMFAIL: VMCS EXEC CTRL: VMX vmexit controls allowed 1-settings": ("ctl.exit.allowed1",),
        "VMFAIL: VMCS EXEC CTRL: VMX vmexit secondary controls allowed 1-settings": ("ctl.exit2.allowed",),
        "VMFAIL: VMCS EXEC CTRL: apic access page phy addr malformed": (
            "ctl.apicaccess.align",
            "ctl.apicaccess.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: broken #VE information address": (
            "ctl.ve.align",
            "ctl.ve.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: guest VPID == 0": ("ctl.vpid.nonzero",),
        "VMFAIL: VMCS EXEC CTRL: invalid EPTPTR value": (
            "ctl.eptp.*",
            "ctl.eptp.reserved.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: misconfigured virtual NMI control": (
            "ctl.nmi.virtual",
            "ctl.nmi.window",
        ),
        "VMFAIL: VMCS EXEC CTRL: posted interrupts must be enabled together 'ack interrupt on exit'": ("ctl.pir.needs-ackint",),
        "VMFAIL: VMCS EXEC CTRL: posted interrupts must be enabled together with virtual interrupt delivery": ("ctl.pir.needs-vid",),
        "VMFAIL: VMCS EXEC CTRL: posted interrupts notification vector %d must be 0-255": ("ctl.pir.vector",),
        "VMFAIL: VMCS EXEC CTRL: too may CR3 targets %d": ("ctl.cr3target.count",),
        "VMFAIL: VMCS EXEC CTRL: unrestricted guest without EPT": ("ctl.ug.needs-ept",),
        "VMFAIL: VMCS EXEC CTRL: virtual apic phy addr malformed": (
            "ctl.vapic.align",
            "ctl.vapic.width",
        ),
        "VMFAIL: VMCS EXEC CTRL: virtual interrupt delivery must be set together with external interrupt exiting": (
            "ctl.vid.needs-extint",
        ),
        "VMFAIL: VMCS EXEC CTRL: virtualize X2APIC mode enabled together with APIC access virtualization": ("ctl.x2apic.vs-apicaccess",),
        "VMFAIL: VMCS VM Functions control reserved bits set": ("ctl.vmfunc.allowed",),
        "VMFAIL: VMCS VMENTRY CTRL: msr load addr malformed": (
            "ctl.entry.msrload.align",
            "ctl.entry.msrload.width",
        ),
        "VMFAIL: VMCS VMENTRY CTRL: msr load addr too high": ("ctl.entry.msrload.last",),
        "VMFAIL: VMCS VMEXIT CTRL: msr load addr malformed": (
            "ctl.exit.msrload.align",
            "ctl.exit.msrload.width",
        ),
        "VMFAIL: VMCS VMEXIT CTRL: msr load addr too high": ("ctl.exit.msrload.last",),
        "VMFAIL: VMCS VMEXIT CTRL: msr store addr malformed": (
            "ctl.exit.msrstore.align",
            "ctl.exit.msrstore.width",
        ),
        "VMFAIL: VMCS VMEXIT CTRL: msr store addr too high": ("ctl.exit.msrstore.last",),
        "VMFAIL: VMCS host CR4.PAE=0 with x86-64 host": ("host.as.64.pae",),
        "VMFAIL: VMCS host CS selector 0": ("host.sel.cs.null",),
        "VMFAIL: VMCS host EFER (0x%08x) inconsistent value !": (
            "host.efer.lma",
            "host.efer.lme",
        ),
        "VMFAIL: VMCS host EFER reserved bits set !": ("host.efer.reserved",),
        "VMFAIL: VMCS host FS BASE non canonical": ("host.base.fs",),
        "VMFAIL: VMCS host GDTR BASE non canonical": ("host.base.gdtr",),
        "VMFAIL: VMCS host GS BASE non canonical": ("host.base.gs",),
        "VMFAIL: VMCS host IDTR BASE non canonical": ("host.base.idtr",),
        "VMFAIL: VMCS host RIP non-canonical": ("host.as.64.rip",),
        "VMFAIL: VMCS host SYSENTER_EIP_MSR non canonical": ("host.sysenter.eip",),
        "VMFAIL: VMCS host SYSENTER_ESP_MSR non canonical": ("host.sysenter.esp",),
        "VMFAIL: VMCS host TR BASE non canonical": ("host.base.tr",),
        "VMFAIL: VMCS host segreg %d TI/RPL != 0": ("host.sel.*.rpl-ti",),
        "VMFAIL: VMCS host state invalid CR0 0x%08x": (
            "host.cr0.fixed.ones",
            "host.cr0.fixed.zeros",
        ),
        "VMFAIL: VMCS host state invalid CR3": ("host.cr3.reserved",),
        "VMFAIL: VMCS host state invalid CR4 0x%016lx": (
            "host.cr4.fixed.ones",
            "host.cr4.fixed.zeros",
        ),
        "VMFAIL: VMCS invalid host TR selector": (
            "host.sel.tr.null",
            "host.sel.tr.rpl-ti",
        ),
        "VMFAIL: VMCS link pointer equal to current VMCS pointer": ("guest.link.current",),
        "VMFAIL: VMCS link pointer incorrect revision ID %d != %d": (
            "guest.link.revision",
            "guest.link.shadow",
        ),
        "VMFAIL: VMCS link pointer malformed": (
            "guest.link.align",
            "guest.link.width",
        ),
        "VMFAIL: VMCS link pointer must indicate shadow VMCS revision ID = %d": ("guest.link.shadow",),
        "VMFAIL: VMENTRY bad MTF injection with vector=%d": ("ctl.inject.vector.other",),
        "VMFAIL: VMENTRY bad error code 0x%08x for injected event %d": ("ctl.inject.errcode.value",),
        "VMFAIL: VMENTRY bad injected event instr length": ("ctl.inject.instrlen",),
        "VMFAIL: VMENTRY bad injected event type %d": ("ctl.inject.type.reserved",),
        "VMFAIL: VMENTRY bad injected event vector %d": (
            "ctl.inject.vector.hwexc",
            "ctl.inject.vector.nmi",
        ),
        "VMFAIL: VMENTRY broken interruption info field": (
            "ctl.inject.nested",
            "ctl.inject.reserved",
        ),
        "VMFAIL: VMENTRY from outside SMM with dual-monitor treatment enabled": ("ctl.entry.smm.outside.deactivate",),
        "VMFAIL: VMENTRY injected event vector %d broken error code": (
            "ctl.inject.errcode.forbidden.*",
            "ctl.inject.errcode.required",
        ),
        "VMFAIL: VMFUNC EPTP-SWITCHING: EPT disabled": ("ctl.vmfunc.eptpsw.needs-ept",),
        "VMFAIL: VMFUNC EPTP-SWITCHING: eptp list phy addr malformed": (
            "ctl.vmfunc.eptplist.align",
            "ctl.vmfunc.eptplist.width",
        ),
        "VMFAIL: VMLAUNCH with interrupts blocked by MOV_SS !": ("basic.movss",),
        "VMFAIL: VMLAUNCH with invalid VMCS ptr !": ("basic.current",),
        "VMFAIL: VMLAUNCH with non-clear VMCS!": ("basic.launch.clear",),
        "VMFAIL: VMRESUME with non-launched VMCS!": ("basic.resume.launched",),
        "VMFAIL: invalid Memory Type in host MSR_PAT": ("host.pat",),
        "VMX LoadMSRs %d: broken msr index 0x%lx": ("msrload.reserved.*",),
        "VMX LoadMSRs %d: unable to restore FSBASE or GSBASE": ("msrload.fsgs.*",),
        "VMX LoadMSRs %d: unable to restore X2APIC range MSR %x": ("msrload.x2apic.*",),
        "VMX LoadMSRs %d: unable to set up MSR %x": (
            "msrload.wrmsr.*.read-only",
            "msrload.wrmsr.*.bits",
            "msrload.wrmsr.*.canonical",
            "msrload.wrmsr.*.efer",
            "msrload.wrmsr.*.efer-lme",
            "msrload.wrmsr.*.pat",
            "msrload.wrmsr.1.*",
        ),
    }
)


@cache
def checks_named(message: str) -> frozenset[str] | None:
    """Ids of the checks that a message stands for; None for a message that is not in the table."""
    patterns = MESSAGES.get(message)
    if patterns is None:
        return None
    return frozenset(check.id for check in CHECKS if any(fnmatch.fnmatchcase(check.id, pattern) for pattern in patterns))


@cache
def checks_without_message() -> tuple[str, ...]:
    """Ids of the checks that no message stands for, in the SDM's order."""
    named: frozenset[str] = frozenset().union(*(checks_named(message) or frozenset() for message in MESSAGES))
    return tuple(check.id for check in CHECKS if check.id not in named)
