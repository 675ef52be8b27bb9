"""`check` names the processor erratum that fits the processor, the state and the outcome, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from one_dump import read

from vmfuzz.cli.main import main
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.errata import fitting
from vmfuzz.explain.answer.render import render

FREEZE = "exit reason 0x80000021, qualification 0\nVM-entry controls = 0x11ff\nguest IA32_DEBUGCTL = {value}\nguest RFLAGS = 0x2\n"
CPUINFO = "cpu family\t: 6\nmodel\t\t: {model}\nmodel name\t: Intel(R)\nstepping\t: 6\n"
XEN = """\
(XEN) d1v0 vmentry failure (reason 0x80000022): MSR loading (entry 3)
(XEN)   msr {msr} val {value} (mbz 0)
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FREEZE.format(value="0x4000"), ["AZ61"]),
        (FREEZE.format(value="0x4000") + CPUINFO.format(model=23), ["AZ61"]),
        (FREEZE.format(value="0x4000") + CPUINFO.format(model=60), []),
        (FREEZE.format(value="0x1"), []),
        (FREEZE.format(value="0x4000").replace("0x80000021", "48"), []),
        (XEN.format(msr="00000680", value="1fffffff81000000"), ["HSM182"]),
        (XEN.format(msr="00000680", value="ffffffff81000000"), []),
        (XEN.format(msr="000001de", value="1fffffff81000000") + CPUINFO.format(model=79), ["BDF93"]),
        (XEN.format(msr="00000174", value="1fffffff81000000"), []),
    ],
)
def test_the_erratum_that_fits(text: str, expected: list[str]) -> None:
    assert [erratum.id for erratum in fitting(answer(read(text)))] == expected


def test_the_answer_says_what_avoids_it_and_which_processor_it_is() -> None:
    text = render(answer(read(FREEZE.format(value="0x4000") + CPUINFO.format(model=23))), width=None)
    assert (
        "Erratum: AZ61: VM entry may fail where it sets IA32_DEBUGCTL.FREEZE_WHILE_SMM_EN. The text names a processor of family 6, model 23 (17H)"
        in text
    )
    assert "Change: clear bit 14 of guest IA32_DEBUGCTL (2802H) before every entry" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CPUINFO.format(model=23), (6, 23, 6)),
        ("smpboot: CPU0: Intel(R) Core(TM)2 Duo CPU T8300 (family: 0x6, model: 0x17, stepping: 0x6)\n", (6, 23, 6)),
        ("CPUID.1 EAX = 0x10676\n", (6, 23, 6)),
        ("cpu family\t: 25\nmodel\t\t: 1\n", None),
        ("nothing\n", None),
    ],
)
def test_the_processor_that_a_text_names(text: str, expected: tuple[int, int, int] | None) -> None:
    assert read(f"exit reason 0x80000021\n{text}").processor == expected


def named(tmp_path: Path, text: str, mutation: dict[str, str], *options: str) -> bool:
    """Whether `check --errata` names the deviation of a file of one case in a text."""
    case = {"base": "64-bit/plain/nothing", "mutation": mutation, "actual": "entry failure 33 q0"}
    known = {"id": "my-emulator", "executor": "program my emulator", "text": "It wants more. Ticket 17.", "cases": [case]}
    own, dump = tmp_path / "own.json", tmp_path / "dump.txt"
    own.write_text(json.dumps({"schema": "vmfuzz-errata-1", "errata": [known]}))
    dump.write_text(text)
    result = CliRunner().invoke(main, ["check", str(dump), "--no-verify", "--errata", str(own), *options])
    assert result.exit_code in (0, 1), result.output
    return "Erratum: my-emulator, from your own file. It wants more. Ticket 17." in result.output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exit reason 0x80000021, qualification 0\nguest RFLAGS = 0x0\n", True),
        ("exit reason 0x80000021\nguest RFLAGS = 0x0\n", True),
        ("exit reason 0x80000021, qualification 2\nguest RFLAGS = 0x0\n", False),
        ("exit reason 0x80000021, qualification 0\nguest RFLAGS = 0x2\n", False),
        ("exit reason 0x80000021, qualification 0\nguest RIP = 0x2\n", False),
        ("VM-instruction error 7\nguest RFLAGS = 0x0\n", False),
    ],
)
def test_a_deviation_of_ones_own_file_is_named_where_it_fits(tmp_path: Path, text: str, expected: bool) -> None:
    assert named(tmp_path, text, {"guest_rflags": "0x0"}) is expected


@pytest.mark.parametrize(("rflags", "expected"), [(0x0, True), (0x44, True), (0x200, True), (0x46, False)])
def test_only_the_bits_that_the_case_changes_in_its_base_count_as_in_a_campaign(tmp_path: Path, rflags: int, expected: bool) -> None:
    text = f"exit reason 0x80000021, qualification 0\nguest RFLAGS = {rflags:#x}\n"
    assert named(tmp_path, text, {"guest_rflags": "0x0"}) is expected
    assert named(tmp_path, text, {"guest_rflags": "0x0"}, "--cpu", "corei7_haswell_4770") is expected


def test_a_case_that_changes_nothing_in_its_base_is_an_error(tmp_path: Path) -> None:
    case = {"base": "64-bit/plain/nothing", "mutation": {"guest_rflags": "0x2"}, "actual": "entry failure 33 q0"}
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"schema": "vmfuzz-errata-1", "errata": [{"id": "known", "executor": "", "text": "", "cases": [case]}]}))
    result = CliRunner().invoke(main, ["check", "0x80000021", "--errata", str(own)])
    assert result.exit_code == 2
    assert "erratum known: a case changes nothing, since '64-bit/plain/nothing' has these values anyway" in result.output
