"""The report on the manual's ambiguities: for each the readings, the cases that tell them apart, who takes which, and a wording.

The cases are made by the model on a processor that has every feature concerned (it does not exist) and are then run on each processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vmfuzz.comparison.case import Case, base_value
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry, folder_of
from vmfuzz.differences.ambiguity_cases import CHECKS_OF, LENIENT, Taken, Witness, hypothetical, taken, witnesses
from vmfuzz.execute.kinds import open_executor
from vmfuzz.model.ambiguities import AMBIGUITIES, Ambiguity
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.public_readings import PUBLIC_READINGS, SOURCES
from vmfuzz.model.questions import PARTS, QUESTIONS
from vmfuzz.model.wording import format_operand
from vmfuzz.prose import wrapped

#: The command that writes docs/ambiguities.md.
COMMAND: Final = "vmfuzz ambiguities --markdown > docs/ambiguities.md"


@dataclass
class Place:
    """One ambiguity: its witnesses, what each processor did with each (by check), and the corpus entries about it."""

    ambiguity: Ambiguity
    witnesses: list[Witness] = field(default_factory=list)
    taken: dict[str, list[Taken]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for machines; its keys are stable."""
        return {
            "id": self.ambiguity.id,
            "title": self.ambiguity.title,
            "text": self.ambiguity.text,
            "strict": self.ambiguity.strict,
            "lenient": self.ambiguity.lenient,
            "known": self.ambiguity.known,
            "wording": self.ambiguity.wording,
            "checks": list(CHECKS_OF[self.ambiguity.id]),
            "cases": [
                {
                    "check": witness.check,
                    "base": witness.case.base,
                    "decided_by_reading": _hex(witness.case),
                    "accepted_by_both": _hex(witness.accepted),
                    "processors": [
                        {"name": each.processor, "outcome": each.outcome, "accepted_case": each.accepted_outcome, "reading": each.reading}
                        for each in self.taken.get(witness.check, [])
                    ],
                }
                for witness in self.witnesses
            ],
            "implementations": [vars(reading) for reading in PUBLIC_READINGS[self.ambiguity.id]],
        }


def _hex(case: Case) -> dict[str, str]:
    return {key: f"{value:#x}" for key, value in sorted(case.mutation.items())}


def gather(cpus: Iterable[str], executor: str = "bochs") -> list[Place]:
    """Make the cases and run them on each CPU model; a few VM entries each."""
    places = {id: Place(ambiguity) for id, ambiguity in AMBIGUITIES.items()}
    made = hypothetical()
    for witness in witnesses(made):
        places[witness.ambiguity].witnesses.append(witness)
    for cpu in cpus:
        with open_executor(executor, cpu=cpu) as opened:
            trial = Trial(opened)
            exists = {compiled.check.id for compiled in trial.model.compiled}
            for place in places.values():
                for witness in place.witnesses:
                    result = taken(trial, witness) if witness.check in exists else None
                    if result is not None:
                        place.taken.setdefault(witness.check, []).append(result)
    return list(places.values())


# Markdown


def markdown(places: Iterable[Place], cpus: Iterable[str], version: str, entries: Iterable[Entry] = ()) -> str:
    """The whole page. `cpus`: the CPU models that were tried, `version`: of what emulates them, `entries`: the corpus to refer to."""
    places, cpus = list(places), list(cpus)
    made, recorded = hypothetical(), _by_ambiguity(entries)
    lines = [
        '# Where the chapter "VM Entries" can be read in two ways',
        "",
        "For those who write the manual, and for everybody who implements VM entry. Each place has its readings, the smallest VMCS that tells them "
        "apart, what processors and hypervisors do with it, and a sentence that would settle it.",
        "",
        f"vmfuzz has the SDM's chapter as {len(BY_ID)} checks that a program evaluates, and a program has to decide what each sentence means. "
        f"But in {len(places)} places the text allows two decisions, or says nothing.",
        "",
        f"Every outcome in a table was measured by running the VM entry on an *emulated* processor ({len(cpus)} CPU models of {version}). An "
        "emulator shows how its authors read the manual, not what silicon does. This command writes the page, and a test keeps it current:",
        "",
        "```sh",
        COMMAND,
        "```",
        "",
        f"Before the model was written, {len(QUESTIONS)} questions were asked of the text. "
        "[The last part](#every-question-that-was-asked-of-the-text) says how each was decided. On a "
        "machine with VT-x and vmfuzz's kernel module, `vmfuzz run --executor kmod` counts which "
        "reading the real processor takes ([bare-metal.md](bare-metal.md)).",
        "",
        "| place | emulated CPU models | " + " | ".join(SOURCES) + " |",
        "|---|---|" + "---|" * len(SOURCES),
    ]
    for place in places:
        readings = {reading.implementation: reading.reading for reading in PUBLIC_READINGS[place.ambiguity.id]}
        cells = " | ".join(readings.get(name, "") for name in SOURCES)
        lines.append(f"| [{place.ambiguity.title}](#{_anchor(place.ambiguity.title)}) | {_summary(place)} | {cells} |")
    lines += [
        "",
        "*strict*: the VM entry fails; *lenient*: it does not; *processor*: left to the physical processor; *neither*: the feature is not offered, or no "
        "check is made. QEMU without KVM does not emulate VMX, so it takes no reading.",
    ]
    for place in places:
        lines += _section(place, made, recorded.get(place.ambiguity.id, []))
    lines += _asked()
    lines += ["", "## Sources", "", "Read for the tables above, as public snapshots of these versions:", ""]
    lines += [f"- {name}: {source}" for name, source in SOURCES.items()]
    return wrapped("\n".join(lines) + "\n")


def _asked() -> list[str]:
    """The table of all questions, with their parts as headings."""
    lines = [
        "",
        "## Every question that was asked of the text",
        "",
        "The text answers most of them clearly, but they are easy to get wrong, and implementations differ there. Those that stay open are the places "
        "above. Names in code style are checks (or the beginnings of their ids), ambiguities, and known deviations of Bochs.",
    ]
    for part, title in PARTS.items():
        rows = [f"| {each.number} | {each.question} | {each.decision} |" for each in QUESTIONS if each.number.startswith(part)]
        lines += ["", f"### {title}", "", "| number | question | decided |", "|---|---|---|", *rows]
    return lines


def _by_ambiguity(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Links to the corpus entries that stand for each ambiguity."""
    found: dict[str, list[str]] = {}
    for entry in sorted(entries, key=lambda each: each.id):
        kind, _, id = entry.verdict.partition(":")
        if kind == "ambiguity":
            found.setdefault(id, []).append(f"[{entry.id}](../corpus/{folder_of(entry)}/{entry.id}.json)")
    return found


def _anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _summary(place: Place) -> str:
    """The reading that the processors take, in a few words."""
    found = {each.reading or "other" for results in place.taken.values() for each in results if each.reading or _ran(each)}
    count = len({each.processor for results in place.taken.values() for each in results})
    if found == {LENIENT} and len(place.taken) > 1:
        return f"makes none of the {len(place.taken)} rules ({count})"
    return f"{' and '.join(sorted(found))} ({count})" if found else "none has the feature"


def _ran(result: Taken) -> bool:
    return not result.outcome.startswith("refused")


def _section(place: Place, made: Trial, recorded: list[str]) -> list[str]:
    ambiguity = place.ambiguity
    lines = [
        "",
        f"## {ambiguity.title}",
        "",
        ambiguity.text,
        "",
        f"- **Strict**: {ambiguity.strict}.",
        f"- **Lenient**: {ambiguity.lenient}.",
        f"- **Known**: {ambiguity.known}",
        f"- **A wording that would settle it**: {ambiguity.wording}",
        "",
        f"In vmfuzz: ambiguity `{ambiguity.id}`, " + ", ".join(f"`{id}`" for id in CHECKS_OF[ambiguity.id]) + ".",
    ]
    if recorded:
        lines[-1] += f" In the corpus, as recorded on each CPU model: {', '.join(recorded)}."
    for witness in place.witnesses:
        lines += ["", *_case(witness, made), *_outcomes(place.taken.get(witness.check, []))]
    lines += ["", "| implementation | reading | where |", "|---|---|---|"]
    lines += [f"| {each.implementation} | {each.reading} | {each.where} |" for each in PUBLIC_READINGS[ambiguity.id]]
    return lines


def _case(witness: Witness, made: Trial) -> list[str]:
    base = made.base(witness.case.base)
    assert base is not None
    keys = sorted({*witness.case.mutation, *witness.accepted.mutation})
    lines = [
        f"Nearest pair for `{witness.check}` (known-good state `{witness.case.base}`, all else unchanged):",
        "",
        "| operand | known-good | accepted by both readings | decided by the reading |",
        "|---|---|---|---|",
    ]
    for key in keys:
        here = base_value(base, key)
        values: list[Mapping[str, int]] = [{}, witness.accepted.mutation, witness.case.mutation]
        lines.append(f"| `{key}` | " + " | ".join(format_operand(key, each.get(key, here)) for each in values) + " |")
    return [*lines, ""]


def _outcomes(results: list[Taken]) -> list[str]:
    if not results:
        return ["No emulated CPU model has the feature; the pair was made for a hypothetical processor that has it."]
    groups: dict[tuple[str, str, str | None], list[str]] = {}
    for each in results:
        groups.setdefault((each.outcome, each.accepted_outcome, each.reading), []).append(each.processor.split()[-1])
    lines = ["| emulated CPU models | accepted by both | decided by the reading | reading taken |", "|---|---|---|---|"]
    for (outcome, accepted, reading), names in groups.items():
        lines.append(f"| {', '.join(names)} | {accepted} | {outcome} | {reading or 'not shown'} |")
    return lines
