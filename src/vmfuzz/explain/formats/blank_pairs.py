"""Rewrites lines in which blanks stand between names and values into the form `name=value, name=value`, which plain.py reads.

`GUEST_SS: sel 0x2b base 0 limit 0xffffffff rights 0xc093` is a register with its parts, `cr0 0x80000031 cr3 0x1000` are fields side by side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.names.labels import PARTS, match_label, normalise
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import NUMBER, read_number
from vmfuzz.patterns import deferred

#: A register, by itself or as the guest's or the host's.
_REGISTER: Final = (
    r"(?:vmcs\d{0,2}[ _.])?(?:(?:guest|host)[ _.])?(?:[c-gs]s|ldtr|tr|gdtr|idtr)(?:[ _](?:segment|register|reg))?"
    r"(?:[ ]{0,20}[:=])?[ ]{1,20}"
)
_HEAD: Final = deferred(rf"(?P<head>{_REGISTER})(?=[A-Za-z0-9])(?P<rest>.*)$", re.IGNORECASE)
#: Behind the name of a register its selector, or selector and base: `0008:0000000000000000 limit ...`.
_FAR: Final = deferred(r"(?P<sel>(?:0[xX])?[0-9a-fA-F]{1,4})(?::(?P<base>(?:0[xX])?[0-9a-fA-F]{8,16}))?(?![\w:])[ ,;]{1,20}(?=[A-Za-z])")
_PART: Final = deferred(
    rf"(?P<name>[A-Za-z]+(?:[ _][A-Za-z]+){{0,2}}?)(?P<sep>[ ]{{0,20}}[:=][ ]{{0,20}}|[ ]{{1,20}})(?P<value>{NUMBER})(?=[ ,;)]|$)[ ,;)]{{0,20}}"
)
#: A value that is hexadecimal without doubt: marked, or padded with zeros or to the width of a register.
_SURE: Final = r"(?:0[xX][0-9a-fA-F]+|[0-9][0-9a-fA-F]*[hH]|0[0-9a-fA-F]{3,15}|[0-9a-fA-F]{8}|[0-9a-fA-F]{16})"
_FIELD: Final = deferred(
    rf"(?P<name>[A-Za-z_][\w.]{{0,60}}(?:[ ][A-Za-z]\w{{0,40}}){{0,3}}?)[ ]{{1,20}}(?P<value>{_SURE})(?=[ ,;]|$)[ ,;]{{0,20}}"
)
#: What may stand before fields side by side.
_AREA: Final = deferred(r"(?P<area>guest|host)(?: (?:state|registers?|regs))?[ ]{0,20}:[ ]{0,20}", re.IGNORECASE)
#: `host: cr0=0x80000031, cr3=0x1000`: whose the pairs are stands before the first.
_OWNED: Final = deferred(r"(?P<rest>[A-Za-z_]\w{0,40}(?: \w{1,40})?[ ]{0,20}[:=][ ]{0,20}(?:0[xX])?[0-9a-fA-F]+(?!\w).*)$")
#: Names of control words that count beside the pin-based controls.
_BESIDE_PIN: Final = frozenset({"proc", "exit", "entry"})
#: A line of pairs is no longer than this.
_LONGEST: Final = 400


def respelled(lines: Iterable[Line]) -> list[Line]:
    """The lines, those of pairs with blanks between name and value in the form that plain.py reads."""
    return [replace(line, text=text) if (text := _respelled(line.text)) != line.text else line for line in lines]


@lru_cache(maxsize=1 << 13)
def _respelled(text: str) -> str:
    if len(text) > _LONGEST or " " not in text:
        return text
    return _register(text) or _fields(text) or _owned(text)


def _owned(text: str) -> str:
    """A line of pairs behind "guest:" or "host:" with that as a part of the first name, as plain.py understands it; another line as it is."""
    area = _AREA.match(text)
    pairs = _OWNED.match(text, area.end()) if area else None
    if area is None or pairs is None or any(word in pairs["rest"].lower() for word in ("guest", "host")):
        return text
    return f"{area['area']} {pairs['rest']}"


def _register(text: str) -> str:
    """A register with at least two of its parts on one line; "" if the line is none."""
    match = _HEAD.match(text)
    if not match:
        return ""
    found: dict[str, str] = {}
    rest, end, spaced = match["rest"], 0, False
    far = _FAR.match(rest)
    marked = match["head"].rstrip().endswith((":", "="))
    if far and (far["base"] or marked) and "dtr" not in match["head"].lower().replace("ldtr", ""):
        found, end, spaced = {"sel": far["sel"]} | ({"base": far["base"]} if far["base"] else {}), far.end(), True
    while end < len(rest):
        part = _PART.match(rest, end)
        words = normalise(part["name"]) if part else ()
        if part is None or len(words) != 1 or words[0] not in PARTS or words[0] in found:
            return ""
        found[words[0]] = part["value"]
        spaced |= part["sep"].isspace()
        end = part.end()
    if len(found) < 2 or not spaced:
        return ""
    return f"{match['head'].rstrip(' :=')}: {', '.join(f'{name}={value}' for name, value in found.items())}"


def _fields(text: str) -> str:
    """At least two fields, every one known by its name and with a number that is hexadecimal without doubt; "" if the line is none.

    A sentence must not be read so: nothing else may stand in the line.
    """
    area = _AREA.match(text)
    end = area.end() if area else 0
    found: dict[str, str] = {}
    while end < len(text):
        pair = _FIELD.match(text, end)
        if pair is None or pair["name"] in found or not _is_known(pair["name"], found):
            return ""
        found[pair["name"]] = pair["value"]
        end = pair.end()
    if len(found) < 2 or all(_is_encoding(name, value) for name, value in found.items()):
        return ""  # (a list of encodings is no list of values)
    whose = f"{area['area']} " if area else ""
    return ", ".join(f"{whose}{name}={value}" for name, value in found.items())


def _is_known(name: str, before: Iterable[str]) -> bool:
    words = normalise(name)
    if not words:
        return False
    beside_pin = any(normalise(other)[:1] == ("pin",) for other in before)
    return (name.lower() in _BESIDE_PIN and beside_pin) or (len(match_label(name).fields) == 1 and words != ("proc",))


def _is_encoding(name: str, value: str) -> bool:
    fields = match_label(name).fields
    return len(fields) == 1 and FIELDS[fields[0]].encoding == read_number(value, True)
