"""Rewrites what a sentence says of a field into a pair: `VMCS_HOST_TR_SELECTOR is written with 0x0`, `I set GUEST_RFLAGS to 2`,
`GUEST_CR0 and GUEST_CR4, which are 0x31 and 0x2020`.

Whatever makes it a wish, a condition or another time leaves the sentence as it is; and a dump's own value goes before a sentence's (settle/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.explain.names.labels import match_label, match_msr
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import NUMBER
from vmfuzz.patterns import deferred

_NAME: Final = r"[A-Za-z_][\w.>\[\]-]{1,60}(?: [A-Za-z_][\w.-]{0,40}){0,5}?"
_VALUE: Final = rf"(?P<value>{NUMBER})(?![\w.]\w)"
_DONE: Final = r"(?:set|written|wrote|loaded|initiali[sz]ed|programmed|filled|configured|equal|stored|read(?:s)?(?: back)?)"
_FORMS: Final = (
    # NAME is (written with) VALUE; NAME holds VALUE
    deferred(
        rf"(?P<name>{_NAME}),? (?:(?:is|was|are|gets|got|has been) (?:(?:still|always|now|just|currently) )?(?:{_DONE} )?(?:with |to |as |by )?"
        rf"|(?:holds?|contains?|has|equals|reads(?: back)?(?: as)?|shows) (?:the value )?){_VALUE}",
        re.IGNORECASE,
    ),
    # I set NAME to VALUE
    deferred(
        r"\b(?:I|we|it|code|hypervisor|kernel|then|and)(?: have| just| also)? (?:sets?|writes?|wrote|load(?:s|ed)?|initiali[sz]ed?s?) (?:the )?"
        rf"(?P<name>{_NAME}) (?:to|with|as) (?:the value )?{_VALUE}",
        re.IGNORECASE,
    ),
)
#: NAME and NAME, which are VALUE and VALUE
_TOKEN: Final = r"[A-Za-z_][\w.>-]{1,60}"
_TWO: Final = deferred(
    rf"\b(?P<first>{_TOKEN}) and (?P<second>{_TOKEN}),? (?:which )?(?:are|were) (?P<one>{NUMBER}) and {_VALUE}", re.IGNORECASE
)
_TELLING: Final = (
    " is ",
    " was ",
    " are ",
    " gets ",
    " got ",
    " has ",
    " holds ",
    " contains ",
    " equals ",
    " reads ",
    " were ",
    " shows ",
    " to ",
    " with ",
    " as ",
)
#: What makes a sentence no statement of what the field holds.
_NO_STATEMENT: Final = deferred(
    r"\b(?:if|when|whether|unless|should|must|would|could|might|may|can|need(?:s|ed)?|ought|expect(?:s|ed)?|suppose\w*|instead|not|never|until|before|after|"
    r"once|try|tried|trying|ensure|make sure|suggest\w*|previously|bits?|changed?|fixed|works?)\b|n['’]t\b",
    re.IGNORECASE,
)
_CLAUSE: Final = deferred(r"[.;!?](?:\s|$)")
_LONGEST: Final = 600


def stated(lines: Iterable[Line]) -> list[Line]:
    """The lines, those of sentences that state what a field holds with `name = value` in that place."""
    return [replace(line, text=text) if (text := _stated(line.text)) != line.text else line for line in lines]


@lru_cache(maxsize=1 << 13)
def _stated(text: str) -> str:
    small = text.lower()
    if len(text) > _LONGEST or not any(word in small for word in _TELLING):
        return text
    for match in _TWO.finditer(text):
        names = [_field_at_the_end(match[name]) for name in ("first", "second")]
        if all(names) and not _NO_STATEMENT.search(_clause(text, match.start())):
            return f"{text[: match.start()]}{names[0]} = {match['one']}, {names[1]} = {match['value']}{text[match.end() :]}"
    for form in _FORMS:
        for match in form.finditer(text):
            name = _field_at_the_end(match["name"])
            if name and not _NO_STATEMENT.search(_clause(text, match.start())):
                return f"{text[: match.start('name')]}{match['name'][: -len(name)]}{name} = {match['value']}{text[match.end() :]}"
    return text


def _clause(text: str, at: int) -> str:
    """The clause of a sentence that a place in it belongs to."""
    return _CLAUSE.split(text[:at])[-1] + _CLAUSE.split(text[at:])[0]


def _field_at_the_end(words: str) -> str:
    """The longest end of the words that names one field, and whose it is; "" if there is none."""
    parts = words.split(" ")
    for start in range(len(parts)):
        name = " ".join(parts[start:])
        match = match_label(name)
        if (len(match.fields) == 1 and not match.assumed_guest) or match_msr(name) is not None:
            return name
    return ""
