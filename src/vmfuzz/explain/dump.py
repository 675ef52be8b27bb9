"""What has been read from a text: field values with where they stood, capability MSRs, the reported outcome, and everything doubtful.

A field has one of three states: given (a `Reading`), absent, or given but doubtful (a `Reading` of which only some bits are known, with a
warning). Nothing here decides or judges: settle/ and judgement/ do.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.reported import Reported
from vmfuzz.model.check import Check
from vmfuzz.model.partial import Partial
from vmfuzz.model.processor_errata import Signature

ALL: Final = (1 << 64) - 1
HIGH_HALF: Final = ALL - 0xFFFFFFFF
#: Bits of an encoding that are 0 in every one (SDM Vol. 3C, "Field Encoding in VMCS").
_RESERVED: Final = 0xFFFF9000
#: The smallest encoding outside of the 16-bit control fields; smaller numbers may be anything.
SMALLEST_ENCODING: Final = 0x800


class Standing(enum.Enum):
    """How a place speaks of its field."""

    SHOWN = enum.auto()  # a line of a known program
    NAMED = enum.auto()  # a name, or an encoding, and a value
    BITS = enum.auto()  # some bits of a value, under a name of their own
    SENTENCE = enum.auto()  # a sentence says so
    CALL = enum.auto()  # program text writes it


class Reading(NamedTuple):
    """One value, as one place of the text gives it: the bits of `value` that are in `known` count. `label` is what the text calls it, `line` its line."""

    value: int
    label: str
    line: int
    known: int = ALL
    #: why the value is taken for this field where the label does not say all, such as "no area named: read as guest state"
    assumed: str = ""
    #: the field or the capability MSR; "" if it is neither
    name: str = ""
    standing: Standing = Standing.SHOWN
    #: the number as it stands there; "" where that does not matter
    written: str = ""

    @property
    def partial(self) -> Partial:
        """The value for three-valued evaluation."""
        return Partial(self.value, self.known)


@dataclass(frozen=True)
class Definition:
    """One line of a list of encodings: the name its author gave, what was meant by it, and the encoding that the list gives."""

    name: str
    field: str
    encoding: int
    line: int

    @property
    def right(self) -> bool:
        """Whether this is the encoding of the field that is meant."""
        return FIELDS[self.field].encoding == self.encoding


@dataclass(frozen=True, slots=True)
class Warned:
    """What a person should know of a line (0: of the whole text)."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True, slots=True)
class NamedChecks:
    """A program's own word on a failed entry: the line, the program, its message, and the checks that it stands for."""

    line: int
    program: str
    text: str
    checks: tuple[Check, ...]


class Format(enum.StrEnum):
    """What a text is taken for, in the words of an answer."""

    UNKNOWN = "unknown"
    KVM = "Linux KVM VMCS dump"
    XEN = "Xen VMCS dump"
    QEMU = "QEMU register dump"
    VIRTUALBOX = "VirtualBox log"
    PAIRS = "name and value lines"
    ENCODINGS = "list of encodings"
    LOG = "log lines"
    ARGUMENT = "error number or log line"
    JSON = "vmfuzz JSON"


@dataclass
class Program:
    """What program text says: its list of encodings, the names that it passes to a function that writes fields, with their lines."""

    definitions: list[Definition] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)
    #: whether the source or its author says that the region was zeroed before it was written
    zeroed: bool = False


@dataclass(frozen=True)
class Dump:
    """All that one dump says, as far as it is believed (settle/), and the outcome that the text reports (outcomes/)."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    #: capability MSRs, all bits of each
    msrs: Mapping[int, Reading] = field(default_factory=dict)
    #: the name of the text, and what it calls this state where it shows two: "vmcs02", "after", "+"
    source: str = "input"
    state: str = ""
    format: Format = Format.UNKNOWN
    #: the lines of the text as they were read; empty for vmfuzz's own JSON
    lines: tuple[str, ...] = ()
    #: which program's lines were read as what, and what was believed of them, a sentence each
    trace: tuple[str, ...] = ()
    #: values printed beside the VMCS that are not fields ("EFER (effective)", the guest's view of CR0)
    beside: Mapping[str, Reading] = field(default_factory=dict)
    #: words of memory by address
    memory: Mapping[int, int] = field(default_factory=dict)
    #: whether a field that is not given is known to have been left at 0
    complete: bool = False
    reported: Reported | None = None
    #: checks that programs name as the cause, VirtualBox by the number of its "HM error"
    named: tuple[NamedChecks, ...] = ()
    hm_error: int | None = None
    #: line, MSR and value of the entry of the MSR-load area that Xen shows as refused
    refused_msr: tuple[int, int, int] | None = None
    program: Program = field(default_factory=Program)
    warned: tuple[Warned, ...] = ()
    #: values too wide for their field
    misfits: Mapping[str, Reading] = field(default_factory=dict)
    #: labels with a number that mean no field, with their line
    unread: tuple[tuple[str, int], ...] = ()
    processor: Signature | None = None
    #: why this is no state of an Intel processor, a sentence without its end; what to know where hypervisors are nested
    foreign: str = ""
    nested: str = ""

    def warning(self, *warned: Warned) -> Dump:
        """The same with more warnings."""
        return replace(self, warned=(*self.warned, *warned)) if warned else self

    @property
    def warnings(self) -> list[str]:
        """All warnings in the order of the text, each once; those on the whole text last."""
        return [str(one) for one in sorted(dict.fromkeys(self.warned), key=lambda one: (not one.line, one.line))]

    @property
    def empty(self) -> bool:
        """Whether nothing that can be judged has been read."""
        return not (self.readings or self.msrs or self.reported or self.program.definitions or self.beside or self.hm_error)


def half(encoding: int) -> int:
    """Which bits of a 64-bit field an access with this encoding covers: all, or 63:32 with the high encoding."""
    return HIGH_HALF if encoding & 1 else ALL


def may_be_meant(field: str, number: int) -> bool:
    """Whether the number can have been meant as the field's encoding: small ones are values, except where the field's own encoding is small."""
    if number < SMALLEST_ENCODING <= FIELDS[field].encoding:
        return False
    return number & ~1 in BY_ENCODING or not number & _RESERVED
