"""Differences of two processors: none of a processor with itself, planted ones are found and reduced to one edit, names of the two sides."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.cli.main import main
from vmfuzz.comparison.case import Case
from vmfuzz.comparison.processor import executor_version
from vmfuzz.corpus.entries import entry_files, load, save
from vmfuzz.differences.difference import Pairing
from vmfuzz.execute.bochs.library import MODELS, PINNED, bochs_library
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CPU = "corei7_skylake_x"
CORPUS = Path(__file__).parents[2] / "corpus"


def diff(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["diff", *arguments], catch_exceptions=False)


def test_a_processor_does_not_differ_from_itself() -> None:
    with open_executor("bochs", cpu=CPU) as one, open_executor("bochs", cpu=CPU) as two:
        result = Pairing(one, two, seed=3).run(20_000)
    assert result.same_capabilities
    assert result.drawn == 20_000
    assert result.compared > 15_000
    assert result.found == {}
    assert not result.names


def test_ctrl_c_while_differences_are_reduced_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    known = capabilities(CPU)
    with ModelExecutor(known, known_good(known)) as one, open_executor("bochs", cpu=CPU) as two:
        pairing = Pairing(one, two)
        pairing.run_cases([Case("64-bit/plain/nothing", {"guest_pending_debug_exceptions": 0x0300_0200_0000_0000})])
        monkeypatch.setattr("vmfuzz.differences.difference.Minimizer", interrupted)
        pairing.minimize(20)
    (found,) = pairing.result.found.values()
    assert found.minimal is None


def test_a_deviation_of_one_side_is_found_and_reduced_to_one_edit() -> None:
    known = capabilities(CPU)
    perfect = ModelExecutor(known, known_good(known))
    with perfect as one, open_executor("bochs", cpu=CPU) as two:
        pairing = Pairing(one, two)
        result = pairing.run_cases(
            [Case("64-bit/plain/nothing", {"guest_pending_debug_exceptions": 0x0300_0200_0000_0000, "guest_rsp": 8})]
        )
        pairing.minimize(20)
    (found,) = result.found.values()
    assert found.judgement == "second"
    assert found.shape.checks == ("guest.pdbg.reserved",)
    assert found.shape.other_verdict == "deviation:bochs-pending-debug-high"
    assert found.minimal is not None
    assert list(found.minimal.mutation) == ["guest_pending_debug_exceptions"]
    assert found.minimal.mutation["guest_pending_debug_exceptions"].bit_count() == 1


def test_different_capabilities_explain_their_differences() -> None:
    done = diff("corei5_lynnfield_750", CPU, "-n", "5k", "--minimize-seconds", "0", "--json")
    data = json.loads(done.stdout)
    assert not data["same_capabilities"]
    assert data["capabilities"]
    assert data["drawn"] == 5000
    assert data["compared"] + data["not_comparable"] == 5000
    assert all(each["departs"] != "neither" or len(each["predicted"]) > 1 for each in data["differences"])


def test_stored_corpora_are_compared_by_case_and_capabilities(tmp_path: Path) -> None:
    assert diff(str(CORPUS / "guest.pat"), str(CORPUS / "guest.pat")).exit_code == 0
    shutil.copytree(CORPUS / "guest.pat", tmp_path / "other")
    path = entry_files(tmp_path / "other")[0]
    entry = load(path)
    changed = replace(entry.results[0], actual="entered, exit 52")
    save(tmp_path / "other", replace(entry, results=(changed, *entry.results[1:])), path)
    done = diff(str(CORPUS / "guest.pat"), str(tmp_path / "other"))
    assert done.exit_code == 1
    assert f"{len(changed.processors)} differ" in done.stdout
    # the case is in both, but no two processors are alike
    strangers = tuple(replace(processor, capabilities="0" * 16) for processor in changed.processors)
    save(tmp_path / "other", replace(entry, results=(replace(entry.results[0], processors=strangers),)), path)
    done = diff(str(path.parent), str(CORPUS / "guest.pat"))
    assert "in both, but on processors with other capabilities: 1" in done.stdout
    done = diff(str(CORPUS / "guest.pat"), str(CORPUS / "guest.efer.lma"))
    assert f"only in {CORPUS / 'guest.pat'}: 1 entry\n  {entry.id} {entry.kind}: {', '.join(entry.checks)}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("nosuch", CPU), "nosuch"), (("bochs@/nonexistent/python", "bochs"), "/nonexistent/python"), ((str(CORPUS), CPU), "--corpus")],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(arguments: tuple[str, str], word: str) -> None:
    done = diff(*arguments)
    assert done.exit_code in (2, 3)
    assert word in done.stderr
    assert done.stdout == ""


def test_the_library_of_this_environment_is_the_pinned_one() -> None:
    library = bochs_library()
    assert library.is_pinned
    assert library.version == PINNED
    assert library.models == MODELS
    assert library == replace(bochs_library(library.python), python=library.python)


@pytest.mark.skipif(
    "VMFUZZ_BOCHS_2_8" not in os.environ, reason="set VMFUZZ_BOCHS_2_8 to the Python of an environment with bochscpu-python 0.3.1"
)
def test_bochs_2_8_runs_and_does_as_3_0_on_the_corpus() -> None:
    old = f"bochs@{os.environ['VMFUZZ_BOCHS_2_8']}"
    with open_executor(old, cpu=CPU) as one:
        assert one.name == f"bochs@0.3.1 {CPU}"
        assert executor_version(one.name) == "bochscpu-python 0.3.1"
    done = diff(old, "bochs", "--cpu", CPU, "--corpus", str(CORPUS))
    assert done.exit_code == 0
    assert "no difference" in done.stdout
    assert "arrow_lake" in diff(f"{old}:arrow_lake", "arrow_lake").stderr


class Refuses(ModelExecutor):
    """A processor that refuses every entry."""

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        outcomes = super().run(batch)
        outcomes.kind[:], outcomes.number[:], outcomes.qualification[:] = Kind.VMFAIL_VALID, 7, 0
        return outcomes


def models(
    monkeypatch: pytest.MonkeyPatch, other: type[ModelExecutor] = ModelExecutor, without: Callable[[Check], bool] | None = None
) -> None:
    """Have `diff` open the model as the first side, and as the second a model that errs."""
    known = capabilities(CPU)
    sides = iter(
        [ModelExecutor(known, known_good(known)), other(known, known_good(known), [c for c in CHECKS if not without or not without(c)])]
    )
    monkeypatch.setattr("vmfuzz.cli.diff.open_executor", lambda *_arguments, **_options: next(sides))


def test_differences_are_kept_and_can_be_shown_exported_minimized_and_replayed(tmp_path: Path) -> None:
    done = diff("model", "bochs", "-n", "4k", "--seed", "3", "--directory", str(tmp_path / "kept"))
    assert done.exit_code == 1
    assert "(seed 3)" in done.stdout
    for side, name in (("first ", f"model {CPU}"), ("second", f"bochs {CPU}")):
        assert f"{side}  {name} ({executor_version(name)})" in done.stdout
    files = entry_files(tmp_path / "kept")
    assert f"{len(files)} entries in " in done.stdout
    entry = next(entry for entry in map(load, files) if "the second departs from the manual" in entry.reason)
    assert {processor.executor for result in entry.results for processor in result.processors} == {f"model {CPU}", f"bochs {CPU}"}
    place = ("--corpus", str(tmp_path / "kept"))
    shown = CliRunner().invoke(main, ["show", entry.id, *place], catch_exceptions=False)
    assert (shown.exit_code, entry.reason in " ".join(shown.stdout.split())) == (0, True)
    assert CliRunner().invoke(main, ["export", entry.id, "--c", *place], catch_exceptions=False).exit_code == 0
    assert f"{entry.id} is minimal" in CliRunner().invoke(main, ["minimize", entry.id, *place], catch_exceptions=False).stdout
    replayed = CliRunner().invoke(main, ["replay", str(tmp_path / "kept")], catch_exceptions=False)
    assert (replayed.exit_code, f"{len(files)} entries" in replayed.stdout) == (0, True), replayed.stdout


def test_what_the_manual_allows_either_way_stands_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    models(monkeypatch, without=lambda check: check.ambiguity is not None or check.id == "guest.gs.base")
    said = diff("model", "model", "-n", "40k", "--minimize-seconds", "0").stdout
    wrong, heading, open_questions = said.partition("The manual allows both outcomes, so neither processor is wrong:\n")
    assert heading
    assert "departs from the manual" in wrong
    assert "the manual allows either" not in wrong
    assert "the manual allows either" in open_questions
    assert "departs from the manual" not in open_questions
    assert ", of which the manual allows either in " in open_questions


def test_a_difference_that_the_base_alone_shows_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    models(monkeypatch, Refuses)
    done = diff("model", "model", "-n", "300")
    assert "the base itself shows it, without a change" in done.stdout
    models(monkeypatch, Refuses)
    data = json.loads(diff("model", "model", "-n", "300", "--seed", "2", "--json").stdout)
    assert (data["seed"], data["versions"]["second"]) == (2, executor_version("model"))
    assert any(each["base_alone"] and each["mutation"] == {} for each in data["differences"])
