"""JSON as lines of names and values, so that one reader understands both: a text that is JSON as a whole, JSON lines, and objects within a text.

A journal in JSON gives its messages; anything else its leaves, named by the path that leads to them. Numbers of JSON are decimal, always.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from vmfuzz.explain.names.labels import names_one
from vmfuzz.patterns import deferred

_NAME_KEYS: Final = ("name", "field", "label", "key")
_VALUE_KEYS: Final = ("value", "val", "data")
#: Under which names the records of other logs have their text.
_TEXT_KEYS: Final = frozenset({"message", "msg", "log", "line", "text", "@message", "_raw"})
#: The beginning of an object that has a key; what stands before one that is a member of another.
_OBJECT: Final = deferred(r'\{\s{0,400}"')
_MEMBER: Final = deferred(r'"\s{0,40}:\s{0,40}$')
#: So many objects that break off are no accident.
_TRIES: Final = 50


def spread(text: str) -> str:
    """The text, with lines of names and values in the place of each object in it that gives a field."""
    result, done, failed, decoder = list[str](), 0, 0, json.JSONDecoder()
    for match in _OBJECT.finditer(text):
        begin = match.start()
        if begin < done or failed == _TRIES or _MEMBER.search(text, max(begin - 82, 0), begin):
            continue  # (a member of an object that breaks off: whose it is, is not told there)
        try:
            data, end = decoder.raw_decode(text, begin)
            found = list(_leaves(data))
        except (ValueError, RecursionError):
            failed += 1
            continue
        if any(not key or names_one(line.partition(" = ")[0]) for key, line in found):
            placed = _placed(found, text[begin:end])
            before = "\n" * (not placed.startswith("\n") and text[begin - 1 : begin] not in ("", "\n"))
            result += [text[done:begin], before, placed, "\n" * (not placed.endswith("\n") and text[end : end + 1] != "\n")]
            done = end
    return "".join([*result, text[done:]])


def _placed(found: list[tuple[str, str]], source: str) -> str:
    """The lines, each in the row of the source where its key stands."""
    lines, at, row = list[str](), 0, 0
    for key, line in found:
        place = source.find(key, at) if key else -1
        if place >= 0:
            row += source.count("\n", at, place)
            at = place + len(key)
        lines += [*[""] * (row - len(lines)), line]
    return "\n".join(lines) + "\n" * (source.count("\n") + 1 - len(lines))


def _leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """(the key that stands before it, the line) of each value in the data; the key of text that stands for itself, such as a journal's, is ""."""
    if isinstance(data, dict):
        name, value = (next((data[key] for key in keys if key in data), None) for keys in (_NAME_KEYS, _VALUE_KEYS))
        if isinstance(data.get("MESSAGE"), str):
            yield "", data["MESSAGE"]
        elif isinstance(name, str) and isinstance(value, (int, str)):
            yield name, _line((*path, name), value)
        else:
            for key, item in data.items():
                yield from _leaves(item, () if key in _TEXT_KEYS and isinstance(item, str) else (*path, key))
    elif isinstance(data, list):
        for item in data:
            yield from _leaves(item, path)
    elif isinstance(data, (int, str)) and not isinstance(data, bool):
        yield "".join(path[-1:]), _line(path, data)


def _line(path: tuple[str, ...], value: int | str) -> str:
    """A name and its value: the shortest end of the path that names a field in the area that the path names, or else the whole path."""
    if isinstance(value, str) and ("\n" in value or not path):
        return value
    area = next((f"{word}." for part in path for word in ("guest", "host") if word in part.lower()), "")
    ends = [".".join(path[at:]) for at in reversed(range(len(path)))]
    labels = [end if "guest" in end.lower() or "host" in end.lower() else area + end for end in ends]
    return f"{next(filter(names_one, labels), ends[-1])} = {value if isinstance(value, str) or value < 0 else hex(value)}"
