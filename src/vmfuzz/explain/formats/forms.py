"""The forms of lines of names and values, as patterns; plain.py reads with them."""

from __future__ import annotations

import re
from typing import Final

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
#: `4802 GUEST_CS_LIMIT: ffff`, `0x4802 = 0xffff`, `4802H (GUEST_CS_LIMIT): FFFFH`, `(0x4802) VMCS02.guest_CS_limit = 0xffff`
ENCODED: Final = deferred(
    rf"(?P<open>[(\[<]\s*)?(?:0[xX](?=[0-9a-fA-F]{{3,8}}\b)0*(?P<encoding>[0-9a-fA-F]{{1,4}})|(?P<bare>[0-9a-fA-F]{{4}})[hH]?\b)(?(open)\s*[)\]>])"
    rf"\s*(?:[:=-]?\s*[(\[@:.]?(?P<name>(?![0-9a-fA-F]+(?![\w@.:>-]))[A-Za-z_](?:\w|[@.>-](?=\w)|-(?=>)|:+(?=\w))*)[)\]]?\s*)?"
    rf"(?P<sep>=>|->|[:=]+|\s)\s*(?P<value>{NUMBER})\s*$"
)
NAMED_ENCODING: Final = deferred(
    rf"(?P<name>[A-Za-z_][\w ./-]*?)\s*[(\[]\s*(?:0[xX](?=[0-9a-fA-F]{{1,8}}\b)0*|0*(?=[0-9a-fA-F]{{3}}))(?P<encoding>[0-9a-fA-F]{{1,4}})[hH]?\s*[)\]]"
    rf"\s*(?:=>|->|[:=])?\s*(?P<value>{NUMBER})(?!\w)"
)
#: `GUEST_CR0    0x80000031`, `GUEST_CR0 ...... 0x80000031`
SPACED: Final = deferred(
    rf"[\[<]?(?P<name>[A-Za-z_][\w.>-]*(?: [A-Za-z][\w/-]*){{0,6}})[\]>]?(?P<gap>\s*\.{{2,}}\s*|\s+)(?P<value>{NUMBER})\s*$"
)
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
MSR_LINE: Final = deferred(
    r"(?:(?:0x)?0*(?P<number>4[89][0-9a-fA-F])[hH]?\s+)?(?P<name>(?:MSR_)?IA32_VMX_\w+)\s*[:=]?\s+(?P<value>0[xX][0-9a-fA-F]+)(?:\s*/\s*(?P<second>0[xX][0-9a-fA-F]+))?"
)
ENCODINGS_OF: Final = deferred(r"(?P<names>[\w/]+)\s+encodings?\s*[:=]\s*(?P<values>(?:0x[0-9a-fA-F]+[,\s]*)+)$")
LIST_OF_PARTS: Final = deferred(
    rf"(?P<label>[A-Za-z_][\w/]*)\s*=\s*(?P<value>{NUMBER}),\s*(?P<rest>(?>(?:base|limit|ar|rights|sel|attr)[A-Za-z_]*(?:\s*[:=]\s*|\s+){NUMBER}(?!\w)[,\s]*)+)$",
    re.IGNORECASE,
)
#: The name of a register before its parts: `CS: selector=0x10, base=0x0`
REGISTER_HEAD: Final = deferred(r"\b(?:[c-gs]s|ldtr?|tr|[gi]dtr?)\s*:", re.IGNORECASE)
#: Marks of Markdown: `**name:** ...`, and grave accents (but not those between the digits of WinDbg's numbers).
EMPHASIS: Final = deferred(r"\*\*(?=[^\s*])([^*]*)(?<=[^\s*])\*\*")
QUOTED: Final = deferred(r"(?<![0-9a-fA-F])`|`(?![0-9a-fA-F])")
#: `GUEST_DS_BASE/LIMIT/AR = 0 / 0xFFFFFFFF / 0xC093`
SLASHED: Final = deferred(r"(?<!\S)(?P<names>\w+(?:/\w+)+)\s*=\s*(?P<values>[^=]*)$")
#: What a kernel says of a process: the registers on the line are that process's.
OF_PROCESS: Final = deferred(
    r"\baudit(?:\(\d|: type=)|\btype=[A-Z]+ msg=audit|\bsegfault at |\bgeneral protection fault ip[:=]|\btrap [a-z ]{2,24} ip[:=]"
)
#: Single bits and spans of the access rights, as some programs print them: word -> (lowest bit, width).
RIGHTS_BITS: Final = {
    "type": (0, 4), "type_": (0, 4), "s": (4, 1), "dpl": (5, 2), "p": (7, 1), "present": (7, 1), "avl": (12, 1), "l": (13, 1), "db": (14, 1), "g": (15, 1),
    "granularity": (15, 1), "unusable": (16, 1), "desc": (4, 1),
}  # fmt: skip
