"""The commands as a person types them: exit codes, one clear sentence on bad input, JSON for machines."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Outcomes
from vmfuzz.cli.main import COMMANDS, main
from vmfuzz.cluster.store import cluster_facts
from vmfuzz.errors import ExecutorError, UsageError
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, description, emulated_names, known_good, processor_names, profile_names
from vmfuzz.state.vmcs import Vmcs

CORPUS = Path(__file__).parents[2] / "corpus"


def vmfuzz(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def refused(result: Result, *words: str) -> None:
    """Exit code 2 with the reason in one line on standard error and nothing on standard output."""
    assert result.exit_code == 2
    assert result.stdout == ""
    reason = result.stderr.strip().splitlines()[-1]
    assert all(word in reason for word in words), reason
    assert "Traceback" not in result.output


# Help


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=lambda command: " ".join(command) or "vmfuzz")
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(command: list[str], flag: str) -> None:
    result = vmfuzz(*command, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


def test_help_lists_every_command() -> None:
    listed = vmfuzz("--help").stdout
    assert all(f"\n  {name} " in listed for name in COMMANDS)


def test_an_unknown_command_or_option_is_refused() -> None:
    refused(vmfuzz("chek"), "unknown command 'chek'; did you mean check or checks?")
    refused(vmfuzz("fuzz"), "unknown command 'fuzz'; known: ")
    refused(vmfuzz("run", "--cpus", "x"), "No such option", "--cpus")


CONTRADICTIONS = [
    (["dump-code", "--c", "--rust"], "--c with --rust"),
    (["export", "00", "--syz", "--c"], "--syz with --c"),
    (["ambiguities", "--json", "--markdown"], "--json with --markdown"),
    (["report", "a.json", "--json", "--markdown"], "--json with --markdown"),
    (["caps", "--list", "--json"], "--list with --json"),
    (["caps", "--list", "--cpu", "tigerlake"], "--list with --cpu"),
    (["caps", "--cpu", "tigerlake", "--capabilities", __file__], "--capabilities with --cpu"),
    (["check", "0x80000021", "--json", "--explain"], "--json with --explain"),
    (["check", "0x80000021", "--json", "--verify"], "--json with --verify"),
    (["check", "0x80000021", "--verify", "--no-verify"], "--verify with --no-verify: they exclude each other"),
    (["check", "0x80000021", "--no-verify", "--verify"], "--verify with --no-verify: they exclude each other"),
    (["checks", "guest.gs.p", "--field", "guest_cr0"], "give one of them"),
    (["coverage", ".", "--seed", "3"], "DIRECTORY with --seed"),
    (["coverage", ".", "-n", "30"], "DIRECTORY with --iterations"),
    (["coverage", "--list", "--json"], "--json with --list"),
    (["diff", ".", ".", "--seed", "3"], "--seed with two directories"),
    (["diff", ".", ".", "--cpu", "tigerlake"], "--cpu with two directories"),
    (["diff", "tigerlake", "bochs", "--corpus", ".", "-n", "30"], "--corpus with --iterations"),
    (["minimize", "--executor", "bochs"], "--executor without ID"),
    (["run", "--yes"], "--yes: auto asks no question without --risk bold or --poison"),
    (["run", "--json", "--format", "github"], "--json with --format"),
    (["run", "--scheduler", "tcp://nowhere:1", "--sarif", "x"], "--scheduler with --sarif"),
    (["replay", "--json", "--format", "github"], "--json with --format"),
    (["replay", __file__, "--corpus", "."], "leave out --corpus"),
    (["show", __file__, "--corpus", "."], "leave out --corpus"),
    (["show", ".", "--corpus", "elsewhere"], "leave out --corpus"),
    (["export", __file__, "--c", "--corpus", "."], "leave out --corpus"),
    (["minimize", __file__, "--corpus", "."], "leave out --corpus"),
    (["verdict", __file__, "--corpus", ".", "allowed", "it is so"], "leave out --corpus"),
    (["run", "--scheduler", "tcp://nowhere:1", "--yes"], "--yes with --scheduler"),
]


@pytest.mark.parametrize(("arguments", "words"), CONTRADICTIONS, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_options_that_contradict_or_mean_nothing_are_refused(arguments: list[str], words: str) -> None:
    refused(vmfuzz(*arguments), words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--cpu", ""],
        ["run", "--directory", ""],
        ["run", "--directory="],
        ["run", "--iterations", ""],
        ["run", "--summary", ""],
        ["run", "--executor", ""],
        ["coverage", ""],
        ["check", ""],
        ["check", "0x80000021", "--reported", ""],
        ["checks", ""],
        ["checks", "--field", ""],
        ["findings", "--verdict", ""],
        ["show", ""],
        ["replay", ""],
        ["suite", "-o", ""],
        ["export", "00", "--c", "-o", ""],
    ],
    ids=" ".join,
)
def test_an_empty_value_is_refused(arguments: list[str]) -> None:
    refused(vmfuzz(*arguments), "is empty; expected a value")


def test_only_what_can_be_left_out_is_said_to_be() -> None:
    refused(vmfuzz("show", ""), "ID is empty; expected a value")
    assert "leave it out" not in vmfuzz("show", "").stderr
    refused(vmfuzz("run", "--cpu", ""), "--cpu is empty; expected a value, or leave it out")


@pytest.mark.parametrize(
    "arguments",
    [
        ["report"],
        ["caps", "--capabilities"],
        ["check", "0x80000021", "--capabilities"],
        ["dump-code", "--capabilities"],
        ["run", "-n", "10", "--executor", "model", "--cpu"],
        ["show"],
    ],
    ids=" ".join,
)
def test_a_deep_file_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000, encoding="utf-8")
    refused(vmfuzz(*arguments, str(path)), str(path), "nested too deeply")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"schema": "vmfuzz-cluster-1"}', "'iterations' is None"),
        ('{"schema": "vmfuzz-cluster-1", "iterations": "many"}', "'iterations' is 'many'"),
    ],
    ids=["deep", "without keys", "of other types"],
)
def test_the_facts_of_a_cluster_are_checked(facts: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(facts, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        cluster_facts(tmp_path)
    refused(vmfuzz("report", str(tmp_path)), "its campaign has not run on any processor yet")


# run

KEYS = {
    "schema",
    "executor",
    "seed",
    "stopped",
    "error",
    "wanted",
    "seconds",
    "executor_seconds",
    "candidates_per_second",
    "bases",
    "candidates",
    "executed",
    "verdicts",
    "outcomes",
    "deviations",
    "errata",
    "checks",
    "readings",
    "findings",
}


CAPS = capabilities("corei7_skylake_x")


class Breaks(ModelExecutor):
    """Cannot go on with the third batch."""

    runs = 0

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        self.runs += 1
        if self.runs == 3:
            raise ExecutorError("the machine is gone")
        return super().run(batch)


@pytest.mark.parametrize("as_json", [False, True], ids=["for people", "for machines"])
def test_what_ran_before_an_executor_broke_is_told_before_the_error(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Breaks(CAPS, known_good(CAPS))
    monkeypatch.setattr("vmfuzz.cli.run.open_executor", lambda *_args, **_options: nullcontext(broken))
    result = vmfuzz("run", "--iterations", "1000000", *(["--json"] if as_json else []))
    assert result.exit_code == 3
    assert result.stderr.strip().splitlines()[-1] == "vmfuzz: the machine is gone"
    if as_json:
        data = json.loads(result.stdout)
        assert data["error"] == "the machine is gone"
        assert data["stopped"] is True
        assert 0 < data["candidates"] < 1_000_000
    else:
        assert result.stdout.startswith("ended by an error after ")
        assert "processor and model agree" in result.stdout


def test_an_executor_that_breaks_at_once_gives_its_error_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Breaks(CAPS, known_good(CAPS))
    broken.runs = 2
    monkeypatch.setattr("vmfuzz.cli.run.open_executor", lambda *_args, **_options: nullcontext(broken))
    result = vmfuzz("run", "--iterations", "1000000")
    assert result.exit_code == 3
    assert result.stdout == ""


def test_run_prints_a_summary_and_says_by_its_exit_code_whether_it_found_something() -> None:
    result = vmfuzz("run", "--iterations", "20k", "--seed", "1")
    assert "ran 20,000 candidates on bochs corei7_skylake_x" in result.stdout
    assert "seed 1" in result.stdout
    assert "processor and model agree" in result.stdout
    assert result.exit_code == (0 if "no findings" in result.stdout else 1)


def test_run_json_is_one_object_with_stable_keys(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    result = vmfuzz("run", "-n", "5000", "--cpu", "tigerlake", "--json", "--summary", str(path))
    data: dict[str, Any] = json.loads(result.stdout)
    assert set(data) >= KEYS
    assert (data["schema"], data["executor"], data["candidates"]) == ("vmfuzz-summary-1", "bochs tigerlake", 5000)
    assert sum(data["verdicts"].values()) == sum(data["outcomes"].values()) == 5000
    assert data["stopped"] is False
    assert result.exit_code == (1 if data["findings"] else 0)
    assert json.loads(path.read_text(encoding="utf-8")) == data


def test_run_with_the_same_seed_gives_the_same_counts() -> None:
    def counts(seed: int) -> dict[str, Any]:
        data = json.loads(vmfuzz("run", "-n", "6000", "--seed", str(seed), "--json").stdout)
        return {key: data[key] for key in KEYS - {"seconds", "executor_seconds", "candidates_per_second", "seed"}}

    assert counts(3) == counts(3)


@pytest.mark.parametrize("count", ["0", "-5", "many", "1.5", "1e", "k", "nan", "inf", "1e400"])
def test_run_refuses_a_count_that_is_none(count: str) -> None:
    refused(vmfuzz("run", "--iterations", count), "--iterations", "expected a whole number of candidates")


@pytest.mark.parametrize(("text", "number"), [("1_0", 10), ("1e1", 10), ("0.01k", 10), ("10", 10)])
def test_run_takes_counts_as_people_write_them(text: str, number: int) -> None:
    assert json.loads(vmfuzz("run", "-n", text, "--json").stdout)["wanted"] == number


def test_run_refuses_what_does_not_exist() -> None:
    refused(vmfuzz("run", "--cpu", "corei7_skylake"), "unknown CPU model 'corei7_skylake'", "corei7_skylake_x")
    refused(vmfuzz("run", "--executor", "bosch"), "unknown executor 'bosch'", "bochs")
    refused(vmfuzz("run", "--executor", "model", "--cpu", "icelak"), "unknown CPU model 'icelak'", "icelake")
    refused(vmfuzz("run", "--seed", "-1"), "--seed")


UNUSABLE = [
    (
        "remote:cat",
        3,
        "such as `ssh root@target vmfuzz-agent`",
    ),
    ("remote:/nowhere/agent", 3, "expected a command that starts it, such as `ssh root@target vmfuzz-agent`"),
    ("bochs@sh", 3, "sh is not a Python interpreter that works (exit status 2); expected one such as VENV/bin/python"),
    ("bochs@", 2, "'bochs@': expected the interpreter of an environment, such as bochs@VENV/bin/python"),
    ("foo", 2, "unknown executor 'foo'; known: auto, bochs, bochs@PYTHON, kmod, kvm, model, program:COMMAND, remote:COMMAND, serial:WHERE"),
]


@pytest.mark.parametrize(("name", "code", "said"), UNUSABLE, ids=lambda value: str(value))
def test_what_is_no_executor_is_told_what_was_expected(name: str, code: int, said: str) -> None:
    result = vmfuzz("run", "-n", "10", "--executor", name)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1].endswith(said)


def test_replay_names_all_kinds_of_executors() -> None:
    refused(vmfuzz("replay", "--executor", "foo"), "bochs@PYTHON", "remote:COMMAND", "none")


def test_run_refuses_a_summary_file_that_cannot_be_written_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    result = vmfuzz("run", "-n", "1g", "--summary", str(tmp_path / "file" / "summary.json"))
    assert result.exit_code == 3
    assert f"cannot write {tmp_path}/file/summary.json: {tmp_path}/file is not a directory" in result.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "soon"])
def test_run_refuses_a_time_that_is_none(seconds: str) -> None:
    refused(vmfuzz("run", "-n", "10", "--minimize-seconds", seconds), "--minimize-seconds")


# caps


@pytest.mark.parametrize("name", profile_names())
def test_caps_prints_every_profile_for_people_and_for_machines(name: str, tmp_path: Path) -> None:
    shown = vmfuzz("caps", "--cpu", name)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(name)
    assert "480H" in shown.stdout
    assert "enable_ept" in shown.stdout or not capabilities(name).ept
    raw = vmfuzz("caps", "--cpu", name, "--json").stdout
    assert Capabilities.from_json(json.loads(raw)) == capabilities(name)
    path = tmp_path / "caps.json"
    path.write_text(raw, encoding="utf-8")
    assert vmfuzz("caps", "--capabilities", str(path)).stdout == shown.stdout


def test_caps_lists_the_profiles_and_tells_emulated_cpu_models_from_processors() -> None:
    emulated, _, processors = vmfuzz("caps", "--list").stdout.partition("profiles of processors (--executor model):\n")
    assert emulated.splitlines() == ["emulated CPU models (--executor bochs, model):", *(f"  {name}" for name in emulated_names())]
    assert [line.split()[0] for line in processors.splitlines()] == list(processor_names())
    assert all(description(line.split()[0]) in line for line in processors.splitlines())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ("is not JSON",)),
        ("[]", ("not a capabilities file",)),
        ('{"schema": "vmfuzz-capabilities-1", "msrs": {}}', ("missing 480H (IA32_VMX_BASIC)",)),
        ('{"schema": "vmfuzz-capabilities-1", "msrs": {"480": "zz"}}', ("MSR 480 = 'zz'", "expected a hexadecimal number")),
    ],
    ids=["truncated", "a list", "empty", "not a number"],
)
def test_caps_refuses_a_malformed_file(tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "caps.json"
    path.write_text(content, encoding="utf-8")
    refused(vmfuzz("caps", "--capabilities", str(path)), *words)


def test_caps_refuses_what_does_not_exist() -> None:
    refused(vmfuzz("caps", "--cpu", "tigerlak"), "unknown CPU model 'tigerlak'; did you mean tigerlake")
    refused(vmfuzz("caps", "--capabilities", "/nowhere/caps.json"), "/nowhere/caps.json")


# fields


def test_fields_lists_the_whole_catalogue() -> None:
    listed = vmfuzz("fields", "--json")
    data = json.loads(listed.stdout)
    assert data["schema"] == "vmfuzz-fields-1"
    assert [entry["name"] for entry in data["fields"]] == list(FIELDS)
    assert set(data["fields"][0]) == {"name", "encoding", "width", "area", "exists_if", "checks"}
    assert vmfuzz("fields").stdout.count("\n") >= 206


@pytest.mark.parametrize("name", ["guest_gs_access_rights", "481EH", "0x481e", "GUEST_GS_ACCESS_RIGHTS"])
def test_fields_shows_a_field_by_name_or_encoding(name: str) -> None:
    shown = vmfuzz("fields", name)
    assert shown.exit_code == 0
    assert "guest_gs_access_rights  encoding 481EH, 32-bit, guest area" in shown.stdout
    assert "16 UNUSABLE" in shown.stdout
    assert "guest.gs.s" in shown.stdout


@pytest.mark.parametrize(("area", "count"), [("host", 36), ("read-only", 17)])
def test_fields_shows_one_area(area: str, count: int) -> None:
    assert len(json.loads(vmfuzz("fields", "--area", area, "--json").stdout)["fields"]) == count


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("Guest CR0", ["guest_cr0"]),
        ("host-es-selector", ["host_es_selector"]),
        ("c00", ["host_es_selector"]),
        ("0C00", ["host_es_selector"]),
        ("guest_gs_b", ["guest_gs_base"]),
        ("GUEST_GS", ["guest_gs_selector", "guest_gs_limit", "guest_gs_access_rights", "guest_gs_base"]),
        ("rip", ["guest_rip", "host_rip"]),
        ("cr4", ["cr4_guest_host_mask", "cr4_read_shadow", "guest_cr4", "host_cr4"]),
        ("GUEST_GS_AR_BYTES", ["guest_gs_access_rights"]),
        ("HOST_IA32_EFER_FULL", ["host_ia32_efer"]),
    ],
)
def test_fields_takes_names_as_people_write_them(written: str, named: list[str]) -> None:
    assert [entry["name"] for entry in json.loads(vmfuzz("fields", written, "--json").stdout)["fields"]] == named
    assert vmfuzz("fields", written).exit_code == 0


def test_a_field_of_another_area_is_refused() -> None:
    refused(vmfuzz("fields", "--area", "host", "guest_cr0"), "'guest_cr0' is not in the host area; it is in the guest")
    refused(vmfuzz("fields", "--area", "host", "guest_cr0", "--json"), "'guest_cr0' is not in the host area")


@pytest.mark.parametrize("written", ["481EH", "0x481e", "GUEST_GS_ACCESS_RIGHTS", "Guest GS access rights"])
def test_checks_takes_fields_as_people_write_them(written: str) -> None:
    expected = [check.id for check in CHECKS if "guest_gs_access_rights" in check.fields]
    for arguments in (["checks", "--field", written], ["checks", written]):
        assert [entry["id"] for entry in json.loads(vmfuzz(*arguments, "--json").stdout)["checks"]] == expected != []


def test_checks_takes_a_register_without_its_area() -> None:
    expected = [check.id for check in CHECKS if {"guest_rip", "host_rip"} & set(check.fields)]
    for arguments in (["checks", "--field", "rip"], ["checks", "rip"]):
        assert [entry["id"] for entry in json.loads(vmfuzz(*arguments, "--json").stdout)["checks"]] == expected != []


def test_checks_takes_the_beginning_of_ids_in_any_case() -> None:
    listed = json.loads(vmfuzz("checks", "Guest.GS", "--json").stdout)["checks"]
    assert [entry["id"] for entry in listed] == [check.id for check in CHECKS if check.id.startswith("guest.gs")]
    assert vmfuzz("checks", "GUEST.GS.P").stdout.startswith("guest.gs.p\n")


def test_fields_refuses_what_does_not_exist() -> None:
    refused(vmfuzz("fields", "guest_gs_acces_rights"), "unknown VMCS field", "guest_gs_access_rights")
    refused(vmfuzz("fields", "FFFFH"), "unknown VMCS field")
    refused(vmfuzz("fields", "vm_entry_instruct_length"), "unknown VMCS field", "did you mean vm_entry_instruction_length")
    refused(vmfuzz("fields", "--area", "gust"), "--area")


# checks


def test_checks_lists_all_by_section() -> None:
    listed = vmfuzz("checks").stdout
    assert all(check.id in listed for check in CHECKS)
    assert f"{len(CHECKS)} checks" in listed
    data = json.loads(vmfuzz("checks", "--json").stdout)
    assert data["schema"] == "vmfuzz-checks-1"
    assert [entry["id"] for entry in data["checks"]] == [check.id for check in CHECKS]
    assert set(data["checks"][0]) >= {"id", "section", "text", "requires", "when", "must", "fields", "outcomes", "ambiguity"}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_checks_shows_any_one_check(check: Any) -> None:
    shown = vmfuzz("checks", check.id)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(check.id)
    for label in ("section", "must", "outcome", "reads"):
        assert f"\n  {label} " in shown.stdout
    assert ("\n  ambiguity" in shown.stdout) == (check.ambiguity is not None)


def test_checks_shows_condition_and_boundary_values() -> None:
    shown = " ".join(vmfuzz("checks", "guest.gs.p").stdout.split())
    assert BY_ID["guest.gs.p"].text in shown
    assert "must guest_gs_access_rights.P = 1" in shown
    assert "guest_gs_access_rights.UNUSABLE = 0" in shown
    assert "boundary guest_gs_access_rights: 00000000H, 00000040H, 00000080H, 00000100H" in shown
    assert "80000021H" in shown


@pytest.mark.parametrize("wanted", ["29.3.1.2", "26.3.1.2", "guest segment reg"])
def test_checks_selects_a_section_by_title_or_number(wanted: str) -> None:
    data = json.loads(vmfuzz("checks", "--section", wanted, "--json").stdout)["checks"]
    assert {entry["section"] for entry in data} == {"Checks on Guest Segment Registers"}


@pytest.mark.parametrize("field", ["guest_gs_base", "live_smm", "memory_vtpr"])
def test_checks_selects_those_that_read_a_field(field: str) -> None:
    data = json.loads(vmfuzz("checks", "--field", field, "--json").stdout)["checks"]
    assert [entry["id"] for entry in data] == [check.id for check in CHECKS if field in check.fields] != []


def test_checks_refuses_what_does_not_exist() -> None:
    refused(vmfuzz("checks", "guest.gs.pp"), "unknown check 'guest.gs.pp'", "guest.gs.p")
    refused(vmfuzz("checks", "--field", "guest_gs_bass"), "unknown VMCS field 'guest_gs_bass'", "guest_gs_base")
    refused(vmfuzz("checks", "--section", "31.4"), "unknown section '31.4'", "Basic VM-Entry Checks; ")


# doctor


def test_doctor_tries_the_emulated_cpu_and_says_what_is_missing_for_the_module() -> None:
    result = vmfuzz("doctor")
    assert result.exit_code == 0
    assert "works" in result.stdout
    printed = json.loads(vmfuzz("doctor", "--json").stdout)
    assert printed["schema"] == "vmfuzz-doctor-1"
    data = {entry["executor"]: entry for entry in printed["executors"]}
    assert data["bochs"]["usable"] is True
    assert "VM entry succeeds" in data["bochs"]["text"]
    assert data["kmod"]["usable"] is False
    assert len(data["kmod"]["text"]) > 20


def test_doctor_says_so_where_nothing_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vmfuzz.execute.wire import abi

    monkeypatch.setattr(abi, "NATIVE", tmp_path)
    for cached in (abi._declared, abi.constants, abi.struct_dtype):
        cached.cache_clear()
    try:
        result = vmfuzz("doctor")
        assert result.exit_code == 3
        assert "pip install -e ." in " ".join(result.stdout.split())
        refused_run = vmfuzz("run", "-n", "10")
        assert refused_run.exit_code == 3
        assert "is not built" in refused_run.stderr
    finally:
        for cached in (abi._declared, abi.constants, abi.struct_dtype):
            cached.cache_clear()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "vmfuzz: cannot write standard output: No space left on device; "),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found"), "vmfuzz: No usable temporary directory found; "),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "vmfuzz: cannot use '/root/x': Permission denied; "),
    ],
    ids=str,
)
def test_an_error_of_the_system_is_not_taken_for_a_full_disk(monkeypatch: pytest.MonkeyPatch, error: OSError, said: str) -> None:
    def fails(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("vmfuzz.cli.main._silence", lambda: None)
    monkeypatch.setattr("click.Group.main", fails)
    result = CliRunner().invoke(main, ["doctor"], standalone_mode=False)
    assert result.exit_code == 3
    assert result.stderr.startswith(said)


# Messages


def test_a_directory_is_no_dump(tmp_path: Path) -> None:
    refused(vmfuzz("check", str(tmp_path)), f"cannot read {tmp_path}: it is a directory; expected a file with a dump or a log")


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"schema": "vmfuzz-capabilities-1"}', "\x00"])
@pytest.mark.parametrize("command", [["caps"], ["check", "0x80000021"]], ids=["caps", "check"])
def test_a_file_that_is_no_capabilities_file_says_how_one_is_made(tmp_path: Path, text: str, command: list[str]) -> None:
    file = tmp_path / "caps.txt"
    file.write_text(text, encoding="utf-8")
    refused(vmfuzz(*command, "--capabilities", str(file)), str(file), "expected a file that `vmfuzz caps --json` wrote")


def test_help_names_all_kinds_of_executors() -> None:
    for command in ("run", "coverage", "suite", "replay"):
        said = " ".join(vmfuzz(command, "--help").stdout.split())
        assert "bochs@PYTHON" in said
        assert "remote:COMMAND" in said


def test_an_emulators_message_is_shown_without_conversions_of_its_source(tmp_path: Path) -> None:
    entry = next(path for path in sorted(CORPUS.rglob("*.json")) if "guest %s not present" in path.read_text(encoding="utf-8"))
    assert "the executor says: VMENTER FAIL: VMCS guest ? not present" in vmfuzz("show", str(entry)).stdout
    data = json.loads(entry.read_text(encoding="utf-8"))
    data["results"][0]["message"] = "VMENTER FAIL: VMCS guest %s not segment"
    (tmp_path / entry.name).write_text(json.dumps(data), encoding="utf-8")
    said = vmfuzz("replay", str(tmp_path / entry.name)).stdout
    assert "recorded VMENTER FAIL: VMCS guest ? not segment; now VMENTER FAIL: VMCS guest ? not present" in said


def test_a_dump_is_no_entry_and_the_command_for_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "dump.txt").write_text("GUEST_CR4 = 0x660\n", encoding="utf-8")
    refused(vmfuzz("show", str(tmp_path / "dump.txt")), "expected a corpus entry; dumps and logs are for `vmfuzz check FILE`")


def test_the_images_sources_are_all_that_its_makefile_builds(tmp_path: Path) -> None:
    place = tmp_path / "sources"
    said = vmfuzz("image-source", str(place)).stdout
    assert f"next: make -C {place}/image" in said
    result = subprocess.run(["make", "-s", "-C", place / "image", "build/vmfuzz.bin"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    refused(vmfuzz("image-source", str(place)), f"{place} is not empty")


@pytest.mark.parametrize("what", ["kmod-source", "image-source"])
def test_a_full_disk_is_told_by_the_file_that_was_to_be_written(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(source: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    monkeypatch.setattr("vmfuzz.cli.write_sources.shutil.copyfile", copied)
    result = vmfuzz(what, str(tmp_path / "sources"))
    assert result.exit_code == 3
    assert result.stderr.startswith(f"vmfuzz: cannot write {tmp_path}/sources/")
