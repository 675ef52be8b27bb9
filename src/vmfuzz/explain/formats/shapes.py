"""What a line of "name: value" text or of a program looks like by itself, whatever stands above it: which names stand beside which numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.explain.names.labels import OF_ANOTHER_TIME, area_of, cut_label, names_one, names_surely, normalise, register_in
from vmfuzz.explain.text.numbers import NUMBER, read_number
from vmfuzz.patterns import deferred

#: How a sentence says it: NAME is (written with) VALUE; NAME holds VALUE.
_DONE: Final = r"(?:set|written|wrote|loaded|initiali[sz]ed|programmed|filled|configured|equal|stored|read(?:s)?(?: back)?)"
_SAYS: Final = (
    rf"(?i:(?:is|was|are|gets|got|has been) (?:(?:still|always|now|just|currently) )?(?:{_DONE} )?(?:with |to |as |by )?"
    r"|(?:holds?|contains?|has|equals|reads(?: back)?(?: as)?|shows) (?:the value )?)"
)
#: A number that goes on as an expression is no value: `vmx_guest_cr4 = 1 << `, `eptp = 0x18 | (u64)e`.
_NO_EXPRESSION: Final = r"(?!\s*(?:<<|>>|\|\s*\(|[&^+*]\s*[\w(~]))"
_PAIR: Final = deferred(
    rf"(?<!\w)(?:(?P<label>[A-Za-z_\"'0-9(][^=:|\n]{{0,200}}?)(?:\s*(?:=>|->|:=|=|:(?!:))\s*[\"']?|(?P<said>,? {_SAYS}))(?P<value>{NUMBER})"
    rf"[\"']?(?!\w|\.(?!\s|$)|…|[!#$%@^~?`\\+&]\w){_NO_EXPRESSION}|"
    rf"(?P<bad>[A-Za-z_]\w*)\s*[:=]\s*(?P<badvalue>0x\w++(?:\.\.+|…)?|[0-9a-fA-F]{{2,16}}(?:\.\.+|…)){_NO_EXPRESSION})"
)
#: Whether there can be a pair at all: _PAIR tries every place of a line of prose.
_HAS_PAIR: Final = deferred(rf"(?:[>:=]\s*[\"']?|\s{_SAYS})-?[0-9a-fA-F]")
#: How Rust ("{:#x?}") and others print the beginning of a structure: `cs: SegmentState {`, `GuestState {`.
_OPENS: Final = deferred(
    r"(?!(?:struct|enum|union|typedef|static|const|impl|fn|pub|if|else|for|while|switch|do|return|unsafe|match|class|let|mod|use)\b)"
    r"(?=[A-Za-z_])(?:(?P<member>\w+(?: \w+){0,3})\s*[:=]\s*)?(?P<type>[\w:.<>]*)\s*[{]$"
)
#: `vmread(0x6800) = 0x...`, `vmread(GUEST_CR0): 0x...`: what is read stands for itself
_READ_CALL: Final = deferred(
    r"\b\w*(?:vm|vmcs|vmx)_?read\w*\s*(?:::<\w+>)?\(\s*([\w:.]+)\s*\)(?=\s*(?:=>|->|[:=])\s*(?:0[xX])?[0-9a-fA-F]+\s*,?$)", re.IGNORECASE
)
#: Marks of Markdown: `**name:** ...`, and grave accents (but not those between the digits of WinDbg's numbers).
_EMPHASIS: Final = deferred(r"\*\*(?=[^\s*])([^*]*)(?<=[^\s*])\*\*")
_QUOTED: Final = deferred(r"(?<![0-9a-fA-F])`|`(?![0-9a-fA-F])")
#: A word of a language, and so many of them for each pair make a sentence.
_SPOKEN: Final = deferred(r"(?<![\w.-])[^\W\d_]{2,}(?![\w.(-]\w)")
_SENTENCE: Final = 3
#: How a sentence goes on behind a number; a remark begins with a mark, with more blanks, or with a capital letter.
_GOES_ON: Final = deferred(r"[,.]? ?[a-z]")
_MOST_CONTEXT: Final = 4
#: Words of control words that mean others where the pin-based ones do not stand beside them: `Pin: 16 Proc: 401e172 Exit: 36fff Entry: 11ff`.
_CONTROL_WORDS: Final = frozenset({("proc",), ("exit",), ("entry",)})
#: Parts that the VMCS has of the guest's registers only.
_OF_GUEST: Final = frozenset({("ar",), ("limit",)})
_AROUND_LABELS: Final = " ,;()[]\"'"


@lru_cache(maxsize=1 << 13)
def tidy(text: str) -> str:
    """A line with paths (`vmcs::host::RIP`) and calls that read (`vmread(0x802)`) in the form of a label, without marks of Markdown."""
    text = re.sub(r"(?<=\w)::(?=\w)", ".", text.strip().rstrip(","))
    if "`" in text:
        text = _QUOTED.sub("", text)
    if "**" in text and not _EMPHASIS.fullmatch(text):  # (a line that is emphasised as a whole is a heading)
        text = _EMPHASIS.sub(r"\1", text)
    return _READ_CALL.sub(lambda call: call[1].replace("0x", "0x000"), text)  # (an encoding has three digits at least)


@lru_cache(maxsize=1 << 13)
def opened_by(text: str) -> str:
    """The heading of the structure that begins on a line; "" if none does."""
    opens = _OPENS.match(text)
    return f"{opens['member'] or opens['type'].rpartition('.')[2]}:" if opens else ""


class Pair(NamedTuple):
    """A label and the number behind it as written, or what stands in the place of one, and how they stand there."""

    label: str
    value: str
    start: int = 0
    end: int = 0
    of_sentence: bool = False
    #: words that stand before it, or before one before it: `CS: sel=...`, `entry state: intr=...`
    context: tuple[str, ...] = ()
    #: whose register it is, as the line says: "guest", "host" or ""
    area: str = ""


@lru_cache(maxsize=1 << 13)
def pairs_in(text: str) -> tuple[Pair, ...]:
    """The pairs of a line."""
    matches = _PAIR.finditer(text) if _HAS_PAIR.search(text) else ()
    pairs = [pair for match in matches if (pair := _pair(match))]
    words = {normalise(pair.label)[-1:] for pair in pairs}
    in_sentence = bool(pairs) and _is_sentence(text, pairs)
    found = list(_in_context(text, pairs, words))
    registers = {register_in(pair.context) for pair in found} - {""}
    of_guest = (len(registers) == 1 and not words.isdisjoint(_OF_GUEST)) or (in_sentence and "guest" in text.lower())
    return tuple(pair._replace(of_sentence=pair.of_sentence or in_sentence, area=pair.area or "guest" * of_guest) for pair in found)


def _in_context(text: str, pairs: Sequence[Pair], words: Set[tuple[str, ...]]) -> Iterator[Pair]:
    """The pairs of a line, whose labels end with these words, with what stands before them."""
    of_controls = ("pin",) in words and len(words & _CONTROL_WORDS) > 1
    context: tuple[str, ...] = ("ctl",) if of_controls else ()
    area, end = "", 0
    for pair in pairs:
        before = text[end : pair.start].strip(" ,;()[]")
        head = normalise(before) if before.endswith((":", "|", "-")) and not of_controls else ()
        context = head if 0 < len(head) <= _MOST_CONTEXT else context
        end = end if read_number(pair.value, True) is None else pair.end
        area = area_of(pair.label.lower().split()[:1]) or area_of(context) or area  # `host CS=0x38 SS=0x30`
        yield pair._replace(context=context, area=area)


def _pair(match: re.Match[str]) -> Pair | None:
    """A name, a sign or a verb, and a number; None if the verb says something else than what a field holds."""
    if match["bad"]:
        return Pair(match["bad"], match.string[match.start("badvalue") :].split()[0].rstrip(",;:"), *match.span())
    start, end = match.span("label")
    head, dash, _ = match["label"].rpartition(" - ")
    if dash and not names_one(match["label"]):
        start += len(head + dash)
    label, of_sentence = cut_label(match.string[start:end].strip(_AROUND_LABELS))
    if match["said"] and (not names_surely(label) or OF_ANOTHER_TIME.search(match.string)):
        return None
    return Pair(label, match["value"], start, match.end(), of_sentence)


def _is_sentence(text: str, pairs: Sequence[Pair]) -> bool:
    """Whether words stand around the pairs of a line, as in a sentence, and not behind a name and value, as a remark does."""
    first, ends = pairs[0], [0, *(pair.end for pair in pairs)]
    begins = not text[: first.start].strip(" \t([{\"'*-") and (re.fullmatch(r"\w+", first.label) or names_one(first.label))
    if begins and not _GOES_ON.match(text, first.end):
        return False
    around = [text[end : pair.start] for end, pair in zip(ends, pairs, strict=False)]
    return len(_SPOKEN.findall(" ".join([*around, text[ends[-1] :]]))) >= _SENTENCE * len(pairs)
