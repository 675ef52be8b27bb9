"""Reads QEMU's register dump ("KVM: entry failed, hardware error ...") and the segment printouts of VirtualBox's log.

Both show registers as the guest sees them, not the VMCS: no controls, no interruptibility, and of the access rights all but "unusable".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from vmfuzz.explain.dump import ALL, Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.sregs import put_mode
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_SEGMENT: Final = deferred(
    r"(?P<name>[CDSEFG]S|LDT|TR) ?=(?P<sel>[0-9a-fA-F]{4}) (?P<base>[0-9a-fA-F]{8}|[0-9a-fA-F]{16}) (?P<limit>[0-9a-fA-F]{8}) (?P<flags>[0-9a-fA-F]{8})\b"
)
_TABLE: Final = deferred(r"(?P<name>[GI]DT)= +(?P<base>[0-9a-fA-F]{8}|[0-9a-fA-F]{16}) (?P<limit>[0-9a-fA-F]{8})\b")
_REGISTER: Final = deferred(
    r"\b(EAX|E[BCD]X|ESI|EDI|EBP|ESP|R[A-D]X|RSI|RDI|RBP|RSP|R[189]\d?|[ER]IP|EFL|RFL|CR[0234]|DR[0-367]|EFER|SMM) ?=([0-9a-fA-F]+)\b"
)
_DIGIT: Final = "[0-9a-fA-F]"
_STARTS: Final = deferred(
    rf"EAX={_DIGIT}{{8}} EBX|ESI={_DIGIT}{{8}}|EIP={_DIGIT}{{8}} EFL|(?:RAX|RSI|R8 ?|R12)={_DIGIT}{{16}}|RIP={_DIGIT}{{16}} RFL|"
    rf"CR0={_DIGIT}{{8}} CR2|DR[06]={_DIGIT}{{16}}|EFER={_DIGIT}{{16}}$|Code=|(?:[CDSEFG]S |LDT|TR )={_DIGIT}{{4}} |[GI]DT= "
)
#: The end of the line of control registers, where a mail program broke it.
_CONTROL: Final = deferred(r"CR[023]=")
_WRAPPED: Final = deferred(rf"CR[234]={_DIGIT}{{8,16}}(?: CR[34]={_DIGIT}{{8,16}}){{0,2}}")
#: The register with which a line of the dump begins.
_FIRST: Final = deferred(r"([A-Z][A-Z0-9]{1,3}) ?=")
#: So many lines with registers that were there already begin another dump; and more dumps than this nobody reads.
_AGAIN, _MOST = 3, 4
_FAILED: Final = deferred(r"entry failed|hardware error|internal error", re.IGNORECASE)
_HEAD: Final = 200
#: "KVM: entry failed" comes with this advice; it says nothing about the dump at hand
_ADVICE: Final = deferred(
    r"If you're running a guest on an Intel machine|support, the failure can be most likely|state for Intel VT|which is not supported on less recent"
)
_VBOX_SEGMENT: Final = deferred(
    r"\b(?P<name>[cdsefg]s|tr|ldtr)=\{(?P<sel>[0-9a-f]{4}) base=(?P<base>[0-9a-f]+) limit=(?P<limit>[0-9a-f]+) flags=(?P<flags>[0-9a-f]+)\}"
)
_VBOX_LINE: Final = deferred(
    r"(?:HM: )?CPU\[\d+\] |HM error +=|rcLastExitToR3|VT-x info|Real-on-v86|Attr [CDSEFG]S +=|EFlags +=|Guest VMCS active|.*=\{[0-9a-f]{4} base="
)
#: What stands behind the segments in the lines of the guest's registers.
_VBOX_WRAPPED: Final = deferred(r"(?:cr[0-8]|dr[0-7]|[gi]dtr|[er]?flags|SysEnter)=\{?[0-9a-f]")
#: `HM: Host CR4   = 0x370678`: the processor's own registers when VirtualBox starts, outside VMX operation; they are in no VMCS.
_VBOX_START: Final = deferred(r"\bHM: Host (?:CR\d|EFER|XCR0)\b")
#: `HM: CPU[0] PinCtls              0x16`: what VirtualBox logs of a VMCS whose controls the processor refused.
_VBOX_FIELD: Final = deferred(r"(?:HM: )?CPU\[\d+\] (?P<name>[A-Z][\w ]*?)\s+(?P<value>0x[0-9a-fA-F]+)\b")
_VBOX_FIELDS: Final = {
    "PinCtls": "pin_based_controls",
    "ProcCtls": "primary_processor_based_controls",
    "ProcCtls2": "secondary_processor_based_controls",
    "ProcCtls3": "tertiary_processor_based_controls",
    "EntryCtls": "vm_entry_controls",
    "ExitCtls": "vm_exit_controls",
    "Instruction error": "vm_instruction_error",
    "Exit reason": "exit_reason",
}
_SEEN: Final = "QEMU shows the guest's registers, not the VMCS"
_VBOX_SEEN: Final = "VirtualBox shows the guest's registers, not the VMCS"


def qemu_lines(lines: list[Line]) -> list[Line]:
    """The lines of QEMU's register dumps and the advice above them."""
    mine: list[Line] = []
    for index, line in enumerate(lines):
        wrapped = bool(mine) and mine[-1] is lines[index - 1] and _WRAPPED.fullmatch(line.text) and _CONTROL.match(mine[-1].text)
        if wrapped or _is_qemu_text(line.text):
            mine.append(line)
    return mine


@lru_cache(maxsize=1 << 13)
def _is_qemu_text(text: str) -> bool:
    return bool(_STARTS.match(text) or _ADVICE.match(text))


def vbox_lines(lines: list[Line]) -> list[Line]:
    """The lines of VirtualBox's log that say something about the guest's state, or about registers that are in no VMCS."""
    mine: list[Line] = []
    within = False  # the lines of the guest's registers, where what follows may be what was broken off
    for line in lines:
        known = _is_vbox_line(line)
        within = _VBOX_SEGMENT.search(line.text) is not None if known else within and _VBOX_WRAPPED.match(line.text) is not None
        if known or within:
            mine.append(line)
    return mine


def _is_vbox_line(line: Line) -> bool:
    return _is_vbox_text(line.text) or ("HM: Host" in line.raw and _VBOX_START.search(line.raw) is not None)


@lru_cache(maxsize=1 << 13)
def _is_vbox_text(text: str) -> bool:
    return _VBOX_LINE.search(text) is not None


def dumps_of(lines: list[Line], others: list[Line]) -> list[tuple[list[Line], bool]]:
    """The register dumps among QEMU's lines, each with whether a line that says "failed" stands above it; those first. At least one, perhaps empty."""
    if not lines:
        return [([], False)]
    parts: list[list[Line]] = [[]]
    seen: set[str] = set()
    for index, line in enumerate(lines):
        following = [_kind(later.text) for later in lines[index : index + _AGAIN]]
        if following[0] and len(following) > 1 and seen.issuperset(following):
            parts.append([])
            seen = set()
        parts[-1].append(line)
        seen.add(following[0])
    failures = [line.number for line in others if _FAILED.search(line.text[:_HEAD])]
    found: list[tuple[list[Line], bool]] = []
    known: list[set[str]] = []
    end = 0
    for part in parts:
        registers = [line for line in part if _kind(line.text)]
        texts = {line.text for line in registers}
        if not found or not any(texts <= earlier for earlier in known):  # else it is quoted
            known.append(texts)
            found.append((part, bool(registers) and any(end < number < registers[0].number for number in failures)))
        end = registers[-1].number if registers else end
    return sorted(found, key=lambda one: not one[1])[:_MOST]


@lru_cache(maxsize=1 << 13)
def _kind(text: str) -> str:
    """The register with which a line begins, "" for a line of another kind; EAX and RAX are one."""
    match = _FIRST.match(text)
    return match[1].lstrip("ER") or match[1] if match else ""


def parse_qemu(lines: list[Line], found: Found, beside_only: bool) -> None:
    """Read the register dump. `beside_only`: the VMCS itself is in the same text, so these values only stand beside it."""
    for line in lines:
        for name, text in _REGISTER.findall(line.text):
            found.beside.setdefault(f"QEMU {name}", Reading(int(text, 16), name, line.number))
        match = _SEGMENT.match(line.text)
        table = _TABLE.match(line.text)
        if match:
            _segment(match, line, found, beside_only)
        elif table:
            register = table["name"].lower() + "r"
            for part in ("base", "limit"):
                known = _printed(table[part]) if part == "base" else ALL
                _note(found, f"guest_{register}_{part}", int(table[part], 16), f"{table['name']} {part}", line.number, beside_only, known)
    for names, field in (
        (("EIP", "RIP"), "guest_rip"),
        (("ESP", "RSP"), "guest_rsp"),
        (("EFL", "RFL"), "guest_rflags"),
        (("DR7",), "guest_dr7"),
    ):
        for name in names:
            reading = found.beside.get(f"QEMU {name}")
            if reading:
                _note(found, field, reading.value, name, reading.line, beside_only, _LOW if name[0] == "E" and name != "EFL" else ALL)

    efer = found.beside.get("QEMU EFER")
    if efer is not None and not beside_only:
        put_mode(found, efer.value, "EFER", efer.line)


_LOW: Final = ALL & ~(0xFFFFFFFF << 32)


def _printed(digits: str) -> int:
    """Which bits a printed register shows: QEMU prints eight digits outside of 64-bit mode, whatever the register holds above."""
    return _LOW if len(digits) <= 8 else ALL


def _segment(match: re.Match[str], line: Line, found: Found, beside_only: bool) -> None:
    register = {"ldt": "ldtr"}.get(match["name"].lower(), match["name"].lower())
    for part, field in (("sel", "selector"), ("base", "base"), ("limit", "limit")):
        known = _printed(match[part]) if part == "base" else ALL
        _note(found, f"guest_{register}_{field}", int(match[part], 16), f"{match['name']} {field}", line.number, beside_only, known)
    rights = int(match["flags"], 16) >> 8 & 0xF0FF
    # Nothing in the dump says whether the segment is unusable; one that is not present mostly is. Newer versions of QEMU clear P for an unusable
    # segment (so that P = 1 means usable there), older ones print P as KVM gives it, and the dump does not tell which version made it.
    known = ALL & ~(1 << 16) if rights >> 7 & 1 else ALL & ~0x1F0FF
    _note(found, f"guest_{register}_access_rights", rights, f"{match['name']} flags >> 8", line.number, beside_only, known)


def _note(found: Found, field: str, value: int, label: str, line: int, beside_only: bool, known: int = ALL) -> None:
    if beside_only:
        found.beside.setdefault(f"QEMU {label}", Reading(value, label, line))
    else:
        found.put(field, value, label, line, assumed=_SEEN, known=known)


def parse_vbox(lines: list[Line], found: Found) -> None:
    """Read what VirtualBox's log says: its number of the failed check and the segments as the guest sees them."""
    virtual_8086 = any(re.search(r"Real-on-v86 active *= *true", line.text) for line in lines)
    if virtual_8086:
        found.warn(
            "VirtualBox runs this guest's real mode as virtual-8086 mode: the VMCS holds virtual-8086 segments, the log shows the guest's own"
        )
    for line in lines:
        error = re.match(r"HM error +=\s*(?:0x([0-9a-fA-F]+))?\s*\(?(\d+)?\)?", line.text)
        if error and (error[1] or error[2]):
            found.hm_error = (int(error[1], 16) if error[1] else int(error[2])) or None  # 0: VirtualBox has noted none
        logged = _VBOX_FIELD.match(line.text)
        if logged and logged["name"] in _VBOX_FIELDS:
            found.put(_VBOX_FIELDS[logged["name"]], int(logged["value"], 16), logged["name"], line.number)
        for match in _VBOX_SEGMENT.finditer(line.text):
            for part, field in (("sel", "selector"), ("base", "base"), ("limit", "limit"), ("flags", "access_rights")):
                label = f"{match['name']} {part}"
                if virtual_8086:
                    found.beside.setdefault(f"saved {label}", Reading(int(match[part], 16), label, line.number))
                else:
                    found.put(f"guest_{match['name']}_{field}", int(match[part], 16), label, line.number, assumed=_VBOX_SEEN)
        attribute = re.search(r"Attr ([CDSEFG]S) +=\s*0x([0-9a-fA-F]+)|(EFlags) +=\s*0x([0-9a-fA-F]+)", line.text)
        if attribute:
            label, text = (attribute[1], attribute[2]) if attribute[1] else (attribute[3], attribute[4])
            found.beside.setdefault(f"saved {label}", Reading(int(text, 16), label, line.number))
        for name, text in re.findall(r"\b(cr0|cr2|cr3|cr4)=([0-9a-f]{8,16})\b", line.text):
            found.beside.setdefault(f"saved {name}", Reading(int(text, 16), name, line.number))
