"""Known deviations of a processor from a person's own file, `--errata FILE`: lists of cases as corpus entries have them (docs/errata.md).

A case says where it holds: wherever the bits that it changes in its base are as it has them. There the checks that it violates may be left out,
and its outcome may be the one that it had. So a minimized case covers what has the same cause, and no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vmfuzz.arch.live import LIVE
from vmfuzz.arch.outcomes import ANY_EXIT, Kind, Outcome
from vmfuzz.comparison.case import Case, applies, base_value, batch_of, is_memory, require_key
from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.files import read_json
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.families import Generator
from vmfuzz.model.check import Check, Fails
from vmfuzz.model.deviations import Deviation
from vmfuzz.model.expr import TRUE, Cond, all_of, any_of
from vmfuzz.model.first_exit import exits_mask
from vmfuzz.model.known_deviations import deviations_of, errata_of
from vmfuzz.model.operands import live, memory, vmcs
from vmfuzz.model.outcome_codes import PREDICTED_EXITS
from vmfuzz.model.predict import Model
from vmfuzz.model.sections import Citation
from vmfuzz.state.vmcs import Vmcs, parse_number

SCHEMA: Final = "vmfuzz-errata-1"
_ENTERED: Final = Outcome(Kind.EXIT, ANY_EXIT).short()
_EXITS: Final = {Outcome(Kind.EXIT, reason).short(): reason for reason in PREDICTED_EXITS}
_FAILS: Final = {fails.outcomes[0].short(): fails for fails in reversed(Fails) if len(fails.outcomes) == 1}
#: (operand, mask, value) of which the bits in the mask count.
Bits = tuple[str, int, int]


@dataclass(frozen=True)
class KnownCase:
    """A case, and the outcome that it is known to have, as entries name it."""

    case: Case
    actual: str


@dataclass(frozen=True)
class Erratum:
    """One known deviation of the executors whose name begins with `executor`."""

    id: str
    executor: str
    text: str
    cases: tuple[KnownCase, ...]


def load_errata(path: Path | None) -> tuple[Erratum, ...]:
    """Read a file of errata, None: there are none; raises UsageError that says where what is wrong."""
    if path is None:
        return ()
    data = read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("errata"), list):
        raise UsageError(f'{path}: expected a JSON object with "schema": "{SCHEMA}" and "errata": [...]')
    try:
        errata = errata_from(data["errata"])
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    ids = [erratum.id for erratum in errata]
    if twice := [id for id in ids if ids.count(id) > 1]:
        raise UsageError(f"{path}: erratum {twice[0]!r} occurs twice; put its cases into one")
    return errata


def _erratum(data: Any) -> Erratum:
    texts = [data.get(key, "") if isinstance(data, dict) else None for key in ("id", "executor", "text")]
    if not all(isinstance(text, str) for text in texts) or not texts[0] or not isinstance(data.get("cases"), list) or not data["cases"]:
        raise UsageError(
            f'an erratum needs "id", "executor" (how the name in reports begins), "text" and "cases": {json.dumps(data)[:120]}'
        )
    id, executor, text = map(str, texts)
    try:
        return Erratum(id, executor, text, tuple(map(_case, data["cases"])))
    except UsageError as error:
        raise UsageError(f"erratum {id}: {error}") from None


def _case(data: Any) -> KnownCase:
    """A case with its "actual", or a whole entry of a corpus, whose first result has it."""
    if not isinstance(data, dict) or not isinstance(data.get("base"), str):
        raise UsageError(f'a case needs "base", "mutation", and "actual": {json.dumps(data)[:120]}')
    results = data.get("results")
    actual = data.get(
        "actual", results[0].get("actual") if isinstance(results, list) and results and isinstance(results[0], dict) else None
    )
    if actual not in (_ENTERED, *_EXITS, *_FAILS):
        raise UsageError(
            f'"actual": {json.dumps(actual)}; expected an outcome as entries name it, such as {_ENTERED!r} or "VMfailValid(7)"'
        )
    mutation = {}
    for part in ("mutation", "memory"):
        for key, value in (data.get(part) or {}).items():
            mutation[key] = parse_number(key, value)
            require_key(key, mutation[key])
            if key.startswith("0x"):
                raise UsageError(f"memory {key}: a known case names what it changes in memory (memory_vtpr, ...), not an address")
    if not mutation:
        raise UsageError("a case changes nothing: then it would explain every candidate")
    return KnownCase(Case(data["base"], mutation), actual)


def errata_data(errata: Sequence[Erratum]) -> list[dict[str, Any]]:
    """The errata as `errata_from` reads them."""
    return [
        {
            "id": erratum.id,
            "executor": erratum.executor,
            "text": erratum.text,
            "cases": [
                {
                    "base": known.case.base,
                    "mutation": {key: f"{value:#x}" for key, value in known.case.mutation.items()},
                    "actual": known.actual,
                }
                for known in erratum.cases
            ],
        }
        for erratum in errata
    ]


def errata_from(data: Sequence[Any]) -> tuple[Erratum, ...]:
    """The errata of a list in a file; raises UsageError."""
    return tuple(map(_erratum, data))


def all_deviations_of(executor: str, errata: Sequence[Erratum], model: Model, generator: Generator) -> tuple[Deviation, ...]:
    """All deviations that are known of the executor of that name: the package's, its processor's errata, and those that `errata` tell."""
    return (*deviations_of(executor), *errata_of(executor, model.capabilities), *_told(executor, errata, model, generator))


def _told(executor: str, errata: Sequence[Erratum], model: Model, generator: Generator) -> tuple[Deviation, ...]:
    """The deviations of the executor that `errata` tell, as far as this processor can have their cases."""
    own = [_deviation(erratum, model, generator) for erratum in errata if executor.startswith(erratum.executor)]
    return tuple(each for each in own if each is not None)


def _deviation(erratum: Erratum, model: Model, generator: Generator) -> Deviation | None:
    skips: dict[str, list[Cond]] = {}
    adds: list[Check] = []
    exits: list[tuple[Cond, int]] = []
    for number, (known, base, changed) in enumerate(_placed(erratum, generator.bases)):
        here = all_of(*(_operand(key) & mask == value & mask for key, mask, value in changed))
        prediction = model.predict_batch(batch_of(base, [known.case.mutation]))
        for compiled in prediction.violations_of(0):
            skips.setdefault(compiled.check.id, []).append(here)
        if known.actual in _FAILS:
            id = f"errata.{erratum.id.lower()}.{number}"
            adds.append(Check(id, Citation("Basic VM-Entry Checks"), erratum.text, ~here, TRUE, TRUE, _FAILS[known.actual]))
        elif known.actual in _EXITS:
            exits.append((here, exits_mask(_EXITS[known.actual])))
    if not skips and not adds and not exits:
        return None
    together = {id: any_of(*conditions) for id, conditions in skips.items()}
    return Deviation(erratum.id, erratum.executor, erratum.id, erratum.text, "", together, tuple(adds), tuple(exits))


def _placed(erratum: Erratum, bases: Bases) -> Iterator[tuple[KnownCase, Vmcs, tuple[Bits, ...]]]:
    """The cases that the processor whose bases these are can have, each with its base and the bits that it changes there. Raises UsageError."""
    for known in erratum.cases:
        name, mutation = known.case.base, known.case.mutation
        try:
            base = bases.get(name)
        except (UnknownNameError, KeyError, TypeError):
            raise UsageError(
                f"erratum {erratum.id}: there is no base {name!r}; expected MODE/FEATURES/EVENT, as in a corpus entry"
            ) from None
        if base is None or not applies(base, mutation):
            continue
        changed = tuple((key, value ^ base_value(base, key), value) for key, value in mutation.items() if value != base_value(base, key))
        if not changed:
            raise UsageError(
                f"erratum {erratum.id}: a case changes nothing, since {name!r} has these values anyway; then it would explain every candidate"
            )
        yield known, base, changed


def places_of(erratum: Erratum, bases: Bases) -> list[tuple[tuple[Bits, ...], str]]:
    """Where the erratum holds on the processor whose bases these are: for each case that it can have, the bits, all of which must be as the
    case has them, and the outcome there, as entries name it. Raises UsageError for a base that does not exist, or a case that changes nothing.
    """
    return [(changed, known.actual) for known, _, changed in _placed(erratum, bases)]


def _operand(key: str) -> Any:
    return (
        getattr(live, key.removeprefix("live_"))
        if key in LIVE
        else (getattr(memory, key.removeprefix("memory_")) if is_memory(key) else getattr(vmcs, key))
    )
