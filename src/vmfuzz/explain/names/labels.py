"""From a label, as somebody wrote it, to the VMCS field that it means: the names of Linux, Xen, Bochs, VirtualBox, the SDM, and plain words.

Labels are compared as sets of words (tables.py), with the area (guest, host) held apart because authors often leave it out. A label
that fits several fields gives them all: the caller must say so rather than choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Final, NamedTuple

from vmfuzz.arch.capabilities import CAPABILITY_MSRS, IA32_PERF_CAPABILITIES
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.names.tables import ALIASES, PHRASES, WORDS
from vmfuzz.patterns import deferred

_AREAS: Final = {"guest", "host"}
#: Words that are left out in a second attempt only, because some names rest on them.
_WEAK: Final = frozenset("msr register reg addr ptr ctl segment seg state number no current physical field".split())
_MOST_WORDS: Final = 8
_HIGH: Final = {"high", "hi", "h"}
#: What stands for an area before a name: G_CR0, H_CR0.
_INITIALS: Final = {"g": "guest", "h": "host"}
_CAMEL: Final = deferred(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MSR_NAME: Final = deferred(r"(?P<sure>(?:MSR[_ ])?(?:IA32[_ ])?)(?:VMX[_ ]|(?=PERF[_ ]))(?P<name>[A-Z0-9_ ]+)", re.IGNORECASE)
_MSR_NUMBER: Final = deferred(r"(?:msr\W*)?(?:0x)?0*(?P<index>4[89][0-9a-f]|345)h?", re.IGNORECASE)
#: An element of an array of all capability MSRs, by its place from 480H on or by its number: `vmx_msrs[2]`, `vmx_msrs[0x482]`.
_MSR_ARRAY: Final = deferred(
    r"(?:\w+[.>-])*\w*(?:vmx_?(?:msrs?|caps?|capabilit(?:y|ies))|vmx_\w*msrs?)\w*\[(?P<index>\d{1,4}|0x[0-9a-f]{1,4})\]?", re.IGNORECASE
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


def split_words(label: str) -> list[str]:
    """The words of a label in small letters: at punctuation, underscores and changes of case."""
    label = re.sub(r"\((?:16|32|64|natural)[^)]*\)?", "", label)
    label = re.sub(r"exec(?:ution)?_?vmcs", "executive", label, flags=re.IGNORECASE)  # "exec" and "vmcs" alone say nothing
    spaced = re.sub(r"\bVM(?=[a-z])", "VM ", re.sub(r"[^0-9A-Za-z]+", " ", label))
    words = []
    for word in spaced.split():
        mixed = not word.isupper() and not word.islower()
        words += _CAMEL.sub(" ", word).lower().split() if mixed else [word.lower()]
    return words


def _plain(words: list[str]) -> list[str]:
    return [word for word in (WORDS.get(word, word) for word in words) if word]


@cache
def _phrases() -> tuple[re.Pattern[str], Mapping[str, str]]:
    """(a pattern of all phrases, the longest first; what each is read as)."""
    read_as = {" ".join(_plain(split_words(phrase))): words for phrase, words in PHRASES.items()}
    longest = sorted(filter(None, read_as), key=lambda phrase: -phrase.count(" "))
    return re.compile(rf"(?<!\S)(?:{'|'.join(longest)})(?!\S)"), read_as


@lru_cache(maxsize=1 << 14)
def normalise(label: str) -> tuple[str, ...]:
    """The words of a label after spellings and phrases have been unified, in the label's order."""
    words = _plain(split_words(label))
    if len(words) > 1:
        words[0] = _INITIALS.get(words[0], words[0])
    phrases, read_as = _phrases()
    return tuple(phrases.sub(lambda match: read_as[match[0]], " ".join(words)).split())


_Index = dict[frozenset[str], dict[str, set[str]]]


@cache
def _index() -> _Index:
    index: _Index = {}
    for name in FIELDS:
        _enter(index, name, name)
    for name, labels in ALIASES:
        for label in labels:
            _enter(index, label, name)
    return index


def _enter(index: _Index, label: str, name: str) -> None:
    area = area_of(name.split("_")[:1])
    words = frozenset(normalise(label)) - _AREAS
    index.setdefault(words, {}).setdefault(area, set()).add(name)


@lru_cache(maxsize=1 << 14)
def match_label(label: str, context: tuple[str, ...] = (), area: str = "") -> Match:
    """The fields that `label` may mean; `context` are words from headings above it, `area` the area in force ("guest", "host" or "").

    A field that the label names by itself goes before one that it names only together with the context.
    """
    words = list(normalise(label))
    own = _AREAS.intersection(words)
    if not words or len(words) > _MOST_WORDS or len(own) > 1:
        return NOTHING
    high = len(words) > 1 and words[-1] in _HIGH
    if high:
        words.pop()
    area = next(iter(own), area)
    bare = frozenset(words) - _AREAS
    around = frozenset(context) - _AREAS
    for wanted in dict.fromkeys((bare, bare | around if bare else bare)):
        for attempt in dict.fromkeys((wanted, wanted - {"ctl"}, wanted - {"state"}, wanted - _WEAK)):
            match = _choose(_index().get(attempt, {}), area) if attempt else NOTHING
            if match.fields:
                return Match(match.fields, match.assumed_guest, high)
    return NOTHING


def _choose(by_area: Mapping[str, set[str]], area: str) -> Match:
    """The fields of one set of words: those of the area, those without one, or the guest's if nothing says whose."""
    if names := by_area.get(area) or by_area.get(""):
        return Match(tuple(sorted(names)))
    if area or not by_area:
        return NOTHING
    return Match(tuple(sorted(by_area.get("guest") or by_area["host"])), assumed_guest=len(by_area) > 1)


def _of_msr(name: str) -> str:
    """What tells a capability MSR's name from the others'."""
    return re.sub("[_ ]|CTLS?|CONTROLS?", "", name.upper()).replace("VPIDCAPS", "VPIDCAP")


@cache
def _msrs() -> dict[str, int]:
    """The MSRs by what tells their names; IA32_PERF_CAPABILITIES says whether IA32_PERF_GLOBAL_CTRL has bit 48."""
    names = {**CAPABILITY_MSRS, IA32_PERF_CAPABILITIES: "PERF_CAPABILITIES"}
    return {_of_msr(name.removeprefix("IA32_VMX_")): number for number, name in names.items()}


@lru_cache(maxsize=1 << 14)
def match_msr(label: str) -> int | None:
    """The number of the capability MSR that a label names ("IA32_VMX_BASIC", "MSR_IA32_VMX_CR0_FIXED0", "0x480"), or None."""
    label = label.strip()
    if element := _MSR_ARRAY.fullmatch(label):
        index = int(element["index"], 0)
        return next((number for number in (index, _FIRST_MSR + index) if number in CAPABILITY_MSRS), None)
    if alone := _MSR_NUMBER.fullmatch(label):
        number = int(alone["index"], 16)
        return number if number in CAPABILITY_MSRS or (number == IA32_PERF_CAPABILITIES and not label.isdigit()) else None
    match = _MSR_NAME.search(label)
    name = _of_msr(match["name"] if match else label)
    named = _msrs().get(name)
    is_control_word = "CTLS" in CAPABILITY_MSRS.get(named or 0, "")  # VMX_EXIT_CONTROLS may be the field
    means_no_other = name.startswith(("TRUE", "CR")) or (match and (match["sure"] or not is_control_word))
    return named if means_no_other else None


def names_one(label: str) -> bool:
    """Whether a label names one field, or a capability MSR."""
    return len(match_label(label).fields) == 1 or match_msr(label) is not None


#: What says that a value is not the one with which VM entry was tried: it is of another time, wished for, or supposed.
OF_ANOTHER_TIME: Final = deferred(
    r"\b(?:if|when|whether|unless|should|must|would|could|might|may|can|need(?:s|ed)?|ought|expect(?:s|ed)?|wanted|suppose\w*|instead|not?|never|until|"
    r"before|after|once|try|tried|trying|ensure|make sure|suggest\w*|old|new|prev(?:ious(?:ly)?)?|saved|bits?|changed?|fixed|works?)\b|n['’]t\b",
    re.IGNORECASE,
)
#: Words in a path that make what it ends with another field's, or no field's.
_OF_ANOTHER_FIELD: Final = frozenset("shadow mask host exit entry backup copy default initial init reset".split())
#: Words without which the end of a path is not sure to be of a VMCS.
_OF_STRUCTURE: Final = frozenset({"guest", "host", "vmcs"})
_LONGEST_PATH: Final = 6
#: Registers that have parts, and the words for the parts.
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr", "gdtr", "idtr")
PARTS: Final = ("ar", "limit", "base", "sel")


class Cut(NamedTuple):
    """The part of what stands before a number that names it, and whether it ends words of a sentence."""

    label: str
    of_sentence: bool = False


def cut_label(written: str, area: str) -> Cut:
    """What names a number, of all that is written before it: `vmcs.guest_rip` of "now vcpu.vmcs.guest_rip"; all of it if no part is known."""
    if match_label(written, area=area).fields or match_msr(written) is not None:
        return Cut(written)
    head, dash, name = written.rpartition(" - ")
    if dash:
        named = f"{area_of(normalise(head))} {name}".strip()
        return Cut(named if match_label(named).fields else name)
    *others, last = written.split() or [""]
    parts = last.split(".")
    for start in range(0 if others else 1, min(len(parts), _LONGEST_PATH)):
        end = ".".join(parts[start:])
        match = match_label(end)
        if len(match.fields) == 1 and not match.assumed_guest:
            path = split_words(" ".join(parts[:start]))
            sure = "_" in last if others else not _OF_STRUCTURE.isdisjoint(split_words(last))
            told = OF_ANOTHER_TIME.search(" ".join((*others, *path))) is None and _OF_ANOTHER_FIELD.isdisjoint(path)
            return Cut(end, any(map(str.isalpha, others))) if sure and told else Cut(written)
    return Cut(written)
