"""From text to dumps: finds by content which formats a text holds, and hands each line to the parser that knows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Set
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.errors import VmfuzzError
from vmfuzz.explain.dump import Dump, Format, Machine, Origin, Warned
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats import amd, encoding_lists, kvm, kvm_lines, qemu, sregs, virtualbox
from vmfuzz.explain.formats.cpuinfo import processor_of
from vmfuzz.explain.formats.declared import read_declared
from vmfuzz.explain.formats.json_text import spread
from vmfuzz.explain.formats.meaning import Manner
from vmfuzz.explain.formats.pairs import PairReader
from vmfuzz.explain.formats.programs import formats
from vmfuzz.explain.formats.rewritten import in_pairs
from vmfuzz.explain.formats.shapes import is_code, may_be_a_value
from vmfuzz.explain.formats.xen_tables import read_tables
from vmfuzz.explain.outcomes import nested
from vmfuzz.explain.outcomes.outcome import with_outcome
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
    own = _read_json(text, name) if SCHEMA in text else None
    if own is not None:
        return [own]
    mended = kvm_lines.unjoined(mend(spread(text)))
    whole = Origin(name, lines=tuple(mended.split("\n")))
    states = states_apart(mended)
    if len(states) == 1 and not states[0].name:
        return _Reader(states[0].text, whole).dumps()
    found = [_Reader(state.text, Origin(f"{name}, {state.name}", state.name, lines=whole.lines)).dumps() for state in states]
    if not all(any(dump.readings for dump in dumps) for dumps in found):
        return _Reader(mended, whole).dumps()
    return [dump for dumps in found for dump in dumps]


class _Reader:
    """Reads one mended text."""

    def __init__(self, text: str, origin: Origin) -> None:
        self.text = text
        self.origin = origin
        self.lines = [line for line in lines_of(text) if not line.text.startswith(("# source:", "# note:"))]
        self.ends = Ends(begins_within(self.lines), self.lines[-1] if self.lines and not text.endswith("\n") else None)
        parts, others = kvm_lines.split_lines(self.lines)
        #: lines of KVM's and Xen's dumps, of QEMU's, of VirtualBox's log, and all others
        self.parts = [part for part in parts if len(part) > 1] or parts[:1]
        self.qemu, self.vbox = qemu.FORMAT.own_lines(others), virtualbox.vbox_lines(others)
        taken = {line.number for line in [*self.qemu, *self.vbox]}
        self.rest = [line for line in others if line.number not in taken]

    def dumps(self) -> list[Dump]:
        """The dumps of the text: one for each of KVM's and Xen's, or for each of QEMU's, or one."""
        from_qemu = qemu.dumps_of(self.qemu, self.rest) if not self.parts else [(self.qemu, True)]
        count = len(self.parts) or len(from_qemu)
        name = self.origin.name
        names = [f"{name}, dump {number} of {count}" if count > 1 else name for number in range(1, count + 1)]
        return [
            self._dump(title, self.parts[index] if self.parts else [], *from_qemu[index % len(from_qemu)], of_text=from_qemu[0][1])
            for index, title in enumerate(names)
        ]

    def _dump(self, name: str, part: list[Line], registers: list[Line], failed: bool, of_text: bool) -> Dump:
        """One dump; `failed`: a line that says "failed" stands above QEMU's registers, `of_text`: above any of the text."""
        found = Found()
        vmcs = bool(self.parts)
        kvm.parse(part, found, self.ends)
        for line in registers:
            qemu.FORMAT.read(line, found, beside=qemu.FORMAT.program if vmcs else "")  # the VMCS itself goes before its guest's registers
        virtualbox.parse_vbox(self.vbox, found)
        foreign = "" if vmcs else amd.of_vmrun(self.text)
        lines, viewed = ([], False) if foreign else _read_plain(self.rest, found, vmcs)
        dump = settled(found, name, Circumstances(lines, self.ends, garbled(self.lines), viewed))
        prose = "\n".join(line.text for line in self.rest) + "\n" + "\n".join(line.text for line in [*self.qemu, *self.vbox])
        told = prose if failed or not of_text else None  # (the failure stands above another register dump)
        dump = with_outcome(dump, told, self.rest, self.text)
        trace = (*self._claims(part, registers), *dump.origin.trace)
        dump = replace(
            dump,
            origin=Origin(name, self.origin.state, self._format(dump), self.origin.lines, trace),
            machine=Machine(processor_of(self.text), nested=nested.note(self.text, dump)),
        )
        if foreign:
            dump = replace(dump, notes=replace(dump.notes, warned=()))
        if foreign := foreign or ("" if vmcs else amd.of_svme(dump, self.text)):
            dump = replace(dump, machine=replace(dump.machine, foreign=foreign), readings={})
        return dump.warning(*self._warnings(dump, part))

    def _claims(self, part: list[Line], registers: list[Line]) -> Iterator[str]:
        """Which lines are whose."""
        for what, lines in (
            ("KVM's or Xen's dump of a VMCS", part),
            ("QEMU's registers", registers),
            ("VirtualBox's log", self.vbox),
            ("lines of no known program: pairs, tables, program text, sentences", self.rest),
        ):
            if lines:
                yield f"{ranges([line.number for line in lines])}: {what}"

    def _warnings(self, dump: Dump, part: list[Line]) -> Iterator[Warned]:
        """What was lost, and what KVM could have printed."""
        told = {warned.line for warned in dump.notes.warned}
        for line in kvm_lines.lost_lines(part, self.rest):
            if line.number not in told:
                yield Warned(line.number, f"nothing of this line could be read: {line.text[:_SHOWN]}")
        if _KVM_SILENT in self.text and not self.parts and not (dump.reported and dump.reported.entered):
            yield Warned(0, "KVM printed no VMCS: set /sys/module/kvm_intel/parameters/dump_invalid_vmcs to Y and let the entry fail again")

    def _format(self, dump: Dump) -> Format:
        """What the text is."""
        if self.parts:
            return Format.XEN if "(XEN)" in self.text or "VMCS Area" in self.text else Format.KVM
        if self.vbox:
            return Format.VIRTUALBOX
        if self.qemu:
            return Format.QEMU
        if not dump.readings:
            return Format.ENCODINGS if dump.program.definitions else Format.LOG if dump.reported else Format.UNKNOWN
        return Format.PAIRS


@lru_cache(maxsize=1 << 13)
def _is_of_a_crash(text: str) -> bool:
    return _CRASH.match(text) is not None


def _read_plain(lines: list[Line], found: Found, named_only: bool) -> tuple[list[Line], bool]:
    """Read lines of no known program; returns them as they are read, and whether a program of KVM's shows its view of the registers in them."""
    if not named_only:
        lines = in_pairs(read_tables(read_declared(lines, found, formats()), found))
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


def _read_json(text: str, name: str) -> Dump | None:
    """Vmfuzz's own JSON: a VMCS, or any object that has one in it; None if it is another, or has faults: then its fields are names and values."""
    try:
        held = _find_vmcs(json.loads(text))
        state = Vmcs.from_json(held) if held is not None else None
    except (ValueError, RecursionError, VmfuzzError):
        return None
    if state is None:
        return None
    found = Found()
    for field in state:
        found.put(field, state[field], field, 1)
    dump = with_outcome(settled(found, name, Circumstances()))
    return replace(dump, origin=replace(dump.origin, format=Format.JSON), memory=dict(state.memory), complete=True)


def _find_vmcs(data: object, depth: int = 0) -> dict[str, object] | None:
    if not isinstance(data, dict) or depth == _DEEPEST:
        return None
    if data.get("schema") == SCHEMA:
        return data
    return next((found for value in data.values() if (found := _find_vmcs(value, depth + 1)) is not None), None)
