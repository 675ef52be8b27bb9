"""The lines that vmfuzz and a program exchange: hello, batches of rows, answers (docs/program.md, program_schema.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.arch.outcomes import ANY_EXIT, Kind, Outcomes
from vmfuzz.errors import UsageError
from vmfuzz.execute.base import require_settable
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs, parse_number

#: What the first line of a program says that it speaks.
PROTOCOL: Final = "vmfuzz-program-1"
END: Final = b'{"end": true}\n'
_INFO: Final = "vm_entry_interruption_info"
_MOST_SHOWN: Final = 120
_SETTABLE: Final = tuple(name for name, condition in LIVE.items() if condition.settable)
_KINDS: Final = {
    "entered": Kind.EXIT,
    "vmfail_invalid": Kind.VMFAIL_INVALID,
    "vmfail_valid": Kind.VMFAIL_VALID,
    "entry_failure": Kind.ENTRY_FAILURE,
    "vmwrite_failed": Kind.VMWRITE_FAILED,
    "refused": Kind.REFUSED,
}
#: The keys of an answer besides row, outcome and message, by outcome: those that it needs, and those that it may have.
_NEEDS: Final = {
    Kind.VMFAIL_VALID: {"error"},
    Kind.ENTRY_FAILURE: {"exit_reason", "qualification"},
    Kind.VMWRITE_FAILED: {"error", "field"},
}
_MAY: Final = {Kind.EXIT: {"exit_reason", "qualification", _INFO}, Kind.ENTRY_FAILURE: {_INFO}}
_BITS: Final = {"error": 32, "exit_reason": 15, "qualification": 64, _INFO: 32}


class NotSpoken(Exception):
    """A line that is not what the protocol has there; the text says which, what is wrong, and what was expected."""


@dataclass(frozen=True)
class Hello:
    """What a program says of itself."""

    name: str
    version: str
    capabilities: Capabilities
    known_good: Vmcs
    hang_seconds: float | None


def hello_of(line: bytes) -> Hello:
    """The hello of a program; raises NotSpoken."""
    data = _object(line, "the hello")
    if data.get("hello") != PROTOCOL:
        raise NotSpoken(f'the hello says "hello": {json.dumps(data.get("hello"))}; expected "{PROTOCOL}": {_shown(line)}')
    _only(data, {"hello", "name", "version", "profile", "capabilities", "known_good", "hang_seconds"}, "the hello")
    name, version = data.get("name"), data.get("version", "")
    if not isinstance(name, str) or not name.strip() or not isinstance(version, str):
        raise NotSpoken(f'the hello has "name": {json.dumps(name)}, "version": {json.dumps(version)}; expected texts')
    if ("profile" in data) == ("capabilities" in data):
        raise NotSpoken(
            'the hello needs either "profile" (a name of `vmfuzz caps --list`) or "capabilities" (what `vmfuzz caps --json` prints)'
        )
    try:
        known = _capabilities(data, name)
        good = Vmcs.from_json(data["known_good"]) if "known_good" in data else known_good(known)
    except UsageError as error:
        raise NotSpoken(f"the hello: {error}") from None
    seconds = data.get("hang_seconds")
    if seconds is not None and (not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < 1e6):
        raise NotSpoken(f'the hello has "hang_seconds": {json.dumps(seconds)}; expected seconds, more than 0')
    return Hello(name, version, known, good, seconds)


def _capabilities(data: Mapping[str, Any], name: str) -> Capabilities:
    if "profile" not in data:
        return replace(Capabilities.from_json(data["capabilities"]), name=name)
    if not isinstance(data["profile"], str):
        raise UsageError(f'"profile": {json.dumps(data["profile"])}; expected a name of `vmfuzz caps --list`')
    return capabilities(data["profile"])


def request_of(batch: VmcsBatch, rows: npt.NDArray[np.intp], number: int) -> bytes:
    """Batch `number`: its line, and one line a row.

    Raises UsageError where the batch varies what nothing can set.
    """
    require_settable(batch)
    base = {
        **dict.fromkeys(_SETTABLE, 0),
        **{name: value for name, value in batch.base.items() if name not in FIELDS or FIELDS[name].writable},
    }
    head = {
        "batch": number,
        "rows": len(rows),
        "base": {name: f"{value:#x}" for name, value in base.items()},
        "memory": {f"{address:#x}": f"{word:#x}" for address, word in batch.base.memory.items()},
    }
    fields: list[list[str]] = [[] for _ in rows]
    for name, column in batch.columns.items():
        _differing(f'"{name}"', column[rows], batch.base.get(name) or 0, fields)
    words: list[list[str]] = [[] for _ in rows]
    for address, column in batch.memory_columns.items():
        _differing(f'"{address:#x}"', column[rows], batch.base.memory.get(address, 0), words)
    return "\n".join((json.dumps(head), *map(_row, range(len(rows)), fields, words), "")).encode()


def _row(row: int, fields: list[str], words: list[str]) -> str:
    """The line of one row."""
    memory = f',"memory":{{{",".join(words)}}}' if words else ""
    return f'{{"row":{row},"differences":{{{",".join(fields)}}}{memory}}}'


def _differing(key: str, values: npt.NDArray[np.uint64], here: int, parts: list[list[str]]) -> None:
    """Append the value of each row that differs from the base's."""
    rows = np.flatnonzero(values != np.uint64(here))
    for row, value in zip(rows.tolist(), values[rows].tolist(), strict=True):
        parts[row].append(f'{key}:"{value:#x}"')


@dataclass(frozen=True)
class _Answer:
    """One answer, its row apart."""

    kind: Kind
    number: int
    qualification: int
    info: int | None
    encoding: int
    message: str | None


class Answers:
    """Reads answers; equal ones are understood once. `messages` are all messages so far, by number."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._table: list[_Answer] = []
        self._messages: dict[str, int] = {}

    @property
    def messages(self) -> list[str]:
        """The programs' own words by number."""
        return list(self._messages)

    def message_number(self, text: str) -> int:
        """The number of a message."""
        return self._messages.setdefault(text, len(self._messages))

    def read(self, lines: Sequence[bytes], batch: VmcsBatch, rows: npt.NDArray[np.intp], outcomes: Outcomes) -> None:
        """Put the answers, which are those of the first of `rows`, into `outcomes`. Raises NotSpoken."""
        numbers = np.fromiter((self._number(line, row) for row, line in enumerate(lines)), np.intp, len(lines))
        here = rows[: len(lines)]
        distinct, index = np.unique(numbers, return_inverse=True)
        found = [self._table[number] for number in distinct.tolist()]

        def column(values: list[int], dtype: Any) -> npt.NDArray[Any]:
            return np.array(values, np.uint64).astype(dtype)[index]

        outcomes.kind[here] = kinds = column([each.kind for each in found], np.uint8)
        outcomes.number[here] = column([each.number for each in found], np.uint32)
        failed = kinds == Kind.ENTRY_FAILURE
        exited = failed | (kinds == Kind.EXIT)
        outcomes.raw_reason[here] = np.where(exited, outcomes.number[here] | failed.astype(np.uint32) << np.uint32(31), 0)
        outcomes.qualification[here] = column([each.qualification for each in found], np.uint64)
        outcomes.encoding[here] = column([each.encoding for each in found], np.uint32)
        words = [-1 if each.message is None else self.message_number(each.message) for each in found]
        outcomes.message[here] = np.array(words, np.int32)[index]
        written = batch.columns.get(_INFO)
        left = (np.full(len(here), batch.base.get(_INFO) or 0, np.uint64) if written is None else written[here]).astype(np.uint32)
        usual = np.where(failed, left, np.where(exited, left & np.uint32(0x7FFFFFFF), 0))
        given = np.array([each.info is not None for each in found])[index]
        outcomes.entry_interruption_info[here] = np.where(given, column([each.info or 0 for each in found], np.uint32), usual)

    def _number(self, line: bytes, row: int) -> int:
        data = _object(line, f"the answer to row {row}")
        if data.pop("row", None) != row:
            raise NotSpoken(
                f'expected the answer to row {row}, with "row": {row} (answers come in the order of the rows, one each): {_shown(line)}'
            )
        try:
            key = tuple(data.items())
            known = self._numbers.get(key)
        except TypeError:
            raise NotSpoken(f"the answer to row {row}: expected texts and numbers only: {_shown(line)}") from None
        if known is None:
            self._table.append(_answer_of(data, line, row))
            known = self._numbers[key] = len(self._table) - 1
        return known


def _answer_of(data: dict[str, Any], line: bytes, row: int) -> _Answer:
    what = f"the answer to row {row}"
    kind = _KINDS.get(data.get("outcome", ""))
    if kind is None:
        raise NotSpoken(f'{what} has "outcome": {json.dumps(data.get("outcome"))}; expected one of {", ".join(_KINDS)}: {_shown(line)}')
    needs = _NEEDS.get(kind, set())
    missing = needs - set(data)
    if missing:
        raise NotSpoken(f'{what}: "{data["outcome"]}" needs "{min(missing)}": {_shown(line)}')
    _only(data, {"outcome", "message", *needs, *_MAY.get(kind, set())}, what)
    message = data.get("message")
    if message is not None and not isinstance(message, str):
        raise NotSpoken(f'{what} has "message": {json.dumps(message)}; expected a text: {_shown(line)}')
    field = data.get("field", "")
    if kind is Kind.VMWRITE_FAILED and field not in FIELDS:
        raise NotSpoken(f'{what} has "field": {json.dumps(field)}; expected the name of a VMCS field: {_shown(line)}')
    values = {key: _value(key, data[key], what) for key in _BITS if key in data}
    number = values.get("error", values.get("exit_reason", ANY_EXIT if kind is Kind.EXIT else 0))
    encoding = FIELDS[field].encoding if kind is Kind.VMWRITE_FAILED else 0
    return _Answer(kind, number, values.get("qualification", 0), values.get(_INFO), encoding, message)


def _value(key: str, value: object, what: str) -> int:
    try:
        number = parse_number(key, value)
    except UsageError as error:
        raise NotSpoken(f"{what}: {error}") from None
    if not 0 <= number < 1 << _BITS[key]:
        hint = " (the basic exit reason, without bit 31)" if key == "exit_reason" else ""
        raise NotSpoken(f"{what}: {key} = {hexadecimal(number)}: at most {_BITS[key]} bits{hint}")
    return number


def _object(line: bytes, what: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise NotSpoken(f"{what} is not a JSON object (what is for people belongs on standard error): {_shown(line)}")
    return data


def _only(data: Mapping[str, Any], known: set[str], what: str) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise NotSpoken(f'{what} has "{unknown[0]}", which the protocol does not have there; expected only {", ".join(sorted(known))}')


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "...")
