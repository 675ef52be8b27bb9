"""Capabilities: the answers that are derived from the capability MSRs and CPUID, and their file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import Exit, Pin, Primary, Secondary
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.errors import UnknownNameError, UsageError

TRUE_CONTROLS = 1 << 55


def made_up(cpuid: dict[tuple[int, int], tuple[int, int, int, int]] | None = None, **msrs: int) -> Capabilities:
    """Capabilities whose required MSRs are 0 but for those given as `msr_480=...`."""
    given = {int(name.removeprefix("msr_"), 16): value for name, value in msrs.items()}
    return Capabilities("made up", {**dict.fromkeys(range(0x480, 0x48B), 0), **given}, cpuid or {})


def allowed(must: int, may: int) -> int:
    return may << 32 | must


# Controls


@pytest.mark.parametrize(
    ("key", "plain", "true"), [("pin", "481", "48d"), ("primary", "482", "48e"), ("exit", "483", "48f"), ("entry", "484", "490")]
)
def test_the_true_msr_decides_only_where_basic_bit_55_is_1(key: str, plain: str, true: str) -> None:
    msrs = {f"msr_{plain}": allowed(0x16, 0xFF), f"msr_{true}": allowed(0x02, 0x7F)}
    assert made_up(**msrs).allowed_settings(key) == (0x16, 0xFF)
    assert made_up(**msrs, msr_480=TRUE_CONTROLS).allowed_settings(key) == (0x02, 0x7F)


def test_secondary_controls_never_have_to_be_1() -> None:
    assert made_up(msr_48b=allowed(0xFF, 0xF0)).allowed_settings("secondary") == (0, 0xF0)


@pytest.mark.parametrize(("key", "msr"), [("tertiary", "492"), ("secondary_exit", "493"), ("vm_function", "491")])
def test_words_with_64_allowed_bits_are_read_as_one_mask(key: str, msr: str) -> None:
    caps = made_up(**{f"msr_{msr}": 0x8000_0000_0000_0011})
    assert caps.allowed_settings(key) == (0, 0x8000_0000_0000_0011)
    assert made_up().allowed_settings(key) == (0, 0)


def test_may_be_1_and_must_be_1_read_the_bit_of_the_control() -> None:
    caps = made_up(msr_481=allowed(1 << Pin.NMI_EXITING, 1 << Pin.NMI_EXITING | 1 << Pin.VIRTUAL_NMIS))
    assert caps.must_be_1(Pin.NMI_EXITING)
    assert caps.may_be_1(Pin.NMI_EXITING)
    assert caps.may_be_1(Pin.VIRTUAL_NMIS)
    assert not caps.must_be_1(Pin.VIRTUAL_NMIS)
    assert not caps.may_be_1(Pin.PROCESS_POSTED_INTERRUPTS)


@pytest.mark.parametrize("name", ["enable_ept", "secondary.enable_ept"])
def test_controls_are_asked_for_by_bare_or_qualified_name(name: str) -> None:
    assert made_up(msr_48b=allowed(0, 1 << Secondary.ENABLE_EPT)).may_be_1(name)
    assert not made_up().may_be_1(name)


@pytest.mark.parametrize("question", ["may_be_1", "must_be_1"])
def test_an_ambiguous_name_is_refused(question: str) -> None:
    with pytest.raises(UsageError, match=r"exit\.load_ia32_efer, entry\.load_ia32_efer"):
        getattr(made_up(), question)("load_ia32_efer")


@pytest.mark.parametrize("question", ["may_be_1", "must_be_1"])
def test_an_unknown_name_is_refused_with_what_is_near(question: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown control 'enable_eptt'; did you mean enable_ept"):
        getattr(made_up(), question)("enable_eptt")


def test_adjust_sets_what_must_be_1_and_clears_what_may_not_be_1() -> None:
    assert made_up(msr_481=allowed(0x16, 0x7F)).adjust("pin", 0x88) == 0x1E


# Other MSRs


@pytest.mark.parametrize(
    ("msr", "value", "answer", "expected"),
    [
        ("480", 0x8000_0001 | 0x1000 << 32, "revision", 1),
        ("480", 0x400 << 32, "region_size", 0x400),
        ("480", 0, "region_size", 4096),
        ("480", 1 << 48, "addresses_limited_to_32_bits", True),
        ("480", 1 << 49, "dual_monitor", True),
        ("480", 1 << 56, "error_code_optional", True),
        ("480", 1 << 58, "nested_exception", True),
        ("480", 0, "error_code_optional", False),
        ("485", 4 << 16, "cr3_target_limit", 4),
        ("485", 0x1FF << 16, "cr3_target_limit", 511),
        ("485", 0b101 << 6, "activity_states", 0b1011),
        ("485", 0, "activity_states", 1),
        ("485", 1 << 30, "instruction_length_0", True),
        ("485", 1 << 29, "vmwrite_any_field", True),
        ("485", 0, "msr_list_maximum", 512),
        ("485", 3 << 25, "msr_list_maximum", 2048),
        ("48b", allowed(0, 1 << 7), "unrestricted_guest", True),
        ("481", allowed(0, 1 << 6), "preemption_timer", True),
        ("482", allowed(0, 1 << 27), "monitor_trap_flag", True),
        ("482", 0, "monitor_trap_flag", False),
    ],
)
def test_an_answer_is_read_from_its_bits(msr: str, value: int, answer: str, expected: object) -> None:
    assert getattr(made_up(**{f"msr_{msr}": value}), answer) == expected


def test_fixed_bits_are_pairs_of_must_and_may() -> None:
    caps = made_up(msr_486=0x8000_0021, msr_487=0xFFFF_FFFF, msr_488=0x2000, msr_489=0x27FF)
    assert caps.cr0_fixed == (0x8000_0021, 0xFFFF_FFFF)
    assert caps.cr4_fixed == (0x2000, 0x27FF)


def test_a_missing_required_msr_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        Capabilities("half", {number: 0 for number in range(0x480, 0x48B) if number != 0x485})
    assert str(caught.value) == "capabilities of half: missing 485H (IA32_VMX_MISC); every processor with VMX has these MSRs"


# CPUID


def widths(physical: int, linear: int) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    return {(0x80000008, 0): (linear << 8 | physical, 0, 0, 0)}


def test_without_cpuid_the_most_permissive_answers_are_given() -> None:
    caps = made_up()
    assert (caps.physical_address_width, caps.linear_address_width) == (52, 57)
    assert all(caps.has(feature) for feature in FEATURES)


def test_address_widths_come_from_cpuid() -> None:
    caps = made_up(widths(39, 48))
    assert (caps.physical_address_width, caps.linear_address_width) == (39, 48)
    assert caps.beyond_physical_width == 0xFFFF_FF80_0000_0000


def test_basic_bit_48_limits_addresses_to_32_bits() -> None:
    assert made_up(widths(39, 48), msr_480=1 << 48).beyond_physical_width == 0xFFFF_FFFF_0000_0000


def test_linear_address_masking_frees_two_bits_of_cr3() -> None:
    without = {**widths(40, 48), (7, 1): (0, 0, 0, 0)}
    with_lam = {**widths(40, 48), (7, 1): (1 << 26, 0, 0, 0)}
    assert made_up(without).cr3_reserved == 0xFFFF_FF00_0000_0000
    assert made_up(with_lam).cr3_reserved == 0x9FFF_FF00_0000_0000


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_one_bit_of_cpuid(feature: str) -> None:
    leaf, subleaf, register, bit = FEATURES[feature]
    registers = [0, 0, 0, 0]
    registers[register] = 1 << bit
    caps = made_up({(leaf, subleaf): (registers[0], registers[1], registers[2], registers[3])})
    assert [name for name in FEATURES if caps.has(name)] == [feature]


# Value semantics and JSON


def test_equality_is_about_facts_and_not_about_the_name() -> None:
    one, other = Capabilities("one", made_up().msrs), Capabilities("other", made_up().msrs)
    assert one == other
    assert hash(one) == hash(other)
    assert one != made_up(msr_480=1)
    assert one != "one"


def test_capabilities_cannot_be_changed() -> None:
    caps = made_up()
    with pytest.raises(TypeError):
        caps.msrs[0x480] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        caps.name = "other"  # type: ignore[misc]


def test_json_and_pickle_give_the_same_capabilities_back() -> None:
    caps = made_up(widths(39, 48), msr_480=0xDA_0400_0000_0004, msr_48b=allowed(0, 0xFF))
    text = json.dumps(caps.to_json())
    for copy in (Capabilities.from_json(json.loads(text)), pickle.loads(pickle.dumps(caps))):
        assert copy == caps
        assert copy.name == caps.name


def good_json() -> dict[str, Any]:
    return made_up(widths(39, 48)).to_json()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": "something-else"}, r"not a capabilities file: expected a JSON object with \"schema\": \"vmfuzz-capabilities-1\""),
        ({"msrs": []}, r"\"msrs\" and \"cpuid\" must be JSON objects"),
        ({"cpuid": 3}, r"\"msrs\" and \"cpuid\" must be JSON objects"),
        ({"msrs": {}}, r"missing 480H \(IA32_VMX_BASIC\)"),
        ({"msrs": {"480": "zz"}}, r"MSR 480 = 'zz': expected a hexadecimal number"),
        ({"msrs": {"480": 5}}, r"MSR 480 = 5: expected a hexadecimal number"),
        ({"msrs": {"480": "0x1" + 16 * "0"}}, r"expected a hexadecimal number of at most 64 bits"),
        ({"msrs": {"480": "-1"}}, r"MSR 480 = '-1': expected"),
        ({"msrs": {"basic": "0x1"}}, r"MSR number = 'basic': expected"),
        ({"cpuid": {"1.0": ["0x1", "0x2"]}}, r"cpuid \"1\.0\" must be a list of four registers"),
        ({"cpuid": {"1.0": "0x1"}}, r"cpuid \"1\.0\" must be a list of four registers"),
        ({"cpuid": {"1.0": ["0x1", "0x2", "0x3", None]}}, r"cpuid 1\.0 = None: expected"),
        ({"cpuid": {"x": ["0x1", "0x2", "0x3", "0x4"]}}, r"cpuid leaf = 'x': expected"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_malformed_json_is_refused_with_what_is_wrong(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Capabilities.from_json({**good_json(), **change})


@pytest.mark.parametrize("data", [None, [], "text", 3], ids=repr)
def test_json_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(UsageError, match=r"^not a capabilities file: "):
        Capabilities.from_json(data)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read .*: No such file"),
        ("{", "is not JSON: "),
        ("[]", "not a capabilities file: "),
        (b"\xff\xfe\x00", "is not JSON: "),
    ],
    ids=["missing", "truncated", "a list", "binary"],
)
def test_a_file_that_cannot_be_loaded_is_refused(tmp_path: Path, content: str | bytes | None, sentence: str) -> None:
    path = tmp_path / "caps.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        Capabilities.load(path)


def test_a_saved_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "caps.json"
    path.write_text(json.dumps(good_json()), encoding="utf-8")
    assert Capabilities.load(path) == made_up(widths(39, 48))


def test_fields_exist_where_a_control_of_theirs_may_be_1() -> None:
    caps = made_up(msr_483=allowed(0, 1 << Exit.SAVE_IA32_PAT), msr_482=allowed(0, 1 << Primary.USE_TPR_SHADOW))
    assert caps.has_field("guest_ia32_pat")
    assert not caps.has_field("host_ia32_pat")
    assert caps.has_field("virtual_apic_address")
    assert not caps.has_field("eptp")
    assert not caps.has_field("shared_ept_pointer")  # SEAM operation is out of reach
    assert caps.has_field("guest_rip")
    assert {field.name for field in caps.fields} == {field.name for field in caps.fields if caps.has_field(field)}


def test_microcode_is_kept_and_takes_no_part_in_comparisons() -> None:
    plain = made_up()
    patched = Capabilities(plain.name, plain.msrs, plain.cpuid, 0x2006A05)
    assert patched == plain
    assert hash(patched) == hash(plain)
    assert "microcode" not in plain.to_json()
    assert Capabilities.from_json(patched.to_json()).microcode == pickle.loads(pickle.dumps(patched)).microcode == 0x2006A05
    with pytest.raises(UsageError, match="microcode"):
        Capabilities.from_json({**plain.to_json(), "microcode": "new"})
