"""From text to dumps: finds by content which formats a text holds, and hands each line to the parser that knows it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.errors import VmfuzzError
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.formats import amd, definitions, kvm, qemu, sregs
from vmfuzz.explain.formats.blank_pairs import respelled
from vmfuzz.explain.formats.column_tables import read_columns
from vmfuzz.explain.formats.control_labels import completed
from vmfuzz.explain.formats.decimal_lists import read_decimal
from vmfuzz.explain.formats.json_inside import spread
from vmfuzz.explain.formats.json_text import as_lines, parsed
from vmfuzz.explain.formats.monitors import read_monitors
from vmfuzz.explain.formats.plain import PlainReader
from vmfuzz.explain.formats.plain_lines import is_code, may_be_a_value
from vmfuzz.explain.formats.write_forms import written
from vmfuzz.explain.formats.xen_tables import read_tables
from vmfuzz.explain.outcomes import nested, programs, reported
from vmfuzz.explain.text.lines import Ends, Line, begins_within, garbled, lines_of, mend
from vmfuzz.explain.text.numbers import bare_is_hex
from vmfuzz.state.vmcs import SCHEMA, Vmcs

#: Lines of a crash report of the guest or of the host that stand beside a dump: registers in no form that says which field.
_CRASH: Final = re.compile(
    r"R?IP: +[0-9a-f]{4}:|(?:RFLAGS|EFLAGS): [0-9a-f]+ +CONTEXT|CPU: +\d|r[a-d]x: [0-9a-f]+ +r|r[sd]i: |rbp: |r\d+: |"
    r"cr0: [0-9a-f]+ +cr4:|cr3: [0-9a-f]+ +cr2:|fsb: |ds: [0-9a-f]{4} +es: |----\[ Xen|RSP: [0-9a-f]{4}:|Code: |Call Trace|RAX: [0-9a-f]+ RBX|"
    # Linux's
    r"CS: +[0-9a-f]{4} DS: |DS: [0-9a-f]{4} ES: |CR2: [0-9a-f]+ CR3: |CR0: [0-9a-f]+ CR2: |FS: +[0-9a-f]+\([0-9a-f]{4}\) GS:|DR[03]: [0-9a-f]+ DR|PKRU: |"
    r"RSP: [0-9a-f]{16} EFLAGS|E[AS][XI]: [0-9a-f]{8} E"
)
#: A line of nothing but an encoding and a value; only where many of them stand together is it no accident.
_BARE_ENCODING: Final = re.compile(r"([0-9a-fA-F]{4})\s+[0-9a-fA-F]{1,16}")
_BARE_SEGMENT: Final = re.compile(r"(?:[c-gs]s|ldtr|tr|gdtr|idtr)\s*[:=]", re.IGNORECASE)
#: KVM's, Xen's and QEMU's dumps, known by what no other text has; their lines, where what precedes them cannot be taken off.
_HIDDEN: Final = re.compile(r"\S +(?:\*\*\* ?(?:Guest|Host|Control) State ?\*\*\*|CR[04]: ?actual=|EAX=[0-9a-fA-F]{8} EBX=)")
_HIDDEN_WORDS: Final = ("State", "actual=", "EAX=")
_MANY_NUMBERS: Final = re.compile(r"[0-9a-fA-F]{4}")
_NAME_AND_NUMBER: Final = re.compile(r"[A-Za-z][\w .]*[:=] *(?:0x)?[0-9a-fA-F]+\W*$")
_KVM_SILENT: Final = "dump_invalid_vmcs"


def read_text(text: str, name: str = "input") -> list[Dump]:
    """All dumps that a text holds, at least one; a text without anything that can be judged gives one empty dump."""
    text = text.lstrip("\ufeff")
    data = parsed(text)
    if data is not None:
        as_json = _read_json(data, name)
        if as_json is not None:
            return as_json
        text = as_lines(data)
    else:
        text = spread(text)
    mended = kvm.unjoined(mend(text))
    lines = [line for line in lines_of(mended) if not line.text.startswith(("# source:", "# note:"))]
    vmcs_parts, others = kvm.split_lines(lines)
    vmcs_parts = [part for part in vmcs_parts if _substantial(part)] or vmcs_parts[:1]
    qemu_lines = qemu.qemu_lines(others)
    vbox_lines = qemu.vbox_lines(others)
    taken = {line.number for line in [*qemu_lines, *vbox_lines]}
    rest = [line for line in others if line.number not in taken]
    hidden = (
        not vmcs_parts
        and not qemu_lines
        and any(_HIDDEN.search(line.text) for line in rest if any(word in line.text for word in _HIDDEN_WORDS))
    )
    if hidden:
        rest = [line for line in rest if not _MANY_NUMBERS.search(line.text)]
    ends = Ends(begins_within(lines), lines[-1] if lines and not mended.endswith("\n") else None)
    from_qemu = qemu.dumps_of(qemu_lines, rest) if not vmcs_parts else [(qemu_lines, True)]
    dumps = [_vmcs_dump(part, name, ends) for part in vmcs_parts] or [Dump(name) for _ in from_qemu]
    for index, dump in enumerate(dumps):
        if len(dumps) > 1:
            dump.name = f"{name}, dump {index + 1} of {len(dumps)}"
        registers, failed = from_qemu[index % len(from_qemu)]
        qemu.parse_qemu(registers, dump, beside_only=bool(vmcs_parts))
        qemu.parse_vbox(vbox_lines, dump)
        vmcb = not vmcs_parts and amd.is_vmcb(mended)
        if not vmcb:
            _read_plain(rest, dump, bool(vmcs_parts), ends)
        _drop_garbled(dump, garbled(lines))
        prose = "\n".join(line.text for line in rest) + "\n" + "\n".join(line.text for line in [*qemu_lines, *vbox_lines])
        reported.find(prose, dump)
        if not failed and from_qemu[0][1]:
            dump.reported = None  # the failure stands above another register dump
        programs.find(rest, dump)
        dump.nested = nested.note(mended, dump)
        dump.format = _format(dump, bool(vmcs_parts), "(XEN)" in mended or "VMCS Area" in mended, bool(qemu_lines), bool(vbox_lines))
        if not vmcs_parts:
            amd.set_foreign(dump, vmcb, mended)
        if hidden:
            dump.warn(
                "there is a register dump in lines that begin with something unknown; none of its values is used (cut off what precedes them)"
            )
        if _KVM_SILENT in mended and not vmcs_parts and not (dump.reported and dump.reported.entered):
            dump.warn("KVM printed no VMCS: set /sys/module/kvm_intel/parameters/dump_invalid_vmcs to Y and let the entry fail again")
    return dumps


def _substantial(part: list[Line]) -> bool:
    return len(part) > 1


def _drop_garbled(dump: Dump, numbers: frozenset[int]) -> None:
    if not numbers:
        return
    for number in [number for number, line in dump.msr_lines.items() if line in numbers and number in dump.msrs]:
        dump.warn(f"line {dump.msr_lines[number]}: there are characters in it that are no text, so that its capability MSR is not used")
        del dump.msrs[number]
    for name, reading in list(dump.readings.items()):
        if reading.line in numbers:
            del dump.readings[name]
            dump.warn(
                f"line {reading.line}: there are characters in it that are no text, so that {reading.label} = {reading.value:#x} is not used"
            )


def _vmcs_dump(part: list[Line], name: str, ends: Ends) -> Dump:
    dump = Dump(name)
    kvm.parse(part, dump, ends)
    return dump


@lru_cache(maxsize=1 << 13)
def _is_of_a_crash(text: str) -> bool:
    return _CRASH.match(text) is not None


def _read_plain(lines: list[Line], dump: Dump, named_only: bool, ends: Ends) -> None:
    if not named_only:
        lines = written(read_decimal(read_tables(read_monitors(lines, dump), dump), dump))
        lines = completed(respelled(read_columns(lines)))
    skip = definitions.collect(lines, dump)
    marked = sregs.is_marked(lines)
    userspace = marked and not named_only
    if marked:  # beside a dump of the VMCS they say nothing new
        skip = skip | sregs.parse_sregs([line for line in lines if line.number not in skip], dump if userspace else Dump(dump.name))
    kept = [line for line in lines if line.number not in skip]
    top = min((line.indent for line in kept if _BARE_SEGMENT.match(line.text)), default=0)
    reader = PlainReader(dump, bare_is_hex(line.text for line in kept), named_only, top)
    reader.flat = len({line.indent for line in kept if _NAME_AND_NUMBER.match(line.text) and not is_code(line.text)}) == 1
    code = [is_code(line.text) for line in lines]
    reader.source = any(code[index] and not may_be_a_value(line.text) for index, line in enumerate(lines))
    if not reader.source:
        code = [False] * len(lines)
    bare = [match for line in kept if (match := _BARE_ENCODING.fullmatch(line.text))]
    reader.encodings_first = len(bare) >= 5 and sum(int(match[1], 16) in BY_ENCODING for match in bare) * 10 >= len(bare) * 9
    for index, line in enumerate(lines):
        surrounded = 0 < index < len(lines) - 1 and code[index - 1] and code[index + 1]
        if line.number not in skip and not _is_of_a_crash(line.text):
            reader.read(line, in_code=surrounded)
    reader.finish()
    reader.drop_head(lines, ends)
    if userspace:
        sregs.set_aside(dump)
    if ends.unfinished is not None:
        reader.drop_cut(ends.unfinished)


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
    """Vmfuzz's own JSON: a VMCS, or any object that has one in it; None if it is another."""
    found = _find_vmcs(data)
    if found is None:
        return None
    dump = Dump(name, format="vmfuzz JSON")
    try:
        state = Vmcs.from_json(found)
    except VmfuzzError as error:
        _tolerant_json(found, dump, str(error))
        return [dump]
    for field in state:
        dump.put(field, state[field], field, 1)
    dump.memory = dict(state.memory)
    dump.complete = True
    reported.find("", dump)
    return [dump]


def _find_vmcs(data: object, depth: int = 0) -> dict[str, object] | None:
    if isinstance(data, dict) and depth < 6:
        if data.get("schema") == SCHEMA:
            return data
        for value in data.values():
            found = _find_vmcs(value, depth + 1)
            if found is not None:
                return found
    return None


def _tolerant_json(data: dict[str, object], dump: Dump, error: str) -> None:
    dump.warn(f"the JSON is not quite a vmfuzz VMCS ({error}); the fields that can be read are used")
    fields = data.get("fields")
    for field, value in fields.items() if isinstance(fields, dict) else ():
        try:
            number = int(value, 0) if isinstance(value, str) else value
        except ValueError:
            number = None
        if field in FIELDS and isinstance(number, int) and not isinstance(number, bool) and number >= 0:
            dump.put(field, number, field, 1)
        else:
            dump.warn(f"{field} = {value!r} is not used")
