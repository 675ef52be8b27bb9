"""JSON (and what debuggers and interpreters print like it) as lines of names and values, so that one reader understands both.

A journal in JSON gives its messages; anything else its leaves, named by the path that leads to them. Numbers of JSON are decimal, always.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any, Final

from vmfuzz.explain.names.labels import match_label, match_msr

_MOST_DEEP: Final = 12
#: Longest text that is tried as a Python literal (its parser is slow, and its nesting bounded by the stack).
_MOST_LITERAL: Final = 1 << 20
_NAME_KEYS: Final = ("name", "field", "label", "key")
_VALUE_KEYS: Final = ("value", "val", "data")
_MESSAGE: Final = "MESSAGE"
#: Under which names the records of other logs have their text.
_TEXT_KEYS: Final = frozenset({"message", "msg", "log", "line", "text", "@message", "_raw"})


def parsed(text: str) -> Any | None:
    """The data that a text is as a whole: JSON, JSON lines (a list of them), or a literal of Python's; None if it is none of these."""
    stripped = text.strip()
    if not stripped.startswith(("{", "[")) or not stripped.endswith(("}", "]")):
        return None
    try:
        return json.loads(stripped)
    except (ValueError, RecursionError):
        pass
    try:
        return [json.loads(line) for line in stripped.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        pass
    if len(stripped) > _MOST_LITERAL or "'" not in stripped:
        return None
    try:
        data = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return data if isinstance(data, (dict, list)) else None


def as_lines(data: Any) -> str:
    """The data as lines of `name = 0x...`; text in it stands for itself."""
    return "\n".join(line for _, line in leaves(data)) + "\n"


def leaves(data: Any, path: tuple[str, ...] = (), depth: int = 0) -> Iterator[tuple[str, str]]:
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
            yield from leaves(item, () if key in _TEXT_KEYS and isinstance(item, str) else (*path, str(key)), depth + 1)
    elif isinstance(data, (list, tuple)):
        for item in data:
            yield from leaves(item, path, depth + 1)
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
        match = match_label(label)
        if (len(match.fields) == 1 and (not match.assumed_guest or length == len(path))) or match_msr(label) is not None:
            return label
    return ".".join(path)
