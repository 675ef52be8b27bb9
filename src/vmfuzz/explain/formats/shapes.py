"""What a line of "name: value" text or of a program looks like by itself, whatever stands above it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.explain.names.labels import names_one
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
    r".*(?:[;{}\\]\s*$|\bprintk?f?\s*\(|\bunsigned\b|\btypedef\b|\bstruct\b|->\w|\bif\s*\(|\bfor\s*\(|\breturn\b)|//|"
    r"#\s*(?:define|include|ifn?def|elif|endif|undef|pragma)\b|#(?:if|else|error|line)\b"
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
#: A line that ends as a statement, or whose name is a member, but in a text that is no program only gives a value to a name (behind where it is
#: printed: "CPU(0x01): ").
ASSIGNED: Final = deferred(
    rf"(?:[A-Z]\w{{0,15}}(?:\(\w{{1,10}}\))?: +)?(?:{_PATH}\s*[:=]\s*{NUMBER}\s*;|(?=[\w.\[\]]+->){_PATH}\s*=\s*{NUMBER}\s*)$"
)
#: A statement of a program, or the beginning of one: `vmx_guest_cr4 |= 1 << 13;`, `vcpu->vmcs.guest_cr4 = 0x20; // VMXE`, `eptp = 0x18 | (u64)e`
STATEMENT: Final = deferred(
    rf"[A-Za-z_](?:->|[\w.\[\]])*\s*(?:[|&^+*/%-]|<<|>>)?=(?!=)(?:[^;]*;\s*(?:/[/*].*)?$|\s*{NUMBER}\s*(?:<<|>>|\|\s*\(|[&^+*]\s*[\w(~]))"
)
#: The name of a register before its parts: `CS: selector=0x10, base=0x0`
REGISTER_HEAD: Final = deferred(r"\b(?:[c-gs]s|ldtr?|tr|[gi]dtr?)\s*:", re.IGNORECASE)
#: That VM entry failed.
FAILS: Final = deferred(
    r"vm_?(?:launch|resume|entry|enter)\b.{0,80}(?:fail|error)|(?:fail|error).{0,80}\bvm[ _-]?(?:launch|resume|entry|enter)|80000021",
    re.IGNORECASE,
)
#: Marks of Markdown: `**name:** ...`, and grave accents (but not those between the digits of WinDbg's numbers).
EMPHASIS: Final = deferred(r"\*\*(?=[^\s*])([^*]*)(?<=[^\s*])\*\*")
QUOTED: Final = deferred(r"(?<![0-9a-fA-F])`|`(?![0-9a-fA-F])")
#: A row of a table that has a register's parts in one cell: `| GUEST_TR | Sel=0x28, Base=0x1000 |`.
_REGISTER_ROW: Final = deferred(r"\|\s*(\w+(?: \w+)?)\s*\|(?=\s*\w+=)")
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
#: How a sentence goes on behind a number; a remark begins with a mark, with more blanks, or with a capital letter.
_GOES_ON: Final = deferred(r"[,.]? ?[a-z]")


@lru_cache(maxsize=1 << 13)
def is_code(text: str) -> bool:
    """Whether a line is of program text, so that its assignments are no values of a dump."""
    return bool(CODE.match(text)) and not OPENS.match(text) and not CLOSES.match(text)


@lru_cache(maxsize=1 << 13)
def tidy(text: str, source: bool) -> str:
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


@lru_cache(maxsize=1 << 13)
def opened_by(text: str) -> str:
    """The heading of the structure that begins on a line; "" if none does."""
    opens = OPENS.match(text)
    return f"{opens['member'] or opens['only'] or opens['type'].rpartition('.')[2]}:" if opens else ""


class Pair(NamedTuple):
    """A label and the number behind it as written; or, as `bad`, the label of something that is no number."""

    start: int
    end: int
    label: str
    value: str
    bad: str


@lru_cache(maxsize=1 << 13)
def pairs_in(text: str) -> tuple[Pair, ...]:
    """The pairs of a line."""
    found = PAIR.finditer(text) if HAS_PAIR.search(text) else ()
    return tuple(Pair(*one.span(), one["label"] or "", one["value"] or one["badvalue"], one["bad"] or "") for one in found)


@lru_cache(maxsize=1 << 13)
def in_sentence(text: str) -> bool:
    """Whether words stand around the pairs of a line, as in a sentence, and not behind a name and value, as a remark does."""
    pairs = pairs_in(text)
    first = pairs[0]
    label = first.label.strip(" ,;()[]\"'")
    begins = not text[: first.start].strip(" \t([{\"'*-") and (re.fullmatch(r"\w+", label) or names_one(label))
    if begins and not _GOES_ON.match(text, first.end):
        return False
    return len(_SPOKEN.findall(PAIR.sub(" ", text))) >= _SENTENCE * len(pairs)
