"""Recognises mistakes that show in the values: access rights in another form, a register's value in another's field, halves exchanged.

Each recogniser looks for one kind; a new kind is one more function in `_RECOGNISERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from vmfuzz.arch.capabilities import CAPABILITY_MSRS
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.advice import hm_error
from vmfuzz.explain.atoms import shown, spoken
from vmfuzz.explain.dump import ALL, Dump, Reading
from vmfuzz.explain.mistakes import Mistake

#: Words of which every bit may be meant: no longer suspected once the processor has accepted them.
_FREE_TO_CHOOSE: Final = frozenset({"vm_entry_controls"})
#: S = 0 with the types of an LDT and of task-state segments.
_SYSTEM_TYPES: Final = (2, 1, 3, 9, 11)
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")


def value_mistakes(dump: Dump, violated: Iterable[str]) -> list[Mistake]:
    """Mistakes that show in the values; `violated` names the fields that violated checks read."""
    stopping = frozenset(violated)
    found: list[Mistake] = []
    for recogniser in _RECOGNISERS:
        for mistake in recogniser(dump):
            stops = mistake.stops and (mistake.field in stopping or not mistake.field)
            passed = dump.reported is not None and dump.reported.exit_reason is not None
            if stops or not passed or mistake.field not in _FREE_TO_CHOOSE:
                found.append(replace(mistake, stops=stops))
    return found


def _exact(readings: Mapping[str, Reading], name: str) -> int | None:
    reading = readings.get(name)
    return reading.value if reading is not None and reading.known == ALL else None


def _copied_registers(dump: Dump) -> list[Mistake]:
    """A register's value equals another's from which it differs by nature: the variable was not read anew."""
    readings = dump.readings
    found = []
    pairs = (
        ("ia32_sysenter_cs", ("ia32_efer", "ia32_pat", "ia32_sysenter_esp", "ia32_sysenter_eip", "ia32_debugctl")),
        ("ia32_sysenter_eip", ("ia32_sysenter_esp", "ia32_efer", "ia32_pat")),
        ("ia32_pat", ("ia32_efer",)),
        ("idtr_base", ("gdtr_base",)),
        ("cr4", ("cr0", "cr3")),
        ("cr3", ("cr0",)),
        ("tr_base", ("gdtr_base", "idtr_base")),
        ("gs_base", ("fs_base",)),
    )
    for area in ("guest", "host"):
        for name, others in pairs:
            value = _exact(readings, f"{area}_{name}")
            for other in others:
                if (
                    value
                    and value > 0xFF
                    and value == _exact(readings, f"{area}_{other}")
                    and not _may_be_alike(readings, area, name, other, value)
                ):
                    line = readings[f"{area}_{name}"].line
                    found.append(
                        Mistake(
                            f"{spoken(f'{area}_{name}')} = {shown(f'{area}_{name}', value)} is the value of {spoken(f'{area}_{other}')}.",
                            f"The two registers hold different things; it looks as if {other.upper()} was written to both, "
                            f"for want of reading {name.upper()} anew.",
                            f"read {name.upper()} before writing {spoken(f'{area}_{name}')}",
                            False,
                            f"{area}_{name}",
                            line,
                        )
                    )
    return found


def _may_be_alike(readings: Mapping[str, Reading], area: str, name: str, other: str, value: int) -> bool:
    """Whether the two registers may hold the same: FS and GS with one selector; CR3 where CR4 has VMXE only."""
    if (name, other) == ("gs_base", "fs_base"):
        selectors = {_exact(readings, f"{area}_{segment}_selector") for segment in ("fs", "gs")}
        return len(selectors) == 1 and selectors != {0}
    return (name, other) == ("cr4", "cr3") and not value & 0xFFF


def _same_stack(dump: Dump) -> list[Mistake]:
    readings = dump.readings
    guest, host = _exact(readings, "guest_rsp"), _exact(readings, "host_rsp")
    if not guest or guest != host:
        return []
    return [
        Mistake(
            f"guest RSP and host RSP are both {shown('guest_rsp', guest)}.",
            "No check forbids it, but after the first VM exit the handler overwrites what the guest has on its stack.",
            "give the host a stack of its own",
            False,
            "host_rsp",
            readings["host_rsp"].line,
        )
    ]


def _rights_form(dump: Dump) -> list[Mistake]:
    """Access rights as LAR, a descriptor or QEMU has them, not as the VMCS wants them."""
    readings = dump.readings
    found = []
    for segment in SEGMENTS:
        name = f"guest_{segment}_access_rights"
        value = _exact(readings, name)
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
                )
            )
        elif value & 0xF00 and not value & 0x10000 and value & 0x80:
            found.append(
                Mistake(
                    f"{spoken(name)} = {shown(name, value)} has reserved bits 11:8 set ({value >> 8 & 0xF:X}H).",
                    "In a descriptor (and in LAR's result) these bits are limit bits 19:16; in the VMCS they must be 0.",
                    f"clear bits 11:8: {shown(name, value & ~0xF00)}",
                    True,
                    name,
                    line,
                )
            )
        selector = _exact(readings, f"guest_{segment}_selector")
        if value == 0 and segment not in ("cs", "tr") and selector is not None and not selector & ~3:
            found.append(
                Mistake(
                    f"guest {segment.upper()} has a null selector, but its access rights are 0, which means usable.",
                    "Bit 16 (unusable) tells the processor that the register holds a null selector; 0 is a usable segment that is not present.",
                    f"write 10000H to {spoken(name)}",
                    True,
                    name,
                    line,
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


def _limit_form(dump: Dump) -> list[Mistake]:
    readings = dump.readings
    found = []
    for segment in SEGMENTS:
        rights, limit = _exact(readings, f"guest_{segment}_access_rights"), _exact(readings, f"guest_{segment}_limit")
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
                    f"write (limit << 12) | 0xfff, that is {shown(name, page)}{'' if limit & 0xFFF != 0xFFF else ', unless 1 MByte is what you mean'}",
                    limit & 0xFFF != 0xFFF,
                    name,
                    readings[name].line,
                )
            )
    return found


def _control_words(dump: Dump) -> list[Mistake]:
    """Control words that are a half of a capability MSR, or have bits of another word."""
    readings = dump.readings
    found = []
    for number, value in dump.msrs.items():
        if number in (0x481, 0x482, 0x483, 0x484, 0x48D, 0x48E, 0x48F, 0x490) and (value & 0xFFFFFFFF) & ~(value >> 32):
            swapped = (value >> 32) | (value & 0xFFFFFFFF) << 32
            if not (swapped & 0xFFFFFFFF) & ~(swapped >> 32):
                found.append(
                    Mistake(
                        f"{CAPABILITY_MSRS[number]} = {value:016X}H has its halves swapped.",
                        "Bits 31:0 are the bits that must be 1, bits 63:32 those that may be 1; what must be 1 may be 1, here it is the reverse.",
                        "put EDX into bits 63:32 and EAX into bits 31:0 when you read the MSR",
                        True,
                    )
                )
    fixed = {"pin": 0x16, "primary": 0x04006172, "exit": 0x00036DFB, "entry": 0x000011FB}
    for key, word in CONTROL_WORDS.items():
        value_now = _exact(readings, word.field)
        if value_now is None or key not in fixed:
            continue
        line = readings[word.field].line
        for number in (word.msr, word.true_msr or word.msr):
            msr = dump.msrs.get(number)
            if msr is not None and value_now == msr >> 32 and value_now != msr & 0xFFFFFFFF:
                found.append(
                    Mistake(
                        f"{word.title} = {value_now:08X}H is the high half of {CAPABILITY_MSRS[number]}, the bits that *may* be 1.",
                        "So every control that the processor has is on, with all that each of them needs.",
                        f"write (wanted | bits 31:0) & bits 63:32; with nothing wanted that is {msr & 0xFFFFFFFF:08X}H",
                        True,
                        word.field,
                        line,
                    )
                )
        if value_now and not value_now & fixed[key]:
            found.append(
                Mistake(
                    f"{word.title} = {value_now:08X}H have none of the bits that must be 1 on every processor ({fixed[key]:08X}H).",
                    "The value was written as wanted, without the allowed settings of the capability MSR.",
                    f"write (wanted | MSR bits 31:0) & MSR bits 63:32, here at least {value_now | fixed[key]:08X}H",
                    True,
                    word.field,
                    line,
                )
            )
    return found + _swapped_words(readings)


def _swapped_words(readings: Mapping[str, Reading]) -> list[Mistake]:
    entry, exits = _exact(readings, "vm_entry_controls"), _exact(readings, "vm_exit_controls")
    found = []
    if entry is not None and exits is not None and entry & 0x36DFB == 0x36DFB and exits & 0x36DFB != 0x36DFB:
        found.append(
            Mistake(
                f"VM-entry controls ({entry:08X}H) look like VM-exit controls and VM-exit controls ({exits:08X}H) like VM-entry controls.",
                "36DFBH are the bits that must be 1 in the VM-exit controls, 11FBH those of the VM-entry controls.",
                "exchange the two (VM-exit controls are 400CH, VM-entry controls 4012H)",
                True,
                "vm_entry_controls",
                readings["vm_entry_controls"].line,
            )
        )
    names = {18: "save IA32_PAT", 19: "load IA32_PAT", 20: "save IA32_EFER", 21: "load IA32_EFER"}
    alike = {"load IA32_PAT": 14, "load IA32_EFER": 15}
    if not found and entry is not None:
        for bit, name in names.items():
            if entry >> bit & 1 and name in alike and not entry >> alike[name] & 1:
                found.append(
                    Mistake(
                        f'bit {bit} of the VM-entry controls is 1; "{name}" is bit {bit} of the VM-exit controls, '
                        f"but bit {alike[name]} of the VM-entry controls.",
                        "The same control has another place in each of the two words.",
                        f"set bit {alike[name]} in place of bit {bit} in the VM-entry controls, unless bit {bit} is what you mean",
                        True,
                        "vm_entry_controls",
                        readings["vm_entry_controls"].line,
                    )
                )
    if (
        exits is not None
        and exits >> 15 & 1
        and not exits >> 21 & 1
        and _exact(readings, "host_ia32_efer")
        and "pin_based_controls" in readings
    ):
        pin = _exact(readings, "pin_based_controls") or 0
        if not pin & 1:
            found.append(
                Mistake(
                    'bit 15 of the VM-exit controls is 1 ("acknowledge interrupt on exit") while external-interrupt exiting is 0.',
                    'Bit 15 is "load IA32_EFER" in the VM-entry controls; in the VM-exit controls that is bit 21.',
                    "set bit 21 in place of bit 15 in the VM-exit controls, if loading IA32_EFER is what you mean",
                    False,
                    "vm_exit_controls",
                    readings["vm_exit_controls"].line,
                )
            )
    return found


def _link_pointer(dump: Dump) -> list[Mistake]:
    readings = dump.readings
    value = _exact(readings, "vmcs_link_pointer")
    if value is None or value == ALL or (value > 0xFFF and value != 0xFFFFFFFF):
        return []
    half = " (only its low half has been written)" if value == 0xFFFFFFFF else ""
    return [
        Mistake(
            f"VMCS link pointer = {shown('vmcs_link_pointer', value)}{half}.",
            "Anything but all ones is taken for the address of another VMCS, whose first doubleword the processor reads and checks.",
            "write FFFFFFFFFFFFFFFFH to 2800H unless you use VMCS shadowing",
            True,
            "vmcs_link_pointer",
            readings["vmcs_link_pointer"].line,
        )
    ]


def _not_loaded(dump: Dump) -> list[Mistake]:
    """Fields that were written with care but do not count, because the control that loads them is 0."""
    readings = dump.readings
    found = []
    for area, word, registers in (
        ("guest", "vm_entry_controls", {"efer": 15, "pat": 14}),
        ("host", "vm_exit_controls", {"efer": 21, "pat": 19}),
    ):
        controls = _exact(readings, word)
        idle = [
            name
            for name, bit in registers.items()
            if controls is not None and not controls >> bit & 1 and _exact(readings, f"{area}_ia32_{name}")
        ]
        if idle and dump.written:
            names = " and ".join(f"IA32_{name.upper()}" for name in idle)
            found.append(
                Mistake(
                    f"{area} {names} {'are' if len(idle) > 1 else 'is'} written, but not loaded: "
                    + ", ".join(f'"load IA32_{name.upper()}" (bit {registers[name]})' for name in idle)
                    + f" of the {spoken(word)} {'are' if len(idle) > 1 else 'is'} 0.",
                    "The fields have no effect; the MSRs keep the values they have.",
                    "nothing, if the guest is to run with the host's values",
                    False,
                    f"{area}_ia32_{idle[0]}",
                    readings[f"{area}_ia32_{idle[0]}"].line,
                )
            )
    return found


def _virtualbox(dump: Dump) -> list[Mistake]:
    """VirtualBox has made the checks itself and names the one that failed."""
    meaning = hm_error(dump.hm_error) if dump.hm_error is not None else ""
    if not meaning:
        return []
    segment = next((name for name in SEGMENTS if f"guest {name.upper()}" in meaning), "")
    printed = [
        f"{name.removeprefix('saved ')} = {reading.value:X}H"
        for name, reading in dump.beside.items()
        if (segment and name.lower().startswith((f"saved {segment} ", f"saved {segment.upper()}".lower())))
        or (segment and name == f"Attr {segment.upper()}")
    ]
    part = next(
        (part for part in ("limit", "base", "access_rights") if part.replace("_", " ") in meaning), "access_rights" if segment else ""
    )
    what = f"{meaning} (HM error {dump.hm_error})"
    shown_values = f" The log shows {', '.join(printed)}." if printed else ""
    return [
        Mistake(
            f"{what[0].upper()}{what[1:]}.",
            f"VirtualBox repeats the processor's checks after a failure and names the first that fails.{shown_values}",
            _virtualbox_change(meaning, f"guest_{segment}_{part}" if segment else ""),
            True,
        )
    ]


def _virtualbox_change(meaning: str, field: str) -> str:
    if not field:
        return "compare the field that this check reads with what the log shows of the guest's state"
    what = f"{spoken(field)} ({FIELDS[field].encoding:04X}H) is the field concerned"
    if not meaning.startswith("virtual-8086 mode"):
        return what
    return (
        f'{what}: {meaning.rpartition(": ")[2]}. VirtualBox runs real mode as virtual-8086 mode only without "unrestricted guest", so nested '
        "paging with unrestricted execution (VBoxManage modifyvm NAME --nested-paging on --vtx-ux on) avoids this check"
    )


_RECOGNISERS: Final[tuple[Callable[[Dump], list[Mistake]], ...]] = (
    _virtualbox,
    _rights_form,
    _limit_form,
    _control_words,
    _link_pointer,
    _copied_registers,
    _same_stack,
    _not_loaded,
)
