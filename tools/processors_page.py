"""docs/processors.md: the profiles of processors as tables, each fact with its source. tools/write_processors.py writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from checks_page import HOST_64, longest
from checks_page import NEVER_ALONE as ALREADY_KNOWN
from model_campaigns import public_sets
from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.fields import FIELDS
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.parts import FEATURES as BASES
from vmfuzz.generate.parts import MODES
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.predict import model_of
from vmfuzz.prose import wrapped

if TYPE_CHECKING:
    from write_processors import Processor, Register

_HEAD = f"""# Profiles of processors

For everybody whose processor is newer than the emulated CPU models, or who wants to know what a campaign on it would reach. You will choose a profile, use
it in `vmfuzz check` and `vmfuzz run`, and see where each fact in it comes from.

The emulated CPU models stand for processors that an emulator knows. These profiles stand for processors that people have but no emulator here has, and
for two that do not exist. `vmfuzz caps --list` names them, and `--cpu` of `vmfuzz check`, `caps` and `dump-code` accepts them.
`vmfuzz run --executor model --cpu PROFILE` runs a campaign on a profile with the model itself in the processor's place. Such a campaign cannot find an
error of the model. It shows whether a campaign on that processor would start (the model predicts that its own state enters), which of the
{len(CHECKS)} checks its candidates would reach, and what would depend on something that is not modelled.

`--cpu` of the executor `model` also accepts a capabilities file from `vmfuzz caps --json`, for example of a processor whose MSRs somebody sent you.

`python tools/write_processors.py` writes this page from the tables in tools/processors/; a test keeps it current.
"""


#: Why a check decides alone on no profile, where checks_page.py does not say so: beginning of its id -> reason.
_NO_KEYS = "an ambiguity of processors whose memory encryption takes address bits for key identifiers: no profile has any"
NEVER_ALONE = {
    **dict.fromkeys(("ctl.key-bits", "host.cr3.key-bits", "guest.cr3.key-bits", "guest.link.key-bits", "guest.pdpte.key-bits"), _NO_KEYS),
    "ctl.pt.trace-vs-load": "needs IA32_RTIT_CTL.TraceEn = 1 on the processor itself, which no candidate sets",
    "host.as.no64": "every profile has Intel 64; on a processor without it the control may not be 1, and the rule on allowed settings fails with it",
    "host.fred.outside": HOST_64,
    "host.speccontrol.stibp": "every profile with IBRS has STIBP",
    "guest.speccontrol.stibp": "every profile with IBRS has STIBP",
}


def page(
    processors: Sequence[Processor],
    sources: Mapping[str, str],
    registers: Iterable[Register],
    states: Mapping[str, Any],
    results: Mapping[str, Any],
) -> str:
    """The page; `states` has the state of each processor by its name, `results` what tools/model_campaigns.py keeps."""
    lines = [
        _HEAD,
        "## What they are",
        "",
        *_overview(processors, states),
        "",
        *_campaigns(results["campaigns"]),
        "",
        *_sets(results["sets"]),
    ]
    lines += ["", *_never_alone(results["proofs"]), "", "## Sources", ""]
    lines += ["| source | meaning |", "|---|---|", *(f"| {name} | {text} |" for name, text in sources.items())]
    lines += ["", "## What Linux leaves in the host state", "", *_registers(processors, registers)]
    for processor in processors:
        dump = f" The dump: {processor.dump}." if processor.dump else ""
        lines += [
            "",
            f"## {processor.name}",
            "",
            f"{processor.description[0].upper()}{processor.description[1:]}.{dump}",
            "",
            *_facts(processor),
        ]
    return wrapped("\n".join(lines) + "\n")


def _overview(processors: Sequence[Processor], states: Mapping[str, Any]) -> list[str]:
    lines = [
        f"*Checks* counts those of the {len(CHECKS)} that exist there. *Modes* and *features* count the parts of known-good states (docs/generation.md)",
        "that it can have.",
        "",
        "| profile | what | physical, linear bits | VMCS fields | checks | modes | features | lacks |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for processor in processors:
        caps = processor.capabilities
        model = model_of(caps)
        bases = Bases(model, states[processor.name])
        widths = f"{caps.physical_address_width}, {caps.linear_address_width}"
        lacks = ", ".join(name for name in FEATURES if not caps.has(name)) or "nothing"
        lines.append(
            f"| `{processor.name}` | {processor.description} | {widths} | {len(caps.fields)} of {len(FIELDS)} | {len(model.compiled)} | "
            f"{len(bases.modes)} of {len(MODES)} | {len(bases.features)} of {len(BASES)} | {lacks} |"
        )
    return lines


def _campaigns(campaigns: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "## Campaigns",
        "",
        "`python tools/model_campaigns.py run` runs candidates on each profile with the model in the processor's place. *Not modelled*: the prediction",
        "allows several outcomes, because it depends on something that the model does not know. *Alone*: checks seen deciding alone, of those that exist.",
        "",
        "| profile | candidates | seed | agree | not modelled | findings | alone |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, result in campaigns.items():
        alone = result["checks"] - len(result["never_alone"])
        lines.append(
            f"| `{name}` | {result['candidates']:,} | {result['seed']} | {result['agree']:,} | {result['not_modelled']:,} | {result['findings']} | "
            f"{alone} of {result['checks']} |"
        )
    return lines


def _sets(campaigns: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Campaigns on processors of which only the capability MSRs are known."""
    sets = len(list(public_sets()))
    so_far = "each of the sets" if len(campaigns) == sets else f"{len(campaigns)} of the sets so far"
    lines = [
        "## Capability MSRs alone",
        "",
        f"53 real processors have {sets} different sets of the MSRs 480H to 491H (tests/arch/vmx_capability_msrs.csv says where",
        "they come from). Nothing else is known about these processors, so most of what depends on CPUID is not modelled.",
        f"`python tools/model_campaigns.py sets` runs campaigns with the model in the processor's place, on {so_far}:",
        "",
        "| processor | candidates | seed | agree | not modelled | findings | checks |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, result in campaigns.items():
        lines.append(
            f"| {name} | {result['candidates']:,} | {result['seed']} | {result['agree']:,} | {result['not_modelled']:,} | {result['findings']} | "
            f"{result['checks']} |"
        )
    return lines


def _never_alone(proofs: Mapping[str, Mapping[str, str]]) -> list[str]:
    lines = [
        "## Checks that decide alone on no profile",
        "",
        "Of the checks that the model had when these campaigns ran, all others were seen deciding alone, on one of these profiles or on an",
        "emulated CPU model",
        "([agreement.md](agreement.md)).",
        "*Proven*: the solver proves that no profile has a state in which a processor without the check would do something else",
        '(`python tools/model_campaigns.py prove`). *Not required*: if the check would fail an entry, the model says "not modelled".',
        "",
        "| check | reason | solver |",
        "|---|---|---|",
    ]
    for id, found in proofs.items():
        reason = longest(id, NEVER_ALONE) or longest(id, ALREADY_KNOWN)
        if reason is None:
            raise ValueError(f"{id} was seen deciding alone nowhere: say why in NEVER_ALONE")
        answers = dict.fromkeys(found.values())
        what = "; ".join(f"{answer} ({', '.join(name for name in found if found[name] == answer)})" for answer in answers)
        lines.append(f"| `{id}` | {reason} | {(what if len(answers) > 1 else ''.join(answers)) or 'exists on none'} |")
    return lines


def _registers(processors: Sequence[Processor], registers: Iterable[Register]) -> list[str]:
    lines = [
        "This is what the module's engine would capture on a 64-bit Linux 6.12 or newer, in the system call from which it enters. Addresses are examples",
        "of what Linux has there. The guest's registers are those of the host, and its page tables map nothing. Fields that a processor lacks are left",
        "out.",
        "",
        "| field | value | where | why |",
        "|---|---|---|---|",
    ]
    for register in registers:
        values: dict[int, list[str]] = {}
        for processor in processors:
            if processor.capabilities.has_field(register.field):
                values.setdefault(register.of(processor.capabilities), []).append(processor.name)
        for value, names in values.items():
            where = "all that have the field" if len(values) == 1 else ", ".join(names)
            lines.append(f"| {register.field} | {value:0{FIELDS[register.field].width // 4}X}H | {where} | {register.source} |")
    return lines


def _facts(processor: Processor) -> list[str]:
    lines = ["| fact | name | value | source |", "|---|---|---|---|"]
    for fact in processor.facts:
        kind, number = fact.what.split(" ")
        name = FACT_MSRS.get(int(number.removesuffix("H"), 16), "") if kind == "MSR" else "EAX EBX ECX EDX"
        lines.append(f"| {fact.what} | {name} | `{fact.value}` | {fact.source} |")
    return lines
