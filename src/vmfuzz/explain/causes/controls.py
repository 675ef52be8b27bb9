"""Mistakes that show in the control words: halves of a capability MSR, bits of another word, words never made from the MSR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.controls import CONTROL_WORDS, Entry, Exit
from vmfuzz.counted import listed
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.dump import Dump, Reading
from vmfuzz.explain.judgement.judge import exact
from vmfuzz.explain.judgement.processor import FIXED_1
from vmfuzz.hexadecimal import as_wide

#: Bits that a word of the VM-exit controls always has, and one of the VM-entry controls only in SMM.
_EXIT_ONLY: Final = 1 << Entry.ENTRY_TO_SMM | 1 << Entry.DEACTIVATE_DUAL_MONITOR_TREATMENT
#: The VM-entry controls of a 64-bit guest, with which no processor finds fault.
_FOR_64_BITS: Final = 0x13FF
#: So many words that are 0 tell more of the VMCS than of the words.
_ZERO_WORDS: Final = 2


def control_words(dump: Dump) -> list[Mistake]:
    """Control words that are a half of a capability MSR, or have bits of another word."""
    return [
        *never_written(dump),
        *_swapped_halves(dump),
        *_high_halves(dump),
        *_words_as_wanted(dump.readings),
        *(_exit_word_in_entry_controls(dump.readings) or _swapped_words(dump.readings)),
    ]


def never_written(dump: Dump) -> list[Mistake]:
    """A VMCS of which every control word that the text shows is 0."""
    words = [word for key, word in CONTROL_WORDS.items() if key in FIXED_1 and exact(dump.readings, word.field) is not None]
    if len(words) < _ZERO_WORDS or any(exact(dump.readings, word.field) for word in words):
        return []
    return [
        Mistake(
            f"{listed([word.title for word in words])} are all 0, as in a VMCS that was never written.",
            "Each of them has bits that must be 1 on every processor. VMWRITE and VMREAD act on the current VMCS: another one was current when the "
            "fields were written, or a VMCLEAR or VMPTRLD came in between, or the memory of this VMCS was cleared.",
            "execute VMCLEAR and VMPTRLD for this VMCS before the first VMWRITE, check CF and ZF after each VMWRITE, and do not clear the "
            "memory afterwards",
            True,
            words[0].field,
            dump.readings[words[0].field].line,
        )
    ]


def _swapped_halves(dump: Dump) -> list[Mistake]:
    found = []
    for number, reading in dump.msrs.items():
        value = reading.value
        if number in (0x481, 0x482, 0x483, 0x484, 0x48D, 0x48E, 0x48F, 0x490) and (value & 0xFFFFFFFF) & ~(value >> 32):
            swapped = (value >> 32) | (value & 0xFFFFFFFF) << 32
            if not (swapped & 0xFFFFFFFF) & ~(swapped >> 32):
                found.append(
                    Mistake(
                        f"{FACT_MSRS[number]} = {as_wide(value, 64)} has its halves swapped.",
                        "Bits 31:0 are the bits that must be 1, bits 63:32 those that may be 1; what must be 1 may also be 1, but here it is the reverse.",
                        "put EDX into bits 63:32 and EAX into bits 31:0 when you read the MSR",
                        True,
                    )
                )
    return found


def _high_halves(dump: Dump) -> list[Mistake]:
    found = []
    for key, word in CONTROL_WORDS.items():
        value = exact(dump.readings, word.field)
        if value is None or key not in FIXED_1:
            continue
        for number in (word.msr, word.true_msr or word.msr):
            msr = dump.msrs[number].value if number in dump.msrs else None
            if msr is not None and value == msr >> 32 and value != msr & 0xFFFFFFFF:
                found.append(
                    Mistake(
                        f"{word.title} = {as_wide(value, 32)} is the high half of {FACT_MSRS[number]}, the bits that *may* be 1.",
                        "So every control that the processor has is 1, and each of them needs other fields to be right.",
                        f"write (wanted | bits 31:0) & bits 63:32; with nothing wanted that is {as_wide(msr & 0xFFFFFFFF, 32)}",
                        True,
                        word.field,
                        dump.readings[word.field].line,
                        writes=(msr & 0xFFFFFFFF,),
                    )
                )
    return found


def _words_as_wanted(readings: Mapping[str, Reading]) -> list[Mistake]:
    """Words that have none of the bits that must be 1: one mistake, which all of them share."""
    words = []
    for key, fixed in FIXED_1.items():
        value = exact(readings, CONTROL_WORDS[key].field)
        if value and not value & fixed:
            words.append((CONTROL_WORDS[key], value, fixed))
    if not words:
        return []
    several = len(words) > 1
    values = listed([f"{word.title} = {as_wide(value, 32)}" for word, value, _ in words])
    needed = listed([as_wide(fixed, 32) for _, _, fixed in words])
    mended = listed([as_wide(value | fixed, 32) for _, value, fixed in words])
    return [
        Mistake(
            f"{values} have none of the bits that must be 1 on every processor ({needed}).",
            f"The value{'s were' if several else ' was'} written as wanted, without regard to the capability MSR{'s' * several}.",
            f"write (wanted | MSR bits 31:0) & MSR bits 63:32, here at least {mended}",
            True,
            words[0][0].field,
            readings[words[0][0].field].line,
            writes=(words[0][1] | words[0][2],),
        )
    ]


def _swapped_words(readings: Mapping[str, Reading]) -> list[Mistake]:
    entry, exits = exact(readings, "vm_entry_controls"), exact(readings, "vm_exit_controls")
    both = [] if entry is None or exits is None else _exchanged_words(readings, entry, exits)
    return [
        *(both or ([] if entry is None else _exit_bits_in_entry_controls(readings, entry))),
        *([] if exits is None else _entry_bit_in_exit_controls(readings, exits)),
    ]


def _exchanged_words(readings: Mapping[str, Reading], entry: int, exits: int) -> list[Mistake]:
    fixed = FIXED_1["exit"]
    if entry & fixed != fixed or exits & fixed == fixed:
        return []
    return [
        Mistake(
            f"VM-entry controls ({as_wide(entry, 32)}) look like VM-exit controls and VM-exit controls ({as_wide(exits, 32)}) like VM-entry controls.",
            "36DFBH are the bits that must be 1 in the VM-exit controls, 11FBH those of the VM-entry controls.",
            "exchange the two (VM-exit controls are 400CH, VM-entry controls 4012H)",
            True,
            "vm_entry_controls",
            readings["vm_entry_controls"].line,
        )
    ]


def _exit_bits_in_entry_controls(readings: Mapping[str, Reading], entry: int) -> list[Mistake]:
    """Bits that load a register where they stand in the VM-exit controls, and not where they stand in the VM-entry controls."""
    return [
        Mistake(
            f'bit {int(theirs)} of the VM-entry controls is 1; "{name}" is bit {int(theirs)} of the VM-exit controls, '
            f"but bit {int(own)} of the VM-entry controls.",
            "The same control has another place in each of the two words.",
            f"set bit {int(own)} instead of bit {int(theirs)} in the VM-entry controls, unless you mean bit {int(theirs)}",
            True,
            "vm_entry_controls",
            readings["vm_entry_controls"].line,
        )
        for name, own, theirs in (
            ("load IA32_PAT", Entry.LOAD_IA32_PAT, Exit.LOAD_IA32_PAT),
            ("load IA32_EFER", Entry.LOAD_IA32_EFER, Exit.LOAD_IA32_EFER),
        )
        if entry >> theirs & 1 and not entry >> own & 1
    ]


def _entry_bit_in_exit_controls(readings: Mapping[str, Reading], exits: int) -> list[Mistake]:
    """The bit that loads IA32_EFER where it stands in the VM-entry controls, where what it means in the VM-exit controls makes no sense."""
    meant = exits & 1 << Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT and not exits & 1 << Exit.LOAD_IA32_EFER and exact(readings, "host_ia32_efer")
    if not meant or "pin_based_controls" not in readings or (exact(readings, "pin_based_controls") or 0) & 1:
        return []
    return [
        Mistake(
            'bit 15 of the VM-exit controls is 1 ("acknowledge interrupt on exit") while external-interrupt exiting is 0.',
            'Bit 15 is "load IA32_EFER" in the VM-entry controls; in the VM-exit controls that is bit 21.',
            "set bit 21 instead of bit 15 in the VM-exit controls, if you mean to load IA32_EFER",
            False,
            "vm_exit_controls",
            readings["vm_exit_controls"].line,
        )
    ]


def _exit_word_in_entry_controls(readings: Mapping[str, Reading]) -> list[Mistake]:
    """A word of the VM-exit controls in both fields, or in that of the VM-entry controls alone."""
    entry, exits = exact(readings, "vm_entry_controls"), exact(readings, "vm_exit_controls")
    if entry is None or entry & FIXED_1["exit"] != FIXED_1["exit"] or entry & _EXIT_ONLY != _EXIT_ONLY:
        return []
    if exits is not None and exits & FIXED_1["exit"] != FIXED_1["exit"]:
        return []  # the two are exchanged
    if entry != exits and not FIXED_1["entry"] & ~entry:
        return []  # it has all that a word of its own has: more likely the bits that may be 1
    return [
        Mistake(
            f"VM-entry controls ({as_wide(entry, 32)}) {'hold the value of' if entry == exits else 'look like a word of'} the VM-exit controls.",
            "36DFBH are the bits that must be 1 in the VM-exit controls; in the VM-entry controls bits 10 and 11 are for SMM only.",
            "give the VM-entry controls (4012H) a word of their own, (wanted | bits 31:0) & bits 63:32 of IA32_VMX_ENTRY_CTLS (484H); "
            f"for a 64-bit guest {as_wide(_FOR_64_BITS, 32)}, for example, is allowed on every processor",
            True,
            "vm_entry_controls",
            readings["vm_entry_controls"].line,
            writes=(_FOR_64_BITS,),
        )
    ]
