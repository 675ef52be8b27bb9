"""What a line of "name: value" text or of a program looks like by itself, whatever stands above it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.explain.names.labels import match_label, match_msr, normalise
from vmfuzz.explain.text.numbers import NUMBER
from vmfuzz.patterns import deferred

PAIR: Final = deferred(
    rf"(?P<label>[A-Za-z_\"'0-9(][^=:|\n]*?)\s*(?:=>|->|:=|=|:(?!:))\s*[\"']?(?P<value>{NUMBER})(?P<end>[\"']?(?!\w|\.(?!\s|$)|…|[!#$%@^~?`\\+&]\w))|"
    rf"(?P<bad>[A-Za-z_]\w*)\s*[:=]\s*(?P<badvalue>0x\w+(?:\.\.+|…)?|[0-9a-fA-F]{{2,16}}(?:\.\.+|…))"
)
#: Whether there can be a pair at all: PAIR tries every place of a line of prose.
HAS_PAIR: Final = deferred(r"(?:>|[:=])\s*[\"']?-?[0-9a-fA-F]")
#: Of lines that begin with "#", only directives are program text: many programs print "# name = value".
CODE: Final = deferred(
    r".*(?:[;{}\\]\s*$|\bprintk?f?\s*\(|\bunsigned\b|\btypedef\b|\bstruct\b|__asm__|->\w|\(long\)|\bif\s*\(|\bfor\s*\(|\breturn\b)|//|"
    r"#\s*(?:define|include|ifn?def|elif|endif|undef|pragma)\b|#(?:if|else|error|line)\b|\|\s*\(\("
)
#: How Rust ("{:#x?}") and others print the beginning of a structure: `cs: SegmentState {`, `GuestState {`.
OPENS: Final = deferred(
    r"(?!(?:struct|enum|union|typedef|static|const|impl|fn|pub|if|else|for|while|switch|do|return|unsafe|match|class|let|mod|use)\b)"
    r"(?:(?:(?P<member>\w+(?: \w+){0,3})\s*[:=]\s*)?(?P<type>[A-Za-z_][\w:.<>]*)|(?P<only>[a-z_]\w*)\s*=)\s*[{]$"
)
CLOSES: Final = deferred(r"[})\]]+,?$")
#: `vmread(0x6800) = 0x...`, `vmread(GUEST_CR0): 0x...`: what is read stands for itself
READ_CALL: Final = deferred(
    r"\b\w*(?:vm|vmcs|vmx)_?read\w*\s*(?:::<\w+>)?\(\s*([\w:.]+)\s*\)(?=\s*(?:=>|->|[:=])\s*(?:0[xX])?[0-9a-fA-F]+\s*,?$)", re.IGNORECASE
)
#: What is printed behind a VMREAD that failed: the flags that it left, not the guest's.
FLAGS_LEFT: Final = deferred(r"[#/;\s]*[re]?flags\s*[:=]", re.IGNORECASE)
READ_FAILED: Final = deferred(r"vm_?read\b.*\bfail", re.IGNORECASE)
#: A member of structures: `vcpu->vmcs.guest_rip`.
_PATH: Final = r"[A-Za-z_][\w\[\]]*(?:(?:->|\.)[\w\[\]]+)*"
#: A line that only gives a value to a name, though it ends as a statement, or its name is a member; programs print where they are before it.
ASSIGNED: Final = deferred(
    rf"(?:[A-Z]\w{{0,15}}(?:\(\w{{1,10}}\))?: +)?(?:{_PATH}\s*[:=]\s*{NUMBER}\s*;|(?=[\w.\[\]]+->){_PATH}\s*=\s*{NUMBER}\s*)$"
)
#: A statement of a program: `vcpu->vmcs.guest_TR_limit = 0x67; // of 32 bits`, `vmx_guest_cr4 |= 1 << 13;`
STATEMENT: Final = deferred(r"[A-Za-z_](?:->|[\w.\[\]])*\s*(?:[|&^+*/%-]|<<|>>)?=(?!=)[^;]*;\s*(?:/[/*].*)?$")
#: Behind a number of a program: the expression does not end there.
GOES_ON: Final = deferred(r"\s*(?:<<|>>|\|\s*\(|[&^+*]\s*[\w(~])")
#: The name of a register before its parts: `CS: selector=0x10, base=0x0`
REGISTER_HEAD: Final = deferred(r"\b(?:[c-gs]s|ldtr?|tr|[gi]dtr?)\s*:", re.IGNORECASE)
#: Marks of Markdown: `**name:** ...`, and grave accents (but not those between the digits of WinDbg's numbers).
EMPHASIS: Final = deferred(r"\*\*(?=[^\s*])([^*]*)(?<=[^\s*])\*\*")
QUOTED: Final = deferred(r"(?<![0-9a-fA-F])`|`(?![0-9a-fA-F])")
#: A row of a table that has a register's parts in one cell: `| GUEST_TR | Sel=0x28, Base=0x1000 |`.
_REGISTER_ROW: Final = deferred(r"\|\s*(\w+)\s*\|(?=\s*\w+=)")
#: What a kernel says of a process: the registers on the line are that process's.
OF_PROCESS: Final = deferred(
    r"\baudit(?:\(\d|: type=)|\btype=[A-Z]+ msg=audit|\bsegfault at |\bgeneral protection fault ip[:=]|\btrap [a-z ]{2,24} ip[:=]"
)
#: Single bits and spans of the access rights, as some programs print them: word -> (lowest bit, width).
RIGHTS_BITS: Final = {
    "type": (0, 4), "type_": (0, 4), "s": (4, 1), "dpl": (5, 2), "p": (7, 1), "present": (7, 1), "avl": (12, 1), "l": (13, 1), "db": (14, 1), "g": (15, 1),
    "granularity": (15, 1), "unusable": (16, 1), "desc": (4, 1),
}  # fmt: skip

#: A word of a language, and so many of them for each pair make a sentence.
_SPOKEN: Final = deferred(r"(?<![\w.-])[^\W\d_]{2,}(?![\w.(-]\w)")
_SENTENCE: Final = 3
#: Words that no dump has in its labels; two of them around several pairs make a sentence too.
_OF_SPEECH: Final = frozenset(
    "a am an and are because but did does has have i if in is it its my not of on our should that the then these this was we when with would".split()
)
_SPEECH: Final = 2
#: Names of control words in lines that have those of all.
CONTROL_WORDS: Final = (("proc",), ("exit",), ("entry",))
#: What begins a remark behind a value: a mark, or blanks that set it apart.
_REMARK: Final = deferred(r"\s*(?:[(\[{#;<>/|!]|--?>?(?!\w)|-->)|\s{2}|\t")
#: What begins a comment; pairs in it are the author's words.
_BEHIND: Final = deferred(r"//|/\*|<-|#\s|--\s|->\s*(?=[A-Za-z])")


@lru_cache(maxsize=1 << 13)
def is_code(text: str) -> bool:
    """Whether a line is of program text, so that its assignments are no values of a dump."""
    return bool(CODE.match(text)) and not OPENS.match(text) and not CLOSES.match(text)


@lru_cache(maxsize=1 << 13)
def may_be_a_value(text: str) -> bool:
    """Whether a line looks like program text, but would be a name with its value in a text that is no program."""
    return ASSIGNED.match(text) is not None


def _tidy(text: str, source: bool) -> str:
    """A line with paths (`vmcs::host::RIP`, `vmcs->guest_rip`) and calls that read (`vmread(0x802)`) in the form of a label."""
    text = re.sub(r"(?<=\w)::(?=\w)", ".", text.strip().rstrip(","))
    if "`" in text:
        text = QUOTED.sub("", text)
    if "**" in text and not EMPHASIS.fullmatch(text):  # (a line that is emphasised as a whole is a heading)
        text = EMPHASIS.sub(r"\1", text)
    text = _REGISTER_ROW.sub(r"\1: ", text)
    if not source and ASSIGNED.match(text):
        text = text.rstrip(";").replace("->", ".")
    return READ_CALL.sub(_what_is_read, text)


def _what_is_read(match: re.Match[str]) -> str:
    number = re.fullmatch(r"0[xX]([0-9a-fA-F]{1,4})", match[1])
    return f"0x{int(number[1], 16):04x}" if number else match[1]


class Outline(NamedTuple):
    """What kind of line a line is, whatever stands above it."""

    text: str  # tidy
    opens: str  # the heading of the structure that begins here
    closes: bool
    fails: bool  # says that a VMREAD failed
    code: bool


@lru_cache(maxsize=1 << 13)
def outline_of(raw: str, source: bool) -> Outline:
    """The outline of a line; `source`: it stands in program text."""
    text = _tidy(raw, source)
    opens = OPENS.match(text)
    return Outline(
        text,
        f"{opens['member'] or opens['only'] or opens['type'].rpartition('.')[2]}:" if opens else "",
        CLOSES.match(text) is not None,
        READ_FAILED.search(text) is not None,
        CODE.match(text) is not None,
    )


@lru_cache(maxsize=1 << 13)
def pairs_in(text: str) -> tuple[tuple[int, int, str, str, str], ...]:
    """The pairs of a line: (start, end, label, number as written, "" or the label of something that is no number)."""
    if not HAS_PAIR.search(text):
        return ()
    return tuple(
        (match.start(), match.end(), match["label"] or "", match["value"] or match["badvalue"], match["bad"] or "")
        for match in PAIR.finditer(text)
    )


@lru_cache(maxsize=1 << 13)
def lists_controls(text: str) -> bool:
    """Whether a line has the control words under a word each, the pin-based ones among them: `Pin: 16 Proc: 401e172 Exit: 36fff Entry: 11ff`."""
    words = [normalise(label)[-1:] for _, _, label, _, _ in pairs_in(text)] if "pin" in text.lower() else []
    return ("pin",) in words and sum(one in CONTROL_WORDS for one in words) > 1


@lru_cache(maxsize=1 << 13)
def in_sentence(text: str, start: int = 0) -> bool:
    """Whether words stand around the pair of a line that begins at `start`, as in a sentence, and not a dump's own labels."""
    pairs = pairs_in(text)
    rest, end = list[str](), 0
    for begin, stop, _, _, _ in pairs:
        rest.append(text[end:begin])
        end = stop
    if pairs and _is_annotated(text, pairs[0]):
        comment = _BEHIND.search(text, pairs[0][1])
        return comment is not None and comment.end() <= start and bool(_SPOKEN.search(" ".join((*rest[1:], text[end:]))))
    spoken = len(_SPOKEN.findall(" ".join((*rest, text[end:]))))
    return spoken >= _SENTENCE * len(pairs) or (len(pairs) > 1 and not rest[0].rstrip().endswith(":") and _speaks(text))


def _is_annotated(text: str, pair: tuple[int, int, str, str, str]) -> bool:
    """Whether a line begins with a pair of a dump, and what follows it is a remark."""
    start, end, label, number, _ = pair
    if text[:start].strip(" \t([{\"'*-") or not _is_own_label(label.strip(" ,;()[]\"'")):
        return False
    behind = text[end:]
    by_colon = text[start + len(label) : end].removesuffix(number).strip(" \t\"'") == ":"
    return by_colon or _REMARK.match(behind) is not None or all(word.isupper() for word in _SPOKEN.findall(behind))


def _is_own_label(label: str) -> bool:
    return bool(re.fullmatch(r"\w+", label)) or bool(match_label(label).fields) or match_msr(label) is not None


def _speaks(text: str) -> bool:
    """Whether a line has a sentence's words, whatever else stands on it."""
    words = [word.lower() for word in _SPOKEN.findall(text)]
    return len(words) >= _SENTENCE and len({word for word in words if word in _OF_SPEECH}) >= _SPEECH


@lru_cache(maxsize=1 << 13)
def is_of_guest(text: str) -> bool:
    """Whether a line names one register and gives a limit or access rights, which the VMCS has of the guest's registers only."""
    given = {normalise(label.strip(" ,;()[]\"'")) for _, _, label, _, bad in pairs_in(text) if not bad}
    return len(REGISTER_HEAD.findall(text)) == 1 and not given.isdisjoint({("ar",), ("limit",)})


_FAILS: Final = deferred(
    r"vm_?(?:launch|resume|entry|enter)\b.{0,80}(?:fail|error)|(?:fail|error).{0,80}\bvm[ _-]?(?:launch|resume|entry|enter)|80000021",
    re.IGNORECASE,
)


@lru_cache(maxsize=1 << 13)
def says_failure(text: str) -> bool:
    """Whether a line says that VM entry failed."""
    return _FAILS.search(text) is not None
