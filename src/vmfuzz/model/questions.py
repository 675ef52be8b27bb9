"""Every place of the chapter that was asked about before the model was written, and how the model decides it.

Most are clear in the text and only easy to get wrong; those that stay open became ambiguities. The numbers are those of the list of questions
that the project began with. In a decision, names in backquotes are checks (or how their ids begin), ambiguities and known deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Question:
    """One question: its number, what is asked, and how it is decided."""

    number: str
    question: str
    decision: str


#: First letter of the number -> what the questions are about.
PARTS: Final = {
    "A": "Order and kind of failure",
    "B": "Addresses and widths",
    "C": "Control registers",
    "D": "Controls",
    "E": "Event injection",
    "F": "Guest MSRs and debug registers",
    "G": "Segments",
    "H": "Interruptibility and activity",
    "I": "Pending debug exceptions",
    "J": "VMCS link pointer and PDPTEs",
    "K": "MSR loading and what a failure leaves",
    "L": "SMM and editions",
}

_OUTSIDE: Final = "Not asked of a processor here: "

_ROWS = (
    ("A1", "In which order are controls and host state checked?", "Any order is allowed: error 7 and error 8 are both in the prediction where both kinds are violated."),
    ("A2", "Which error do the address-space rules give?", "7 or 8 where only controls are compared (`host.as.lma0`, `host.as.lma1`, `host.as.ia32e`); 8 where a host field is (`host.as.32`, `host.as.64`)."),
    ("A3", "Which qualification if several guest checks fail?", "Any violated check's qualification is allowed."),
    ("A4", "May a processor drop or add checks?", "The text lets later processors do so. The model makes all of this edition; what a processor leaves out is a finding for a person to judge."),
    ("A5", "Do #UD, the VM exit or #GP come first?", _OUTSIDE + "executors run at CPL 0 in VMX root operation (see the rows `basic.mode`, `basic.nonroot`, `basic.cpl` of [checks.md](checks.md))."),
    ("A6", "A shadow VMCS as the current one?", "VMfailInvalid, as without a current VMCS: `basic.shadow`. Bochs accepts one: deviation `bochs-shadow-vmcs`."),
    ("A7", "Launch state or MOV SS first?", "MOV SS, in the text's order: `basic.movss` before `basic.launch.clear`."),
    ("A8", "When does error 6 appear?", "No check gives it; it is never predicted."),
    ("B1", "Do key-identifier bits reduce the physical-address width?", "Ambiguity `key-identifier-bits`: what sets only such bits may be refused or not."),
    ("B2", "Are addresses limited to 32 bits?", "If IA32_VMX_BASIC[48] is 1. It is 0 on every processor with Intel 64."),
    ("B3", "Canonical to which width?", "The processor's linear-address width, whatever CR4.LA57 is (`host.base`, `guest.sysenter`); for host RIP ambiguity `host-rip-width`. Bochs takes CR4's: deviation `bochs-canonical-la57`."),
    ("B4", "Must guest RIP be canonical?", "No: bits 63:N are identical, bit N-1 is free (`guest.rip.ident`, `guest.ssp.ident`). Bochs checks none of them: deviation `bochs-rip-identical`."),
    ("B5", "Are the low bits of CR3 checked?", "No."),
    ("B6", "Bits 62:61 of CR3 with LAM?", "Not reserved where LAM is supported (`host.cr3.reserved`, `guest.cr3.reserved`); outside IA-32e mode ambiguity `lam-outside-ia32e`."),
    ("B7", "Bits 63:32 of CR0 and CR4?", "Checked, by the FIXED1 MSRs (`host.cr0.fixed`, `guest.cr0.fixed`, `host.cr4.fixed`, `guest.cr4.fixed`)."),
    ("B8", "Where does the PID-pointer table end?", "At the sum that the text gives, not its last byte (`ctl.ipiv.table.last`); the alignment makes both the same."),
    ("B9", "In how many bits is an MSR area's last byte computed?", "In as many as it takes (`ctl.entry.msrload.last`); counts above the recommended maximum are refused by containment, since the text defines nothing there."),
    ("B10", "Upper halves of PKRS, DR7, UINV?", "Clear, but easily forgotten: `host.pkrs`, `guest.pkrs`, `guest.dr7`, `guest.uinv`."),
    ("B11", "Is \"should not\" for MSR areas a check?", "Taken as one (`ctl.entry.msrload.width`); the emulated processors agree."),
    ("B12", "What has a failed entry loaded?", _OUTSIDE + "the engine looks at fields and exit information, not at registers without a host-state field."),
    ("C1", "Are NW and CD checked?", "Never; the other bits go by FIXED0 and FIXED1 alone: `host.cr0.fixed`, `guest.cr0.fixed`."),
    ("C2", "PG without PE in an unrestricted guest?", "Refused: `guest.cr0.pg-pe` does not depend on the control."),
    ("C3", "IA-32e mode without PG or PAE?", "Refused: `guest.ia32e.pg`, `guest.ia32e.pae`. Bochs lets one case pass: deviation `bochs-ia32e-without-paging`."),
    ("C4", "CR4.PCIDE outside IA-32e mode?", "Refused: `guest.cr4.pcide`, `host.as.32.pcide`."),
    ("C5", "CR4.CET without CR0.WP?", "Refused, whatever the load controls are: `host.cr4.cet-wp`, `guest.cr4.cet-wp`."),
    ("C6", "CR4.FRED outside IA-32e mode?", "Refused: `guest.cr4.fred`; what else then counts is ambiguity `fred-outside-ia32e`. No emulated model has FRED."),
    ("C7", "CR4 bits that a model does not know?", "The FIXED1 MSR of the processor decides, not CPUID: `guest.cr4.fixed.zeros`."),
    ("C8", "Which EFER bits are reserved?", "All but SCE, LME, LMA and, with execute-disable, NXE: `host.efer.reserved`, `guest.efer.reserved`."),
    ("C9", "LME and LMA with PG = 0?", "LMA equals \"IA-32e mode guest\" always, LME equals LMA only if PG is 1: `guest.efer.lma`, `guest.efer.lme`."),
    ("C10", "How many CR3-target values?", "As many as IA32_VMX_MISC says: `ctl.cr3target.count`."),
    ("D1", "TRUE capability MSRs or the old ones?", "The TRUE ones where IA32_VMX_BASIC[55] is 1: `ctl.pin.allowed0`, `ctl.prim.allowed0`."),
    ("D2", "Are inactive secondary and tertiary controls checked?", "No: `ctl.sec.allowed`, `ctl.tert.allowed`, `ctl.exit2.allowed` need the activating control."),
    ("D3", "Do inactive secondary controls count elsewhere?", "As 0; every condition of the model contains the activating control."),
    ("D4", "TPR threshold against VTPR?", "If neither APIC accesses are virtualized nor virtual interrupts delivered: `ctl.tpr.threshold.vtpr`. Whether VTPR's upper bytes are cleared is not compared."),
    ("D5", "APIC-access page equal to the virtual-APIC page?", "No rule says so; allowed."),
    ("D6", "Is the posted-interrupt descriptor read?", "Not at entry; only its address is checked (`ctl.pir.desc`)."),
    ("D7", "EPTP bit 7?", "Ambiguity `eptp-bit-7`."),
    ("D8", "EPT memory type and walk length?", "What the capability MSR reports: `ctl.eptp.memtype`, `ctl.eptp.walk`."),
    ("D9", "Which controls need EPT?", "The newest list: `ctl.ug.needs-ept`, `ctl.pml.needs-ept`, `ctl.mbec.needs-ept`, `ctl.spp.needs-ept`, `ctl.pt.needs-ept`, `ctl.hlat.needs-ept`, `ctl.eptpw.needs-ept`, `ctl.gpv.needs-ept`, `ctl.pebs.needs-ept`."),
    ("D10", "Tracing at entry and \"load IA32_RTIT_CTL\"?", "As the text says, against intuition: the control must be 0 while the processor traces (`ctl.pt.trace-vs-load`)."),
    ("D11", "NMI controls?", "Clear: `ctl.nmi.virtual`, `ctl.nmi.window`."),
    ("D12", "Does type 7 need the control or its support?", "Support: `ctl.inject.type.other`. Bochs loses the injected exit if the control is 1: deviation `bochs-mtf-control`."),
    ("D13", "SMM controls outside SMM?", "Must be 0: `ctl.entry.smm.outside`, `ctl.entry.smm.both`; often not allowed by the capability MSR to begin with. Bochs: deviation `bochs-entry-to-smm`."),
    ("D14", "APIC-timer virtualization?", "Ambiguity `apic-timer-rdtsc`; otherwise `ctl.apictimer.needs-vid`, `ctl.apictimer.vector`."),
    ("D15", "Is the IA32_SPEC_CTRL mask or shadow checked?", "The text has no rule; allowed."),
    ("E1", "Which bits of the interruption information are reserved?", "30:14 and 12; bit 13 by IA32_VMX_BASIC[58]: `ctl.inject.reserved`, `ctl.inject.nested`."),
    ("E2", "When must there be an error code?", "`ctl.inject.errcode.required` and `ctl.inject.errcode.forbidden`; IA32_VMX_BASIC[56] lifts the part on vectors only."),
    ("E3", "Error code of vector 21?", "Ambiguity `cp-error-code`."),
    ("E4", "Which CR0 says that the guest is in real mode?", "The guest CR0 field, with \"unrestricted guest\"; the rule on controls comes before CR0's own: `ctl.inject.errcode.forbidden.realmode`."),
    ("E5", "Bits 31:15 or 31:16 of the error code?", "Ambiguity `error-code-bit-15`; 31:16 are certain (`ctl.inject.errcode.value`)."),
    ("E6", "Instruction length 0?", "Allowed where IA32_VMX_MISC[30] is 1; at most 15 always; only for types 4, 5 and 6 (`ctl.inject.instrlen`) and, at most 15, for FRED's events of type 7 (`ctl.inject.instrlen.other`)."),
    ("E7", "Odd pairs of type and vector?", "What no rule names is allowed: `ctl.inject.vector` has the rules that there are."),
    ("E8", "Vectors of type 7?", "0 with monitor trap flag; 1 and 2 with FRED: `ctl.inject.vector.other`. Bochs: deviation `bochs-inject-other-event`."),
    ("E9", "Interruption information that is not valid?", "Then none of it is checked, and neither are the error code and the instruction length."),
    ("F1", "Reserved bits of IA32_DEBUGCTL?", "Bits 63:16 and 5:3 are certain (`guest.debugctl`); ambiguity `debugctl-model-specific` for the others. Bochs checks none: deviation `bochs-debugctl`."),
    ("F2", "Reserved bits of IA32_PERF_GLOBAL_CTRL?", "By the numbers of counters in CPUID leaf 0AH: `host.perfglobal`, `guest.perfglobal`. PERF_METRICS is not known to the model. Bochs: deviation `bochs-perf-global-ctrl`."),
    ("F3", "Reserved bits of LBR_CTL, RTIT_CTL, SPEC_CTRL?", "By CPUID: `guest.lbrctl`, `guest.rtit`, `guest.speccontrol`; STIBP without CPUID's bit is ambiguity `spec-ctrl-stibp`. WRMSR's further rules on RTIT_CTL are not checks of VM entry."),
    ("F4", "BNDCFGS?", "Bits 11:2 and a canonical base: `guest.bndcfgs`."),
    ("F5", "IA32_S_CET?", "Reserved bits and not both of 10 and 11 (`guest.cet.scet`); ambiguities `guest-s-cet-canonical` and, for SSP, `ssp-high-outside-64-bit-mode`."),
    ("F6", "DR7?", "Bits 63:32 only, and only if debug controls are loaded: `guest.dr7`."),
    ("F7", "The field or the register where it is not loaded?", "Ambiguity `btf-not-loaded`; the rules on EFER need the load control (`guest.efer.lma`)."),
    ("F8", "PAT types 2, 3 and above 7?", "Refused: `host.pat`, `guest.pat`."),
    ("G1", "What is checked of unusable registers?", "The bases of FS and GS, and the DPL of SS; type, S, P, G and reserved bits are not: `guest.fs.base`, `guest.ss.dpl`, `guest.ss.type`. Bochs exempts a null selector too: deviation `bochs-ss-null-selector`."),
    ("G2", "Unusable CS and TR?", "TR must not be (`guest.tr.unusable`); CS: ambiguity `cs-unusable`."),
    ("G3", "Access-rights bits that VMWRITE does not keep?", "Reserved bits are checked (`guest.cs.ar.rsvd-low`, `guest.cs.ar.rsvd-high`). A processor that drops them at VMWRITE would show as a finding; the field is not read back."),
    ("G4", "DPL of SS in an unrestricted guest?", "No longer tied to the RPL, but 0 if CS has type 3 or PE is 0: `guest.ss.dpl.rpl`, `guest.ss.dpl.zero`."),
    ("G5", "DPL of DS, ES, FS, GS?", "Not less than the RPL, for types up to 11, without \"unrestricted guest\": `guest.ds.dpl`."),
    ("G6", "Virtual-8086 guests?", "Base, limit and access rights of all six are fixed (`guest.v86`), even where CR0.PE = 0 makes another check fail (`guest.rflags.vm.pe`). Bochs lacks that one: deviation `bochs-vm86-real-mode`."),
    ("G7", "Least limit of TR?", "None; only granularity is checked (`guest.tr.g`)."),
    ("G8", "Limit and granularity?", "Two rules, each one way: `guest.cs.g.low`, `guest.cs.g.high`."),
    ("G9", "CS.L outside IA-32e mode?", "Not checked; `guest.rip.high` still holds."),
    ("G10", "TR of type 3?", "Allowed outside IA-32e mode: `guest.tr.type`."),
    ("G11", "Segments with FRED?", "`guest.fred.ss.dpl`, `guest.fred.cs.l`, `guest.fred.iopl-sti`. No emulated model has FRED."),
    ("H1", "NMI with blocking by STI?", "Ambiguity `nmi-sti`. Bochs fails it with qualification 0: deviation `bochs-nmi-sti`."),
    ("H2", "NMI with blocking by MOV SS?", "Fails, qualification 0: `guest.intr.nmi-movss`."),
    ("H3", "External interrupt with blocking, or IF = 0?", "Fails: `guest.intr.extint`, `guest.rflags.if.extint`."),
    ("H4", "Blocking by STI with IF = 0?", "Fails: `guest.intr.sti-if`."),
    ("H5", "Enclave interruption?", "Needs SGX and no blocking by MOV SS: `guest.intr.enclave`."),
    ("H6", "Blocking by NMI?", "Matters only for an injected NMI with virtual NMIs: `guest.intr.nmi-virtual`. Bochs: deviation `bochs-nmi-virtual`."),
    ("H7", "Which activity states?", "Those that IA32_VMX_MISC reports, and the whole field counts: `guest.activity.range`."),
    ("H8", "Events into HLT?", "Those that the text lists: `guest.activity.inject.hlt`. Bochs: deviation `bochs-inject-hlt`."),
    ("H9", "Events into shutdown?", "NMI and machine check: `guest.activity.inject.shutdown`. Bochs: deviation `bochs-inject-shutdown`."),
    ("H10", "Events into wait-for-SIPI?", "None: `guest.activity.inject.wfs`, `guest.activity.smm-entry`. A VMX-preemption timer at 0 does not end wait-for-SIPI, so containment refuses that state."),
    ("H11", "HLT above ring 0?", "Fails by the DPL of SS, usable or not: `guest.activity.hlt.dpl`."),
    ("H12", "Blocking with another activity state?", "Fails: `guest.activity.blocking`."),
    ("I1", "When must BS be 1?", "With blocking by STI or MOV SS or in HLT, exactly if TF is 1 and BTF is 0: `guest.pdbg.bs`. Bochs: deviation `bochs-pending-debug-bs`."),
    ("I2", "Which bits are reserved?", "10:4, 13, 15, 63:17 (`guest.pdbg.reserved`); bit 11: ambiguity `pending-debug-bit-11`. Bochs: deviation `bochs-pending-debug-high`."),
    ("I3", "RTM, bit 16?", "`guest.pdbg.rtm`, by CPUID. The model cannot tell that microcode took TSX away."),
    ("I4", "RTM together with BS?", "If one rule demands BS = 1 and another BS = 0, the entry always fails. The text does not say so, but the checks are independent."),
    ("I5", "Enabled breakpoint (bit 12) with bits 3:0?", "No rule; allowed. What Bochs makes of it: deviation `bochs-pending-breakpoint`."),
    ("J1", "Is the link pointer checked without shadowing?", "Yes, whenever it is not all ones: `guest.link`."),
    ("J2", "A link pointer to no memory?", "The text says nothing. Its revision then counts as not modelled (`guest.link.revision`)."),
    ("J3", "Equal to the current VMCS?", "Refused outside SMM: `guest.link.current`."),
    ("J4", "Which value is all ones?", "The 64-bit one only: `guest.link.align`."),
    ("J5", "Is a cached VMCS consulted?", _OUTSIDE + "link pointers lead to memory of the harness."),
    ("J6", "PDPTEs where CR3 does not change?", "The host is never in PAE paging here, so they are always checked: `guest.pdpte.memory`."),
    ("J7", "PDPTEs with EPT?", "The fields count, not memory: `guest.pdpte.fields`."),
    ("J8", "Qualification 2 against others?", "Any order, as A3."),
    ("K1", "From what are MSR-load entries counted?", "From 1, in the qualification of reason 34: `msrload.reserved.1`."),
    ("K2", "MSRs of the x2APIC?", "Refused always, whatever mode the local APIC is in: `msrload.x2apic.1`."),
    ("K3", "MSRs that only SMM may load?", "IA32_SMM_MONITOR_CTL is refused (`msrload.smm.1`); other refusals are model-specific and count as not modelled (`msrload.wrmsr.1.other`). Bochs: deviation `bochs-msr-load-smm-monitor-ctl`."),
    ("K4", "EFER in the list?", "Reserved bits, and LME may not change while the guest uses paging: `msrload.wrmsr.1.efer`, `msrload.wrmsr.1.efer-lme`."),
    ("K5", "What stays loaded after reason 34?", _OUTSIDE + "MSRs are not compared afterwards."),
    ("K6", "A count above the recommended maximum?", _OUTSIDE + "the text leaves it undefined, containment refuses it."),
    ("K7", "Bits of the exit reason?", "Bit 31 is 1, the rest is the number: compared as a whole by the conformance tests of executors."),
    ("K8", "Which fields does a failed entry leave alone?", "The interruption information is compared after each candidate; the others are not."),
    ("K9", "Launch state after a failed entry?", "Unchanged, so VMLAUNCH has to be used again: `basic.resume.launched`."),
    ("K10", "VMX aborts?", _OUTSIDE + "containment keeps the VM-exit MSR-load area sound."),
    ("K11", "A machine check during entry?", _OUTSIDE + "a VMCS cannot bring one about."),
    ("L1", "Blocking by SMI?", "0 outside SMM, 1 for an entry to SMM: `guest.intr.smi-outside`, `guest.intr.smi-entry`."),
    ("L2", "Older editions with fewer controls?", "A check exists only where the capability MSRs allow its controls, so old processors do not have the newer rules."),
    ("L3", "Section numbers?", "They change between editions; checks cite titles."),
)  # fmt: skip

#: Every question, in order.
QUESTIONS: Final = tuple(Question(*row) for row in _ROWS)
