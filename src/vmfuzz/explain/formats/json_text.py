"""JSON as lines of names and values, so that one reader understands both: a text that is JSON as a whole, JSON lines, and objects within a text.

A journal in JSON gives its messages; anything else its leaves, named by the path that leads to them. Numbers of JSON are decimal, always.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from vmfuzz.explain.names.labels import match_label, names_one
from vmfuzz.patterns import deferred

_MOST_DEEP: Final = 12
_NAME_KEYS: Final = ("name", "field", "label", "key")
_VALUE_KEYS: Final = ("value", "val", "data")
_MESSAGE: Final = "MESSAGE"
#: Under which names the records of other logs have their text.
_TEXT_KEYS: Final = frozenset({"message", "msg", "log", "line", "text", "@message", "_raw"})
#: The beginning of an object that has a key, and what stands before one that is a member of another.
_OBJECT: Final = deferred(r'\{\s{0,400}"')
_KEY: Final = deferred(r'"\s*:\s*$')
_BEFORE: Final = 40
#: So many objects that break off are no accident.
_TRIES: Final = 50


def spread(text: str) -> str:
    """The text, with lines of names and values in the place of each object in it that gives a field."""
    result, done, failed, decoder = list[str](), 0, 0, json.JSONDecoder()
    for match in _OBJECT.finditer(text):
        begin = match.start()
        if begin < done or failed == _TRIES or _KEY.search(text[max(0, begin - _BEFORE) : begin]):
            continue  # (a member of an object that breaks off: whose it is, is not told there)
        try:
            data, end = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            failed += 1
            continue
        found = list(_leaves(data))
        if any(not key or names_one(line.partition(" = ")[0]) for key, line in found):
            placed = _placed(found, text[begin:end])
            before = "\n" * (not placed.startswith("\n") and text[begin - 1 : begin] not in ("", "\n"))
            result += [text[done:begin], before, placed, "\n" * (not placed.endswith("\n") and text[end : end + 1] != "\n")]
            done = end
    return "".join([*result, text[done:]])


def _placed(found: list[tuple[str, str]], source: str) -> str:
    """The lines, each in the row of the source where its key stands."""
    rows = [list[str]() for _ in range(source.count("\n") + 1)]
    at = row = 0
    for key, line in found:
        place = source.find(key, at) if key else -1
        if place >= 0:
            row += source.count("\n", at, place)
            at = place + len(key)
        rows[row].append(line)
    return "\n".join("\n".join(lines) for lines in rows)


def _leaves(data: Any, path: tuple[str, ...] = (), depth: int = 0) -> Iterator[tuple[str, str]]:
    """(the key that stands before it, the line) of each value in the data; the key of text that stands for itself is ""."""
    if depth > _MOST_DEEP:
        return
    if isinstance(data, dict):
        if isinstance(data.get(_MESSAGE), str):
            yield "", data[_MESSAGE]
            return
        name = next((data[key] for key in _NAME_KEYS if isinstance(data.get(key), str)), None)
        value = next((data[key] for key in _VALUE_KEYS if key in data), None)
        if name is not None and isinstance(value, (int, str)):
            yield name, _pair((*path, name), value)
            return
        for key, item in data.items():
            yield from _leaves(item, () if key in _TEXT_KEYS and isinstance(item, str) else (*path, str(key)), depth + 1)
    elif isinstance(data, list):
        for item in data:
            yield from _leaves(item, path, depth + 1)
    elif isinstance(data, (int, str)) and not isinstance(data, bool):
        yield path[-1] if path else "", _pair(path, data)


def _pair(path: tuple[str, ...], value: int | str) -> str:
    if isinstance(value, int):
        value = hex(value) if value >= 0 else str(value)
    elif "\n" in value or not path:
        return value
    return f"{_label(path)} = {value}"


def _label(path: tuple[str, ...]) -> str:
    """The shortest end of the path that names a field in the area that the path names; else the whole path."""
    area = next((word for part in path for word in ("guest", "host") if word in part.lower()), "")
    for length in range(1, len(path) + 1):
        label = ".".join(path[-length:])
        if area and not any(word in label.lower() for word in ("guest", "host")):
            label = f"{area}.{label}"
        if names_one(label) and (length == len(path) or not match_label(label).assumed_guest):
            return label
    return ".".join(path)
