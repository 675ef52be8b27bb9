"""Rewrites lines that give a name and its value apart into pairs: sentences, a list of names before one of values, gdb's commands.

`VMCS_HOST_TR_SELECTOR is written with 0x0`; `(EXIT_REASON, EXIT_QUALIFICATION): 80000021, 0`; `(gdb) p/x vmcs12->guest_cr0` and below it `$5 = 0x31`.
Whatever makes a sentence a wish, a condition or of another time leaves it as it is; and a dump's own value goes before a sentence's (settle/).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.explain.names.labels import match_label, names_one
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import NUMBER
from vmfuzz.patterns import deferred

#: No line is longer.
_LONGEST: Final = 600
_DONE: Final = r"(?:set|written|wrote|loaded|initiali[sz]ed|programmed|filled|configured|equal|stored|read(?:s)?(?: back)?)"
#: NAME is (written with) VALUE; NAME holds VALUE
_SAID: Final = deferred(
    rf"(?P<name>[A-Za-z_][\w.>\[\]-]{{1,60}}(?: [A-Za-z_][\w.-]{{0,40}}){{0,5}}?),? "
    rf"(?:(?:is|was|are|gets|got|has been) (?:(?:still|always|now|just|currently) )?(?:{_DONE} )?(?:with |to |as |by )?"
    rf"|(?:holds?|contains?|has|equals|reads(?: back)?(?: as)?|shows) (?:the value )?)(?P<value>{NUMBER})(?![\w.]\w)",
    re.IGNORECASE,
)
#: What makes a sentence no statement of what the field holds.
_NO_STATEMENT: Final = deferred(
    r"\b(?:if|when|whether|unless|should|must|would|could|might|may|can|need(?:s|ed)?|ought|expect(?:s|ed)?|suppose\w*|instead|not|never|until|before|after|"
    r"once|try|tried|trying|ensure|make sure|suggest\w*|previously|bits?|changed?|fixed|works?)\b|n['’]t\b",
    re.IGNORECASE,
)
_CLAUSE: Final = deferred(r"[.;!?](?:\s|$)")
_NAME: Final = r"[A-Za-z_][\w.]{0,50}(?: [A-Za-z]\w{0,30}){0,3}"
_LISTS: Final = deferred(
    rf"(?:^|.*?[\s(\[{{])(?P<names>{_NAME}(?:\s*[,|]\s*{_NAME})+)\s*[)\]}}]?\s*(?:=|:|->|=>|is|are|was)\s*[(\[{{]?\s*"
    rf"(?P<values>{NUMBER}(?:\s*[,|]\s*{NUMBER})+)\s*[)\]}}]?[.;]?$"
)
_COMMAND: Final = deferred(r"\(gdb\)\s*(?:p|print|inspect|output|call)(?:\s*/\w+)?\s+(?P<expression>\S.*?)\s*$")
_RESULT: Final = deferred(r"\$\d+ = (?P<value>.+)$")


def in_pairs(lines: Sequence[Line]) -> list[Line]:
    """The lines, such ones as pairs, and without gdb's commands."""
    found, expression = [], ""
    for line in lines:
        command, result = _COMMAND.match(line.text), _RESULT.match(line.text)
        named = f"{expression.replace('->', '.')} = {result['value']}" if result and expression else line.text
        text = _listed(named) or _stated(named)
        if command is None:
            found.append(line if text == line.text else replace(line, text=text))
        expression = command["expression"] if command else ""
    return found


@lru_cache(maxsize=1 << 13)
def _stated(text: str) -> str:
    """A line, with `name = value` in the place of what a sentence states of a field."""
    for match in _SAID.finditer(text) if " " in text and len(text) <= _LONGEST else ():
        clause = _CLAUSE.split(text[: match.start()])[-1] + _CLAUSE.split(text[match.start() :])[0]
        name = "" if _NO_STATEMENT.search(clause) else _field_at_the_end(match["name"])
        if name:
            return f"{text[: match.end('name')]} = {match['value']}{text[match.end() :]}"
    return text


def _field_at_the_end(words: str) -> str:
    """The longest end of the words that names one field, and whose it is; "" if there is none."""
    parts = words.split(" ")
    ends = (" ".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if names_one(end) and not match_label(end).assumed_guest), "")


@lru_cache(maxsize=1 << 13)
def _listed(text: str) -> str:
    """A line of two lists as pairs, "" if it is none: as many names as values, and each name that of a field."""
    match = _LISTS.match(text) if ("," in text or "|" in text) and len(text) <= _LONGEST else None
    if match is None:
        return ""
    names, values = ([one.strip() for one in re.split(r"[,|]", match[part])] for part in ("names", "values"))
    return ", ".join(map("{}={}".format, names, values)) if len(names) == len(values) and all(map(names_one, names)) else ""
