"""Damaged dumps: whatever is cut, shuffled or changed, there is an answer, and lines out of order put no value under another field."""

from __future__ import annotations

import importlib.util
import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmfuzz.errors import UsageError
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.text.large import decode

SCRIPT = Path(__file__).parents[2] / "tests" / "quality" / "damaged_dumps.py"
SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.txt"))
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in SAMPLES}


def everything(text):
    for dump in read_text(text):
        found = answer(dump)
        assert render(found, explain=True)
        assert found.exit_code in (0, 1, 2)


@given(name=st.sampled_from(sorted(TEXTS)), cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=60)
def test_cut(name, cuts):
    text = TEXTS[name]
    first, last = sorted(int(cut * len(text)) for cut in cuts)
    everything(text[first:last])


@given(name=st.sampled_from(sorted(TEXTS)), data=st.data())
@settings(max_examples=60)
def test_bytes_changed(name, data):
    damaged = bytearray(TEXTS[name].encode())
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), min_size=1, max_size=20)):
        damaged[position] = value
    everything(decode(bytes(damaged), name))


@given(data=st.binary(max_size=400))
@settings(max_examples=60)
def test_arbitrary_bytes(data):
    try:
        text = decode(data, "bytes")
    except UsageError:
        return  # empty, or binary data
    everything(text)


@given(text=st.text(alphabet="GUESTCR0_ARlimbase:=x/|(),\n 0123fF", max_size=200))
@settings(max_examples=80)
def test_arbitrary_text_of_the_formats_letters(text):
    everything(text)


@pytest.mark.parametrize("name", ["kvm", "xen", "printk"])
@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=25)
def test_lines_out_of_order_give_no_wrong_field(name, seed):
    lines = TEXTS[name].splitlines()
    whole = read_text(TEXTS[name])[0].readings
    random.Random(seed).shuffle(lines)  # far from the original order: exchanging two like lines cannot be seen by anybody
    text = "\n".join(lines) + "\n"
    everything(text)
    for dump in read_text(text):
        wrong = {
            field: (hex(reading.value), reading.label)
            for field, reading in dump.readings.items()
            if field not in whole or (whole[field].value ^ reading.value) & reading.known & whole[field].known
        }
        assert wrong == {}


@given(data=st.data())
@settings(max_examples=25)
def test_lines_left_out_give_no_wrong_field(data):
    lines = TEXTS["kvm"].splitlines()
    whole = read_text(TEXTS["kvm"])[0].readings
    keep = data.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
    text = "\n".join(line for line, kept in zip(lines, keep, strict=True) if kept) + "\n"
    for dump in read_text(text):
        assert {field for field, reading in dump.readings.items() if whole[field].value != reading.value} == set()


@cache
def script():
    """tests/quality/damaged_dumps.py as a module: the same damages, and the same notion of a wrong field."""
    spec = importlib.util.spec_from_file_location("damaged_dumps", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def damaged_sample(path):
    return script().Sample(path, 0, {})


@given(data=st.data(), number=st.integers(0, 1 << 32))
@settings(max_examples=200, deadline=None)
def test_no_damage_gives_a_traceback_or_a_wrong_field(data, number):
    """A bounded number of what the script does 100,000 times."""
    sample = damaged_sample(data.draw(st.sampled_from(script().samples())))
    kind, text = sample.case(number)
    wrong = [what for reason, what in sample.read(text, kind, judged=number % 10 == 0) if reason in ("error", "exception")]
    assert wrong == [], f"{sample.name}:{number}, {kind}"


@pytest.mark.parametrize("name", ["kvm", "xen"])
def test_every_cut_and_every_lost_head(name):
    sample = damaged_sample(SAMPLES[0].parent / f"{name}.txt")
    for place in range(0, len(sample.text), 13):
        for kind, text in (("cut", sample.text[:place]), ("head", sample.text[place:])):
            assert [what for reason, what in sample.read(text, kind, judged=False) if reason != "own line"] == [], (kind, place)


def test_what_counts_as_a_wrong_field():
    """The script finds an error that is one: the notion must not be empty."""
    whole = read_text("GUEST_CR0 = 0x80050033\nGUEST_CR4 = 0x26e0\n")[0]
    other = read_text("GUEST_CR0 = 0x80050031\nGUEST_CR4 = 0x26e0\nGUEST_RIP = 0x1000\n")[0]
    text = "GUEST_CR0 = 0x80050031\nGUEST_CR4 = 0x26e0\nGUEST_RIP = 0x1000\n"
    lines = frozenset(text.split("\n"))
    found = script().wrong_fields(other, whole, text, lines, "shuffle")
    assert [(reason, what.split(" = ")[0]) for reason, what in found] == [("error", "guest_cr0"), ("error", "guest_rip")]
    assert {reason for reason, _ in script().wrong_fields(other, whole, text, frozenset(), "bytes")} == {"own line"}
    assert {reason for reason, _ in script().wrong_fields(other, whole, text, lines, "swap of like lines")} == {"like lines"}


@pytest.mark.parametrize(
    "text",
    [
        "EXIT_REASON =" + " " * 200 + "x",
        "VM instruction error" + " (" * 200 + "x",
        "qualification" + " =" * 200 + "x",
        "GUEST_CS = 0x10, " + "base12345678 " * 100 + "!",
        "GUEST_CS = 0x10, " + "limit 12345678h " * 100 + "!",
        "GUEST_CR0 " + ". " * 1000 + "x",
        "CS:" + " 00" * 1000,
        "CONST const " + "a " * 500 + "!",
        "a->" * 500 + "=1;",
    ],
    ids=lambda text: text[:20],
)
def test_no_line_is_divided_in_every_way(text):
    """Patterns that try every way to divide a line would take hours for these, until pytest's timeout ends them."""
    everything(text + "\n")


RFLAGS = "RFLAGS=0x00000002         DR7 = 0x0000000000000400"
RSP = "RSP = 0x0000000000001000  RIP ="
XEN_RSP = "RSP = 0x0000000000001000 (0x0000000000001000)  RIP ="


@pytest.mark.parametrize(
    ("lines", "lost"),
    [
        ((XEN_RSP, "0xffff83009c057f70", RFLAGS), "guest_rip"),  # Xen prints a copy of the guest's RIP behind it: this is the host's
        ((RSP, "0x0000000000000001", "0x0000000000008000", RFLAGS), "guest_rip"),  # a value for which no key waits
        ((RFLAGS, RSP, "0x0000000000008000"), "guest_rip"),  # RFLAGS stands before RSP
    ],
)
def test_values_on_lines_of_their_own_need_lines_in_order(lines, lost):
    heading = "CR0: actual=0x0000000080050033, shadow=0x0000000080050033, gh_mask=ffffffffffffffff"
    dump = read_text("\n".join(("*** Guest State ***", heading, *lines)) + "\n")[0]
    assert lost not in dump.readings
    assert dump.readings["guest_rflags"].value == 2
    assert any("counts as not given" in warning for warning in dump.warnings)


@pytest.mark.parametrize(
    "first",
    [
        "TR:   limit=0x0000007f, base=0x0000000000001000",
        "TR Limit: 0x57  Base: 0xFFFFF80012340000",
        "2000 ffffffff 00809300",
        "0000:0000000000000000",
    ],
)
def test_first_lines_that_are_the_end_of_a_line(first):
    text = f"{first}\nRFLAGS=0x00000002         DR7 = 0x0000000000000400\n*** Control State ***\n"
    assert [name for name, reading in read_text(text)[0].readings.items() if reading.line == 1] == []


@pytest.mark.parametrize(
    ("order", "doubted"),
    [("cs ss ds es fs gs", False), ("cs ss es fs gs", True)],
)
def test_parts_below_their_register_are_doubted_where_registers_are_lost(order, doubted):
    text = "".join(f"{register}: 0x10\n   rights: 0xc093\n   lim: 0xffffffff\n   base: 0x0\n" for register in order.split())
    readings = read_text(text)[0].readings
    assert {bool(readings[f"guest_{register}_access_rights"].assumed) for register in order.split()} == {doubted}


@pytest.mark.parametrize("damage", ["\ufffd", "\x03", "\x85"])
def test_lines_with_characters_that_are_no_text_are_not_used(damage):
    lines = ["GUEST_CR0 = 0x80050033", f"GUEST_CR4 = 0x26{damage}e0", f"IA32_VMX_BASIC = 0xda04{damage}0000000004", "GUEST_RIP = 0x1000"]
    dump = read_text("\n".join(lines) + "\n")[0]
    assert list(dump.readings) == ["guest_cr0", "guest_rip"]
    assert dump.msrs == {}
    assert sum(warning.startswith(("line 2: there are", "line 3: there are")) for warning in dump.warnings) == 2


def test_a_log_in_which_every_line_has_a_control_character_is_used():
    text = "".join(f"\x1b(B{name} = 0x1000 \x02\n" for name in ("GUEST_CR0", "GUEST_CR4", "GUEST_RIP"))
    assert list(read_text(text)[0].readings) == ["guest_cr0", "guest_cr4", "guest_rip"]


def test_a_number_that_breaks_off_within_a_word_is_none():
    dump = read_text("GUEST_CR0 = 0x00!0c093\nGUEST_CR4 = 0x26e0\n")[0]
    assert list(dump.readings) == ["guest_cr4"]
    assert dump.warnings == ["line 1: GUEST_CR0 = 0x00!0c093 is not a number; the field counts as not given"]


def test_a_field_that_lost_its_value_is_no_heading():
    dump = read_text("host rip: 0x2000\nhost rsp:\n0xffff98665b0c6000\nrflags: 0x246\nidtr: 0x1000\ntr: 0x40\n")[0]
    assert set(dump.readings) == {"host_rip", "guest_rflags", "guest_idtr_base", "guest_tr_selector"}


def test_shuffled_lines_before_the_heading_are_no_dump_of_their_own():
    """The keys before the heading come again behind it only in the other section's way of writing: "CS:" is the guest's, "CS=" the host's."""
    before = ["CS:   sel=0x0010, attr=0x0a09b, limit=0xffffffff, base=0x0000000000000000", "PAT = 0x0407050600070106"]
    behind = [
        "CS=0010 SS=0018 DS=0000 ES=0000 FS=0000 GS=0000 TR=0040",
        "PAT = 0x0007040600070406",
        "RFLAGS=0x00000002         DR7 = 0x0000000000000400",
    ]
    dumps = read_text("\n".join([*before, "*** Guest State ***", *behind]) + "\n")
    assert len(dumps) == 1
    assert not {"guest_ia32_pat", "host_ia32_pat"} & set(dumps[0].readings)


def test_the_rest_of_a_wrapped_line_may_belong_to_a_register_that_was_lost():
    rest = "shadow=0x0000000000000000, gh_mask=fffffffffffff871"
    following = "VMEntry: intr_info=800000d1 errcode=00000000 ilen=00000000"
    dump = read_text(f"CR0: actual=0x0000000000050032,\n{rest}\n{following}\n")[0]
    assert set(dump.readings) == {"guest_cr0", "vm_entry_interruption_info", "vm_entry_exception_error_code", "vm_entry_instruction_length"}
    assert any("not all there in their order" in warning for warning in dump.warnings)


def test_a_field_with_a_garbled_value_is_no_heading():
    dump = read_text("[**] guest rip: 0x1000\n** host rip:  Dxffffffffc070e000\n[**] idtr: 0x2000\n")[0]
    assert set(dump.readings) == {"guest_rip", "guest_idtr_base"}
    assert "line 2: host rip: Dxffffffffc070e000 is not a number; the field counts as not given" in dump.warnings


def test_a_text_that_begins_within_its_only_line():
    assert read_text("TR: 0000 1c000 ffffffff 0000000000000000\n")[0].readings == {}
    assert "guest_tr_base" in read_text("  TR: 0040 0008b 0000206f fffffe0000003000\n")[0].readings


def test_a_letter_is_no_heading_of_the_hosts():
    """ "H_CR0" is the host's CR0; what is left of a garbled mark before a heading names no area."""
    text = "[**h msrs:\n[**]    efer:   0xd01\n[**] sysenter msrs:\n[**]    cs:     0x10\n"
    assert not any(name.startswith("host") for name in read_text(text)[0].readings)


def test_a_first_line_without_the_prefix_of_the_lines_below_may_have_lost_its_beginning():
    """Also where the greater part of the text is something else: "secondary" stood before it."""
    listing = "".join(f"    step_{number}();\n" for number in range(20))
    text = f"cpu based controls:  0x00000000\n[**] vm exit controls: 0x00036ffb\n[**] vm entry controls: 0x000013fb\n{listing}"
    dump = read_text(text)[0]
    assert set(dump.readings) == {"vm_exit_controls", "vm_entry_controls"}
    assert any("the text may begin within this line" in warning for warning in dump.warnings)


@pytest.mark.parametrize("first", ["SS_RIGHTS = 0x808b", "TR_LIMIT = 0xffff", "0816 = 0xc093"])
def test_a_first_line_that_begins_as_the_end_of_a_name_does_may_have_lost_its_beginning(first):
    """guest_LDTR lost "guest_LDTR_acce", GUEST_LDTR "GUEST_LD", an encoding its name."""
    dump = read_text(f"{first}\nGUEST_CR0 = 0x31\nGUEST_CR4 = 0x2020\nGUEST_RIP = 0x1000\nHOST_CR0 = 0x80000031\n")[0]
    assert set(dump.readings) == {"guest_cr0", "guest_cr4", "guest_rip", "host_cr0"}


def test_a_number_with_xens_copy_is_that_of_a_register_of_which_xen_has_one():
    """Two rests of broken lines are exchanged: the guest's RIP stands below the key of the TSC multiplier."""
    body = (Path(__file__).parent / "bodies" / "xen.txt").read_text(encoding="utf-8")
    whole = body.replace("TSC Multiplier = ", "TSC Multiplier =\n")
    assert read_text(whole)[0].readings["tsc_multiplier"].value == 0
    broken = whole.replace("TSC Multiplier =\n0x0000000000000000", "TSC Multiplier =\n0x0000000000209997 (0x0000000000209998)")
    assert broken != whole
    assert "tsc_multiplier" not in read_text(broken)[0].readings


def test_a_line_of_qemus_registers_within_kvms_dump_gives_no_selector_of_the_host():
    body = (Path(__file__).parent / "bodies" / "kvm.txt").read_text(encoding="utf-8")
    heading, _, rest = body.partition("\n")
    assert heading == "*** Guest State ***"
    dump = read_text(f"{heading}\nSS =0040 00000000 0000ffff 00009300\n{rest}")[0]
    assert dump.readings["host_ss_selector"].value == read_text(body)[0].readings["host_ss_selector"].value != 0x40


def test_rsp_and_rip_of_xens_host_before_the_heading_are_not_the_guests():
    """Xen before 4.6 prints the host's RSP first, and shuffled lines do not tell which Xen it was; the guest's have copies behind them."""
    head = "(XEN) Sysenter RSP=ffff83043ff0ffc0 CS:RIP=e008:ffff82c480220d00\n(XEN) RSP = 0xffff83043ff0ff90  RIP = 0xffff82c4801d5d70\n"
    again = "(XEN) RSP = 0x00000000000afff8 (0x00000000000afff8)  RIP = 0x0000000000001000 (0x0000000000001000)\n"
    rest = "(XEN) *** Guest State ***\n" + again + "(XEN) Sysenter RSP=fffffe0000003000 CS:RIP=0010:ffffffff81a01600\n"
    for dump in read_text(head + rest):
        assert dump.readings.get("guest_rsp") is None or dump.readings["guest_rsp"].value == 0xAFFF8
        assert "guest_ia32_sysenter_cs" not in dump.readings or dump.readings["guest_ia32_sysenter_cs"].value == 0x10


def test_a_text_that_ends_behind_rflags_may_have_lost_half_of_it():
    """KVM prints 8 digits, Xen 4.4 prints 16, and DR7 stands behind them in both."""
    dump = read_text("(XEN) *** Guest State ***\n(XEN) CR3: actual=0x0000000012345000, target_count=0\n(XEN) RFLAGS=0x00000000")[0]
    assert "guest_rflags" not in dump.readings
