"""Finds JSON (or a literal of Python's) within a text and puts lines of names and values in its place, as json_text.py does for a whole text.

A line of it stays on its line where it has no more than one value on each; otherwise what follows moves down.
"""

from __future__ import annotations

from typing import Any, Final

from vmfuzz.explain.formats.json_text import leaves, parsed
from vmfuzz.explain.names.labels import match_label, match_msr
from vmfuzz.patterns import deferred

#: Braces outside of quotation marks (which end on their line).
_BRACES: Final = deferred(r'"[^"\n]*"|[{}]')
#: The beginning of an object that has a key in quotation marks.
_OBJECT: Final = deferred(r"\{\s{0,400}[\"']")
#: The name of an object: `"guest": {`, `vmcs = {`, `host state: {`
_NAMED: Final = deferred(r"[\"']?(?P<name>[A-Za-z_][\w.]{0,60}(?: [A-Za-z_][\w.]{0,60}){0,2})[\"']?[ \t]{0,20}[:=]$")
_BEFORE: Final = 300
#: Objects in so many others are not looked at; of one that is no JSON, so many levels within it are.
_DEEPEST, _TRIES = 12, 4
#: No longer key than this is searched for in the text of an object.
_LONGEST_KEY: Final = 200


def spread(text: str) -> str:
    """The text, with lines of names and values in the place of each object in it that gives a field."""
    if "{" not in text or not _OBJECT.search(text):
        return text
    result, done, failed = list[str](), 0, list[int]()
    for begin, end, around in _objects(text):
        if begin < done:
            continue
        failed = [other for other in failed if other > begin]
        if len(failed) >= _TRIES or not _OBJECT.match(text, begin):
            continue
        data = parsed(text[begin:end])
        lines = _lines(data, [name for start in (*around, begin) if (name := _name(text, start))])
        if not lines:
            failed += [end] if data is None else []
            continue
        result += [text[done:begin], _placed(lines, text[begin:end])]
        done = end
    return "".join([*result, text[done:]])


def _objects(text: str) -> list[tuple[int, int, tuple[int, ...]]]:
    """(begin, end, beginnings of the braces around it) of each pair of braces, in order."""
    found, opened = [], list[int]()
    for match in _BRACES.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            begin = opened.pop()
            if len(opened) <= _DEEPEST:
                found.append((begin, match.end(), tuple(opened)))
    return sorted(found)


def _name(text: str, begin: int) -> str:
    """What stands as a name before the object that begins there."""
    before = text[max(0, begin - _BEFORE) : begin].rstrip()
    match = _NAMED.search(before) if before.endswith((":", "=")) else None
    return match["name"] if match else ""


def _lines(data: Any, path: list[str]) -> list[tuple[str, str]]:
    """(last key, line) of each value of an object; none if no value is a field's, and none is the text of a log."""
    if not isinstance(data, dict):
        return []
    found = list(leaves(data, tuple(path)))
    named = any(_names_field(line.partition(" = ")[0]) for _, line in found)
    return found if named or any(not key for key, _ in found) else []


def _names_field(label: str) -> bool:
    return len(match_label(label).fields) == 1 or match_msr(label) is not None


def _placed(found: list[tuple[str, str]], source: str) -> str:
    """The lines, each in the row of the source where its key stands."""
    rows = [list[str]() for _ in range(source.count("\n") + 1)]
    at, row, lost = 0, 0, False
    for key, line in found:
        place = -1 if lost or not key or len(key) > _LONGEST_KEY else source.find(key, at)
        lost |= place < 0  # (one search more for each value would take too long)
        if place >= 0:
            row += source.count("\n", at, place)
            at = place + len(key)
        rows[row].append(line)
    first, last = "\n" * bool(rows[0]), "\n" * bool(rows[-1])
    return first + "\n".join("\n".join(lines) for lines in rows) + last
