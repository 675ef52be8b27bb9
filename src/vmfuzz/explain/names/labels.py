"""From a label, as somebody wrote it, to the VMCS field that it means: the names of Linux, Xen, Bochs, VirtualBox, the SDM, and plain words.

Labels are compared as sets of words (tables.py), with the area (guest, host) held apart because authors often leave it out. A label
that fits several fields gives them all: the caller must say so rather than choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Final, NamedTuple

from vmfuzz.arch.capabilities import CAPABILITY_MSRS, FACT_MSRS, IA32_PERF_CAPABILITIES
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.names.tables import ALIASES, PHRASES, WORDS
from vmfuzz.patterns import deferred

_AREAS: Final = {"guest", "host"}
#: Words that are left out in a second attempt only, because some names rest on them.
_WEAK: Final = frozenset("msr register reg addr ptr ctl segment seg state number no current physical field".split())
_HIGH: Final = {"high", "hi", "h"}
#: What stands for an area before a name: G_CR0, H_CR0.
_INITIALS: Final = {"g": "guest", "h": "host"}
_CAMEL: Final = deferred(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: What `sure` begins is no field's name; `VMX_EXIT_CONTROLS` may be one.
_MSR_NAME: Final = deferred(
    r"(?:(?P<sure>(?:MSR[_ ](?:IA32[_ ])?|IA32[_ ])(?:VMX[_ ]|(?=PERF))|(?:VMX[_ ]|^)(?=TRUE|CR\d))|VMX[_ ]|(?=PERF))(?P<name>[A-Z0-9_ ]+)",
    re.IGNORECASE,
)
#: A capability MSR by its number, or by its place in an array of all of them: "0x480", "msr[480]", `vmx_msrs[2]`, `vmx_msrs[0x482]`.
_MSR_NUMBER: Final = deferred(
    r"(?P<array>[\w.>-]*vmx_?\w*(?:msrs?|caps?|capabilit(?:y|ies))\w*\[)?(?:msr\W*)?(?P<index>(?:0x)?[0-9a-f]+)h?\]?", re.IGNORECASE
)
_FIRST_MSR: Final = 0x480


class Match(NamedTuple):
    """What a label means: one field, or several where it is ambiguous."""

    fields: tuple[str, ...]
    assumed_guest: bool = False  # it names no area, and guest and host have such a field
    high: bool = False  # the high half of a 64-bit field


NOTHING: Final = Match(())


def area_of(words: Iterable[str]) -> str:
    """Whose register these words name: "guest", "host", or "" if they name neither or both."""
    named = _AREAS.intersection(words)
    return named.pop() if len(named) == 1 else ""


def _words(label: str) -> list[str]:
    """The words of a label in small letters and in one spelling: at punctuation, underscores and changes of case."""
    label = re.sub(r"exec(?:ution)?_?vmcs", "executive", label, flags=re.IGNORECASE)  # "exec" and "vmcs" alone say nothing
    spaced = re.sub(r"\bVM(?=[a-z])", "VM ", re.sub(r"[^0-9A-Za-z]+", " ", label))
    words = [word if word.isupper() or word.islower() else _CAMEL.sub(" ", word) for word in spaced.split()]
    return [read_as for word in " ".join(words).lower().split() if (read_as := WORDS.get(word, word))]


@cache
def _phrases() -> tuple[re.Pattern[str], Mapping[str, str]]:
    """(a pattern of all phrases, the longest first; what each is read as)."""
    read_as = {" ".join(_words(phrase)): words for phrase, words in PHRASES.items()}
    longest = sorted(filter(None, read_as), key=lambda phrase: -phrase.count(" "))
    return re.compile(rf"(?<!\S)(?:{'|'.join(longest)})(?!\S)"), read_as


@lru_cache(maxsize=1 << 14)
def normalise(label: str) -> tuple[str, ...]:
    """The words of a label after spellings and phrases have been unified, in the label's order."""
    words = _words(label)
    if len(words) > 1:
        words[0] = _INITIALS.get(words[0], words[0])
    phrases, read_as = _phrases()
    return tuple(phrases.sub(lambda match: read_as[match[0]], " ".join(words)).split())


@cache
def _index() -> Mapping[frozenset[str], Mapping[str, set[str]]]:
    """The fields that a set of words names, by area."""
    index: dict[frozenset[str], dict[str, set[str]]] = {}
    for name, labels in (*((name, [name]) for name in FIELDS), *ALIASES):
        for label in labels:
            by_area = index.setdefault(frozenset(normalise(label)) - _AREAS, {})
            by_area.setdefault(area_of(name.split("_")[:1]), set()).add(name)
    return index


@lru_cache(maxsize=1 << 14)
def match_label(label: str, context: tuple[str, ...] = (), area: str = "") -> Match:
    """The fields that `label` may mean; `context` are words from headings above it, `area` the area in force ("guest", "host" or "").

    A field that the label names by itself goes before one that it names only together with the context.
    """
    words = list(normalise(label))
    own = _AREAS.intersection(words)
    if len(own) > 1:
        return NOTHING
    high = len(words) > 1 and words[-1] in _HIGH
    area, bare = next(iter(own), area), frozenset(words[: -1 if high else None]) - _AREAS
    for wanted in dict.fromkeys((bare, bare.union(context) - _AREAS)) if bare else ():
        for attempt in dict.fromkeys((wanted, wanted - {"ctl"}, wanted - {"state"}, wanted - _WEAK)):
            match = _choose(_index().get(attempt, {}), area)
            if match.fields:
                return match._replace(high=high)
    return NOTHING


def _choose(by_area: Mapping[str, set[str]], area: str) -> Match:
    """The fields of one set of words: those of the area, those without one, or the guest's if nothing says whose."""
    names = by_area.get(area) or by_area.get("")
    if names or area or not by_area:
        return Match(tuple(sorted(names or ())))
    return Match(tuple(sorted(by_area.get("guest") or by_area["host"])), assumed_guest=len(by_area) > 1)


def _of_msr(name: str) -> str:
    """What tells a capability MSR's name from the others'."""
    return re.sub("IA32_VMX_|[_ ]|CTLS?|CONTROLS?|(?<=CAP)S$", "", name.upper())


#: IA32_PERF_CAPABILITIES says whether IA32_PERF_GLOBAL_CTRL has bit 48.
_MSRS: Final = {_of_msr(name): number for number, name in {**CAPABILITY_MSRS, IA32_PERF_CAPABILITIES: "PERF_CAPABILITIES"}.items()}


@lru_cache(maxsize=1 << 14)
def match_msr(label: str) -> int | None:
    """The number of the capability MSR that a label names ("IA32_VMX_BASIC", "MSR_IA32_VMX_CR0_FIXED0", "0x480"), or None."""
    label = label.strip()
    if numbered := _MSR_NUMBER.fullmatch(label):
        index = int(numbered["index"], 10 if numbered["array"] and numbered["index"].isdigit() else 16)
        index += _FIRST_MSR if numbered["array"] and index < _FIRST_MSR else 0
        return index if index in FACT_MSRS and not label.isdigit() else None
    match = _MSR_NAME.search(label)
    number = _MSRS.get(_of_msr(match["name"])) if match else None
    is_control_word = "CTLS" in CAPABILITY_MSRS.get(number or 0, "")
    return number if match and (match["sure"] is not None or not is_control_word) else None


def names_one(label: str) -> bool:
    """Whether a label names one field, or a capability MSR."""
    return len(match_label(label).fields) == 1 or match_msr(label) is not None


def names_surely(label: str) -> bool:
    """Whether a label names one field, or a capability MSR, and whose it is."""
    return names_one(label) and not match_label(label).assumed_guest


#: What says that a value is not the one with which VM entry was tried: it is of another time, wished for, or supposed.
OF_ANOTHER_TIME: Final = deferred(
    r"\b(?:if|when|whether|unless|should|must|would|could|might|may|can|need(?:s|ed)?|ought|expect(?:s|ed)?|wanted|suppose\w*|instead|not?|never|until|"
    r"before|after|once|try|tried|trying|ensure|make sure|suggest\w*|old|new|prev(?:ious(?:ly)?)?|saved|bits?|changed?|fixed|works?)\b|n['’]t\b",
    re.IGNORECASE,
)
#: Words in a path that make what it ends with another field's, or no field's.
_OF_ANOTHER_FIELD: Final = frozenset("shadow mask host exit entry backup copy default initial init reset".split())
#: What the end of a path has where it is sure to be of a VMCS.
_OF_STRUCTURE: Final = deferred("guest|host|vmcs", re.IGNORECASE)
_LONGEST_PATH: Final = 6
#: Registers that have parts, and the words for the parts.
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr", "gdtr", "idtr")
PARTS: Final = ("ar", "limit", "base", "sel")
#: A group of registers that stand below its name as parts do below a segment register's.
SYSENTER: Final = "sysenter"


def register_in(words: Iterable[str]) -> str:
    """The register, with parts, that is named in a heading or before the pairs of a line; "" if there is none."""
    return next((word for word in words if word in SEGMENTS or word == SYSENTER), "")


@lru_cache(maxsize=1 << 13)
def cut_label(written: str) -> tuple[str, bool]:
    """(what names a number, of all that is written before it: `vmcs.guest_rip` of "now vcpu.vmcs.guest_rip"; whether it ends words of a sentence)."""
    *others, last = written.split() or [""]
    parts = re.split(r"\.|->", last)
    sure = "_" in last if others else _OF_STRUCTURE.search(last)
    if not sure or match_label(written).fields or match_msr(written) is not None:
        return written, False
    for start in range(max(not others, len(parts) - _LONGEST_PATH), len(parts)):
        end = ".".join(parts[start:])
        if names_surely(end):
            path = " ".join((*others, *parts[:start]))
            told = not OF_ANOTHER_TIME.search(path) and _OF_ANOTHER_FIELD.isdisjoint(normalise(".".join(parts[:start])))
            return (end, any(map(str.isalpha, others))) if told else (written, False)
    return written, False
