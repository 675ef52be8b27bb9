"""Reads lines of one name, or of several between slashes or commas, and their numbers: rows of tables, a name with its value behind it, an MSR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from vmfuzz.explain.dump import ALL, Definition, may_be_meant
from vmfuzz.explain.formats.notes import Notes
from vmfuzz.explain.formats.shapes import Pair
from vmfuzz.explain.formats.tokens import Row, Tokens, row_of, tokens_of
from vmfuzz.explain.names.labels import match_label, match_msr, names_one
from vmfuzz.explain.text.numbers import read_number
from vmfuzz.patterns import deferred

#: Forms of `GUEST_DS_BASE/LIMIT/AR = 0 / 0xFFFFFFFF / 0xC093`, `GUEST_DS_AR/ES_AR encodings: 0x4818, 0x481a`, `HOST_SS/DS = 0x10`,
#: `GUEST_ES/FS/GS = 0x10, base 0, limit 0xffffffff, AR 0xc093`, `(EXIT_REASON, EXIT_QUALIFICATION): 80000021, 0`.
_SEVERAL: Final = deferred(
    r"(?=.*wt?[/,|]t?w).*?(?P<names>w(?:/w)+|w+(?:t?[,|]t?w+)+)(?P<encodings>w)?[)\]]?t?(?:[:=]>?|->)t?[(\[]?(?P<values>n(?:t?[/,|]t?n)*)(?P<parts>(?:,w[:=]*n)*)[)\]]?"
    r"(?:[t(#;<!.].*)?"
)
_BETWEEN: Final = deferred(r"\s*[/,|]\s*")
#: Limits that are printed with four digits although they have more.
_CUT: Final = deferred(r"guest_(?![gi]dtr)\w+_limit")
_CUT_DIGITS: Final = deferred(r"0x[0-9a-fA-F]{4}")
_CUT_LIMIT: Final = ALL - 0xFFFF0000


def read_row(text: str, notes: Notes) -> bool:
    """Read such a line; returns whether it is one."""
    row, tokens = row_of(text), tokens_of(text)
    return (row is not None and _one(row, notes)) or (text.startswith("|") and "=" not in text) or _several(tokens, notes)


def _one(row: Row, notes: Notes) -> bool:
    label, number = row.name or row.number, read_number(row.number, True)
    msr = match_msr(label)
    if msr is not None and number in (None, msr):
        return notes.msr(label, row.value, row.high)
    meant = match_label(row.name, area=notes.area)
    if row.high or (len(meant.fields) != 1 and msr is None):
        return False  # (only an MSR has halves)
    if number is not None and number != read_number(row.value, True):
        if row.sign != "|" and not (meant.fields and may_be_meant(meant.fields[0], number)):
            return False
        notes.found.warn(
            f"{row.name} stands with {row.number} and {row.value}; which is the value cannot be told, so none is used", notes.line
        )
        return True
    # a blank in the place of a sign may stand before any number
    return (row.sign == "|" or (row.sign == " " and not meant.assumed_guest)) and notes.store(Pair(row.name, row.value))


def _several(tokens: Tokens, notes: Notes) -> bool:
    """Read a line of several names; a number that stands alone is that of all that slashes join, and so are the parts behind it."""
    several = _SEVERAL.fullmatch(tokens.form)
    if several is None or (several["encodings"] and not tokens.texts[several.start("encodings")].lower().startswith("encoding")):
        return False
    names, values = (_BETWEEN.split(" ".join(tokens.texts[slice(*several.span(part))])) for part in ("names", "values"))
    parts = [text for text in tokens.texts[slice(*several.span("parts"))] if text[0] not in ",:="]
    slashes, names = "/" in several["names"], _completed(names)
    values *= len(names) if len(values) == 1 and slashes else 1
    if len(values) != len(names) or not all(map(names_one, names[: 1 if slashes else None])):
        return False
    for name, written in zip(names, values, strict=True):
        _store_one(name, written, notes, encoding=several["encodings"] is not None, may_be_cut=slashes)
        for part, value in zip(parts[::2], parts[1::2], strict=True):
            notes.store(Pair(part, value))
    return True


def _store_one(name: str, written: str, notes: Notes, *, encoding: bool, may_be_cut: bool) -> None:
    """Note the encoding or the value of one of several names; of a limit that is cut to four digits, these."""
    meant, number = match_label(name).fields, read_number(written, True)
    if encoding and meant and number is not None:
        notes.found.definitions.append(Definition(name, meant[0], number, notes.line))
    elif may_be_cut and number is not None and meant and _CUT.fullmatch(meant[0]) and _CUT_DIGITS.fullmatch(written):
        notes.put(meant[0], number, name, written, known=_CUT_LIMIT)
    else:
        notes.store(Pair(name, written))


def _completed(names: Sequence[str]) -> list[str]:
    """Full names: each takes the place of the last words of the first one."""
    words = names[0].split("_")
    return [names[0], *("_".join([*words[: -1 - name.count("_")], name]) for name in names[1:])]
