"""What each rule of the reader of `vmfuzz check` is good for: one rule at a time is switched off, and every text is read again.

    python benchmarks/ablate.py [--damages 20] [--only NAME...] [--state ablate.json]

A rule is a pattern, a row of a table of patterns, or a function that decides (it then always says no), rewrites (it then leaves what it was given)
or takes back (it then does nothing) in a module of the reading side. For each rule stands which texts are read in another way without it:

    real       the real dumps beside the repository
    program    the samples and bodies: outputs of named programs
    decorated  these within what loggers, editors and mail put around lines (tests/explain/test_decoration.py)
    written    the other texts of tests/texts, most of which were written for a rule
    damaged    with --damages: how many damaged samples more have a confidently wrong field or an exception (tests/quality/damaged_dumps.py)

The rule of the house: a rule stays if a real text, the output of a named program, a decoration or the damages need it. So the kinds are read in this
order up to the first text that needs the rule; where none does, the state file lists the written texts that change. Only texts in which a rule acts
are read again: those in which a pattern matches, or a function gives something else than it would give switched off. The state file keeps what is done;
a run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pkgutil
import re
import sys
import types
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / "tests" / part) for part in ("explain", "quality", ""))]

import corpus_of_texts  # noqa: E402
import damaged_dumps  # noqa: E402

import vmfuzz.explain  # noqa: E402
from vmfuzz.explain.dump import Dump  # noqa: E402
from vmfuzz.explain.evidence import Found  # noqa: E402
from vmfuzz.explain.formats.notes import Notes  # noqa: E402
from vmfuzz.patterns import Deferred, deferred  # noqa: E402

#: Modules of the answering side, and of what a text is not read with.
_ANSWERING: Final = frozenset({"answer", "causes", "judgement", "repair"})
#: What a pattern is: compiled, or to be compiled when it is used.
PATTERNS: Final = (re.Pattern, Deferred)
_PROGRAMS: Final = ("samples", "bodies")
#: Samples that are decorated in every way: a dump in a form of its own, and one of names and values.
_DECORATED: Final = ("kvm", "printk")
KINDS: Final = ("real", "program", "decorated", "written")
_SEED: Final = 7
_ONE_MATCH: Final = ("match", "fullmatch", "search")
_OF_TEXT: Final = ("findall", "finditer", "split")
_IN_TEXT: Final = ("sub", "subn")

Undo = list[tuple[Any, str, Any]]
Rule = tuple[str, Callable[[], Undo]]


class Watch:
    """Notes the rules that act while a text is read."""

    def __init__(self) -> None:
        self.acting: set[str] = set()
        self._undo: Undo = []
        for name, switch_off in list(rules()):
            undo = switch_off()
            off = [(owner, key, getattr(owner, key)) for owner, key, _ in undo]
            for owner, key, value in undo:
                setattr(owner, key, value)
            for (owner, key, old), (_, _, new) in zip(undo, off, strict=True):
                self._watch(name, owner, key, old, new)

    def _watch(self, rule: str, owner: Any, key: str, old: Any, new: Any) -> None:
        if isinstance(old, tuple):
            for before, after in zip(old, new, strict=True):
                if before is not after:
                    for part in before if isinstance(before, tuple) else (before,):
                        self._watch_pattern(rule, part)
        elif isinstance(old, PATTERNS):
            self._watch_pattern(rule, old)
        else:
            self._undo.append((owner, key, old))
            setattr(owner, key, self._noting_call(rule, getattr(owner, key), new, inspect.unwrap(old).__annotations__.get("return", "")))

    def _watch_pattern(self, rule: str, pattern: Any) -> None:
        if isinstance(pattern, Deferred):
            for method in (*_ONE_MATCH, *_OF_TEXT, *_IN_TEXT):
                self._undo.append((pattern, method, getattr(pattern, method)))
                setattr(pattern, method, self._noting_match(rule, pattern.search, getattr(pattern, method), method))
        elif isinstance(pattern, PATTERNS):
            self.acting.add(rule)

    def _noting_match(self, rule: str, search: Callable[..., Any], method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def noting(*given: Any) -> Any:
            found = method(*given)
            if found is not None and (name in _ONE_MATCH or search(given[name in _IN_TEXT])):
                self.acting.add(rule)
            return found

        return noting

    def _noting_call(self, rule: str, function: Callable[..., Any], off: Callable[..., Any], returns: str) -> Callable[..., Any]:
        def noting(*given: Any, **named: Any) -> Any:
            before = list(given[0]) if given and isinstance(given[0], list) else None
            found = function(*given, **named)
            changes = returns == "None" or any(isinstance(one, (Found, Notes)) for one in given)
            if changes or before != (list(given[0]) if before is not None else None) or found != off(*given, **named):
                self.acting.add(rule)
            return found

        if hasattr(function, "cache_clear"):
            vars(noting)["cache_clear"] = function.cache_clear  # type: ignore[attr-defined]
        return noting

    def read(self, text: str) -> frozenset[str]:
        """The rules that act in a text."""
        always, self.acting = self.acting, set(self.acting)
        forget()
        read(text)  # (what fails here is this watch, not a reader)
        found, self.acting = frozenset(self.acting), always
        return found

    def end(self) -> None:
        """Watch no longer."""
        for owner, key, value in reversed(self._undo):
            setattr(owner, key, value)


def _modules() -> dict[str, types.ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(vmfuzz.explain.__path__, "vmfuzz.explain.") if not found.ispkg]
    return {name.removeprefix("vmfuzz.explain."): importlib.import_module(name) for name in names}


MODULES: Final = _modules()


def reading_modules() -> list[str]:
    """The modules whose rules are looked at."""
    return sorted(name for name in MODULES if not _ANSWERING.intersection(name.split(".")))


def forget() -> None:
    """Empty all caches."""
    for module in MODULES.values():
        for value in vars(module).values():
            if inspect.getattr_static(value, "cache_clear", None) is not None:  # (operands refuse names that they do not know)
                value.cache_clear()


def _replaced(old: object, new: object) -> Undo:
    """Put another object in the place of one, under every name that a module has for it."""
    undo: Undo = []
    for module in MODULES.values():
        for name, value in list(vars(module).items()):
            if value is old:
                undo.append((module, name, old))
                setattr(module, name, new)
    return undo


def rules() -> Iterator[Rule]:
    """All rules, by module."""
    for name in reading_modules():
        module = MODULES[name]
        for key, value in list(vars(module).items()):
            if isinstance(value, PATTERNS):
                yield f"{name}.{key}", lambda value=value: _replaced(value, _never(value))
            elif isinstance(value, tuple) and value and _has_patterns(value[0]):
                for index in range(len(value)):
                    less = (*value[:index], _without(value[index]), *value[index + 1 :])
                    yield f"{name}.{key}[{index}] {_shown(value[index])}", lambda value=value, less=less: _replaced(value, less)
            elif _is_own_function(value, module):
                other = _switched_off(inspect.unwrap(value))
                if other is not None:
                    yield f"{name}.{key}()", lambda value=value, other=other: _replaced(value, other)
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                yield from _methods(name, value, module)


def _is_own_function(value: object, module: types.ModuleType) -> bool:
    own = inspect.unwrap(value) if callable(value) else None
    return inspect.isfunction(own) and own.__code__.co_filename == module.__file__


def _methods(name: str, owner: type, module: types.ModuleType) -> Iterator[Rule]:
    for key, value in list(vars(owner).items()):
        if _is_own_function(value, module) and not key.startswith("__"):  # (tuples with names and enumerations have methods of Python's)
            other = _switched_off(value)
            if other is not None:
                yield f"{name}.{owner.__name__}.{key}()", lambda key=key, value=value, other=other: _set_method(owner, key, value, other)


def _set_method(owner: type, key: str, old: object, new: object) -> Undo:
    setattr(owner, key, new)
    return [(owner, key, old)]


def _switched_off(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function that decides nothing, or leaves what it is given; None where that would be no reader any more."""
    returns = str(function.__annotations__.get("return", ""))
    parameters = [name for name in inspect.signature(function).parameters if name != "self"]
    takes = str(function.__annotations__.get(parameters[0], "")) if parameters else ""
    if returns == "bool":
        return lambda *_, **__: False
    if returns == "None":
        return lambda *_, **__: None
    if returns.endswith("| None"):
        return lambda *_, **__: None
    if returns == takes or (returns.startswith("list[") and takes.endswith(returns.removeprefix("list"))):
        at = 1 if "self" in inspect.signature(function).parameters else 0
        return lambda *given, **_: list(given[at]) if returns.startswith("list[") else given[at]
    empty = {"str": "", "frozenset": frozenset(), "set": set(), "tuple[str, ...]": (), "list": []}
    for beginning, value in empty.items():
        if returns.startswith(beginning):
            return lambda *_, value=value, **__: value
    return None


def _has_patterns(row: object) -> bool:
    return isinstance(row, PATTERNS) or (isinstance(row, tuple) and any(isinstance(part, PATTERNS) for part in row))


def _without(row: Any) -> Any:
    return _never(row) if isinstance(row, PATTERNS) else tuple(_never(part) if isinstance(part, PATTERNS) else part for part in row)


def _never(pattern: re.Pattern[str]) -> re.Pattern[str]:
    """A pattern with the same groups that matches nothing."""
    return deferred(f"(?!)(?:{pattern.pattern})", pattern.flags)


def _shown(row: Any) -> str:
    pattern = row if isinstance(row, PATTERNS) else next(part for part in row if isinstance(part, PATTERNS))
    return str(pattern.pattern[:50])


def read(text: str) -> list[Dump]:
    """The dumps of a text."""
    dumps: list[Dump] = MODULES["reading"].read_text(text)
    return dumps


def result(text: str) -> object:
    """What is read of a text, as far as the answer rests on it."""
    try:
        return [
            (
                sorted(
                    (name, reading.value & reading.known, reading.known, bool(reading.assumed)) for name, reading in dump.readings.items()
                ),
                sorted(dump.msrs.items()),
                [(one.field, one.encoding) for one in dump.program.definitions],
                dump.reported and (dump.reported.exit_reason, dump.reported.error, dump.reported.qualification, type(dump.reported)),
                dump.format,
                bool(dump.foreign),
                dump.hm_error,
                dump.refused_msr,
                len(dump.named),
                dump.program.zeroed,
                sorted((name, reading.value) for name, reading in dump.beside.items()),
                sorted({warned.line for warned in dump.warned}),
                sorted(dump.program.written),
                dump.processor,
                dump.nested,
            )
            for dump in read(text)
        ]
    except Exception as error:  # a reader without one of its rules may fail in any way
        return repr(type(error))


def texts() -> dict[str, dict[str, str]]:
    """The texts of each kind by name."""
    from test_decoration import DECORATIONS

    found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for path in corpus_of_texts.files():
        folder, name = path.parent.name, path.relative_to(corpus_of_texts.TEXTS).with_suffix("").as_posix()
        kind = "real" if folder == "real" else "program" if folder in _PROGRAMS else "written"
        for text in corpus_of_texts.bodies([path]):
            found[kind][name] = text
            if folder == "samples" and path.stem in _DECORATED:
                found["decorated"].update({f"{name}, {how}": decorate(text) for how, decorate in DECORATIONS.items()})
    return found


def damages(count: int) -> Callable[[], int]:
    """How many of the same damaged texts have a confidently wrong field or give an exception."""
    samples = [damaged_dumps.Sample(path, _SEED, {}) for path in damaged_dumps.samples()]
    cases = [(sample, *sample.case(number)) for sample in samples for number in range(count)]
    bad = (damaged_dumps.ERROR, "exception")
    return lambda: sum(any(reason in bad for reason, _ in sample.read(text, kind, judged=False)) for sample, kind, text in cases)


class Measured:
    """What each text gives with all rules, and which rules act in it."""

    def __init__(self) -> None:
        self.corpus = texts()
        watch = Watch()
        self.acting = {kind: {name: watch.read(text) for name, text in found.items()} for kind, found in self.corpus.items()}
        watch.end()
        forget()
        self.before = {kind: {name: result(text) for name, text in found.items()} for kind, found in self.corpus.items()}

    def changed(self, rule: str) -> dict[str, list[str]]:
        """Texts that are read in another way now: the first of the kinds that are evidence; where they have none, all written ones."""
        for kind, corpus in self.corpus.items():
            before, acting = self.before[kind], self.acting[kind]
            differing = (
                name
                for name, text in sorted(corpus.items(), key=lambda one: len(one[1]))
                if rule in acting[name] and result(text) != before[name]
            )
            found = list(islice(differing, 1)) if kind != KINDS[-1] else list(differing)
            if found:
                return {kind: found}
        return {}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damages", type=int, default=0, metavar="N", help="read N damages of each sample too")
    parser.add_argument("--only", nargs="*", default=[], help="rules whose name begins so")
    parser.add_argument("--state", type=Path, default=Path("ablate.json"))
    arguments = parser.parse_args()
    done: dict[str, dict[str, list[str]]] = json.loads(arguments.state.read_text(encoding="utf-8")) if arguments.state.exists() else {}
    count_wrong = damages(arguments.damages) if arguments.damages else None
    wrong_before = -1
    measured = Measured()
    for name, switch_off in rules():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        if name not in done:
            if count_wrong and wrong_before < 0:
                wrong_before = count_wrong()
            undo = switch_off()
            forget()
            try:
                done[name] = measured.changed(name)
                if count_wrong and not any(done[name].get(kind) for kind in KINDS[:-1]):
                    done[name]["damaged"] = [str(count_wrong() - wrong_before)]
            finally:
                for owner, key, value in undo:
                    setattr(owner, key, value)
                forget()
            arguments.state.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        needed = "; ".join(f"{kind}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}" for kind, names in done[name].items())
        print(f"{name[:69]:70}{needed or 'nothing'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
