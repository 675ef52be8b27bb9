"""From text to dumps: finds by content which formats a text holds, and hands each line to the parser that knows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vmfuzz.errors import VmfuzzError
from vmfuzz.explain.dump import Dump, Format, Reading, Warned
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats import amd, dumps, encodings, kvm, qemu, virtualbox
from vmfuzz.explain.formats.cpuinfo import processor_of
from vmfuzz.explain.formats.declared import read_declared
from vmfuzz.explain.formats.json_text import spread
from vmfuzz.explain.formats.pairs import read_pairs
from vmfuzz.explain.formats.program import read_calls
from vmfuzz.explain.formats.programs import formats
from vmfuzz.explain.outcomes import nested
from vmfuzz.explain.outcomes.choose import with_outcome
from vmfuzz.explain.settle.settle import settled
from vmfuzz.explain.text.apart import states_apart
from vmfuzz.explain.text.decoration import MOST_CHARACTERS
from vmfuzz.explain.text.lines import Line, ends_of, garbled, lines_of
from vmfuzz.explain.text.mend import mend
from vmfuzz.explain.text.numbers import ranges
from vmfuzz.patterns import deferred
from vmfuzz.state.vmcs import SCHEMA, Vmcs

#: Structures that userspace gets from KVM: settle/views.py.
_STRUCTURES: Final = deferred(r"\b(?:kvm_segment|kvm_(?:[gs]et_)?s?regs|apic_base|sregs)\b")


def read_text(text: str, name: str = "input") -> list[Dump]:
    """All dumps that a text holds, at least one; a text without anything that can be judged gives one empty dump."""
    text = text.lstrip("\ufeff")
    own = _read_json(text, name) if SCHEMA in text else None
    if own is not None:
        return [own]
    mended = mend(spread(text))
    shown = tuple(mended.split("\n"))
    states = states_apart(mended)
    found = [_Reader(part, shown, f"{name}, {state}" if state else name, state).dumps() for state, part in states.items()]
    if len(found) > 1 and not all(any(dump.readings for dump in dumps) for dumps in found):
        return _Reader(mended, shown, name).dumps()
    return [dump for dumps in found for dump in dumps]


class _Reader:
    """Reads one mended text, or what it says of one state; `shown`: all of its lines."""

    def __init__(self, text: str, shown: tuple[str, ...], name: str, state: str = "") -> None:
        self.text, self.shown, self.name, self.state = text, shown, name, state
        self.lines = [line for line in lines_of(text) if not line.text.startswith(("# source:", "# note:"))]
        self.ends = ends_of(self.lines, whole=text.endswith("\n"))
        parts, others = dumps.split_lines(self.lines)
        #: lines of KVM's and Xen's dumps, of QEMU's, of VirtualBox's log, and all others
        self.parts = [part for part in parts if len(part) > 1] or parts[:1]
        self.qemu, self.vbox = qemu.FORMAT.own_lines(others, text), virtualbox.FORMAT.own_lines(others, text)
        taken = {line.number for line in [*self.qemu, *self.vbox]}
        self.rest = [line for line in others if line.number not in taken]
        # what is the same for each of many dumps in a text
        self.garbled, self.processor = garbled(self.lines), processor_of(text)

    def dumps(self) -> list[Dump]:
        """The dumps of the text: one for each of KVM's and Xen's, or for each of QEMU's, or one."""
        of_qemu = qemu.dumps_of(self.qemu, self.rest)
        found = [(part, of_qemu[0][0], True) for part in self.parts] or [([], registers, failed) for registers, failed in of_qemu]
        any_failed = any(failed for _, _, failed in found)
        return [
            self._dump(f", dump {number} of {len(found)}" * (len(found) > 1), part, registers, failed or not any_failed)
            for number, (part, registers, failed) in enumerate(found, 1)
        ]

    def _dump(self, which: str, part: list[Line], registers: list[Line], told: bool) -> Dump:
        """One dump; `which` of the text's dumps it is; `told`: what the text tells of a failure may be its own."""
        found = Found()
        kvm.parse(part, found, self.ends)
        for line in registers:
            qemu.FORMAT.read(line, found)  # assumed: what a dump of the VMCS shows goes before
        virtualbox.parse_vbox(self.vbox, found)
        plain = _read_plain(self.rest, found, bool(part))
        dump = settled(found, self.ends, self.garbled)
        if told:
            dump = with_outcome(dump, [*self.rest, *self.qemu, *self.vbox], self.text)
        foreign = "" if part else amd.why_foreign(self.text, dump)
        if foreign:
            dump = replace(dump, readings={}, warned=())
        whose = {"KVM's or Xen's dump of a VMCS": part, "QEMU's registers": registers, "VirtualBox's log": self.vbox}
        whose |= {**found.programs, "lines of no known program: pairs, tables, program text, sentences": plain}
        claims = [f"{ranges(line.number for line in lines)}: {what}" for what, lines in whose.items() if lines]
        return replace(
            dump,
            source=self.name + which,
            state=self.state,
            format=self._format(dump),
            lines=self.shown,
            trace=(*claims, *dump.trace),
            warned=(*dump.warned, *self._warnings(dump)),
            processor=self.processor,
            foreign=foreign,
            nested=nested.note(self.text, dump),
        )

    def _warnings(self, dump: Dump) -> Iterator[Warned]:
        """What was not read, and what KVM could have printed."""
        for line in self.lines:
            if len(line.raw) > MOST_CHARACTERS:
                text = f"this line has {len(line.raw):,} characters; those behind the first {MOST_CHARACTERS:,} are not read"
                yield Warned(line.number, text)
        if "dump_invalid_vmcs" in self.text and not self.parts and not (dump.reported and dump.reported.entered):
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


def _read_plain(lines: list[Line], found: Found, named_only: bool) -> list[Line]:
    """Read lines of no known program, and return them without those of declared formats: encodings, calls, names with values."""
    if not named_only:
        lines = read_declared(lines, found, formats())
    taken = encodings.collect(lines, found, named_only)
    found.viewed = _STRUCTURES.search("\n".join(line.text for line in lines).lower()) is not None
    taken |= read_calls(lines, found)
    read_pairs(lines, taken, found, named_only)
    return lines


def _read_json(text: str, name: str) -> Dump | None:
    """Vmfuzz's own JSON: a VMCS, or any object that has one in it; None if it is another, or has faults: then its fields are names and values."""
    held: list[dict[str, object]] = []
    try:
        json.loads(text, object_hook=lambda data: held.append(data) if data.get("schema") == SCHEMA else data)
        state = Vmcs.from_json(held[0])
    except (ValueError, RecursionError, IndexError, VmfuzzError):
        return None
    readings = {field: Reading(state[field], field, 1) for field in state}
    return with_outcome(Dump(readings, source=name, format=Format.JSON, memory=dict(state.memory), complete=True))
