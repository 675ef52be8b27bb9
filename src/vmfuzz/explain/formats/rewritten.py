"""Rewrites lines that give a name and its value apart into pairs: sentences, a list of names before one of values, what gdb prints.

`VMCS_HOST_TR_SELECTOR is written with 0x0`; `(EXIT_REASON, EXIT_QUALIFICATION): 80000021, 0`; `(gdb) p/x vmcs12->guest_cr0` and below it
`$5 = 0x31`.
Whatever makes a sentence a wish, a condition or of another time leaves it as it is; and a dump's own value goes before a sentence's (settle/).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from vmfuzz.explain.names.labels import OF_ANOTHER_TIME, match_label, names_one
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import NUMBER
from vmfuzz.patterns import deferred

#: No longer line is looked at.
_LONGEST: Final = 600
_DONE: Final = r"(?:set|written|wrote|loaded|initiali[sz]ed|programmed|filled|configured|equal|stored|read(?:s)?(?: back)?)"
#: NAME is (written with) VALUE; NAME holds VALUE
_SAID: Final = deferred(
    rf"(?P<name>[A-Za-z_][\w.>\[\]-]{{1,60}}(?: [A-Za-z_][\w.-]{{0,40}}){{0,5}}?),? "
    rf"(?:(?:is|was|are|gets|got|has been) (?:(?:still|always|now|just|currently) )?(?:{_DONE} )?(?:with |to |as |by )?"
    rf"|(?:holds?|contains?|has|equals|reads(?: back)?(?: as)?|shows) (?:the value )?)(?P<value>{NUMBER})(?![\w.]\w)",
    re.IGNORECASE,
)
_CLAUSE: Final = deferred(r"[.;!?](?:\s|$)")
_NAME: Final = r"[A-Za-z_][\w.]{0,50}(?: [A-Za-z]\w{0,30}){0,3}"
_LISTS: Final = deferred(
    rf"(?:^|.*?[\s(\[{{])(?P<names>{_NAME}(?:\s*[,|]\s*{_NAME})+)\s*[)\]}}]?\s*(?:=|:|->|=>|is|are|was)\s*[(\[{{]?\s*"
    rf"(?P<values>{NUMBER}(?:\s*[,|]\s*{NUMBER})+)\s*[)\]}}]?[.;]?$"
)
_GDB_ASKED: Final = deferred(r"\(gdb\)\s*(?:p|print|output|call)(?:\s*/\w+)?\s+(?P<expression>\S.*)")
_GDB_PRINTED: Final = deferred(r"\$\d+ = (?P<value>.+)")


def in_pairs(lines: Sequence[Line]) -> list[Line]:
    """The lines, such ones as pairs and without gdb's commands; all others as they are."""
    found, expression = list[Line](), ""
    for line in lines:
        asked, printed = _GDB_ASKED.match(line.text), _GDB_PRINTED.match(line.text)
        text = f"{expression} = {printed['value']}" if printed and expression else _in_pairs(line.text)
        expression = asked["expression"].replace("->", ".") if asked else ""
        if not asked:
            found.append(line if text == line.text else line._replace(text=text))
    return found


@lru_cache(maxsize=1 << 13)
def _in_pairs(text: str) -> str:
    if len(text) > _LONGEST:
        return text
    lists = _LISTS.match(text) if "," in text or "|" in text else None
    if lists:  # as many names as values, and each name that of a field
        names, values = ([one.strip() for one in re.split(r"[,|]", lists[part])] for part in ("names", "values"))
        if len(names) == len(values) and all(map(names_one, names)):
            return ", ".join(map("{}={}".format, names, values))
    for match in _SAID.finditer(text) if " " in text else ():
        clause = _CLAUSE.split(text[: match.start()])[-1] + _CLAUSE.split(text[match.start() :])[0]
        if OF_ANOTHER_TIME.search(clause) is None and _ends_with_a_field(match["name"]):
            return f"{text[: match.end('name')]} = {match['value']}{text[match.end() :]}"
    return text


def _ends_with_a_field(words: str) -> bool:
    """Whether an end of the words names one field, and whose it is."""
    parts = words.split(" ")
    ends = (" ".join(parts[start:]) for start in range(len(parts)))
    return any(names_one(end) and not match_label(end).assumed_guest for end in ends)
