"""What people and consoles did to the lines of a KVM or Xen dump: marks of emphasis, numbers broken in two, lines given again."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Final

from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.kvm_tables import CONTROL, CR_PARTS, GROUPS, OWN, SEGMENT_PARTS, SHARED
from vmfuzz.explain.formats.kvm_tokens import STARTS, digits, tokens_of, usual_digits
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_HEADING: Final = deferred(r"\*\*\* ?(?:Guest|Host|Control) State")
#: Signs before a line to which somebody points; no line of the programs begins with one of them, but for headings.
_POINTS: Final = deferred(r"(?:\*{1,3}|_{1,2}|`{1,3}|[-=]{1,10}>|>{1,5}|!{1,5}|\[/?[a-z]{1,6}\]|\[|→|\s){1,8}")
#: The same signs within a line and behind it.
_WITHIN: Final = deferred(r"\*{1,3}|`|\[/?[a-z]{1,6}\]|(?<=[0-9a-fA-F])(?:\]|_{1,2}(?=\s|$)|!+)|(?:<[-=]+|←)(?:[^=]*$)?")
_MARKS: Final = deferred(r"[*`\[\]!<>←→]|__")
#: The rest of a number that a console broke at the end of its columns.
_REST: Final = deferred(r"(x?[0-9a-fA-F]{1,16})(?=$|[\s,])")
_BROKEN: Final = deferred(r"[=:\s](?:0x[0-9a-fA-F]{0,15}|[0-9a-fA-F]{1,15})$")
_ZERO: Final = deferred(r"[= ]0$")
_LAST_WORD: Final = deferred(r"[A-Za-z_:]+$")
_FIRST_WORD: Final = deferred(r"[A-Za-z_:0-9]{1,20}(?= ?=)|(?==[0-9a-fA-F])")
_WORDS_OF_KEYS: Final = frozenset(
    word
    for keys in (*OWN.values(), SHARED, *GROUPS.values(), CR_PARTS, SEGMENT_PARTS, ("CS:RIP", "GS", "FS", "TR", "CR0", "CR3", "CR4"))
    for key in keys
    for word in key.split()
)
_LONGEST: Final = max(map(len, _WORDS_OF_KEYS))
#: No console has fewer columns.
_COLUMNS: Final = 40
#: Lines that the programs may print alike for guest and host, or for two lists.
_ALIKE: Final = deferred(rf"(?:{'|'.join(re.escape(key) for key in SHARED if key != 'CR3')})\b|\d+: ?msr")


#: A variant prints the host's CET state behind everything else.
_CET: Final = deferred(r"S_CET|(?:INTR )?SSP")
#: No mail program breaks a line of the programs into more.
_PARTS: Final = 4
_OF_CONTROL: Final = deferred(rf"(?:{'|'.join(re.escape(key) for key in OWN[CONTROL])}) ?=")


def without_marks(line: Line) -> Line:
    """A line of a dump without the marks of whoever points to it; any other line as it is."""
    if not _MARKS.search(line.text) or _HEADING.match(line.text):
        return line
    begins = STARTS.match(line.text) is not None
    found = None if begins else _POINTS.match(line.text)
    if not begins and (found is None or not STARTS.match(line.text, found.end())):
        return line
    text = line.text[found.end() if found else 0 :]
    return replace(line, text=_WITHIN.sub("", text).strip())


def rejoined(lines: list[Line]) -> list[Line]:
    """The lines with numbers put together again that a console broke; what does not add up is left as broken off."""
    result: list[Line] = []
    for index, line in enumerate(lines):
        before = result[-1] if result else None
        rest = _REST.match(line.text) if before and before.number == lines[index - 1].number else None
        if before and _key_broken(before.text, line.text):
            result[-1] = replace(before, text=before.text + line.text)
            continue
        missing = _missing(before, rest[1]) if before and rest else 0
        if not (before and rest and missing):
            result.append(line)
            continue
        bare = rest.end() == len(line.text)
        whole = len(rest[1].removeprefix("x")) == missing and (bare or index + 1 < len(lines))
        result[-1] = replace(before, text=before.text + (line.text if whole else "..."))
    return result


def _key_broken(before: str, line: str) -> bool:
    """Whether a line of a dump ends, and the next begins, within a key ("gh_ma", "sk=...")."""
    rest = _FIRST_WORD.match(line)
    first = _LAST_WORD.search(before[-_LONGEST:]) if rest else None
    return first is not None and rest is not None and first[0] + rest[0] in _WORDS_OF_KEYS and STARTS.match(before) is not None


def _missing(line: Line, rest: str) -> int:
    """How many digits the number at the end of a line of a dump lacks."""
    if rest.startswith("x"):
        line = replace(line, text=line.text + "x") if _ZERO.search(line.text) else replace(line, text="")
    if len(line.raw) < _COLUMNS or not _BROKEN.search(line.text) or not STARTS.match(line.text):
        return 0
    text = line.text + "0" * line.text.endswith("x")
    tokens, _ = tokens_of([replace(line, text=text)], Found(), unfinished=False)
    if not tokens or not text.endswith(tokens[-1].value):
        return 0
    has = digits(tokens[-1].value) - (len(text) - len(line.text))
    return max(0, usual_digits(tokens[-1].field or f"guest_{tokens[-1].ending}") - has)


def without_doubles(lines: list[Line]) -> list[Line]:
    """The lines without those that say the same as the one right before them: two loggers wrote them."""
    return lines[:1] + [line for previous, line in pairwise(lines) if (_words(previous), previous.caller) != (_words(line), line.caller)]


def without_repeats(lines: list[Line]) -> list[Line]:
    """The lines of one dump without those given again, word for word: somebody quoted them below it.

    A line counts with what a mail program broke off it: else the rest of another line would go on the first. What the programs may print alike
    for guest and host, and the beginning of a broken line, is given again only behind the control state.
    """
    groups: list[list[Line]] = []
    for line in lines:
        if not groups or STARTS.match(line.text):
            groups.append([])
        groups[-1].append(line)
    texts = [" ".join(map(_words, group)) for group in groups]
    of_control = {text: index for index, text in reversed([*enumerate(texts)]) if _OF_CONTROL.match(text)}
    end = max(of_control.values(), default=len(groups))
    seen: set[str] = set()
    begun: set[str] = set()
    kept: list[Line] = []
    for index, (group, text) in enumerate(zip(groups, texts, strict=True)):
        below = index > end and not _CET.match(text)
        if not (text in begun if below else text in seen and not _ALIKE.match(text)):
            kept += group
        seen.add(text)
        begun.update(" ".join(map(_words, group[: count + 1])) for count in range(min(_PARTS, len(group))))
    return kept


def _words(line: Line) -> str:
    return " ".join(line.text.split())


_COLON_KEYS: Final = sorted(
    {*(key for keys in OWN.values() for key in keys if "(" not in key), *SHARED, "CR0", "CR4"}, key=len, reverse=True
)
_COLON: Final = deferred(rf"(?P<key>{'|'.join(map(re.escape, _COLON_KEYS))}):[ \t]*(?P<value>(?:0x)?[0-9a-fA-F]+)(?:[ \t,]+|$)")


def with_signs(line: Line, section: str) -> Line | None:
    """A line of `key: value` under a heading of a found, as the programs write it; None for any other line."""
    position, parts = 0, []
    while position < len(line.text):
        found = _COLON.match(line.text, position)
        if found is None:
            return None
        parts.append(_written(found["key"], found["value"], section))
        position = found.end()
    return replace(line, text="  ".join(parts))


def _written(key: str, value: str, section: str) -> str:
    if section == "Guest" and key in ("CR0", "CR4"):
        return f"{key}: actual={value}"
    return f"{key}={value}" if section == "Host" and key in ("CR0", "CR3", "CR4") else f"{key} = {value}"
