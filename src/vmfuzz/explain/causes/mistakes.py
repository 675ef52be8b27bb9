"""Mistakes of the program rather than of a value: what a mistake is, and the wrong encodings of a list (values: values.py).

Each mistake names what was found, what follows, and what to change. `stops` says whether it can be what stops the VM entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
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
    landing = {item.encoding: item for item in used_wrong_definitions(dump)}
    for item in used_wrong_definitions(dump):
        meant = FIELDS[item.field]
        target = BY_ENCODING.get(item.encoding)
        reading = dump.readings.get(item.field)
        value = shown(item.field, reading.value) if reading else "the value"
        if target is None and item.encoding & 1 and item.encoding & ~1 in BY_ENCODING:
            other = BY_ENCODING[item.encoding & ~1]
            what = f"that is the high half (bits 63:32) of {spoken(other.name)}"
        elif target is None:
            what = "no field has this encoding, so VMWRITE fails with error 12"
        else:
            what = f"that is the encoding of {spoken(target.name)}"
        follows = f"The encoding of {spoken(meant.name)} is {encoded(meant.encoding)}. "
        if item.field not in right:
            usable = " (bit 16 = 0: usable)" if meant.name.endswith("_access_rights") else ""
            kept = f"keeps 0{usable}" if dump.program.zeroed else "is never written (it holds 0 if the VMCS region was zeroed)"
            if meant.encoding in landing:
                kept = f"gets what is meant for {landing[meant.encoding].name}"
            follows += f"That field {kept}"
            follows += f", and {value} goes to {spoken(target.name)}." if target is not None else "."
        found.append(
            Mistake(
                f"{item.name} is defined as {encoded(item.encoding)}; {what}.",
                follows,
                f"define {item.name} as 0x{meant.encoding:04x}",
                meant.name in stopping or (target is not None and target.name in stopping),
                meant.name,
                item.line,
                of_encoding=True,
            )
        )
    return found
