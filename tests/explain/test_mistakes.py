"""Mistakes of the program, planted with values that no sample has: each is recognised, and a legal dump is accused of none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.answer.verify import fitting_cpu
from vmfuzz.explain.reading import read_text
from vmfuzz.model.partial import Partial
from vmfuzz.state.profiles import capabilities

BODIES = Path(__file__).parent / "bodies"
KVM = (BODIES / "kvm.txt").read_text(encoding="utf-8")
XEN = (BODIES / "xen.txt").read_text(encoding="utf-8")
SEGMENT = re.compile(
    r"(?m)^(?P<name>[CDSEFG]S|LDTR|TR):(?P<head> +)sel=(?P<sel>\w+), attr=(?P<attr>\w+), limit=(?P<limit>\w+), base=(?P<base>\w+)$"
)


def answered(text: str) -> Answer:
    (dump,) = read_text(text, "text")
    return answer(dump)


def planted(body: str, old: str, new: str) -> str:
    assert body.count(old) == 1, old
    return body.replace(old, new)


def said(text: str) -> str:
    found = answered(text)
    return " ".join(mistake.what for mistake in [*found.causes, *found.remarks])


@pytest.mark.parametrize("order", [("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"), ("CS", "DS", "SS", "ES", "FS", "GS", "LDTR", "TR")])
@pytest.mark.parametrize("step", [1, -1])
def test_every_part_one_place_off(order, step):
    parts = {match["name"]: match.groupdict() for match in SEGMENT.finditer(KVM)}

    def moved(match: re.Match[str]) -> str:
        source = parts[order[(order.index(match["name"]) + step) % len(order)]]
        return f"{match['name']}:{match['head']}sel={source['sel']}, attr={source['attr']}, limit={source['limit']}, base={source['base']}"

    assert "one place off" in said(SEGMENT.sub(moved, KVM))


#: the guest's fields of each width, in the order of their encodings
GROUPS = {
    width: [name for name in FIELDS if name.startswith("guest_") and FIELDS[name].encoding >> 10 == kind]
    for width, kind in (("16-bit", 2), ("32-bit", 0x12), ("natural-width", 0x1A))
}


def moved_by(values: dict[str, int], steps: dict[str, int]) -> str:
    """A text in which each field of these groups has the value of the one so many places on."""
    lines = []
    for group, names in GROUPS.items():
        step = steps.get(group, 0)
        for index, name in enumerate(names):
            source = names[index + step] if 0 <= index + step < len(names) else ""
            if name in values and source in values:
                lines.append(f"{name} = {values[source] & (1 << FIELDS[name].width) - 1:#x}")
    return "\n".join([*lines, "exit reason 0x80000021"])


@pytest.mark.parametrize(
    "steps", [{"natural-width": -1}, {"natural-width": 2}, {"32-bit": 1}, {"32-bit": -2}, {"32-bit": 2, "natural-width": 1}]
)
def test_groups_of_fields_off_their_places(steps):
    values = {name: reading.value for name, reading in read_text(KVM)[0].readings.items()}
    whole = answered(moved_by(values, steps))
    (found,) = whole.causes  # a change of single values would be as wrong as the values
    assert whole.repairs == ()
    assert "hold each other's values" in found.what
    for group, step in steps.items():
        assert f"the {group} fields are {'one place' if abs(step) == 1 else 'two places'} off" in found.what
    assert said(moved_by(values, {})) == ""


def test_many_mistakes_are_no_shift():
    values = {name: reading.value for name, reading in read_text(KVM)[0].readings.items()}
    values |= {"guest_cr0": 0x10, "guest_cr4": 0, "guest_rflags": 0, "guest_cs_access_rights": 0xA013, "guest_tr_access_rights": 0x81}
    values |= {"guest_idtr_limit": 0x1FFFF, "guest_activity_state": 9, "guest_pending_debug_exceptions": 0xF0}
    found = answered(moved_by(values, {}))
    assert len(found.violated) >= 8
    assert not any("each other" in cause.what for cause in found.causes)


@pytest.mark.parametrize("rights", ["0x00209b00", "0x00af9b00", "0x00a09f00"])
def test_rights_of_cs_as_lar_returns_them(rights):
    found = answered(planted(KVM, "attr=0x0a09b", f"attr={rights}"))
    assert "not shifted right by 8" in found.causes[0].what
    assert f"{int(rights, 16) >> 8 & 0xF0FF:08X}H" in found.causes[0].change


def test_rights_of_tr_as_lar_returns_them():
    assert "guest TR access rights" in said(planted(KVM, "attr=0x0008b", "attr=0x00008b00"))


@pytest.mark.parametrize("rights", ["0x1c000", "0x10000", "0x1c001", "0x14000", "0x1f0f3", "0x18000"])
def test_an_unusable_register_with_remains_is_no_mistake(rights):
    text = KVM.replace("attr=0x1c000", f"attr={rights}").replace("reason=80000021", "reason=00000020")
    assert said(text) == ""


@pytest.mark.parametrize(
    ("msr", "value"),
    [
        ("IA32_VMX_PINBASED_CTLS", 0x00000016_000000BF),
        ("IA32_VMX_TRUE_PROCBASED_CTLS", 0x04006172_FFF9FFFE),
        ("IA32_VMX_TRUE_EXIT_CTLS", 0x00036DFB_01FFFFFF),
        ("IA32_VMX_ENTRY_CTLS", 0x000011FF_0003FFFF),
    ],
)
def test_halves_of_a_capability_msr_exchanged(msr, value):
    assert "halves swapped" in said(f"{msr} = {value:#018x}\n")
    right = (value >> 32) | (value & 0xFFFFFFFF) << 32
    assert "halves" not in said(f"{msr} = {right:#018x}\n")


def test_an_entry_bit_in_the_exit_controls_and_the_reverse():
    load_efer = "PIN_BASED_VM_EXEC_CONTROL = 0x16\nHOST_IA32_EFER = 0xd01\nVM_ENTRY_CONTROLS = 0x93fb\nVM_EXIT_CONTROLS = 0x3effb\n"
    assert '"acknowledge interrupt on exit"' in said(load_efer)
    found = answered(load_efer)
    assert any('Bit 15 is "load IA32_EFER" in the VM-entry controls' in mistake.follows for mistake in [*found.causes, *found.remarks])
    assert "VM-exit controls" not in said(load_efer.replace("0x3effb", "0x236ffb"))
    assert '"load IA32_PAT" is bit 19 of the VM-exit controls' in said("VM_ENTRY_CONTROLS = 0x893fb\n")


def test_the_two_words_exchanged():
    assert "look like VM-exit controls" in said(
        planted(KVM, "EntryControls=0000d3ff ExitControls=002befff", "EntryControls=002befff ExitControls=0000d3ff")
    )


@pytest.mark.parametrize("body", [KVM, XEN])
def test_a_legal_dump_is_accused_of_no_mistake(body):
    (dump,) = read_text(body.replace("80000021", "0000000a"))
    found = answer(dump)
    assert (found.causes, found.remarks, found.violated, found.contradicted) == ((), (), [], [])


def test_the_change_never_touches_a_control_that_the_text_does_not_show():
    found = answered("reason=0x80000021, qualification=0x0\nguest_CR0=0x80000001\nguest_CR4=0x2020\nexit reason 0x80000021\n")
    assert [[change.field for change in repair.changes] for repair in found.repairs] == [["guest_cr0"]]


def test_an_alternative_that_the_text_does_not_show_is_said_with_its_condition():
    text = render(answered("GUEST_CS_AR = 0xc09a\nGUEST_RFLAGS = 0x2\nGUEST_SS_AR = 0xc093\nexit reason 0x80000021\n"))
    cause = text[text.index("Cause:") : text.index("Smallest")]
    assert "must be one of 9, BH, DH, FH" in " ".join(cause.split())
    assert 'or, if secondary processor-based controls bit 7 ("unrestricted guest") is 1: ' in " ".join(cause.split())
    assert "is 0" not in cause


def test_the_emulated_cpu_is_one_that_allows_the_controls():
    assert fitting_cpu({}) == ("corei7_skylake_x", 0)
    newer = capabilities("sapphire_rapids").allowed_settings("secondary")[1]
    assert newer & ~capabilities("corei7_skylake_x").allowed_settings("secondary")[1]
    name, misfits = fitting_cpu({"secondary_processor_based_controls": Partial(newer)})
    assert not newer & ~capabilities(name).allowed_settings("secondary")[1]
    assert misfits == 0


def test_a_violation_that_cannot_explain_the_report_is_not_called_the_cause():
    text = render(answered("VMLAUNCH error: 0x7\nguest_cr4 = 0x606f8\nguest_cr0 = 0x80000031\n"))
    assert "Cause: cannot be determined from this text" in text
    assert "A later check fails too: guest CR4 bit 13 (VMXE) is 0" in text
    assert text.index("Cause:") < text.index("A later check")
    assert "Collect next:" in text


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ("GUEST_CS_LIMIT = 0xa09b\nGUEST_CS_AR = 0xffffffff\n", ("guest CS limit", "guest CS access rights")),
        ("GUEST_GDTR_BASE = 0x7f\nGUEST_GDTR_LIMIT = 0xfffffe0000001000\n", ("guest GDTR base", "guest GDTR limit")),
        ("GUEST_RIP = 0x2\nGUEST_RFLAGS = 0xffffffff81000000\n", ("guest RIP", "guest RFLAGS")),
        ("GUEST_CR0 = 0x2020\nGUEST_CR4 = 0x80000031\n", ("guest CR0", "guest CR4")),
    ],
)
def test_values_in_each_others_field_are_named_and_not_mended_one_by_one(values, fields):
    found = answered(f"exit reason 0x80000021\n{values}")
    (mistake,) = found.causes
    assert "look swapped" in mistake.what
    assert all(field in mistake.what for field in fields)
    assert found.repairs == ()


@pytest.mark.parametrize(
    "values",
    [
        "GUEST_RIP = 0x1002\nGUEST_RFLAGS = 0x0\n",  # a bit was forgotten
        "GUEST_CR0 = 0x80000031\nGUEST_CR4 = 0x20\n",
        "GUEST_GDTR_LIMIT = 0xffffffffffffffff\nGUEST_GDTR_BASE = 0x1000\n",  # -1 was meant for no field
        "GUEST_FS_LIMIT = 0xffffffffffffffff\nGUEST_FS_BASE = 0x0\n",
        "GUEST_CS_LIMIT = 0xffff\nGUEST_CS_AR = 0xffffffff\n",
        "GUEST_FS_LIMIT = 0x100000000\nGUEST_FS_BASE = 0x7000\n",
        "GUEST_RIP = 0xffffffff80100000\nGUEST_RSP = 0x8010f000\nVM_ENTRY_CONTROLS = 0x11ff\n",
    ],
)
def test_values_that_are_only_wrong_are_not_exchanged(values):
    found = answered(f"exit reason 0x80000021\n{values}")
    assert [mistake for mistake in [*found.causes, *found.remarks] if "swapped" in mistake.what] == []


def test_exchanged_guest_values_are_no_cause_of_a_refused_control():
    found = answered("VM-instruction error: 7\nGUEST_CR0 = 0x2020\nGUEST_CR4 = 0x80000031\n")
    assert found.causes == ()
    assert [mistake.stops for mistake in found.remarks if "swapped" in mistake.what] == [False]


def test_a_word_of_the_exit_controls_in_the_entry_controls_is_named():
    found = answered("VM-instruction error 7\nVM_ENTRY_CONTROLS = 0x36fff\nVM_EXIT_CONTROLS = 0x36fff\n")
    assert found.causes[0].what == "VM-entry controls (00036FFFH) hold the value of the VM-exit controls."
    assert "000013FFH" in found.causes[0].change
    assert found.repairs == ()
    high = answered("VM-instruction error 7\nVM_ENTRY_CONTROLS = 0x3ffff\nVM_EXIT_CONTROLS = 0x36fff\n")
    assert [mistake for mistake in high.causes if "a word of" in mistake.what] == []
    assert answered("VM_ENTRY_CONTROLS = 0x1f3ff\nVM_EXIT_CONTROLS = 0x36fff\n").causes == ()
