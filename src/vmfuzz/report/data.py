"""The data of a report: one processor per executor and version, one cell per check and processor."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vmfuzz.findings.account import not_minimized, seen
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.deviations import Deviation
from vmfuzz.model.known_deviations import DEVIATIONS, deviations_of
from vmfuzz.model.sections import NUMBERS
from vmfuzz.report.source import Source
from vmfuzz.state.vmcs import parse_number

#: Section of checks that this version of vmfuzz does not have (a summary of another version).
OTHER: Final = "Checks of another version of vmfuzz"


class State(enum.Enum):
    """What campaigns have shown of one check on one processor: symbol and words; in the order in which they matter."""

    FINDING = ("!", "finding: processor and model differ")
    DEVIATION = ("D", "known deviation of this processor")
    PARTLY = ("◐", "agrees, but a known deviation concerns it too")
    STRICT = ("S", "ambiguity, read strictly (fails)")
    LENIENT = ("L", "ambiguity, read leniently (enters)")
    BOTH = ("B", "ambiguity, read both ways")
    AGREES = ("✓", "agrees: decided alone, and the processor failed the entry as the model says")
    NEVER = ("·", "never seen deciding")
    ABSENT = ("", "not applicable: the processor does not have it")

    @property
    def symbol(self) -> str:
        """One character."""
        return str(self.value[0])

    @property
    def words(self) -> str:
        """What it means."""
        return str(self.value[1])


@dataclass(frozen=True)
class Known:
    """A known deviation: of the package's list, an erratum of the processor, or of a person's file. `skips`: checks that it leaves out."""

    id: str
    title: str
    text: str
    skips: tuple[str, ...]


def _listed(deviation: Deviation) -> Known:
    return Known(deviation.id, deviation.title, deviation.text, tuple(deviation.skips))


def _told(source: Source) -> Iterator[Known]:
    """What a campaign has met that is not in the package's list."""
    for known in source.data.get("errata", ()):
        yield Known(known["id"], known["title"], known["text"], tuple(known["skips"]))


@dataclass(frozen=True)
class Cell:
    """One check on one processor: the state, the counts that it comes from and the deviations that were met."""

    state: State
    violated: int = 0
    decided: int = 0
    strict: int = 0
    lenient: int = 0
    deviations: tuple[str, ...] = ()

    @property
    def detail(self) -> str:
        """The counts in words."""
        if self.state is State.ABSENT:
            return self.state.words
        parts = [f"violated {self.violated:,}", f"decided {self.decided:,}"]
        if self.strict or self.lenient:
            parts += [f"strict {self.strict:,}", f"lenient {self.lenient:,}"]
        return "; ".join([", ".join(parts), *self.deviations])


@dataclass
class Processor:
    """All campaigns on one executor of one version; counts are sums."""

    executor: str
    version: str
    campaigns: list[Source] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The executor's name without what is common to all emulated CPUs."""
        return self.executor.removeprefix("bochs ")

    @property
    def candidates(self) -> int:
        """Candidates of all its campaigns."""
        return sum(int(source.data["candidates"]) for source in self.campaigns)

    def total(self, key: str) -> Counter[str]:
        """The sums of `verdicts`, `outcomes` or `deviations`, positive ones only."""
        counts: Counter[str] = Counter()
        for source in self.campaigns:
            counts.update(source.data[key])
        return +counts

    def deviations(self) -> list[Known]:
        """All deviations that are known of it, each once: the package's, and those that its summaries tell."""
        listed = {known.id: _listed(known) for known in deviations_of(self.executor)}
        return list({**listed, **{known.id: known for source in self.campaigns for known in _told(source)}}.values())

    def minimized(self) -> list[tuple[Mapping[str, Any], int]]:
        """The minimized findings of all campaigns, each once, and how many candidates of all of them are counted with it."""
        return _each_once((entry, seen(entry)) for source in self.campaigns for entry in source.data.get("minimized", ()))

    def not_minimized(self) -> list[tuple[Mapping[str, Any], int]]:
        """The findings of all campaigns that are not minimized, each once, and how many candidates have met it."""
        return _each_once((found, int(found["count"])) for source in self.campaigns for found in not_minimized(source.data))

    def cells(self) -> dict[str, Cell]:
        """Check -> cell, for the checks that the processor has."""
        met = set(self.total("deviations"))
        skipping: dict[str, list[str]] = {}
        for deviation in self.deviations():
            for id in deviation.skips if deviation.id in met else ():
                skipping.setdefault(id, []).append(deviation.id)
        wrong = {id for item, _ in (*self.minimized(), *self.not_minimized()) for id in item["checks"]}
        ids = dict.fromkeys(id for source in self.campaigns for id in source.data["checks"])
        return {id: self._cell(id, id in wrong, tuple(skipping.get(id, ()))) for id in ids}

    def _cell(self, id: str, wrong: bool, deviations: tuple[str, ...]) -> Cell:
        counts: Counter[str] = Counter()
        for source in self.campaigns:
            counts.update(source.data["checks"].get(id, {}))
            counts.update(source.data["readings"].get(id, {}))
        violated, decided, strict, lenient = (counts[key] for key in ("violated", "decided", "strict", "lenient"))
        if wrong:
            state = State.FINDING
        elif strict or lenient:
            state = State.BOTH if strict and lenient else State.STRICT if strict else State.LENIENT
        elif deviations:
            state = State.PARTLY if decided else State.DEVIATION
        else:
            state = State.AGREES if decided else State.NEVER
        return Cell(state, violated, decided, strict, lenient, deviations)


@dataclass(frozen=True)
class Row:
    """One line of the matrix; `cells` in the order of the processors."""

    id: str
    section: str
    text: str
    ambiguity: str | None
    cells: tuple[Cell, ...]

    @property
    def differs(self) -> bool:
        """Whether processors that have the check show different things."""
        return len({cell.state for cell in self.cells} - {State.ABSENT}) > 1


@dataclass(frozen=True)
class Report:
    """Everything that is shown."""

    processors: tuple[Processor, ...]
    rows: tuple[Row, ...]

    @property
    def sections(self) -> dict[str, list[Row]]:
        """Rows by section, in the SDM's order."""
        titles = [title for title in (*NUMBERS, OTHER) if any(row.section == title for row in self.rows)]
        return {title: [row for row in self.rows if row.section == title] for title in titles}

    @property
    def emulated(self) -> str | None:
        """A sentence on which processors are emulated, without its end; None where none is."""
        emulated = [processor.name for processor in self.processors if processor.executor.startswith("bochs")]
        if not emulated:
            return None
        if len(emulated) < len(self.processors):
            return f"Emulated: {', '.join(emulated)}"
        return "All of these processors are emulated" if len(emulated) > 1 else "This processor is emulated"

    def by_section(self) -> dict[str, list[Counter[State]]]:
        """Section -> for each processor how many checks are in which state."""
        places = range(len(self.processors))
        return {title: [Counter(row.cells[place].state for row in rows) for place in places] for title, rows in self.sections.items()}

    def deviations(self) -> list[tuple[Known, list[int]]]:
        """Known deviations that were met, most often met first, with the candidates on each processor."""
        totals = [processor.total("deviations") for processor in self.processors]
        known = {deviation.id: _listed(deviation) for deviation in DEVIATIONS}
        known |= {each.id: each for processor in self.processors for each in processor.deviations()}
        met = [(each, [total[each.id] for total in totals]) for each in known.values()]
        return sorted((pair for pair in met if any(pair[1])), key=lambda pair: -sum(pair[1]))

    def readings(self) -> list[tuple[str, str, list[tuple[int, int]]]]:
        """Ambiguities that were met: (id, title, (strict, lenient) on each processor)."""
        sums: dict[str, list[tuple[int, int]]] = {}
        for row in self.rows:
            if row.ambiguity is not None:
                before = sums.setdefault(row.ambiguity, [(0, 0)] * len(self.processors))
                new = zip(before, row.cells, strict=True)
                sums[row.ambiguity] = [(strict + cell.strict, lenient + cell.lenient) for (strict, lenient), cell in new]
        titles = {id: AMBIGUITIES[id].title if id in AMBIGUITIES else id for id in sums}
        return [(id, titles[id], counts) for id, counts in sums.items() if any(strict or lenient for strict, lenient in counts)]

    def to_json(self) -> dict[str, Any]:
        """The report for machines; its keys are stable."""
        return {
            "schema": "vmfuzz-report-1",
            "processors": [_processor_json(processor) for processor in self.processors],
            "checks": {
                row.id: {
                    "section": row.section,
                    "ambiguity": row.ambiguity,
                    "states": [cell.state.name.lower() for cell in row.cells],
                    "violated": [cell.violated for cell in row.cells],
                    "decided": [cell.decided for cell in row.cells],
                }
                for row in self.rows
            },
            "sections": {
                title: [{state.name.lower(): counts[state] for state in State if counts[state]} for counts in row]
                for title, row in self.by_section().items()
            },
            "deviations": {deviation.id: counts for deviation, counts in self.deviations()},
            "readings": {id: [{"strict": strict, "lenient": lenient} for strict, lenient in counts] for id, _, counts in self.readings()},
        }


def _processor_json(processor: Processor) -> dict[str, Any]:
    return {
        "executor": processor.executor,
        "version": processor.version,
        "candidates": processor.candidates,
        "verdicts": processor.total("verdicts"),
        "outcomes": processor.total("outcomes"),
        "campaigns": [
            {
                "source": source.name,
                **{key: source.data.get(key) for key in ("seed", "date", "microcode", "candidates", "seconds", "history")},
            }
            for source in processor.campaigns
        ],
        "not_minimized": [{**found, "count": count} for found, count in processor.not_minimized()],
        "minimized": [{**entry, "seen": count} for entry, count in processor.minimized()],
    }


def _each_once(items: Iterable[tuple[Mapping[str, Any], int]]) -> list[tuple[Mapping[str, Any], int]]:
    """Items by their ids, with the sums of their counts."""
    found: dict[str, tuple[Mapping[str, Any], int]] = {}
    for item, count in items:
        found[item["id"]] = (item, count + found.get(item["id"], (item, 0))[1])
    return list(found.values())


def gather(sources: Iterable[Source]) -> Report:
    """Put campaigns together; those on the same executor of the same version are summed."""
    processors: dict[tuple[str, str], Processor] = {}
    for source in sources:
        key = (str(source.data["executor"]), str(source.data.get("version", "unknown")))
        processors.setdefault(key, Processor(*key)).campaigns.append(source)
    several = tuple(processors.values())
    return Report(several, tuple(_rows(several)))


def _rows(processors: Sequence[Processor]) -> list[Row]:
    cells = [processor.cells() for processor in processors]
    absent = Cell(State.ABSENT)
    ids = dict.fromkeys([*BY_ID, *(id for each in cells for id in each)])
    rows = []
    for id in ids:
        check = BY_ID.get(id)
        here = tuple(each.get(id, absent) for each in cells)
        rows.append(Row(id, check.section.title if check else OTHER, check.text if check else "", check.ambiguity if check else None, here))
    return rows


def microcode(summary: Mapping[str, Any]) -> str:
    """The microcode's revision in a summary, for people; "" where the processor has none."""
    revision = summary.get("microcode")
    return "" if revision is None else hexadecimal(parse_number("microcode", revision))
