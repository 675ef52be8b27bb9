"""`vmfuzz check` and `vmfuzz dump-code` as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmfuzz.arch.fields import FIELDS
from vmfuzz.cli.check import check
from vmfuzz.cli.dump_code import dump_code
from vmfuzz.errors import UsageError
from vmfuzz.state.profiles import capabilities

SAMPLES = Path(__file__).resolve().parents[1] / "explain" / "samples"


def run(*words, stdin=None):
    result = CliRunner().invoke(check, [str(word) for word in words], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_failing_dump_gives_1_and_the_cause_in_ten_lines():
    result = run(SAMPLES / "kvm.txt", "--no-verify")
    assert result.exit_code == 1
    first = " ".join(" ".join(result.output.splitlines()[:10]).split())
    assert "invalid guest state" in first
    assert "set guest GS access rights (481EH) to 00010000H" in first


def test_standard_input_is_read():
    assert run(stdin=(SAMPLES / "xen.txt").read_text(encoding="utf-8")).exit_code == 1
    assert "Xen VMCS dump" in run("-", "--no-verify", stdin=(SAMPLES / "xen.txt").read_text(encoding="utf-8")).output


def test_a_passing_dump_gives_0():
    assert run(SAMPLES / "printk.txt").exit_code == 0


@pytest.mark.parametrize("words", [["0x80000021"], ["KVM: entry failed, hardware error 0x7"], ["-2147483615"], ["exit", "reason", "33"]])
def test_a_bare_outcome_is_enough(words):
    result = run(*words)
    assert result.exit_code == 1
    assert "Collect next" in result.output
    assert "dump_invalid_vmcs" in result.output


def test_a_bare_exit_reason_of_a_success_gives_0():
    result = run("0x30")
    assert result.exit_code == 0
    assert result.output.startswith("This VM entry did not fail")


def test_unreadable_input_gives_2():
    assert run(stdin="nothing of use here\n").exit_code == 2
    with pytest.raises(UsageError, match="neither a file nor an outcome"):
        run("no-such-file.txt")
    with pytest.raises(UsageError, match="cannot read"):
        run(SAMPLES)


def test_reported_narrows():
    text = "HOST_CR4 = 0x660\nGUEST_CR4 = 0x660\n"
    assert "host CR4 bit 13" in run("--reported", "VMLAUNCH error 8", "--no-verify", stdin=text).output.split("Violated")[0]
    assert "guest CR4 bit 13" in run("--reported", "0x80000021 qual 0", "--no-verify", stdin=text).output.split("Violated")[0]
    with pytest.raises(UsageError, match="--reported"):
        run("--reported", "what", stdin=text)


def test_encodings_of_a_separate_file(tmp_path):
    header = tmp_path / "vmcs.h"
    header.write_text("#define GUEST_GS_ACCESS_RIGHTS 0x482e\n#define GUEST_GS_SELECTOR 0x080a\n", encoding="utf-8")
    result = run(SAMPLES / "printk.txt", "--encodings", header, "--reported", "0x80000021", "--no-verify")
    assert "GUEST_GS_ACCESS_RIGHTS is defined as 482EH" in " ".join(result.output.split())
    header.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no list of encodings"):
        run(SAMPLES / "printk.txt", "--encodings", header)


def test_processor_from_profile_or_file(tmp_path):
    file = tmp_path / "caps.json"
    file.write_text(json.dumps(capabilities("corei7_skylake_x").to_json()), encoding="utf-8")
    by_name = json.loads(run(SAMPLES / "xen.txt", "--cpu", "corei7_skylake_x", "--json").output)
    by_file = json.loads(run(SAMPLES / "xen.txt", "--capabilities", file, "--json").output)
    assert by_name["undecided"] == by_file["undecided"]
    with pytest.raises(UsageError, match="give one of them"):
        run(SAMPLES / "xen.txt", "--cpu", "corei7_skylake_x", "--capabilities", file)


def test_json():
    data = json.loads(run(SAMPLES / "kvm.txt", "--json").output)
    assert data["schema"] == "vmfuzz-check-1"
    assert {item["check"] for item in data["violated"]} == {"guest.gs.type.accessed", "guest.gs.s", "guest.gs.p"}
    assert data["repairs"][0] == [{"field": "guest_gs_access_rights", "encoding": "481EH", "old": "0x0", "new": "0x10000"}]


def test_explain():
    assert "Why:" in run(SAMPLES / "kvm.txt", "--explain", "--no-verify").output


def test_several_files():
    result = run(SAMPLES / "printk.txt", SAMPLES / "kvm.txt", "--no-verify")
    assert result.exit_code == 1
    assert result.output.count("== ") == 2


def test_dump_code():
    for option, sign in (("--c", "vmread %[which]"), ("--rust", "pub unsafe fn dump_vmcs")):
        result = CliRunner().invoke(dump_code, [option])
        assert result.exit_code == 0
        assert sign in result.output
        assert all(f'"{name}"' in result.output for name in FIELDS)
    narrow = CliRunner().invoke(dump_code, ["--cpu", "corei7_skylake_x"]).output
    assert '"guest_gs_access_rights"' in narrow
    assert '"shared_ept_pointer"' not in narrow


def test_the_text_is_shown_with_what_was_read_of_it_before_the_answer():
    output = run("-", "--annotate", "--trace", "--no-verify", stdin="guest_rflags = 0x1\nexit reason 0x80000021\n").output
    assert output.startswith("1   guest_rflags = 0x1\n" + " " * 19 + "^^^ guest_rflags\n")
    assert "standard input: name and value lines\n  lines 1 to 2: " in output
    assert "believed: 2 fields" in output
    assert output.index("believed: 2 fields") < output.index("Violated checks")


def test_json_has_the_columns_of_each_value_and_no_second_form_of_them():
    fields = json.loads(run("-", "--json", stdin="guest_rflags = 0x1\n").output)["fields"]
    assert fields["guest_rflags"]["columns"] == [16, 18]
    with pytest.raises(UsageError, match="leave them out with --json"):
        run("-", "--json", "--annotate", stdin="guest_rflags = 0x1\n")
