"""From text to dumps: finds by content which formats a text holds, and hands each line to the parser that knows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.errors import VmfuzzError
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats import amd, encoding_lists, kvm, kvm_lines, qemu, sregs, virtualbox
from vmfuzz.explain.formats.control_words import completed
from vmfuzz.explain.formats.cpuinfo import processor_of
from vmfuzz.explain.formats.debugger import printed
from vmfuzz.explain.formats.declared import read_declared
from vmfuzz.explain.formats.json_text import as_lines, parsed, spread
from vmfuzz.explain.formats.meaning import Manner
from vmfuzz.explain.formats.pairs import PairReader
from vmfuzz.explain.formats.programs import formats
from vmfuzz.explain.formats.sentences import stated
from vmfuzz.explain.formats.shapes import is_code, may_be_a_value
from vmfuzz.explain.formats.tuples import paired
from vmfuzz.explain.formats.xen_tables import read_tables
from vmfuzz.explain.outcomes import nested, programs, reported
from vmfuzz.explain.settle.settle import Circumstances, settled
from vmfuzz.explain.text.apart import states_apart
from vmfuzz.explain.text.lines import Ends, Line, begins_within, garbled, lines_of, mend, ranges
from vmfuzz.explain.text.numbers import bare_is_hex
from vmfuzz.patterns import deferred
from vmfuzz.state.vmcs import SCHEMA, Vmcs

#: Lines of a crash report of the guest or of the host that stand beside a dump: registers in no form that says which field.
_CRASH: Final = deferred(
    r"R?IP: +[0-9a-f]{4}:|(?:RFLAGS|EFLAGS): [0-9a-f]+ +CONTEXT|CPU: +\d|r[a-d]x: [0-9a-f]+ +r|r[sd]i: |rbp: |r\d+: |"
    r"cr0: [0-9a-f]+ +cr4:|cr3: [0-9a-f]+ +cr2:|fsb: |ds: [0-9a-f]{4} +es: |----\[ Xen|RSP: [0-9a-f]{4}:|Code: |Call Trace|RAX: [0-9a-f]+ RBX|"
    # Linux's
    r"CS: +[0-9a-f]{4} DS: |DS: [0-9a-f]{4} ES: |CR2: [0-9a-f]+ CR3: |CR0: [0-9a-f]+ CR2: |FS: +[0-9a-f]+\([0-9a-f]{4}\) GS:|DR[03]: [0-9a-f]+ DR|PKRU: |"
    r"RSP: [0-9a-f]{16} EFLAGS|E[AS][XI]: [0-9a-f]{8} E"
)
#: A line of nothing but an encoding and a value; only where many of them stand together is it no accident.
_BARE_ENCODING: Final = deferred(r"([0-9a-fA-F]{4})\s+[0-9a-fA-F]{1,16}")
_BARE_SEGMENT: Final = deferred(r"(?:[c-gs]s|ldtr|tr|gdtr|idtr)\s*[:=]", re.IGNORECASE)
_NAME_AND_NUMBER: Final = deferred(r"[A-Za-z][\w .]*[:=] *(?:0x)?[0-9a-fA-F]+\W*$")
#: So much of a line is quoted.
_SHOWN: Final = 40
_KVM_SILENT: Final = "dump_invalid_vmcs"
#: A VMCS in JSON lies in fewer objects than this.
_DEEPEST: Final = 6


def read_text(text: str, name: str = "input") -> list[Dump]:
    """All dumps that a text holds, at least one; a text without anything that can be judged gives one empty dump."""
    text = text.lstrip("\ufeff")
    data = parsed(text)
    if data is not None:
        as_json = _read_json(data, name)
        if as_json is not None:
            return as_json
    mended = kvm_lines.unjoined(mend(spread(text) if data is None else as_lines(data)))
    states = states_apart(mended)
    found = [_Reader(state.text).dumps(f"{name}, {state.name}" if state.name else name) for state in states]
    if len(found) > 1 and not all(any(dump.readings for dump in dumps) for dumps in found):
        found = [_Reader(mended).dumps(name)]
    lines = tuple(mended.split("\n"))
    dumps = [dump for of_state in found for dump in of_state]
    for dump in dumps:
        dump.lines = lines
    if len(found) > 1:
        for state, of_state in zip(states, found, strict=True):
            for dump in of_state:
                dump.state = state.name
    return dumps


@dataclass(frozen=True)
class _Circumstances:
    """What of a text is of which program."""

    lines: list[Line]
    ends: Ends
    parts: list[list[Line]]  # of KVM's and Xen's dumps
    qemu: list[Line]
    vbox: list[Line]
    rest: list[Line]


class _Reader:
    """Reads one mended text."""

    def __init__(self, text: str) -> None:
        self.text = text
        lines = [line for line in lines_of(text) if not line.text.startswith(("# source:", "# note:"))]
        parts, others = kvm_lines.split_lines(lines)
        parts = [part for part in parts if len(part) > 1] or parts[:1]
        from_qemu, from_vbox = qemu.FORMAT.own_lines(others), virtualbox.vbox_lines(others)
        taken = {line.number for line in [*from_qemu, *from_vbox]}
        rest = [line for line in others if line.number not in taken]
        ends = Ends(begins_within(lines), lines[-1] if lines and not text.endswith("\n") else None)
        self.of = _Circumstances(lines, ends, parts, from_qemu, from_vbox, rest)

    def dumps(self, name: str) -> list[Dump]:
        """The dumps of the text: one for each of KVM's and Xen's, or for each of QEMU's, or one."""
        from_qemu = qemu.dumps_of(self.of.qemu, self.of.rest) if not self.of.parts else [(self.of.qemu, True)]
        count = len(self.of.parts) or len(from_qemu)
        names = [f"{name}, dump {number} of {count}" if count > 1 else name for number in range(1, count + 1)]
        return [
            self._dump(title, self.of.parts[index] if self.of.parts else [], *from_qemu[index % len(from_qemu)], of_text=from_qemu[0][1])
            for index, title in enumerate(names)
        ]

    def _dump(self, name: str, part: list[Line], registers: list[Line], failed: bool, of_text: bool) -> Dump:
        """One dump; `failed`: a line that says "failed" stands above QEMU's registers, `of_text`: above any of the text."""
        found = Found()
        vmcs = bool(self.of.parts)
        kvm.parse(part, found, self.of.ends)
        qemu.parse_qemu(registers, found, beside_only=vmcs)
        virtualbox.parse_vbox(self.of.vbox, found)
        vmcb = not vmcs and amd.is_vmcb(self.text)
        lines, viewed = ([], False) if vmcb else _read_plain(self.of.rest, found, vmcs)
        dump = settled(found, name, Circumstances(lines, self.of.ends, garbled(self.of.lines), viewed))
        dump.trace = [*self._claims(part, registers), *dump.trace]
        prose = "\n".join(line.text for line in self.of.rest) + "\n" + "\n".join(line.text for line in [*self.of.qemu, *self.of.vbox])
        if failed or not of_text:  # (else the failure stands above another register dump)
            reported.find(prose, dump)
        programs.find(self.of.rest, dump)
        reported.find_attempt(self.text, dump)
        dump.nested = nested.note(self.text, dump)
        dump.processor = processor_of(self.text)
        dump.format = _format(dump, vmcs, "(XEN)" in self.text or "VMCS Area" in self.text, bool(self.of.qemu), bool(self.of.vbox))
        if not vmcs:
            dump = self._of_intel(dump, vmcb)
        self._warn(dump, part)
        return dump

    def _claims(self, part: list[Line], registers: list[Line]) -> Iterator[str]:
        """Which lines are whose."""
        for what, lines in (
            ("KVM's or Xen's dump of a VMCS", part),
            ("QEMU's registers", registers),
            ("VirtualBox's log", self.of.vbox),
            ("lines of no known program: pairs, tables, program text, sentences", self.of.rest),
        ):
            if lines:
                yield f"{ranges([line.number for line in lines])}: {what}"

    def _of_intel(self, dump: Dump, vmcb: bool) -> Dump:
        """The dump, or nothing but that it is of an AMD processor."""
        foreign = amd.why_foreign(dump, vmcb, self.text)
        if foreign:
            return replace(dump, foreign=foreign, readings={}, warned=[] if vmcb else dump.warned)
        if amd.warning_of(self.text):
            dump.warn(amd.warning_of(self.text))
        return dump

    def _warn(self, dump: Dump, part: list[Line]) -> None:
        told = {warned.line for warned in dump.warned}
        for line in kvm_lines.lost_lines(part, self.of.rest):
            if line.number not in told:
                dump.warn(f"nothing of this line could be read: {line.text[:_SHOWN]}", line.number)
        if _KVM_SILENT in self.text and not self.of.parts and not (dump.reported and dump.reported.entered):
            dump.warn("KVM printed no VMCS: set /sys/module/kvm_intel/parameters/dump_invalid_vmcs to Y and let the entry fail again")


@lru_cache(maxsize=1 << 13)
def _is_of_a_crash(text: str) -> bool:
    return _CRASH.match(text) is not None


def _read_plain(lines: list[Line], found: Found, named_only: bool) -> tuple[list[Line], bool]:
    """Read lines of no known program; returns them as they are read, and whether a program of KVM's shows its view of the registers in them."""
    if not named_only:
        lines = read_tables(read_declared(lines, found, formats()), found)
        lines = paired(stated(printed(completed(lines))))
    skip, viewed = _read_structures(lines, found, named_only)
    code = [is_code(line.text) for line in lines]
    source = any(code[index] and not may_be_a_value(line.text) for index, line in enumerate(lines))
    reader = PairReader(found, _manner([line for line in lines if line.number not in skip], found, named_only, source))
    for index, line in enumerate(lines):
        surrounded = source and 0 < index < len(lines) - 1 and code[index - 1] and code[index + 1]
        if line.number not in skip and not _is_of_a_crash(line.text):
            reader.read(line, in_code=surrounded)
    reader.finish()
    return lines, viewed


def _read_structures(lines: list[Line], found: Found, named_only: bool) -> tuple[Set[int], bool]:
    """Read lists of encodings and KVM's structures; (their lines, whether these are the only view of the registers)."""
    skip = encoding_lists.collect(lines, found)
    if not sregs.is_marked(lines):
        return skip, False
    viewed = not named_only  # beside a dump of the VMCS they say nothing new
    rest = [line for line in lines if line.number not in skip]
    return skip | sregs.parse_sregs(rest, found if viewed else Found()), viewed


def _manner(lines: list[Line], found: Found, named_only: bool, source: bool) -> Manner:
    """How these lines are written."""
    bare = [match for line in lines if (match := _BARE_ENCODING.fullmatch(line.text))]
    return Manner(
        hex_by_default=bare_is_hex(line.text for line in lines),
        named_only=named_only,
        top_indent=min((line.indent for line in lines if _BARE_SEGMENT.match(line.text)), default=0),
        flat=len({line.indent for line in lines if _NAME_AND_NUMBER.match(line.text) and not is_code(line.text)}) == 1,
        source=source,
        encodings_first=len(bare) >= 5 and sum(int(match[1], 16) in BY_ENCODING for match in bare) * 10 >= len(bare) * 9,
        sure=frozenset(one.name for one in found.evidence) if named_only else frozenset(),
    )


def _format(dump: Dump, vmcs: bool, xen: bool, from_qemu: bool, vbox: bool) -> str:
    if vmcs:
        return "Xen VMCS dump" if xen else "Linux KVM VMCS dump"
    if vbox:
        return "VirtualBox log"
    if from_qemu:
        return "QEMU register dump"
    if not dump.readings:
        return "list of encodings" if dump.definitions else "log lines" if dump.reported else "unknown"
    return "name and value lines"


def _read_json(data: object, name: str) -> list[Dump] | None:
    """Vmfuzz's own JSON: a VMCS, or any object that has one in it; None if it is another, or has faults: then its fields are names and values."""
    held = _find_vmcs(data)
    try:
        state = Vmcs.from_json(held) if held is not None else None
    except VmfuzzError:
        return None
    if state is None:
        return None
    found = Found()
    for field in state:
        found.put(field, state[field], field, 1)
    dump = settled(found, name, Circumstances())
    dump.memory = dict(state.memory)
    dump.complete = True
    reported.find("", dump)
    dump.format = "vmfuzz JSON"
    return [dump]


def _find_vmcs(data: object, depth: int = 0) -> dict[str, object] | None:
    if not isinstance(data, dict) or depth == _DEEPEST:
        return None
    if data.get("schema") == SCHEMA:
        return data
    return next((found for value in data.values() if (found := _find_vmcs(value, depth + 1)) is not None), None)
