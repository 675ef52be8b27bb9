"""A case as a bootable image: vmfuzz's own image (image/) with the case in the place that image/case.h reserves for it.

The image runs it on the machine's own known-good VMCS. So what goes into it is the case's guest state, and how its controls and its host state differ
from the known-good VMCS of the processor that the entry is from: host state, addresses and the VMCS revision are the machine's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import BY_ENCODING, Area
from vmfuzz.arch.outcomes import ANY_ENTRY, ANY_EXIT, EXIT_REASONS, INSTRUCTION_ERRORS, Kind, Outcome
from vmfuzz.arch.registers import BITWISE
from vmfuzz.comparison.case import Mutation, base_value, batch_of, key_in_words
from vmfuzz.comparison.processor import fingerprint
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.disc import bootable_disc
from vmfuzz.corpus.entries import Entry
from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.execute.kmod.containment import RULES
from vmfuzz.execute.wire.abi import constants, enumerators, native_file, struct_dtype
from vmfuzz.execute.wire.family import Arena, Family
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.outcome_codes import outcomes_of
from vmfuzz.state.vmcs import Vmcs

#: Endings of the file -> whether it is a CD.
_IS_DISC: Final[Mapping[str, bool]] = MappingProxyType({".iso": True, ".bin": False})
EXPECTED: Final = "a name that ends in .iso (a CD) or .bin (multiboot: qemu-system-x86_64 -kernel)"
#: Columns of the text screen, and rows of the text before the outcome that still leave that in sight.
_COLUMNS: Final = 79
_CHANGES_SHOWN: Final = 8
_CHECKS_SHOWN: Final = 3
_ARENA: Final = 1 << 63
_FIELD: Final = 0xFFFF
_WORD_OF_FIELD: Final = {word.field: key for key, word in CONTROL_WORDS.items()}


def require_image_name(path: Path) -> None:
    """Raise UsageError for a file whose ending does not say what it is to be."""
    if path.suffix not in _IS_DISC:
        raise UsageError(f"--image {path}: expected {EXPECTED}")


def is_disc(path: Path) -> bool:
    """Whether the image at `path` is to be a CD."""
    return _IS_DISC[path.suffix]


def export_image(entry: Entry, trial: Trial, path: Path, uncontained: bool = False, efi: bytes = b"") -> bytes:
    """The content of the image at `path` that runs the entry, for the processor of `trial`; `uncontained`: even where containment would refuse it.

    `efi`: with this (efi.py) a CD is for UEFI firmware, too. Raises UsageError where the processor lacks the case or the case is too long, and
    EnvironmentUnusable where the image was not built.
    """
    require_image_name(path)
    flat = with_case(_image_file("vmfuzz.bin").read_bytes(), packed_case(entry, trial, uncontained), entry.id)
    return bootable_disc(_image_file("bios.bin").read_bytes(), flat, efi) if is_disc(path) else flat


def with_case(image: bytes, case: bytes, id: str) -> bytes:
    """The flat image with a case in its reserved place. Raises UsageError where there is too little room for it."""
    reserved = _case()["CASE_BYTES"]
    if any(image[-reserved:]):
        raise EnvironmentUnusable("the bootable image has no room for a case: it is of another version of vmfuzz; install vmfuzz again")
    if len(case) > reserved:
        raise UsageError(
            f"{id}: the case takes {len(case)} bytes and the image has room for {reserved}; --c and --kvm-selftest have no limit"
        )
    return image[:-reserved] + case.ljust(reserved, b"\0")


def _image_file(name: str) -> Path:
    native_file("declared.json")  # says why nothing native is there, where that is so
    try:
        return native_file(f"image/{name}")
    except EnvironmentUnusable:
        raise EnvironmentUnusable(
            "the bootable image was not built when vmfuzz was installed: it needs `make`; install the package make, and then vmfuzz again"
        ) from None


@cache
def _case() -> dict[str, int]:
    return enumerators("case_constants", "case_from")


def packed_case(entry: Entry, trial: Trial, uncontained: bool = False) -> bytes:
    """`struct vmfuzz_case` of image/case.h and what its offsets name. Raises UsageError where the processor of `trial` lacks the case."""
    base = trial.base(entry.case.base)
    if base is None or not trial.applies(entry.case):
        raise UsageError(f"{entry.id}: {trial.model.capabilities.name} lacks the base {entry.case.base} or an operand")
    rows = [*(entry.behind.before if entry.behind is not None else ()), entry.case.mutation]
    packer = _Packer(entry, trial, base, rows)
    return packer.packed(uncontained)


class _Packer:
    """Puts a case's parts one after the other; `places` are the members of the structure so far."""

    def __init__(self, entry: Entry, trial: Trial, base: Vmcs, rows: Sequence[Mutation]) -> None:
        self._entry, self._trial, self._base, self._rows = entry, trial, base, rows
        # the image leaves the local APIC of its processor as it is
        self._known = trial.executor.known_good().without("live_x2apic_mode")
        self._capabilities = trial.model.capabilities
        self._arena = Arena(self._known["live_empty_paging"], constants()["ARENA_PAGES"] * constants()["PAGE"])
        self._family = Family.of(batch_of(base, rows), self._arena, self._known)
        self._link = (base.get("vmcs_link_pointer") or 0) - self._arena.base
        self._members: dict[str, int] = {}
        self._parts: list[bytes] = []
        self._length = struct_dtype("case").itemsize

    def packed(self, uncontained: bool) -> bytes:
        self._members["uncontained"] = uncontained
        family = self._family
        prediction = self._trial.predict(self._base, self._rows).prediction
        allowed = sorted(outcomes_of(int(prediction.allowed[-1])))
        violated = [compiled.check.id for compiled in prediction.violations_of(len(self._rows) - 1)]
        self._append("base", [value for value in self._values(family.base) if not self._is_as_captured(value)])
        rows = [
            {
                target: values if isinstance(values, int) else int(values[row])
                for target, values in zip(family.targets, family.values, strict=True)
            }
            for row in range(family.count)
        ]
        self._append("row", [value for row in rows for value in self._values(row)])
        self._members["row_count"] = family.count
        self._append("restore", sorted((family.saved() & set(family.base)) - set(family.targets)), np.dtype(np.uint64))
        self._append("outcome", [_allowed(outcome) for outcome in allowed])
        self._append("word", self._words())
        lines = [*_rule(self._entry, violated), *_state(self._entry, self._base, self._rows), *self._recorded()]
        lines += [line for outcome in allowed for line in _wrapped("expected: ", str(outcome))]
        self._members["text"] = self._text("\n".join(lines) + "\n")
        return self._head() + b"".join(self._parts)

    def _head(self) -> bytes:
        family = self._family
        head = np.zeros(1, struct_dtype("case"))
        head["magic"], head["version"] = _case()["CASE_MAGIC"], _case()["CASE_VERSION"]
        head["digest"] = int(self._entry.id, 16)
        head["field_columns"], head["arena_columns"], head["live_columns"] = family.field_columns, family.arena_columns, family.live_columns
        for name, value in self._members.items():
            head[name] = value
        return head.tobytes()

    def _append(self, name: str, items: Sequence[Any], dtype: np.dtype[Any] | None = None) -> None:
        """An array: its offset is the member `name` with an s, unless it has none, and its length `name`_count."""
        structures = {"base": "case_value", "row": "case_value", "outcome": "case_outcome", "word": "case_word"}
        data = np.array(items, dtype or struct_dtype(structures[name])).tobytes()
        self._members[name if name in ("base", "restore") else f"{name}s"] = self._place(data.ljust(-(-len(data) // 8) * 8, b"\0"))
        self._members[f"{name}_count"] = len(items)

    def _place(self, data: bytes) -> int:
        at, self._length = self._length, self._length + len(data)
        self._parts.append(data)
        return at

    def _text(self, text: str) -> int:
        return self._place(text.encode("ascii", "replace") + b"\0")

    def _values(self, pairs: Mapping[int, int]) -> Iterator[tuple[int, ...]]:
        """`struct vmfuzz_case_value` of each target and value."""
        for target, value in pairs.items():
            if target & _ARENA:
                yield self._of_word(target, value)
            elif target > _FIELD:
                yield target, 0, value, 0, 0, _case()["CASE_FROM_NOTHING"], 0
            else:
                yield self._of_field(target, value)

    def _of_word(self, target: int, value: int) -> tuple[int, ...]:
        """A word of memory; at the beginning of a VMCS it is the processor's revision."""
        shadow = 1 << 31
        if target & ~_ARENA == self._link and value & ~shadow == self._capabilities.revision:
            return target, 0, value & shadow, 0, 0, _case()["CASE_FROM_REVISION"], 0
        return target, 0, value, 0, 0, _case()["CASE_FROM_NOTHING"], 0

    def _of_field(self, encoding: int, value: int) -> tuple[int, ...]:
        """Guest state is as the case has it, since one field depends on another; controls and host state are what the machine has but for changes."""
        field, code = BY_ENCODING[encoding], _case()
        known = None if field.area is Area.GUEST else self._known.get(field.name)
        if known != value and 0 <= value - self._arena.base < self._arena.size:
            return encoding, 0, value - self._arena.base, 0, 0, code["CASE_FROM_ARENA"], 0
        if known is None or (known != value and field.name not in BITWISE):
            return encoding, 0, value, *self._needs(field.name, value, ~value), code["CASE_FROM_NOTHING"], 0
        clear, set_ = known & ~value, value & ~known
        return encoding, clear, set_, *self._needs(field.name, set_, clear), code["CASE_FROM_CAPTURED"], 0

    def _needs(self, name: str, ones: int, zeros: int) -> tuple[int, int]:
        """Which of the bits of a control word that are set and cleared are legal on the entry's processor, so that they have to be elsewhere."""
        if name not in _WORD_OF_FIELD:
            return 0, 0
        must, may = self._capabilities.allowed_settings(_WORD_OF_FIELD[name])
        return ones & may, zeros & ~must & may

    def _recorded(self) -> list[str]:
        """What the processor that the case is exported for did."""
        content = fingerprint(self._capabilities)
        shown = [(result.actual, each) for result in self._entry.results for each in result.processors if each.capabilities == content]
        return [line for actual, each in shown[:1] for line in _wrapped("recorded: ", f"{actual} on {each.executor} ({each.version})")]

    @staticmethod
    def _is_as_captured(value: tuple[int, ...]) -> bool:
        _, clear, set_, *_, source, _ = value
        return source == _case()["CASE_FROM_CAPTURED"] and not clear and not set_

    def _words(self) -> list[tuple[int, int, int]]:
        words = {
            **{(Kind.EXIT, reason): text for reason, text in EXIT_REASONS.items()},
            **{(Kind.ENTRY_FAILURE, reason): text for reason, text in EXIT_REASONS.items() if "failure" in text},
            **{(kind, error): text for kind in (Kind.VMFAIL_VALID, Kind.VMWRITE_FAILED) for error, text in INSTRUCTION_ERRORS.items()},
            **{(Kind.REFUSED, rule): text for rule, text in enumerate(RULES)},
            (Kind.VMFAIL_INVALID, 0): str(Outcome(Kind.VMFAIL_INVALID)),
            (Kind.NOT_RUN, 0): "not run",
        }
        places = {text: self._text(text) for text in dict.fromkeys(words.values())}
        self._place(b"\0" * (-self._length % 8))
        return [(int(kind), number, places[text]) for (kind, number), text in words.items()]


def _allowed(outcome: Outcome) -> tuple[int, ...]:
    """`struct vmfuzz_case_outcome`."""
    number = _case()["CASE_ANY"] if outcome.kind is Kind.EXIT and outcome.number == ANY_EXIT else outcome.number
    any_qualification = outcome.qualification is None or outcome.qualification == ANY_ENTRY
    return int(outcome.kind), number, any_qualification, 0, 0 if any_qualification else outcome.qualification or 0


def _rule(entry: Entry, violated: Sequence[str]) -> Iterator[str]:
    """What the case is about: its title, and what the manual demands."""
    yield from _wrapped("case:     ", f"{entry.id}: {entry.reason or entry.kind}")
    for id in violated[:_CHECKS_SHOWN]:
        check = BY_ID[id]
        yield from _wrapped("manual:   ", f'SDM Vol. 3C, {check.section.number}, "{check.section.title}": {check.text}')


def _state(entry: Entry, base: Vmcs, rows: Sequence[Mutation]) -> Iterator[str]:
    for row in rows[:-1]:
        yield from _wrapped("before:   ", f"a VM entry with {', '.join(_changes(base, row)) or 'no change of the base'}")
    changes = list(_changes(base, rows[-1]))
    shown = changes[:_CHANGES_SHOWN] + ([f"and {len(changes) - _CHANGES_SHOWN} more"] if len(changes) > _CHANGES_SHOWN else [])
    yield from _wrapped("state:    ", f"{entry.case.base} with {', '.join(shown) or 'no change'}")


def _changes(base: Vmcs, row: Mutation) -> Iterator[str]:
    for key, value in row.items():
        yield f"{key_in_words(key)} = {hexadecimal(value)} (was {hexadecimal(base_value(base, key))})"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, _COLUMNS, initial_indent=label, subsequent_indent=" " * len(label))
