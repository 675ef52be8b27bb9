"""From a label, as somebody wrote it, to the VMCS field that it means: the names of Linux, Xen, Bochs, VirtualBox, the SDM, and plain words.

Labels are compared as sets of words (tables.py), with the area (guest, host) held apart because authors often leave it out. A label
that fits several fields gives them all: the caller must say so rather than choose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from vmfuzz.arch.capabilities import CAPABILITY_MSRS, IA32_PERF_CAPABILITIES
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.names.tables import ALIASES, PHRASES, WORDS
from vmfuzz.patterns import deferred

_AREAS: Final = {"guest", "host"}
#: Words that are left out in a second attempt only, because some names rest on them.
_WEAK: Final = frozenset(
    {"msr", "register", "reg", "addr", "ptr", "ctl", "segment", "seg", "state", "number", "no", "current", "physical", "field"}
)
_HIGH: Final = {"high", "hi", "h"}
#: What stands for an area before a name: G_CR0, H_CR0.
_INITIALS: Final = {"g": "guest", "h": "host"}
#: The same without a sign between: GCR0, hrip.
_INITIAL: Final = deferred(r"\b([gh])(?=(?:cr[034]|rip|rsp|rflags|efer)\b)", re.IGNORECASE)
_CAMEL: Final = deferred(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MSR_NAME: Final = deferred(r"(?P<sure>(?:MSR[_ ])?(?:IA32[_ ])?)VMX[_ ](?P<name>[A-Z0-9_ ]+)", re.IGNORECASE)
#: The MSR that says whether IA32_PERF_GLOBAL_CTRL has bit 48; its number alone ("345") means nothing.
_PERF_CAPABILITIES: Final = re.compile(
    r"(?:MSR[_ ])?(?:IA32[_ ])?PERF[_ ]?CAPABILITIES|(?:(?:MSR\W*)(?:0x)?|0x)0*345h?|0*345h", re.IGNORECASE
)


#: An element of an array of all capability MSRs, by its place from 480H on or by its number: `vmx_msrs[2]`, `vmx_msrs[0x482]`.
_MSR_ARRAY: Final = deferred(
    r"(?:\w+[.>-])*\w*(?:vmx_?(?:msrs?|caps?|capabilit(?:y|ies))|vmx_\w*msrs?)\w*\[(?P<index>\d{1,4}|0x[0-9a-f]{1,4})\]?", re.IGNORECASE
)
_FIRST_MSR: Final = 0x480


@dataclass(frozen=True)
class Match:
    """What a label means: one field, or several where it is ambiguous; `assumed_guest` where it named no area and both exist.

    `high`: the label is that of the high half of a 64-bit field.
    """

    fields: tuple[str, ...]
    assumed_guest: bool = False
    high: bool = False


NOTHING: Final = Match(())


def split_words(label: str) -> list[str]:
    """The words of a label in small letters: at punctuation, underscores and changes of case."""
    label = re.sub(r"\((?:16|32|64|natural)[^)]*\)?", "", label)
    label = re.sub(r"exec(?:ution)?_?vmcs", "executive", label, flags=re.IGNORECASE)  # "exec" and "vmcs" alone say nothing
    spaced = re.sub(r"\bVM(?=[a-z])", "VM ", re.sub(r"[^0-9A-Za-z]+", " ", label))
    spaced = _INITIAL.sub(r"\1 ", spaced)
    words = []
    for word in spaced.split():
        mixed = not word.isupper() and not word.islower()
        words += _CAMEL.sub(" ", word).lower().split() if mixed else [word.lower()]
    return words


def _plain(words: list[str]) -> list[str]:
    return [word for word in (WORDS.get(word, word) for word in words) if word]


@cache
def _phrases() -> dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]:
    """The phrases by their first word, longest first."""
    found = {tuple(_plain(split_words(" ".join(left)))): right for left, right in PHRASES}
    by_word: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for left, right in sorted(found.items(), key=lambda pair: -len(pair[0])):
        if left:
            by_word.setdefault(left[0], []).append((left, right))
    return by_word


@lru_cache(maxsize=1 << 14)
def normalise(label: str) -> tuple[str, ...]:
    """The words of a label after spellings and phrases have been unified, in the label's order."""
    words = _plain(split_words(label))
    if len(words) > 1 and words[0] in _INITIALS:
        words[0] = _INITIALS[words[0]]
    result: list[str] = []
    index = 0
    while index < len(words):
        for left, right in _phrases().get(words[index], ()):
            if tuple(words[index : index + len(left)]) == left:
                result += right
                index += len(left)
                break
        else:
            result.append(words[index])
            index += 1
    return tuple(result)


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
    area = name.partition("_")[0] if name.startswith(("guest_", "host_")) else ""
    words = frozenset(normalise(label)) - _AREAS
    index.setdefault(words, {}).setdefault(area, set()).add(name)


@lru_cache(maxsize=1 << 14)
def match_label(label: str, context: tuple[str, ...] = (), area: str = "") -> Match:
    """The fields that `label` may mean; `context` are words from headings above it, `area` the area in force ("guest", "host" or "").

    A field that the label names by itself goes before one that it names only together with the context.
    """
    words = list(normalise(label))
    if not words or len(words) > 8:
        return NOTHING
    high = len(words) > 1 and words[-1] in _HIGH
    if high:
        words.pop()
    own = [word for word in words if word in _AREAS]
    if len(set(own)) > 1:
        return NOTHING
    if own:
        area = own[0]
    bare = frozenset(words) - _AREAS
    around = frozenset(context) - _AREAS
    for wanted in dict.fromkeys((bare, bare | around if bare else bare)):
        for attempt in dict.fromkeys((wanted, wanted - {"ctl"}, wanted - {"state"}, wanted - _WEAK)):
            match = _choose(_index().get(attempt, {}), area, explicit=bool(own)) if attempt else NOTHING
            if match.fields:
                return Match(match.fields, match.assumed_guest, high)
    return NOTHING


def _choose(by_area: dict[str, set[str]], area: str, explicit: bool) -> Match:
    if area in by_area:
        return Match(tuple(sorted(by_area[area])))
    if "" in by_area:
        return Match(tuple(sorted(by_area[""])))
    if explicit or not by_area:
        return NOTHING
    if len(by_area) == 1:
        names = next(iter(by_area.values()))
        return Match(tuple(sorted(names))) if not area else NOTHING
    return Match(tuple(sorted(by_area["guest"])), assumed_guest=True)


def _of_msr(name: str) -> str:
    """What tells a capability MSR's name from the others'."""
    return re.sub("[_ ]|CTLS?|CONTROLS?", "", name.upper()).replace("VPIDCAPS", "VPIDCAP")


@cache
def _msrs() -> dict[str, int]:
    return {_of_msr(name.removeprefix("IA32_VMX_")): number for number, name in CAPABILITY_MSRS.items()}


@lru_cache(maxsize=1 << 14)
def match_msr(label: str) -> int | None:
    """The number of the capability MSR that a label names ("IA32_VMX_BASIC", "MSR_IA32_VMX_CR0_FIXED0", "0x480"), or None."""
    label = label.strip()
    if _PERF_CAPABILITIES.fullmatch(label):
        return IA32_PERF_CAPABILITIES
    element = _MSR_ARRAY.fullmatch(label)
    if element:
        index = int(element["index"], 0)
        return next((number for number in (index, _FIRST_MSR + index) if number in CAPABILITY_MSRS), None)
    match = _MSR_NAME.search(label)
    named = _msrs().get(_of_msr(match["name"] if match else label))
    if named is not None:
        true = CAPABILITY_MSRS[named].removeprefix("IA32_VMX_").startswith(("TRUE", "CR"))  # these mean nothing else without "VMX" too
        if true or (match and (match["sure"] or "CTLS" not in CAPABILITY_MSRS[named])):
            return named
    number = re.fullmatch(r"(?:msr\W*)?(?:0x)?0*(4[89][0-9a-f])h?", label, re.IGNORECASE)
    return int(number[1], 16) if number and int(number[1], 16) in CAPABILITY_MSRS else None


def names_one(label: str) -> bool:
    """Whether a label names one field, or a capability MSR."""
    return len(match_label(label).fields) == 1 or match_msr(label) is not None


#: Words before a name that say that its value is not the one with which VM entry was tried.
_OF_ANOTHER_TIME: Final = frozenset("old new previous prev saved expected wanted before after should not was no instead if when".split())
#: Words before a name that make it another field's, or no field's.
_OF_ANOTHER_FIELD: Final = frozenset("shadow mask host exit entry backup copy default initial init reset".split())
#: Words without which the end of a path is not sure to be of a VMCS.
_OF_STRUCTURE: Final = frozenset({"guest", "host", "vmcs"})
_LONGEST_PATH: Final = 6
#: Registers that have parts, and the parts' words -> the ending of the field's name.
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr", "gdtr", "idtr")
PARTS: Final = {"ar": "access_rights", "limit": "limit", "base": "base", "sel": "selector"}


def best_label(label: str, area: str) -> str:
    """The label, or the end of it that names a field ("Guest Control Registers - CR0", "done  rip")."""
    if match_label(label, area=area).fields or match_msr(label) is not None:
        return label
    member = named_member(label)
    if member:
        return member
    before, dash, after = label.rpartition(" - ")
    if dash:
        own = next((word for word in normalise(before) if word in _AREAS), "")
        named = f"{own} {after}".strip()
        return named if match_label(named).fields else after
    end = ending_name(label)
    return end or label.rpartition("  ")[2].strip(" ,;()[]\"'")


def named_member(path: str) -> str:
    """The end of a path that names whose field it is (of `vcpu.vmcs.guest_rip` "vmcs.guest_rip"); "" if there is none or more is said of it."""
    parts = path.split(".")
    for start in range(1, min(len(parts), _LONGEST_PATH)):
        end = ".".join(parts[start:])
        match = match_label(end)
        if match.fields:
            others = split_words(" ".join(parts[:start]))
            of_vmcs = "vmcs" in others or not _OF_STRUCTURE.isdisjoint(split_words(end))
            plain = of_vmcs and len(match.fields) == 1 and not match.assumed_guest and " " not in path
            return end if plain and (_OF_ANOTHER_TIME | _OF_ANOTHER_FIELD).isdisjoint(others) else ""
    return ""


def ending_name(label: str) -> str:
    """The field's full name with which a sentence ends ("done with guest_rflags"); "" if there is none, or its value is of another time."""
    *before, last = label.split() or [""]
    if not before or "_" not in last or not _OF_ANOTHER_TIME.isdisjoint(word.lower().strip(",;:()") for word in before):
        return ""
    match = match_label(last)
    return last if len(match.fields) == 1 and not match.assumed_guest else ""
