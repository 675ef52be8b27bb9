"""What a program itself says of the failure in its log: Bochs names the check that failed, Xen shows the entry of the MSR-load area."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from vmfuzz.arch.outcomes import Kind
from vmfuzz.explain.dump import Dump, Reported
from vmfuzz.explain.text.lines import Line
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS
from vmfuzz.patterns import deferred

_ENTRY_FAILED: Final = 1 << 31
#: A conversion of a format string -> what it prints; `%s` prints the name of a segment register.
_PRINTED: Final = {"%s": r"(?P<name>\w+)", "%d": r"-?\d+", "%x": "[0-9a-f]+", "%lx": "[0-9a-f]+", "%08x": "[0-9a-f]+"}
_FORMAT: Final = deferred(r"%(?:08x|lx|[sdx])")
_BOCHS: Final = deferred(r"VMENTER FAIL|VMFAIL|VMX LoadMSRs")
#: Xen's line on the MSR that could not be loaded.
_XEN_MSR: Final = deferred(r"msr (?P<number>[0-9a-f]{8}) val (?P<value>[0-9a-f]{1,16}) \(mbz", re.IGNORECASE)
_MARKS: Final = "\"'`"


@cache
def _messages() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    found = []
    # the one with most words of its own first: one message may begin with another, and "%s" stands for any register
    for message, ids in sorted(MESSAGES.items(), key=lambda item: -len(_FORMAT.sub("", item[0]))):
        parts, end = "", 0
        for match in _FORMAT.finditer(message):
            printed = _PRINTED[match[0]]
            parts += re.escape(message[end : match.start()]) + (printed if "(?P<name>" not in parts else r"\w+")
            end = match.end()
        found.append((re.compile(parts + re.escape(message[end:])), ids))
    return tuple(found)


def named_checks(text: str) -> tuple[Check, ...]:
    """The checks that a message of Bochs in this text stands for."""
    if not _BOCHS.search(text):
        return ()
    for pattern, ids in _messages():
        match = pattern.search(text)
        if match:
            name = (match.groupdict().get("name") or "*").lower()
            wanted = [one.replace("*", name, 1) for one in ids]
            return tuple(check for check in CHECKS if any(fnmatch.fnmatchcase(check.id, one) for one in wanted))
    return ()


def find(lines: Iterable[Line], dump: Dump) -> None:
    """Note in `dump` what programs say of the failure, and the outcome that follows from it where the text has none."""
    for line in lines:
        checks = named_checks(line.text)
        begins = _BOCHS.search(line.text)
        if checks and begins:
            dump.said.append((line.number, _quoted(line.text, begins.start()), checks))
        match = _XEN_MSR.search(line.text)
        if match:
            dump.refused_msr = (line.number, int(match["number"], 16), int(match["value"], 16))
    if dump.said and dump.reported is None:
        _, text, checks = dump.said[0]
        outcome = checks[0].fails.outcomes[0]
        if outcome.kind is Kind.ENTRY_FAILURE:
            dump.reported = Reported(text, _ENTRY_FAILED | (outcome.number or 0))
        elif outcome.kind is Kind.VMFAIL_VALID:
            dump.reported = Reported(text, error=outcome.number)


def _quoted(line: str, begin: int) -> str:
    """The message that begins at `begin`: to the end of the line, or to the quotation mark that closes it where one opens before it."""
    if begin and line[begin - 1] in _MARKS:
        end = line.find(line[begin - 1], begin)
        return line[begin : end if end >= 0 else len(line)]
    return line[begin:]
