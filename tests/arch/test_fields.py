"""The field catalogue, against hand-decoded encodings and against the reference table where that is present."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import CONTROLS
from vmfuzz.arch.fields import BY_ENCODING, FIELDS, Area, Field, Width, field_named
from vmfuzz.errors import FieldValueError, UnknownNameError

REFERENCE = Path(__file__).parents[3] / "shared" / "spec" / "fields.csv"
_WORDS = "pin primary secondary tertiary exit secondary_exit entry vm_function"
#: What the reference says in words, and gates that it does not have.
_GATES_IN_WORDS = {"SEAM": {"seam"}, "FRED": {"entry.load_ia32_fred"}}


def reference_rows() -> list[dict[str, str]]:
    if not REFERENCE.exists():
        return []
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reference_gates(row: dict[str, str]) -> set[str]:
    text = row["exists_if"]
    if row["name"].startswith("cr3_target_value_"):  # IA32_VMX_MISC decides, which the reference says elsewhere
        return {f"cr3_targets>{row['name'][-1]}"}
    return _GATES_IN_WORDS.get(text) or set(re.findall(rf"\b(?:{_WORDS.replace(' ', '|')})\.\w+", text))


def test_the_catalogue_has_206_fields_with_distinct_encodings() -> None:
    assert len(FIELDS) == 206
    assert len(BY_ENCODING) == 206


def test_the_catalogue_is_in_order_of_encoding() -> None:
    encodings = [field.encoding for field in FIELDS.values()]
    assert encodings == sorted(encodings)


def test_names_are_those_of_the_reference_table() -> None:
    rows = reference_rows()
    if not rows:
        pytest.skip(f"{REFERENCE} is not present")
    assert {row["name"] for row in rows} == set(FIELDS)


@pytest.mark.parametrize("row", reference_rows(), ids=lambda row: row["name"])
def test_field_agrees_with_the_reference_table(row: dict[str, str]) -> None:
    field = FIELDS[row["name"]]
    assert field.encoding == int(row["encoding"], 16)
    assert ("natural" if field.width_kind is Width.NATURAL else str(field.width)) == row["width"]
    assert field.area.name.lower().replace("_", "-") == row["area"]
    assert set(field.gates) == reference_gates(row)


@pytest.mark.parametrize(
    ("encoding", "kind", "width", "area"),
    [
        (0x0000, Width.BITS_16, 16, Area.CONTROL),
        (0x0802, Width.BITS_16, 16, Area.GUEST),
        (0x0C0C, Width.BITS_16, 16, Area.HOST),
        (0x201A, Width.BITS_64, 64, Area.CONTROL),
        (0x2400, Width.BITS_64, 64, Area.READ_ONLY),
        (0x2800, Width.BITS_64, 64, Area.GUEST),
        (0x2C02, Width.BITS_64, 64, Area.HOST),
        (0x4012, Width.BITS_32, 32, Area.CONTROL),
        (0x4402, Width.BITS_32, 32, Area.READ_ONLY),
        (0x481A, Width.BITS_32, 32, Area.GUEST),
        (0x4C00, Width.BITS_32, 32, Area.HOST),
        (0x6008, Width.NATURAL, 64, Area.CONTROL),
        (0x6400, Width.NATURAL, 64, Area.READ_ONLY),
        (0x681E, Width.NATURAL, 64, Area.GUEST),
        (0x6C16, Width.NATURAL, 64, Area.HOST),
    ],
    ids=lambda value: f"{value:04X}H" if isinstance(value, int) and not isinstance(value, (Width, Area)) else "",
)
def test_width_and_area_are_decoded_from_the_encoding(encoding: int, kind: Width, width: int, area: Area) -> None:
    field = Field("made_up", encoding)
    assert (field.width_kind, field.width, field.area) == (kind, width, area)
    assert field.mask == 2**width - 1
    assert field.writable is (area is not Area.READ_ONLY)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("guest_gs_access_rights", 0x481E),
        ("guest_rip", 0x681E),
        ("vm_entry_controls", 0x4012),
        ("host_rsp", 0x6C14),
        ("eptp", 0x201A),
        ("vmcs_link_pointer", 0x2800),
        ("vm_instruction_error", 0x4400),
        ("vpid", 0x0000),
    ],
)
def test_well_known_encodings(name: str, encoding: int) -> None:
    assert FIELDS[name].encoding == encoding
    assert BY_ENCODING[encoding].name == name


@pytest.mark.parametrize("field", [field for field in FIELDS.values() if field.gates], ids=lambda field: field.name)
def test_every_gate_names_something_real(field: Field) -> None:
    for gate in field.gates:
        assert gate in CONTROLS or gate == "seam" or re.fullmatch(r"cr3_targets>[0-3]", gate)


@pytest.mark.parametrize("targets", range(5))
def test_cr3_target_values_exist_as_far_as_the_processor_counts(targets: int) -> None:
    caps = Capabilities("made up", {**dict.fromkeys(range(0x480, 0x48B), 0), 0x485: targets << 16})
    assert [caps.has_field(f"cr3_target_value_{number}") for number in range(4)] == [number < targets for number in range(4)]


@pytest.mark.parametrize("value", [0x1_0000_0000, -1, True, 1.0, "0"], ids=repr)
def test_a_value_that_does_not_fit_is_refused_with_the_fields_name(value: int) -> None:
    with pytest.raises(FieldValueError, match=r"^guest_gs_access_rights = "):
        FIELDS["guest_gs_access_rights"].require(value)


def test_the_refusal_says_how_wide_the_field_is() -> None:
    with pytest.raises(FieldValueError) as caught:
        FIELDS["vpid"].require(0x1_0000)
    assert str(caught.value) == "vpid = 10000H: expected 0 to FFFFH"


def test_values_are_written_as_the_manual_writes_them() -> None:
    assert FIELDS["vpid"].format(0x1F) == "001FH"
    assert FIELDS["guest_gs_access_rights"].format(0x10093) == "00010093H"
    assert FIELDS["guest_rip"].format(1) == "0000000000000001H"


def test_an_unknown_name_lists_what_is_near() -> None:
    with pytest.raises(UnknownNameError) as caught:
        field_named("guest_gs_access_right")
    assert str(caught.value).startswith("unknown VMCS field 'guest_gs_access_right'; did you mean guest_gs_access_rights")
