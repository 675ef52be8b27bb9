"""A failing state beside a working one, and vmcs12 beside vmcs02: what differs, what explains, who refused, what is proved."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from vmfuzz.cli.main import main

WORKING = """\
PIN_BASED_VM_EXEC_CONTROL = 0x3f
CPU_BASED_VM_EXEC_CONTROL = 0xb5a06dfa
SECONDARY_VM_EXEC_CONTROL = 0x2a
VM_EXIT_CONTROLS = 0x36fff
VM_ENTRY_CONTROLS = 0x11ff
guest RIP = 0x1000
"""


def run(tmp_path: Path, failing: str, *arguments: str) -> Result:
    bad, good = tmp_path / "bad.txt", tmp_path / "good.txt"
    bad.write_text(failing)
    good.write_text(WORKING)
    given = ["--working", str(good)] if not arguments else list(arguments)
    return CliRunner().invoke(main, ["check", str(bad), "--no-verify", *given])


def test_the_bit_that_the_working_state_has_otherwise_is_the_suspect(tmp_path: Path) -> None:
    failing = "vmlaunch failed with error 7\n" + WORKING.replace("0x2a", "0x102a").replace("0x1000", "0x2000")
    result = run(tmp_path, failing)
    assert result.exit_code == 1
    assert "Cause: most likely secondary processor-based controls (401EH), which differs in the working state" in result.output
    assert '0000102AH (bit 12 "enable INVPCID" = 0 / 1)' in result.output
    assert "Other differences: guest RIP." in result.output
    assert "The working state entered, so the processor, taken to be the same, allows what it holds" in result.output


def test_a_difference_that_violates_a_check_goes_before_one_that_may(tmp_path: Path) -> None:
    failing = "vmlaunch failed with error 7\n" + WORKING.replace("0x2a", "0x102a").replace("0x36fff", "0x436fff")
    output = run(tmp_path, failing).output
    assert "The failure comes from this:\n    VM-exit controls (400CH): works 00036FFFH, fails 00436FFFH" in output
    assert "Other differences: secondary processor-based controls." in output


def test_what_is_alike_is_not_suspected(tmp_path: Path) -> None:
    output = run(tmp_path, "vmlaunch failed with error 7\n" + WORKING).output
    assert "the 6 fields that both show are the same. The two do not show what makes the difference." in output


def test_control_bits_of_a_working_state_are_proved(tmp_path: Path) -> None:
    """With EPT set in both, the failing one's EPT is not what the processor does not allow."""
    failing = "vmlaunch failed with error 7\n" + WORKING
    with_it, without = run(tmp_path, failing).output, run(tmp_path, failing, "--no-verify").output
    assert "IA32_VMX_PROCBASED_CTLS2 (48BH)" in without
    assert with_it.count("allows what it holds") == 1
    assert without.count("allows what it holds") == 0


NESTED = """\
L0: VM-entry failed, exit reason 0x80000021 qualification 0
vmcs12: guest_RFLAGS = {twelve}
vmcs12: control_VM_entry_interruption_information = 0x80000030
vmcs02: guest_RFLAGS = {two}
vmcs02: control_VM_entry_interruption_information = 0x80000030
"""


@pytest.mark.parametrize(
    ("twelve", "two", "expected"),
    [
        ("0x202", "0x2", "L0 made the mistake when it built vmcs02"),
        ("0x2", "0x2", "L1's hypervisor asked for it, and L0 passed it on"),
        ("0x202", "0x202", "no value of vmcs02 that the text shows is certain to be wrong"),
    ],
)
def test_who_refused_a_nested_entry(tmp_path: Path, twelve: str, two: str, expected: str) -> None:
    output = run(tmp_path, NESTED.format(twelve=twelve, two=two), "--no-verify").output
    assert output.count("The VM entry failed:") == 1
    assert expected in output


@pytest.mark.parametrize("fails", ["-", "+"])
def test_of_the_two_sides_of_a_diff_the_one_fails_that_violates_a_check(tmp_path: Path, fails: str) -> None:
    works = "+" if fails == "-" else "-"
    lines = {works: "host_CR4=0x0000000000002020", fails: "host_CR4=0x0000000000000020"}
    output = run(tmp_path, f"VM-instruction error 8\n-{lines['-']}\n+{lines['+']}\n", "--no-verify").output
    assert f"Compared: the {works} side works, the {fails} side fails. 1 field differs, 0 are the same." in output
    assert "host CR4 (6C04H): works 0000000000002020H, fails 0000000000000020H (bit 13 VMXE = 1 / 0)" in output


def test_a_working_file_without_values_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("nothing\n")
    result = run(tmp_path, "vmlaunch failed with error 7\n", "--working", str(empty))
    assert result.exit_code == 2
    assert "has no VMCS field with a value" in result.output


def test_json_has_the_comparison_as_the_schema_says(tmp_path: Path) -> None:
    result = run(tmp_path, NESTED.format(twelve="0x202", two="0x2"), "--json")
    data = json.loads(result.stdout)
    jsonschema.validate(data, json.loads(resources.files("vmfuzz.explain").joinpath("check_schema.json").read_text()))
    assert data["comparison"]["nested_levels"] is True
    assert [(each["field"], each["may_explain"]) for each in data["comparison"]["differences"]] == [("guest_rflags", True)]
