"""Mistakes that show in a segment register's fields: access rights in another form, a limit in another unit."""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.registers import AR
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.judgement.judge import exact
from vmfuzz.explain.names.spoken import shown, spoken
from vmfuzz.hexadecimal import hexadecimal

#: S = 0 with the types of an LDT and of task-state segments.
_SYSTEM_TYPES: Final = (2, 1, 3, 9, 11)
_UNUSABLE: Final = 1 << AR.UNUSABLE
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")


def rights_form(dump: Dump) -> list[Mistake]:
    """Access rights as LAR, a descriptor or QEMU has them, not as the VMCS wants them."""
    readings = dump.readings
    found = []
    for segment in SEGMENTS:
        name = f"guest_{segment}_access_rights"
        value = exact(readings, name)
        if value is None:
            continue
        line = readings[name].line
        shifted = value >> 8 & 0xF0FF
        if _is_unshifted(value, shifted, system=segment in ("ldtr", "tr")):
            found.append(
                Mistake(
                    f"{spoken(name)} = {shown(name, value)} looks like a result of LAR (or QEMU's flags) that was not shifted right by 8.",
                    f"Shifted and with bits 11:8 cleared it would be {shown(name, shifted)}.",
                    f"write (LAR result >> 8) & 0xf0ff, that is {shown(name, shifted)}; for a null selector write 10000H",
                    True,
                    name,
                    line,
                    writes=(shifted, _UNUSABLE),
                )
            )
        elif value & 0xF00 and not value & 0x10000 and value & 0x80:
            found.append(
                Mistake(
                    f"{spoken(name)} = {shown(name, value)} has reserved bits 11:8 set ({hexadecimal(value >> 8 & 0xF)}).",
                    "In a descriptor (and in LAR's result) these bits are limit bits 19:16; in the VMCS they must be 0.",
                    f"clear bits 11:8: {shown(name, value & ~0xF00)}",
                    True,
                    name,
                    line,
                    writes=(value & ~0xF00,),
                )
            )
        selector = exact(readings, f"guest_{segment}_selector")
        if value == 0 and segment not in ("cs", "tr") and selector is not None and not selector & ~3:
            found.append(
                Mistake(
                    f"guest {segment.upper()} has a null selector, but its access rights are 0, which means usable.",
                    "Bit 16 (unusable) tells the processor that the register holds a null selector; 0 is a usable segment that is not present.",
                    f"write 10000H to {spoken(name)}",
                    True,
                    name,
                    line,
                    writes=(_UNUSABLE,),
                )
            )
    return found


def _is_unshifted(value: int, shifted: int, system: bool) -> bool:
    """Whether bits 15:8 are the present descriptor of a loaded segment register and bits 7:0 are 0.

    A register made unusable keeps odd remains of its descriptor: 1C000H is an unusable segment, whose bits 15:8 would be no descriptor at all.
    """
    if value & 0xFF or not shifted & 0x80:
        return False
    return shifted & 0x1F in _SYSTEM_TYPES if system else bool(shifted & 0x10)


def limit_form(dump: Dump) -> list[Mistake]:
    """Limits in units of 4 KBytes, as a descriptor has them."""
    readings = dump.readings
    found = []
    # of a task-state segment or an LDT a small limit is what it should be, and G the mistake
    for segment in SEGMENTS[:6]:
        rights, limit = exact(readings, f"guest_{segment}_access_rights"), exact(readings, f"guest_{segment}_limit")
        name = f"guest_{segment}_limit"
        if rights is None or limit is None or rights & 0x10000:
            continue
        granular = bool(rights & 0x8000)
        if (granular and limit <= 0xFFFFF and limit & 0xFFF != 0xFFF) or (granular and limit == 0xFFFFF):
            page = (limit << 12 | 0xFFF) & 0xFFFFFFFF
            sure = (
                "a limit in units of 4 KBytes"
                if limit & 0xFFF != 0xFFF
                else "1 MByte, or a limit in units of 4 KBytes as a descriptor has it"
            )
            found.append(
                Mistake(
                    f"{spoken(name)} = {shown(name, limit)} with G (bit 15 of the access rights) = 1: {sure}.",
                    "The VMCS holds the limit in bytes, as LSL returns it; with G = 1 its low 12 bits are all 1.",
                    f"write (limit << 12) | 0xfff, that is {shown(name, page)}{'' if limit & 0xFFF != 0xFFF else ', unless you mean 1 MByte'}",
                    limit & 0xFFF != 0xFFF,
                    name,
                    readings[name].line,
                    writes=(page,),
                )
            )
    return found
