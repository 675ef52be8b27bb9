"""Completes labels of control fields that say what they are only half: `proc-based:`, `VMCS entry =`, `IntrInfoField` beside `EntryInstrLen`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.explain.names.labels import match_label, normalise
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_BEGIN: Final = r"(?P<begin>^|[,;]\s{0,20})(?:vmcs(?:[ ._:]|->|::))?"
_PROC: Final = deferred(rf"{_BEGIN}(?:proc|processor|cpu)[ _-]?based(?=\s{{0,20}}[:=])", re.IGNORECASE)
#: plain.py knows "proc", "exit" and "entry" beside "pin".
_OF_VMCS: Final = deferred(r"^vmcs(?:[ ._:]|->|::)(?=(?:pin|proc|exit|entry)\s{0,20}[:=])", re.IGNORECASE)
_LABEL: Final = deferred(r"(?P<label>[A-Za-z][\w .]{0,60}?)\s{0,20}[:=]")
#: Fields of the event to inject that name VM entry themselves, and what says that a VM exit's are listed.
_OF_ENTRY: Final = frozenset({"vm_entry_instruction_length", "vm_entry_exception_error_code"})
_OF_EXIT: Final = ("vm_exit_i", "idt_vectoring", "exit_")
#: So many lines above and below are beside a line.
_NEAR: Final = 2


def completed(lines: Sequence[Line]) -> list[Line]:
    """The lines, with such labels completed."""
    texts = [_complete(line.text) for line in lines]
    for index, text in enumerate(texts):
        if _is_event(text):
            around = [_field(other) for other in texts[max(0, index - _NEAR) : index + _NEAR + 1]]
            if not _OF_ENTRY.isdisjoint(around) and not any(name.startswith(_OF_EXIT) for name in around):
                texts[index] = f"Entry {text}"
    return [line if line.text == text else replace(line, text=text) for line, text in zip(lines, texts, strict=True)]


@lru_cache(maxsize=1 << 13)
def _complete(text: str) -> str:
    small = text.lower()
    if "based" in small:
        text = _PROC.sub(r"\g<begin>proc controls", text)
    return _OF_VMCS.sub("", text) if small.startswith("vmcs") else text


@lru_cache(maxsize=1 << 13)
def _is_event(text: str) -> bool:
    label = _LABEL.match(text) if "nt" in text else None
    return label is not None and normalise(label["label"]) == ("intr", "info")


@lru_cache(maxsize=1 << 13)
def _field(text: str) -> str:
    """The field that the label at the beginning of a line names; "" if it names none, or several."""
    label = _LABEL.match(text)
    fields = match_label(label["label"]).fields if label else ()
    return fields[0] if len(fields) == 1 else ""
