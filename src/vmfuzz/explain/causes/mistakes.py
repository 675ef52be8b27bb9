"""Mistakes of the program rather than of a value: what a mistake is, and the wrong encodings of a list (values: values.py).

Each mistake names what was found, what follows, and what to change. `stops` says whether it can be what stops the VM entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmfuzz.arch.fields import BY_ENCODING, FIELDS, Field
from vmfuzz.explain.dump import Definition, Dump, may_be_meant
from vmfuzz.explain.names.spoken import shown, spoken
from vmfuzz.hexadecimal import encoded


@dataclass(frozen=True)
class Mistake:
    """One mistake: what is wrong, what follows from it, what to change; the field concerned and the line of the text.

    `writes`: the values that the change may write to that field. `of_encoding`: a name has another field's encoding.
    """

    what: str
    follows: str
    change: str
    stops: bool
    field: str = ""
    line: int = 0
    writes: tuple[int, ...] = ()
    of_encoding: bool = False


def used_wrong_definitions(dump: Dump) -> list[Definition]:
    """The wrong definitions that count: those that the source writes with, or all where it shows no writes.

    A second name for a field that the list also defines rightly is something else (a constant for its value), and so is a number that can be no
    encoding.
    """
    right = {item.field for item in dump.program.definitions if item.right}
    wrong = [item for item in dump.program.definitions if not item.right]
    if dump.program.written:
        return [item for item in wrong if item.name in dump.program.written]
    return [item for item in wrong if item.field not in right and may_be_meant(item.field, item.encoding)]


def encoding_mistakes(dump: Dump, stopping: frozenset[str]) -> list[Mistake]:
    """One mistake for each wrong definition; `stopping` names the fields that violated checks read once the encodings are applied."""
    found = []
    right = {item.field for item in dump.program.definitions if item.right}
    wrong = used_wrong_definitions(dump)
    landing = {item.encoding: item for item in wrong}
    for item in wrong:
        meant, target = FIELDS[item.field], BY_ENCODING.get(item.encoding)
        follows = f"The encoding of {spoken(meant.name)} is {encoded(meant.encoding)}. "
        if item.field not in right:
            reading = dump.readings.get(item.field)
            value = shown(item.field, reading.value) if reading else "the value"
            goes = f", and {value} goes to {spoken(target.name)}" if target is not None else ""
            follows += f"That field {_kept(dump, meant, landing.get(meant.encoding))}{goes}."
        found.append(
            Mistake(
                f"{item.name} is defined as {encoded(item.encoding)}; {_what_has(item.encoding)}.",
                follows,
                f"define {item.name} as 0x{meant.encoding:04x}",
                meant.name in stopping or (target is not None and target.name in stopping),
                meant.name,
                item.line,
                of_encoding=True,
            )
        )
    return found


def _what_has(encoding: int) -> str:
    """What a wrong encoding is the encoding of."""
    if encoding in BY_ENCODING:
        return f"that is the encoding of {spoken(BY_ENCODING[encoding].name)}"
    if encoding & 1 and encoding & ~1 in BY_ENCODING:
        return f"that is the high half (bits 63:32) of {spoken(BY_ENCODING[encoding & ~1].name)}"
    return "no field has this encoding, so VMWRITE fails with error 12"


def _kept(dump: Dump, meant: Field, other: Definition | None) -> str:
    """What a field holds that no right definition writes to; `other`: the wrong one that does."""
    if other is not None:
        return f"gets what is meant for {other.name}"
    usable = " (bit 16 = 0: usable)" if meant.name.endswith("_access_rights") else ""
    return f"keeps 0{usable}" if dump.program.zeroed else "is never written (it holds 0 if the VMCS region was zeroed)"
