"""Whether a text holds a dump of KVM or Xen at all: monitors print single lines like theirs among registers of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from vmfuzz.explain.formats.kvm_tables import CONTROL, OWN
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: Lines that no other program prints.
_CERTAIN: Final = deferred(
    r"\*\*\* ?(?:Guest|Host|Control) State|VMCS [0-9a-fA-Fx]+, last attempted|CR[034]: ?actual|sel\s+attr\s+limit\s+base|SVI\|RVI|EFER\((?:VMCS|MSR LL)\)|"
    r"(?:[CDSEFG]S|LDTR|TR):\s+[0-9a-fA-F]{4}\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{8}\s|[GI]DTR:\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{16}|"
    r"MSR (?:guest|host) auto|Sysenter RSP=\S+ +CS:RIP=|(?:[FG]S|TR|GDT|IDT)Base=[0-9a-fA-F]{16}"
)
_16: Final = "[0-9a-fA-F]{16}"
_8: Final = "[0-9a-fA-F]{8}"
_4: Final = "[0-9a-fA-F]{4}"
#: Lines with the widths, and in the order of parts, that KVM and Xen print; a line may break off behind its first value.
_EXACT: Final = deferred(
    rf"(?:[CDSEFG]S|LDTR|TR):\s+sel=0x{_4}, ?(?:attr=0x[0-9a-fA-F]{{5}}|$)|[GI]DTR:\s+limit=0x{_8}, ?(?:base=0x{_16}|$)|"
    rf"R(?:SP|IP) = 0x{_16}|RFLAGS=0x{_8} +DR7 = 0x|Sysenter RSP={_16}|EFER ?= +0x{_16}|PAT = 0x{_16}|PDPT[RE]\d = 0x{_16}|"
    rf"Debug(?:Ctl|Exceptions) ?= ?0x{_16}|PerfGlobCtl = 0x{_16}|BndCfgS = 0x{_16}|Interruptibility ?= ?{_4}(?:{_4})?\b|ActivityState ?= ?{_4}(?:{_4})?\b|"
    rf"CS={_4} [SD]S={_4}|(?:[FG]S|TR|GDT|IDT)Base={_16}|CR0={_16}|CR3={_16} CR4|(?:PinBased|CPUBased|SecondaryExec)=(?:0x)?{_8}\b|"
    rf"E(?:ntry|xit)Controls={_8}\b|ExceptionBitmap={_8}\b|PFECm\w+={_8}\b|VM(?:Entry|Exit): intr_info={_8}\b|IDTVectoring: info={_8}\b|"
    rf"reason={_8} qualification={_16}|TSC (?:Offset|Multiplier) = 0x{_16}|virt-APIC addr = 0x{_16}|APIC-access addr = 0x{_16}|EPT pointer = 0x{_16}|"
    rf"PLE Gap={_8}|Virtual processor ID = 0x{_4}\b|(?:S_CET|SSP|(?:INTR )?SSP TABLE) = 0x{_16}"
)
#: Registers as monitors print them, in no form of KVM's or Xen's.
_BARE: Final = deferred(
    r"(?:guest[_. ])?(?:cr[034]|e?[re]?flags|[re]?[is]p|dr7|efer|[c-gs]s|tr|ldtr|[gi]dtr)(?:[._ ](?:sel\w*|base|limit|ar|access|attr\w*))?"
    r" ?[:=] ?(?:0x)?[0-9a-f]",
    re.IGNORECASE,
)
_SEGMENT: Final = deferred(r"(?:[CDSEFG]S|LDTR|TR|[GI]DTR):")
#: Keys of theirs that a reader of lists knows by the field's name only.
_NAMED: Final = {key: OWN[CONTROL][key] for key in ("CPUBased", "PFECmask", "PFECmatch", "SecondaryVmExit")}
_NAME: Final = deferred(rf"\b(?:{'|'.join(_NAMED)})(?= ?=)")
#: Eight digits that no program prints in decimal.
_HEX: Final = deferred(r"reason=(?=[0-9a-fA-F]{8} qual)")
#: So many kinds of lines like KVM's are a dump of it, whatever widths its numbers have.
_KINDS: Final = 3


def is_dump(like: Sequence[Line], unlike: Sequence[Line]) -> bool:
    """Whether the lines `like` KVM's and Xen's are a dump of theirs; `unlike`: the other lines of the text."""
    if any(_CERTAIN.match(line.text) for line in like):
        return True
    exact = _kinds(line for line in like if _EXACT.match(line.text))
    if exact >= _KINDS:
        return True
    if not exact and _kinds(like) < _KINDS:
        return False
    return not any(_BARE.match(line.text) for line in unlike)


def for_a_list(line: Line) -> Line:
    """A line like KVM's in a text that is no dump of it, for the reader of names and values."""
    if "=" not in line.text:
        return line
    text = _HEX.sub("reason=0x", _NAME.sub(lambda found: _NAMED[found[0]], line.text))
    return line if text == line.text else replace(line, text=text)


def _kinds(lines: Iterable[Line]) -> int:
    """How many different keys the lines begin with; those of segments count as one."""
    return len({"segment" if _SEGMENT.match(line.text) else re.split("[=:]", line.text, maxsplit=1)[0].strip() for line in lines})
