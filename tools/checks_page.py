"""docs/checks.md from the summaries of the campaigns on all emulated CPU models: what is no check here, and what was never seen deciding.

tools/campaigns.py writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from second_look import SECOND_LOOK
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS, NOT_APPLICABLE
from vmfuzz.model.known_deviations import DEVIATIONS
from vmfuzz.model.predict import model_of
from vmfuzz.prose import wrapped
from vmfuzz.state.profiles import capabilities

#: Why no emulated CPU model has a check: beginning of its id -> reason; the longest beginning counts.
ABSENT = {
    "ctl.ipiv": 'no model allows "IPI virtualization"',
    "ctl.eptp.sss.text": "no model supports supervisor shadow-stack control",
    "ctl.pt": "no model has Intel PT",
    "ctl.pebs": "no model allows the control",
    "ctl.hlat": 'no model allows "enable HLAT"',
    "ctl.eptpw": "no model allows the control",
    "ctl.gpv": "no model allows the control",
    "ctl.pasid": 'no model allows "PASID translation"',
    "ctl.apictimer": 'no model allows "APIC-timer virtualization"',
    "ctl.inject.errcode": "no model has CET",
    "host.cr4.cet-wp": "no model has CET",
    "host.cet": "no model has CET",
    "host.as.32.cet": "no model has CET",
    "host.as.64.cet": "no model has CET",
    "host.as.cet": "no model has CET",
    "host.pkrs": "no model has PKS",
    "host.fred": "no model has FRED",
    "host.as.32.fred": "no model has FRED",
    "host.as.no64": "every model has Intel 64",
    "guest.cr4.cet-wp": "no model has CET",
    "guest.cr4.fred": "no model has FRED",
    "guest.cr3.reserved.lam": "no model has LAM",
    "guest.bndcfgs": "no model has MPX",
    "guest.rtit": "no model has Intel PT",
    "guest.pkrs": "no model has PKS",
    "guest.uinv": 'no model allows "load UINV"',
    "guest.lbrctl": 'no model allows "load guest IA32_LBR_CTL"',
    "guest.cet": "no model has CET",
    "guest.fred": "no model has FRED",
    "guest.ssp": "no model has CET",
    "guest.speccontrol": (
        'no model allows "load IA32_SPEC_CTRL" (VM entry): Bochs reports bit 24 of the VM-entry controls among the secondary VM-exit controls '
        "(init_vmx_capabilities, cpu/vmcs.cc, 3.0 to August 2026)"
    ),
    "guest.intr.enclave.movss": "no model reports SGX",
    "ctl.inject.vector.other.ia32e": "no model has FRED",
    "ctl.inject.instrlen.other": "no model has FRED",
    "host.speccontrol.stibp": "every model with IBRS has STIBP",
    "guest.speccontrol.stibp": 'no model allows "load IA32_SPEC_CTRL" (VM entry)',
    **dict.fromkeys(
        ("ctl.key-bits", "host.cr3.key-bits", "guest.cr3.key-bits", "guest.link.key-bits", "guest.pdpte.key-bits"),
        "no model has memory encryption with key identifiers",
    ),
    "guest.pdbg.bld.text": "no model has bus-lock debug exceptions",
}
HOST_64 = "needs a 32-bit host, which violates host.as.lma1.exit and host.as.32.rip too: executors launch in IA-32e mode from above 4 GiB"
_LIVE_LMA = "executors launch in IA-32e mode, so IA32_EFER.LMA is 1"
_NOT_IN_SMM = 'outside SMM "entry to SMM" fails in an earlier stage'
_NO_RTM = "no model has RTM, so guest.pdbg.rtm.supported is violated too"
#: Why a check that exists was never seen deciding alone, where neither a deviation nor an ambiguity says so: beginning of its id -> reason.
NEVER_ALONE = {
    "ctl.entry.smm.both": "outside SMM, the rules that forbid each of the two controls are violated too",
    "host.sel.ss.null": HOST_64,
    "host.as.lma0": _LIVE_LMA,
    "host.as.lma1.exit": HOST_64,
    "host.as.ia32e": HOST_64,
    "host.as.32": HOST_64,
    "guest.activity.smm-entry": _NOT_IN_SMM,
    "guest.intr.smi-entry": _NOT_IN_SMM,
    "guest.activity.inject.wfs": "containment refuses wait-for-SIPI: such rows have sometimes hung the emulated CPU",
    "guest.pdbg.rtm": _NO_RTM,
    "guest.intr.nmi-sti": "Bochs fails such entries with qualification 0 instead of 3: deviation bochs-nmi-sti",
    "msrload.wrmsr": "never required: what is not in the model's table of MSRs, or not in the first four entries, counts as not modelled",
}


class Seen:
    """The counts of all campaigns, by check."""

    def __init__(self, summaries: Iterable[dict[str, Any]]) -> None:
        self.exists: set[str] = set()
        self.decided: Counter[str] = Counter()
        self.violated: Counter[str] = Counter()
        self.strict: Counter[str] = Counter()
        self.lenient: Counter[str] = Counter()
        #: checks that exist on some model, and that the program of the campaigns did not have yet
        self.newer = {compiled.check.id for cpu in CPU_MODELS for compiled in model_of(capabilities(cpu)).compiled}
        for summary in summaries:
            for id, counts in summary["checks"].items():
                self.exists.add(id)
                self.decided[id] += counts["decided"]
                self.violated[id] += counts["violated"]
            for id, counts in summary["readings"].items():
                self.strict[id] += counts["strict"]
                self.lenient[id] += counts["lenient"]
        self.newer -= self.exists
        self.exists |= self.newer


def longest(id: str, reasons: dict[str, str]) -> str | None:
    """The reason whose key is the longest beginning of the id."""
    keys = [key for key in reasons if id == key or id.startswith((f"{key}.", f"{key}-"))]
    return reasons[max(keys, key=len)] if keys else None


def reason_never_alone(check: Check, seen: Seen) -> str:
    """Why a check that exists was never seen deciding alone."""
    if check.id in seen.newer:
        return "newer than these campaigns"
    known = longest(check.id, NEVER_ALONE)
    if known:
        return known
    if check.ambiguity:
        return f"ambiguity {check.ambiguity}: the emulated CPUs take the lenient reading ({seen.lenient[check.id]:,} times)"
    deviation = next((deviation.id for deviation in DEVIATIONS if check.id in deviation.skips), None)
    return f"Bochs does not make it: deviation {deviation}" if deviation else "not seen yet"


def checks_page(summaries: Iterable[dict[str, Any]]) -> str:
    """The page; `summaries` has one summary of `vmfuzz run` for each CPU model."""
    seen = Seen(summaries)
    lines = [
        "# Checks that were never seen at work",
        "",
        "For everybody who wants to know what the campaigns do not show. You will find each check that never decided a VM entry, with the reason.",
        "",
        f"The model declares {len(CHECKS)} checks; `vmfuzz checks` shows them. This page says which rules are *not* in the model, and which checks were",
        "never seen deciding a VM entry in the campaigns of [agreement.md](agreement.md). All processors are *emulated* (the 13 Intel models of Bochs",
        "3.0). `tools/campaigns.py` writes this page.",
        "",
        "## Rows of the reference catalogue that are not checks here",
        "",
        "| row | reason |",
        "|---|---|",
        *(f"| `{id}` | {reason} |" for id, reason in NOT_APPLICABLE.items()),
        "",
        "## Checks that exist on none of the 13 emulated CPU models",
        "",
        "Tests predict violations of these checks on made-up capabilities, but no campaign of agreement.md has run them. In Debian's Bochs 2.7, tigerlake",
        "has CET, and the campaigns through the kernel module ran the checks on guest CET state and on error codes with CET there",
        "([bare-metal.md](bare-metal.md)). They never ran those on host CET state, because containment refuses every host value that is not the host's.",
        "On the profiles of processors that have these checks, the model itself ran all of them ([processors.md](processors.md)).",
        "",
    ]
    absent: dict[str, list[str]] = {}
    for check in CHECKS:
        if check.id not in seen.exists:
            absent.setdefault(longest(check.id, ABSENT) or "not known", []).append(f"`{check.id}`")
    lines += [f"- {reason}: {', '.join(ids)}" for reason, ids in absent.items()]
    lines += [
        "",
        "## Checks that exist on some model and were never seen deciding alone",
        "",
        "*Violated* counts the candidates that ran and violate the check, most of them together with other checks.",
        "",
        "| check | violated | reason |",
        "|---|---:|---|",
    ]
    never = [check for check in CHECKS if check.id in seen.exists and not seen.decided[check.id]]
    lines += [f"| `{check.id}` | {seen.violated[check.id]:,} | {reason_never_alone(check, seen)} |" for check in never]
    lines += [
        "",
        "## Checks that none of the implementations that were read makes",
        "",
        "Only the manual supports these checks, so each was compared once more with its text and with what public sources say about processors. The",
        "implementations are KVM's nested VMX, Bochs, VirtualBox, Xen's nested VMX and ACRN. `tools/second_look.py` holds the table.",
        "",
        "| checks | second look |",
        "|---|---|",
        *(f"| {', '.join(f'`{id}`' for id in ids)} | {found} |" for ids, found in SECOND_LOOK),
        "",
        "## Ambiguities: which reading the emulated CPUs take",
        "",
        "The table counts candidates in which the check alone could decide. A row of zeros means that no model has what the check needs.",
        "",
        "| check | ambiguity | fails the entry (strict) | enters (lenient) |",
        "|---|---|---:|---:|",
        *(
            f"| `{check.id}` | {check.ambiguity} | {seen.strict[check.id]:,} | {seen.lenient[check.id]:,} |"
            for check in CHECKS
            if check.ambiguity
        ),
        "",
        "## The name of the failing check",
        "",
        "Bochs logs which of its tests failed. `model/bochs_messages.py` maps each message to checks, and campaigns compare them with the model. These",
        "checks exist on some model but have no message, because Bochs does not make them or the model only counts them as not modelled:",
        ", ".join(f"`{id}`" for id in MESSAGES.checks_without() if id in seen.exists) + ".",
    ]
    return wrapped("\n".join(lines) + "\n")
