"""The corpus: one JSON file an entry, for people to read and to review; in a directory, found by `**/*.json`.

An entry is a case (base and mutation by name), what each processor did with it, what the model said, and a verdict of a person. The schema is
published in corpus_schema.json, next to this module; docs/corpus.md says what the parts mean. Files are written aside and renamed, so
that none is ever half written.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vmfuzz.comparison.behind import Behind
from vmfuzz.comparison.case import Case, is_memory, require_key
from vmfuzz.comparison.processor import Processor
from vmfuzz.comparison.trial import Observation
from vmfuzz.errors import UsageError
from vmfuzz.files import read_json, write_text
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.known_deviations import DEVIATIONS
from vmfuzz.state.vmcs import parse_number

SCHEMA: Final = "vmfuzz-corpus-1"
_EXPECTED: Final = "expected a corpus entry; dumps and logs are for `vmfuzz check FILE`"
#: Verdicts that are one word; the others are `ambiguity:ID`, `deviation:ID` and `erratum:NAME`.
PLAIN_VERDICTS: Final = ("open", "model-fixed", "regression-guard")
#: The name of an erratum in a verdict.
_ERRATUM: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_LISTS: Final = {"ambiguity": "`vmfuzz ambiguities`", "deviation": "docs/agreement.md"}
#: Entries of processors that no profile describes keep their capabilities here, one file each, named by content.
CAPABILITIES: Final = "capabilities"
_WIDTH: Final = 190


@dataclass(frozen=True)
class Result:
    """What the model says and what happened, and the processors that agree in all of it."""

    predicted: tuple[str, ...]
    violated: tuple[str, ...]
    actual: str
    message: str | None
    comparison: str
    processors: tuple[Processor, ...]

    def is_that_of(self, observation: Observation) -> bool:
        """Whether an observation shows the same."""
        here = (self.predicted, self.violated, self.actual, self.message, self.comparison)
        return here == (observation.predicted, observation.violated, observation.actual, observation.message, observation.comparison)


@dataclass(frozen=True)
class Near:
    """A neighbour of the case that does not show what the entry shows: the edge."""

    operand: str
    value: int
    actual: str


@dataclass(frozen=True)
class Entry:
    """One entry. `kind` and `checks` are the finding's signature (kind "agrees" where nothing disagrees).

    `behind`: what has to run before the case in the same machine, where the entry is a sequence; its results are those of the case then.
    `warnings`: what the kernel's log warned of after it.
    """

    case: Case
    kind: str
    checks: tuple[str, ...]
    verdict: str
    reason: str
    results: tuple[Result, ...]
    neighbours: tuple[Near, ...] = ()
    minimized: bool = True
    behind: Behind | None = None
    warnings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Made of the case, and of what runs before it if it is a sequence: entries with the same content are the same entry."""
        return self.case.id if self.behind is None else self.behind.id_with(self.case)

    @property
    def seen(self) -> int:
        """How often it was seen, on all processors."""
        return sum(processor.seen for result in self.results for processor in result.processors)

    @property
    def main_result(self) -> Result:
        """The result that the entry is there for: the first in which something disagrees, else the first."""
        return next((result for result in self.results if result.comparison not in ("agrees", "not modelled")), self.results[0])

    def with_observation(self, observation: Observation, processor: Processor) -> Entry:
        """The entry with what a processor showed in place of what it had shown before."""
        others = [
            replace(result, processors=tuple(each for each in result.processors if each.executor != processor.executor))
            for result in self.results
        ]
        shown = observation
        for index, result in enumerate(others):
            if result.is_that_of(observation):
                merged = tuple(sorted((*result.processors, processor), key=lambda each: each.executor))
                others[index] = replace(result, processors=merged)
                break
        else:
            others.append(Result(shown.predicted, shown.violated, shown.actual, shown.message, shown.comparison, (processor,)))
        return replace(self, results=tuple(result for result in others if result.processors))


def require_verdict(verdict: str) -> str:
    """The verdict if it is one; raises UsageError that says what verdicts there are."""
    kind, colon, id = verdict.partition(":")
    if kind == "erratum" and _ERRATUM.fullmatch(id):
        return verdict  # one of processor_errata.py, or of a person's own file
    known = {"ambiguity": sorted(AMBIGUITIES), "deviation": [deviation.id for deviation in DEVIATIONS]}
    if verdict in PLAIN_VERDICTS or (colon and id in known.get(kind, ())):
        return verdict
    if colon and kind in known:
        near = difflib.get_close_matches(id, known[kind], n=3, cutoff=0.3)
        some = f"the closest are {', '.join(near)}" if near else f"they are called {', '.join(known[kind][:3])}, ..."
        raise UsageError(f"verdict {verdict!r}: there is no {kind} {id!r}; {some} (all {len(known[kind])}: {_LISTS[kind]})")
    raise UsageError(f"verdict {verdict!r}: expected {', '.join(PLAIN_VERDICTS)}, ambiguity:ID, deviation:ID or erratum:NAME")


# JSON


def to_json(entry: Entry) -> dict[str, Any]:
    """The entry as a JSON object, in the order in which it is written."""
    fields = {key: f"{value:#x}" for key, value in sorted(entry.case.mutation.items()) if not is_memory(key)}
    memory = {key: f"{value:#x}" for key, value in sorted(entry.case.mutation.items()) if is_memory(key)}
    return {
        "schema": SCHEMA,
        "id": entry.id,
        "kind": entry.kind,
        "checks": list(entry.checks),
        "verdict": entry.verdict,
        "reason": entry.reason,
        "minimized": entry.minimized,
        "base": entry.case.base,
        "mutation": fields,
        "memory": memory,
        "results": [
            {
                "predicted": list(result.predicted),
                "violated": list(result.violated),
                "actual": result.actual,
                "message": result.message,
                "comparison": result.comparison,
                "processors": [vars(processor) for processor in result.processors],
            }
            for result in sorted(entry.results, key=lambda result: result.processors[0].executor)
        ],
        "neighbours": [{"operand": near.operand, "value": f"{near.value:#x}", "actual": near.actual} for near in entry.neighbours],
        **({} if entry.behind is None else entry.behind.to_json()),
        **({"warnings": list(entry.warnings)} if entry.warnings else {}),
    }


def dumps(entry: Entry) -> str:
    """The entry as text: what fits on a line is on one line."""
    return _layout(to_json(entry), 0) + "\n"


def _layout(value: object, indent: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (indent and len(flat) + indent <= _WIDTH):
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        inner = [f"{pad}{json.dumps(key)}: {_layout(item, indent + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + _layout(item, indent + 2) for item in value) + "\n" + " " * indent + "]"


def from_json(data: object) -> Entry:
    """The entry that `to_json` wrote; raises UsageError that names what is wrong."""
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise UsageError(f'not a corpus entry: expected a JSON object with "schema": "{SCHEMA}"')
    mutation: dict[str, int] = {}
    for part in ("mutation", "memory"):
        for key, value in _numbers(_mapping(data, part)).items():
            mutation[key] = value
            if is_memory(key) != (part == "memory"):
                raise UsageError(f'"{part}" has {key!r}: fields belong to "mutation", memory to "memory"')
    base = _text(data, "base")
    if base.count("/") != 2:
        raise UsageError(f'"base" = {base!r}: expected MODE/FEATURES/EVENT, such as "64-bit/plain/nothing"')
    entry = Entry(
        case=Case(base, mutation),
        kind=_text(data, "kind"),
        checks=_texts(data, "checks"),
        verdict=require_verdict(_text(data, "verdict")),
        reason=_text(data, "reason"),
        results=tuple(_result(item) for item in _list(data, "results")),
        neighbours=tuple(
            Near(_text(item, "operand"), parse_number("value", item.get("value")), _text(item, "actual"))
            for item in map(_object, _list(data, "neighbours"))
        ),
        minimized=bool(data.get("minimized", True)),
        behind=_behind(data),
        warnings=_texts(data, "warnings"),
    )
    if not entry.results:
        raise UsageError('"results" is empty: an entry needs a result')
    if data.get("id") != entry.id:
        raise UsageError(
            f'"id" = {data.get("id")!r}: the content\'s id is {entry.id}; base, mutation, memory or what runs before was changed: change the id too'
        )
    return entry


def _numbers(values: Mapping[str, Any]) -> dict[str, int]:
    numbers = {key: parse_number(key, value) for key, value in values.items()}
    for key, value in numbers.items():
        require_key(key, value)
    return numbers


def _behind(data: Mapping[str, Any]) -> Behind | None:
    """What runs before the case of an entry that is a sequence."""
    if "before" not in data and "otherwise" not in data:
        return None
    otherwise = _object(data.get("otherwise"))
    rows = [tuple(_numbers(_object(row)) for row in _list(part, "before")) for part in (data, otherwise)]
    return Behind(rows[0], rows[1], _text(otherwise, "actual"))


def _result(item: object) -> Result:
    data = _object(item)
    message = data.get("message")
    if message is not None and not isinstance(message, str):
        raise UsageError(f'"message" = {message!r}: expected a text or null')
    processors = tuple(
        Processor(_text(each, "name"), _text(each, "capabilities"), _text(each, "executor"), _text(each, "version"), _count(each))
        for each in map(_object, _list(data, "processors"))
    )
    if not processors:
        raise UsageError('"processors" of a result is empty: a result needs a processor that showed it')
    return Result(
        _texts(data, "predicted"), _texts(data, "violated"), _text(data, "actual"), message, _text(data, "comparison"), processors
    )


def _object(item: object) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise UsageError(f"expected a JSON object, got {json.dumps(item)[:60]}")
    return item


def _count(data: Mapping[str, Any]) -> int:
    seen = data.get("seen", 1)
    if not isinstance(seen, int) or seen < 0:
        raise UsageError(f'"seen" = {seen!r}: expected a whole number')
    return seen


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise UsageError(f'"{key}" = {value!r}: expected a text')
    return value


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise UsageError(f'"{key}": expected a JSON array')
    return value


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _list(data, key)
    if not all(isinstance(value, str) for value in values):
        raise UsageError(f'"{key}": expected an array of texts')
    return tuple(values)


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f'"{key}": expected a JSON object')
    return value


# Files


def folder_of(entry: Entry) -> str:
    """The directory of an entry in a corpus: its verdict's id, else its first check, else its kind."""
    kind, colon, id = entry.verdict.partition(":")
    if colon:
        return f"{kind}.{id}"
    return entry.checks[0] if entry.checks else entry.kind.replace(" ", "-")


def save(directory: Path, entry: Entry, path: Path | None = None) -> Path:
    """Write an entry (at `path`, or where it belongs in `directory`); raises EnvironmentUnusable when it cannot be written."""
    path = path or directory / folder_of(entry) / f"{entry.id}.json"
    write_text(path, dumps(entry))
    return path


def load(path: Path) -> Entry:
    """Read an entry; raises UsageError that names the file and what is wrong with it."""
    data = read_json(path, _EXPECTED)
    try:
        return from_json(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def entry_files(place: Path) -> list[Path]:
    """The files of a corpus (a directory, or one file), sorted; raises UsageError where there are none."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise UsageError(f"{place}: no such file or directory; expected a corpus entry or a directory of them")
    files = sorted(path for path in _files_below(place) if path.suffix == ".json" and path.parent.name != CAPABILITIES)
    if not files:
        raise UsageError(f"{place}: no corpus entries (*.json) in it")
    return files


def _files_below(place: Path) -> Iterator[Path]:
    """All files that are not hidden; raises UsageError where a directory cannot be read, whose entries would go missing unnoticed."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}")

    for directory, _, names in os.walk(place, onerror=refuse):
        yield from (Path(directory, name) for name in names if not name.startswith("."))


def find(place: Path, id: str) -> tuple[Path, Entry]:
    """The entry whose id begins with `id`; raises UsageError where there is none or more than one."""
    found = [path for path in entry_files(place) if path.stem.startswith(id)] if id else []
    if len(found) == 1:
        return found[0], load(found[0])
    if not found:
        raise UsageError(f"no entry {id!r} in {place}; `vmfuzz findings {place}` lists them")
    raise UsageError(f"{id!r} is the beginning of {len(found)} entries in {place}: {', '.join(path.stem for path in found[:5])}")


def load_readable(files: Iterable[Path]) -> tuple[list[tuple[Path, Entry]], dict[Path, str]]:
    """All entries, and what is wrong with each file that is none."""
    entries: list[tuple[Path, Entry]] = []
    unreadable: dict[Path, str] = {}
    for path in files:
        try:
            entries.append((path, load(path)))
        except UsageError as error:
            unreadable[path] = str(error)
    return entries, unreadable


def load_all(files: Iterable[Path]) -> list[tuple[Path, Entry]]:
    """All entries; raises UsageError at the first file that is none."""
    return [(path, load(path)) for path in files]
