"""The executor `program:COMMAND`: the protocol, both reference answerers, and programs that crash, hang or answer wrongly."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from vmfuzz.arch.outcomes import ANY_EXIT, Kind, Outcome, Outcomes
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, UsageError
from vmfuzz.execute.conformance import mixed_batch
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.program import process, protocol
from vmfuzz.execute.program.conformance import examine
from vmfuzz.execute.program.executor import ROWS, ProgramExecutor
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good

ROOT = Path(__file__).parents[3]
WRONG = Path(__file__).with_name("wrong.py")
PYTHON = [sys.executable, str(ROOT / "examples" / "answerer.py")]
SCHEMA = json.loads(Path(protocol.__file__).with_name("program_schema.json").read_text(encoding="utf-8"))
NAME = "corei7_skylake_x"


def wrong(way: str) -> list[str]:
    return [sys.executable, str(WRONG), way]


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the suite needs a C compiler anyway"
    program = tmp_path_factory.mktemp("answerer") / "answerer"
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, ROOT / "examples" / "answerer.c"], check=True)
    return [str(program)]


@pytest.fixture(params=["Python", "C"])
def toy(request: pytest.FixtureRequest) -> list[str]:
    command: list[str] = PYTHON if request.param == "Python" else request.getfixturevalue("in_c")
    return command


def test_both_reference_answerers_keep_to_the_protocol(toy: list[str]) -> None:
    steps = list(examine(toy))
    assert [(step.name, step.right) for step in steps] == [
        (name, True) for name in ("hello", "known-good state", "a small batch", "speed", "a large batch", "the same twice", "order", "end")
    ]


@pytest.mark.parametrize("source", ["answerer.c", "answerer.py"])
def test_a_reference_answerer_has_under_100_lines(source: str) -> None:
    assert len((ROOT / "examples" / source).read_text(encoding="utf-8").splitlines()) < 100


def test_both_reference_answerers_are_the_same_processor(in_c: list[str]) -> None:
    good = known_good(capabilities(NAME))
    link = 0x10_0000
    candidates = [
        good,
        good.replace(live_no_current_vmcs=1),
        good.replace(live_blocking_by_mov_ss=1),
        good.replace(live_launch_state=1),
        good.replace(live_launch_instruction=1),
        good.replace(cr3_target_count=5),
        good.replace(host_cr0=0),
        good.replace(guest_rflags=0),
        good.replace(guest_gs_access_rights=0),
        good.replace(vmcs_link_pointer=1),
        good.replace(vmcs_link_pointer=link),
        good.replace(vmcs_link_pointer=link).with_memory({link: 0x1_0000_0000}),
        good.replace(vmcs_link_pointer=link).with_memory({link: 0x12}),
    ]
    expected = [
        Outcome(Kind.EXIT, ANY_EXIT, 0),
        Outcome(Kind.VMFAIL_INVALID),
        *(Outcome(Kind.VMFAIL_VALID, number) for number in (26, 4, 5, 7, 8)),
        *(Outcome(Kind.ENTRY_FAILURE, 33, qualification) for qualification in (0, 0, 4, 4, 4)),
        Outcome(Kind.EXIT, ANY_EXIT, 0),
    ]
    for command in (PYTHON, in_c):
        with ProgramExecutor(command) as executor:
            outcomes = executor.run(candidates)
            assert list(outcomes) == expected, executor.name
            assert outcomes.message_of(5) == "too many CR3-target values"
            assert outcomes.message_of(0) is None


WAYS = {
    "silent": ("hello", "no hello: no answer in 0.2 s, while the program slept"),
    "no-json": ("hello", "the hello is not a JSON object (what is for people belongs on standard error): 'Starting emulator ...'"),
    "other-version": ("hello", 'says "hello": "vmfuzz-program-0"; expected "vmfuzz-program-1"'),
    "no-such-profile": ("hello", "unknown CPU model 'corei7_skylark'; did you mean corei7_skylake_x"),
    "misspelt": ("hello", 'the hello has "capabilites", which the protocol does not have there'),
    "refuses-all": ("known-good state", "the known-good VMCS must enter, but the outcome was: VMfailValid(7)"),
    "last-missing": ("known-good state", "is the answer missing, or not flushed with the last row of a batch?"),
    "slow": ("speed", "a campaign needs at least 100, better thousands"),
    "order": ("a small batch", 'expected the answer to row 3, with "row": 3'),
    "missing": ("a small batch", 'expected the answer to row 5, with "row": 5'),
    "twice": ("a small batch", 'it wrote more than one answer per row; the first extra one begins \'{"row": 49'),
    "garbage": ("a small batch", "the answer to row 4 is not a JSON object"),
    "unknown-outcome": ("a small batch", 'the answer to row 4 has "outcome": "failed"; expected one of entered, vmfail_invalid'),
    "crash": ("a large batch", "the known-good VMCS with guest_cr4 = 2000H: killed by SIGSEGV; it said: assertion failed: !pae"),
    "late-crash": ("a large batch", "the known-good VMCS with guest_cr4 = 2000H: killed by SIGSEGV; it said: assertion failed: !pae"),
    "hang": ("a large batch", "the known-good VMCS with guest_cr4 = 2000H: no answer in 0.2 s of processor time"),
    "sleep": ("a large batch", "the known-good VMCS with guest_cr4 = 2000H: no answer in 0.2 s, while the program slept"),
    "remembers": ("order", "order matters for kind"),
    "bad-end": ("end", 'after {"end": true}: exit status 3; expected exit status 0'),
}


@pytest.mark.parametrize("way", WAYS)
def test_doctor_says_what_is_wrong_with_an_answerer(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "silent":
        monkeypatch.setattr(process, "START_SECONDS", 0.2)
    *before, last = examine(wrong(way))
    name, text = WAYS[way]
    assert all(step.right for step in before)
    assert (last.name, last.right) == (name, False), last.text
    assert text in last.text


@pytest.mark.parametrize("way", ["crash", "late-crash", "hang", "sleep"])
def test_a_crash_or_a_hang_is_the_outcome_of_the_candidates_that_cause_it(way: str) -> None:
    with ProgramExecutor(PYTHON) as right, ProgramExecutor(wrong(way)) as executor:
        good = executor.known_good()
        count, culprits = (2 * ROWS, [5, ROWS - 1, ROWS + 700]) if "crash" in way else (24, [9])
        values = np.full(count, good["guest_cr4"], np.uint64)
        values[culprits] ^= np.uint64(1 << 5)
        flags = np.where(np.arange(count) % 3 == 0, np.uint64(0), np.uint64(good["guest_rflags"]))
        batch = VmcsBatch(good, {"guest_cr4": values, "guest_rflags": flags})
        outcomes, expected = executor.run(batch), right.run(batch)
    crashed = outcomes.kind == Kind.EXECUTOR_CRASHED
    assert np.flatnonzero(crashed).tolist() == culprits
    assert (outcomes.kind == expected.kind)[~crashed].all()
    assert {outcomes.message_of(row) for row in culprits} == {
        {
            "crash": "the program ended: killed by SIGSEGV; it said: assertion failed: !pae",
            "late-crash": "the program ended: killed by SIGSEGV; it said: assertion failed: !pae",
            "hang": "the program hangs: no answer in 0.2 s of processor time",
            "sleep": "the program hangs: no answer in 0.2 s, while the program slept",
        }[way]
    }


@pytest.mark.parametrize("way", ["order", "missing", "garbage", "unknown-outcome"])
def test_a_program_that_breaks_the_protocol_ends_the_run_with_a_sentence_that_names_doctor(way: str) -> None:
    with ProgramExecutor(wrong(way)) as executor, pytest.raises(ExecutorError, match=r'`vmfuzz doctor --executor "program:.*` says more'):
        executor.run(mixed_batch(executor.known_good()))


def test_what_a_program_wrote_too_much_is_no_answer_to_the_next_batch() -> None:
    with ProgramExecutor(wrong("twice")) as executor:
        batch = mixed_batch(executor.known_good())
        executor.run(batch)
        with pytest.raises(ExecutorError, match="expected the answer to row 0"):
            executor.run(batch)


def test_a_program_that_is_not_there_or_dies_at_once_is_said_in_one_sentence() -> None:
    with pytest.raises(EnvironmentUnusable, match=r"cannot start the program '\./no-such-emulator': No such file"):
        open_executor("program:./no-such-emulator")
    with pytest.raises(ExecutorError, match="no hello: exit status 7; it said: no licence"):
        open_executor(f"program:{shlex.quote(sys.executable)} -c 'import sys; print(\"no licence\", file=sys.stderr); sys.exit(7)'")


@pytest.mark.parametrize(
    ("name", "cpu", "said"),
    [
        ("program:", None, "expected the command of a program that answers VM entries"),
        ("program:python3 'x", None, "No closing quotation; quote the command as for a shell"),
        ("program:true", NAME, "the program itself says which processor it is"),
    ],
)
def test_names_that_mean_no_program_are_refused(name: str, cpu: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_executor(name, cpu=cpu)


def test_a_field_that_the_processor_lacks_and_a_fact_that_varies_are_refused_by_name() -> None:
    with ProgramExecutor(PYTHON) as executor:
        good = executor.known_good()
        with pytest.raises(UsageError, match="live_efer cannot vary"):
            executor.run(VmcsBatch(good, {"live_efer": np.zeros(2, np.uint64)}))
        with pytest.raises(UsageError, match="guest_ia32_s_cet: the batch writes it, but program toy in Python lacks this field"):
            executor.run([good.replace(guest_ia32_s_cet=1)])


def test_a_closed_executor_says_so() -> None:
    executor = ProgramExecutor(PYTHON)
    executor.close()
    executor.close()
    with pytest.raises(ExecutorError, match="the executor is closed"):
        executor.run([executor.known_good()])


# The lines


def lines_of(batch: VmcsBatch, rows: int) -> list[Any]:
    return [json.loads(line) for line in protocol.request_of(batch, np.arange(rows), 4).splitlines()]


def valid(line: object, part: str) -> bool:
    return jsonschema.Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": f"#/$defs/{part}"}]}).is_valid(line)


def test_a_request_has_the_base_once_and_of_each_row_what_differs() -> None:
    good = known_good(capabilities(NAME)).with_memory({0x10_0000: 7})
    batch = VmcsBatch(good, {"guest_rflags": [2, good["guest_rflags"] ^ 1]}, {0x10_0000: [7, 8]})
    head, one, two = lines_of(batch, 2)
    assert valid(head, "batch")
    assert valid(one, "row")
    assert valid(two, "row")
    assert (head["batch"], head["rows"]) == (4, 2)
    assert head["base"]["guest_rflags"] == f"{good['guest_rflags']:#x}"
    assert head["base"]["live_launch_state"] == "0x0"
    assert head["memory"]["0x100000"] == "0x7"
    assert one == {"row": 0, "differences": {} if good["guest_rflags"] == 2 else {"guest_rflags": "0x2"}}
    assert two == {"row": 1, "differences": {"guest_rflags": f"{good['guest_rflags'] ^ 1:#x}"}, "memory": {"0x100000": "0x8"}}


def read(*answers: object, base: Any = None) -> Outcomes:
    batch = VmcsBatch(base or known_good(capabilities(NAME)), {}, count=len(answers))
    outcomes, reader = Outcomes.empty(len(answers)), protocol.Answers()
    lines = [json.dumps({"row": row, **answer}).encode() for row, answer in enumerate(answers) if isinstance(answer, dict)]
    reader.read(lines, batch, np.arange(len(answers)), outcomes)
    outcomes.messages = reader.messages
    return outcomes


RIGHT: list[tuple[dict[str, object], Outcome]] = [
    ({"outcome": "entered"}, Outcome(Kind.EXIT, ANY_EXIT, 0)),
    ({"outcome": "entered", "exit_reason": 52, "qualification": "0xffffffffffffffff"}, Outcome(Kind.EXIT, 52, 0xFFFF_FFFF_FFFF_FFFF)),
    ({"outcome": "vmfail_invalid"}, Outcome(Kind.VMFAIL_INVALID)),
    ({"outcome": "vmfail_valid", "error": 7}, Outcome(Kind.VMFAIL_VALID, 7)),
    ({"outcome": "entry_failure", "exit_reason": 33, "qualification": 4}, Outcome(Kind.ENTRY_FAILURE, 33, 4)),
    ({"outcome": "vmwrite_failed", "error": 12, "field": "guest_cr0"}, Outcome(Kind.VMWRITE_FAILED, 12)),
    ({"outcome": "refused", "message": "no shadow stacks here"}, Outcome(Kind.REFUSED)),
]


def test_every_outcome_is_read_and_valid() -> None:
    outcomes = read(*(answer for answer, _ in RIGHT))
    assert list(outcomes) == [outcome for _, outcome in RIGHT]
    assert outcomes.raw_reason.tolist() == [ANY_EXIT, 52, 0, 0, 0x8000_0021, 0, 0]
    assert outcomes.encoding[5] == 0x6800
    assert outcomes.message_of(6) == "no shadow stacks here"
    assert all(valid({"row": 0, **answer}, "answer") for answer, _ in RIGHT)


def test_interruption_information_is_as_the_manual_leaves_it_unless_an_answer_says_otherwise() -> None:
    base = known_good(capabilities(NAME)).replace(vm_entry_interruption_info=0x8000_0B0E)
    failure = {"outcome": "entry_failure", "exit_reason": 33, "qualification": 0}
    outcomes = read({"outcome": "entered"}, failure, {**failure, "vm_entry_interruption_info": 5}, {"outcome": "vmfail_invalid"}, base=base)
    assert outcomes.entry_interruption_info.tolist() == [0x0B0E, 0x8000_0B0E, 5, 0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"outcome": "vmfail_valid"}, 'needs "error"'),
        ({"outcome": "entry_failure", "exit_reason": 33}, 'needs "qualification"'),
        ({"outcome": "entered", "error": 7}, 'has "error", which the protocol does not have there'),
        ({"outcome": "entry_failure", "exit_reason": 0x8000_0021, "qualification": 0}, "the basic exit reason, without bit 31"),
        ({"outcome": "vmfail_valid", "error": "seven"}, "error = 'seven': expected an integer"),
        ({"outcome": "vmfail_valid", "error": [7]}, "expected texts and numbers only"),
        ({"outcome": "vmfail_invalid", "message": 3}, '"message": 3; expected a text'),
        ({"outcome": "vmwrite_failed", "error": 12, "field": "guest_cr5"}, "expected the name of a VMCS field"),
        ({}, '"outcome": null; expected one of entered'),
    ],
)
def test_an_answer_that_is_wrong_is_said_and_invalid(answer: dict[str, object], said: str) -> None:
    with pytest.raises(protocol.NotSpoken) as error:
        read(answer)
    assert said in str(error.value)
    assert "exit_reason" in answer or not valid({"row": 0, **answer}, "answer") or answer.get("field")


def test_a_hello_may_bring_capabilities_and_a_state_of_its_own() -> None:
    known = capabilities("tigerlake")
    good = known_good(known).replace(guest_rip=0x1234)
    hello = {"hello": protocol.PROTOCOL, "name": "mine", "capabilities": known.to_json(), "known_good": good.to_json(), "hang_seconds": 3}
    assert valid(hello, "hello")
    read = protocol.hello_of(json.dumps(hello).encode())
    assert (read.capabilities, read.capabilities.name, read.known_good, read.hang_seconds) == (known, "mine", good, 3)


@pytest.mark.parametrize("change", [{"profile": NAME, "capabilities": {}}, {"name": ""}, {"hang_seconds": 0}, {"known_good": 3}])
def test_a_hello_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    hello = {"hello": protocol.PROTOCOL, "name": "mine", "profile": NAME, **change}
    with pytest.raises(protocol.NotSpoken):
        protocol.hello_of(json.dumps(hello).encode())
    assert not valid(hello, "hello")


def test_the_end_is_valid() -> None:
    assert valid(json.loads(protocol.END), "end")
