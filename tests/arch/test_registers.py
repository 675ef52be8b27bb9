"""Bit names of registers and of control words."""

from __future__ import annotations

import enum

import pytest

from vmfuzz.arch.controls import CONTROL_WORDS, CONTROLS, Entry, Exit, Pin, Primary, Secondary, Tertiary, control_name, control_named
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.arch.registers import AR, CR0, CR4, EFER, FIELD_BITS, INTERRUPTION_INFO, RFLAGS
from vmfuzz.errors import UnknownNameError, UsageError


@pytest.mark.parametrize(
    ("bit", "number"),
    [
        (CR0.PE, 0),
        (CR0.WP, 16),
        (CR0.PG, 31),
        (CR4.PAE, 5),
        (CR4.VMXE, 13),
        (CR4.PCIDE, 17),
        (CR4.CET, 23),
        (CR4.FRED, 32),
        (EFER.LME, 8),
        (EFER.LMA, 10),
        (RFLAGS.IF, 9),
        (RFLAGS.VM, 17),
        (AR.P, 7),
        (AR.UNUSABLE, 16),
        (INTERRUPTION_INFO.VALID, 31),
        (Pin.PROCESS_POSTED_INTERRUPTS, 7),
        (Primary.ACTIVATE_SECONDARY_CONTROLS, 31),
        (Secondary.UNRESTRICTED_GUEST, 7),
        (Tertiary.IPI_VIRTUALIZATION, 4),
        (Exit.HOST_ADDRESS_SPACE_SIZE, 9),
        (Entry.IA32E_MODE_GUEST, 9),
    ],
    ids=str,
)
def test_well_known_bits_have_the_manuals_numbers(bit: enum.IntEnum, number: int) -> None:
    assert bit == number


@pytest.mark.parametrize("name", FIELD_BITS)
def test_named_bits_lie_within_their_field(name: str) -> None:
    width = LIVE[name].width if name in LIVE else FIELDS[name].width
    assert all(0 <= bit < width for bit in FIELD_BITS[name])


@pytest.mark.parametrize("key", CONTROL_WORDS)
def test_a_control_word_is_held_by_a_field_of_the_catalogue(key: str) -> None:
    word = CONTROL_WORDS[key]
    assert all(0 <= bit < FIELDS[word.field].width for bit in word.bits)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_qualified_name_finds_its_control(name: str) -> None:
    control = control_named(name)
    assert control_name(control) == name
    assert control is CONTROLS[name]


def test_a_bare_name_finds_the_only_control_of_that_name() -> None:
    assert control_named("enable_ept") is Secondary.ENABLE_EPT


def test_an_ambiguous_bare_name_is_refused_with_the_choices() -> None:
    with pytest.raises(UsageError) as caught:
        control_named("load_ia32_pat")
    assert str(caught.value) == "control 'load_ia32_pat' is ambiguous; write one of exit.load_ia32_pat, entry.load_ia32_pat"


def test_an_unknown_control_lists_what_is_near() -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown control 'enable_etp'; did you mean .*\benable_ept\b"):
        control_named("enable_etp")
