"""Recognises mistakes that show in the values: access rights in another form, a register's value in another's field, halves exchanged.

Each recogniser looks for one kind; a new kind is one more function in `_RECOGNISERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from vmfuzz.arch.registers import CR0, CR4, EFER
from vmfuzz.explain.causes.controls import control_words
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.causes.segments import SEGMENTS, limit_form, rights_form
from vmfuzz.explain.dump import ALL, Dump, Reading
from vmfuzz.explain.judgement.judge import exact
from vmfuzz.explain.names.spoken import shown, spoken, with_encoding
from vmfuzz.explain.outcomes.virtualbox import hm_error
from vmfuzz.hexadecimal import hexadecimal

#: Words of which every bit may be meant: no longer suspected once the processor has accepted them.
_FREE_TO_CHOOSE: Final = frozenset({"vm_entry_controls"})


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
            value = exact(readings, f"{area}_{name}")
            for other in others:
                if (
                    value
                    and value > 0xFF
                    and value == exact(readings, f"{area}_{other}")
                    and not _may_be_alike(readings, area, name, other, value)
                ):
                    line = readings[f"{area}_{name}"].line
                    found.append(
                        Mistake(
                            f"{spoken(f'{area}_{name}')} = {shown(f'{area}_{name}', value)} is the value of {spoken(f'{area}_{other}')}.",
                            f"The two registers hold different things; it looks as if {other.upper()} was written to both, "
                            f"because {name.upper()} was not read first.",
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
        selectors = {exact(readings, f"{area}_{segment}_selector") for segment in ("fs", "gs")}
        return len(selectors) == 1 and selectors != {0}
    return (name, other) == ("cr4", "cr3") and not value & 0xFFF


def _same_stack(dump: Dump) -> list[Mistake]:
    readings = dump.readings
    guest, host = exact(readings, "guest_rsp"), exact(readings, "host_rsp")
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


def _link_pointer(dump: Dump) -> list[Mistake]:
    readings = dump.readings
    value = exact(readings, "vmcs_link_pointer")
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
            writes=(ALL,),
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
        controls = exact(readings, word)
        idle = [
            name
            for name, bit in registers.items()
            if controls is not None and not controls >> bit & 1 and exact(readings, f"{area}_ia32_{name}")
        ]
        if idle and dump.program.written:
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
        f"{name.removeprefix('saved ')} = {hexadecimal(reading.value)}"
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
    what = f"{with_encoding(field)} is the field in question"
    if not meaning.startswith("virtual-8086 mode"):
        return what
    return (
        f'{what}: {meaning.rpartition(": ")[2]}. VirtualBox runs real mode as virtual-8086 mode only without "unrestricted guest", so nested '
        "paging with unrestricted execution (VBoxManage modifyvm NAME --nested-paging on --vtx-ux on) avoids this check"
    )


def long_mode_suspicions(dump: Dump) -> list[Mistake]:
    """EFER.LMA without what IA-32e mode needs, where the text does not show the control that says which of the two is meant."""
    readings = dump.readings
    if exact(readings, "vm_entry_controls") is not None or not (exact(readings, "guest_ia32_efer") or 0) >> EFER.LMA & 1:
        return []
    found = []
    for name, bit in (("guest_cr0", CR0.PG), ("guest_cr4", CR4.PAE)):
        value = exact(readings, name)
        if value is not None and not value >> bit & 1:
            found.append(
                Mistake(
                    f"guest IA32_EFER bit {int(EFER.LMA)} (LMA) is 1, but {spoken(name)} bit {int(bit)} ({bit.name}) is 0.",
                    f'With the VM-entry control "IA-32e mode guest" = 1 {bit.name} must be 1; with 0, LMA must be 0 if "load IA32_EFER" is 1.',
                    f"for a 64-bit guest set {spoken(name)} to {shown(name, value | 1 << bit)}; else clear LMA and LME",
                    True,
                    name,
                    readings[name].line,
                )
            )
    return found


_RECOGNISERS: Final[tuple[Callable[[Dump], list[Mistake]], ...]] = (
    _virtualbox,
    rights_form,
    limit_form,
    control_words,
    _link_pointer,
    _copied_registers,
    _same_stack,
    _not_loaded,
)
