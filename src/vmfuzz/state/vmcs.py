"""One VMCS: which fields have been written with which values, the live conditions of its entry, and the memory it refers to."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from vmfuzz.arch.fields import FIELDS, field_named
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import FieldValueError, UnknownNameError, UsageError
from vmfuzz.files import read_json
from vmfuzz.hexadecimal import hexadecimal

SCHEMA: Final = "vmfuzz-vmcs-1"


def _require(name: str, value: int) -> int:
    live = LIVE.get(name)
    if live is None:
        if name not in FIELDS:
            raise UnknownNameError("VMCS field", name, [*FIELDS, *LIVE])
        return field_named(name).require(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= live.mask:
        raise FieldValueError(f"{name} = {value!r}: expected an integer from 0 to {hexadecimal(live.mask)} ({live.meaning})")
    return value


def _checked(values: Mapping[str, int]) -> dict[str, int]:
    return {name: _require(name, value) for name, value in values.items()}


def _checked_memory(memory: Mapping[int, int]) -> dict[int, int]:
    for address, word in memory.items():
        if address % 8 or not 0 <= address < 1 << 64:
            raise FieldValueError(f"memory address {hexadecimal(address)}: expected a physical address divisible by 8")
        if not 0 <= word < 1 << 64:
            raise FieldValueError(f"memory word at {hexadecimal(address)} = {hexadecimal(word)}: expected a 64-bit value")
    return dict(sorted(memory.items()))


class Vmcs(Mapping[str, int]):
    """An immutable VMCS: a mapping of field names to values, for the fields that have been written.

    - A field that is not in the mapping has never been written. `get(name)` gives 0 for it, which emulated CPUs have after VMCLEAR.
    - Keys may also be live conditions, which are not fields: the state of the processor that executes VMLAUNCH (`live_cr4`, ...). Without a
      key, a live condition has its ordinary value.
    - `memory` maps physical addresses (divisible by 8) to 64-bit words: what lies where fields point to. Other words of the executor's
      memory are 0.

    >>> vmcs = vmfuzz.Vmcs({"guest_cr0": 0x31}, {0x1000: 5}).replace(vpid=1)
    >>> vmcs["guest_cr0"], vmcs.get("guest_cr3"), dict(vmcs.memory), vmcs.differences(vmfuzz.Vmcs({"vpid": 2}))
    (49, 0, {4096: 5}, {'guest_cr0': (49, None), 'vpid': (1, 2)})
    """

    __slots__ = ("_hash", "_values", "memory")

    def __init__(self, values: Mapping[str, int] | None = None, memory: Mapping[int, int] | None = None) -> None:
        self._values = MappingProxyType(_checked(values or {}))
        self.memory = MappingProxyType(_checked_memory(memory or {}))
        self._hash: int | None = None

    @classmethod
    def _made(cls, values: dict[str, int], memory: MappingProxyType[int, int]) -> Vmcs:
        """The VMCS of values and memory that have been checked."""
        vmcs = cls.__new__(cls)
        vmcs._values, vmcs.memory, vmcs._hash = MappingProxyType(values), memory, None
        return vmcs

    def __getitem__(self, name: str) -> int:
        try:
            return self._values[name]
        except KeyError:
            if name in LIVE:
                return LIVE[name].default
            if name not in FIELDS:
                raise UnknownNameError("VMCS field", name, [*FIELDS, *LIVE]) from None
            raise

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def get(self, name: str, default: int | None = 0) -> int | None:  # type: ignore[override]
        """The field's value, or `default` where it has never been written; UnknownNameError for a name that does not exist."""
        if name in self._values:
            return self._values[name]
        if name in LIVE:
            return LIVE[name].default
        field_named(name)
        return default

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def items(self) -> ItemsView[str, int]:
        """Names and values; a mapping's own look each name up again, and a candidate's fields are gone through often."""
        return self._values.items()

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vmcs):
            return NotImplemented
        return dict(self._values) == dict(other._values) and dict(self.memory) == dict(other.memory)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((frozenset(self._values.items()), frozenset(self.memory.items())))
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        return Vmcs, (dict(self._values), dict(self.memory))

    def __repr__(self) -> str:
        return f"Vmcs({len(self)} fields, {len(self.memory)} words of memory)"

    def replace(self, **values: int) -> Vmcs:
        """A copy with these fields (or live conditions) written. Raises UnknownNameError, FieldValueError."""
        return self._made({**self._values, **_checked(values)}, self.memory)

    def without(self, *names: str) -> Vmcs:
        """A copy in which these fields have never been written."""
        for name in names:
            self.get(name)
        return self._made({name: value for name, value in self._values.items() if name not in names}, self.memory)

    def with_memory(self, words: Mapping[int, int]) -> Vmcs:
        """A copy in which these words of memory (address -> 64-bit word) are set."""
        return self._made(dict(self._values), MappingProxyType(_checked_memory({**self.memory, **words})))

    def differences(self, other: Vmcs) -> dict[str, tuple[int | None, int | None]]:
        """Fields and live conditions whose values differ: name -> (value here, value there); None where never written."""
        changed = {name for name, _ in self._values.items() ^ other._values.items()}
        names = dict.fromkeys(name for name in (*self._values, *other._values) if name in changed)
        pairs = {name: (self.get(name, None), other.get(name, None)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def to_json(self) -> dict[str, Any]:
        """A JSON object in order of encoding; values are hexadecimal strings."""
        order = {name: index for index, name in enumerate([*FIELDS, *LIVE])}
        fields = {name: f"{self._values[name]:#x}" for name in sorted(self._values, key=order.__getitem__)}
        data: dict[str, Any] = {"schema": SCHEMA, "fields": fields}
        if self.memory:
            data["memory"] = {f"{address:#x}": f"{word:#x}" for address, word in self.memory.items()}
        return data

    @classmethod
    def from_json(cls, data: object) -> Vmcs:
        """The state that `to_json` wrote; numbers may be hexadecimal strings or integers. Raises UsageError naming what is wrong."""
        if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("fields"), dict):
            raise UsageError(f'not a VMCS: expected a JSON object with "schema": "{SCHEMA}" and "fields"')
        memory = data.get("memory", {})
        if not isinstance(memory, dict):
            raise UsageError('VMCS: "memory" must be a JSON object of address: word')
        return cls(
            {name: parse_number(name, value) for name, value in data["fields"].items()},
            {parse_number("memory address", key): parse_number(f"memory {key}", word) for key, word in memory.items()},
        )

    @classmethod
    def load(cls, path: Path) -> Vmcs:
        """Read a state from a JSON file; raises UsageError when it cannot be read or is malformed."""
        return cls.from_json(read_json(path))


def parse_number(what: str, value: object) -> int:
    """An integer from JSON: an int, or a string such as "0x1f" or "31". Raises UsageError that names `what`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            pass
    raise UsageError(f'{what} = {value!r}: expected an integer or a string such as "0x1f"')
