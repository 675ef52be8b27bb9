"""The complete suite: pairs of cases that differ in one field and in outcome, and proofs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vmfuzz.cli.main import main
from vmfuzz.comparison.trial import Trial
from vmfuzz.execute.kinds import open_executor
from vmfuzz.findings.suite import PAIR, UNREACHABLE, Pair, Suite, entries_of
from vmfuzz.generate.solve import Solver, ground_of
from vmfuzz.model.expr import all_of

pytest.importorskip("z3", reason="the extra `solver` is not installed")


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with open_executor("bochs", cpu="corei7_skylake_x") as executor:
        yield Trial(executor)


def pairs_of(trial: Trial, *checks: str) -> list[Pair]:
    maker = Suite(trial)
    return [maker.pair(atom) for atom in maker.atoms(checks)]


@pytest.mark.parametrize(
    "check", ["guest.gs.s", "ctl.pir.needs-ackint", "guest.pdpte.fields.1", "msrload.reserved.2", "guest.cr0.fixed.zeros"]
)
def test_the_cases_of_a_pair_differ_in_one_operand_and_in_outcome(trial: Trial, check: str) -> None:
    pairs = [pair for pair in pairs_of(trial, check) if pair.status == PAIR]
    assert pairs
    for pair in pairs:
        assert pair.violated is not None
        assert pair.satisfied is not None
        assert pair.violated.base == pair.satisfied.base
        one, other = dict(pair.violated.mutation), dict(pair.satisfied.mutation)
        assert {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)} == {pair.operand}
        shown = [trial.observe(case) for case in (pair.violated, pair.satisfied)]
        assert check in shown[0].violated
        assert check not in shown[1].violated
        assert {each.comparison for each in shown} <= {"agrees", "not modelled"}
        assert shown[0].actual != shown[1].actual


def test_what_cannot_be_is_proven_and_what_can_be_is_not(trial: Trial) -> None:
    # on this processor secondary controls and unrestricted guest exist, but no candidate can be in SMM
    (smm,) = {pair.status for pair in pairs_of(trial, "guest.intr.smi-entry")} - {PAIR}
    assert smm == UNREACHABLE
    solver = Solver(trial.model, trial.generator.bases.captured, trial.generator.can_vary)
    gs = next(number for number, each in enumerate(trial.model.compiled) if each.check.id == "guest.gs.s")
    violated = trial.model.compiled[gs].violated
    assert solver.possible(violated, gs)
    assert not solver.possible(all_of(violated, ~violated), gs)


def test_the_solver_changes_no_more_than_it_must(trial: Trial) -> None:
    captured = trial.generator.bases.captured
    solver = Solver(trial.model, captured, trial.generator.can_vary)
    gs = next(number for number, each in enumerate(trial.model.compiled) if each.check.id == "guest.gs.s")
    found = solver.state(trial.model.compiled[gs].violated, gs, ground_of(captured, trial.generator.can_vary))
    assert found is not None
    assert set(found) == {"guest_gs_access_rights"}


def test_entries_carry_what_the_processor_showed_and_the_pair_as_neighbour(trial: Trial) -> None:
    pairs = pairs_of(trial, "guest.gs.s")
    entries = entries_of(trial, pairs)
    assert entries
    for entry in entries.values():
        assert entry.main_result.actual == trial.observe(entry.case).actual
        assert "guest.gs.s" in entry.reason
    assert any(entry.neighbours for entry in entries.values())


def test_the_command_writes_a_corpus_that_replays(tmp_path: Path) -> None:
    from click.testing import CliRunner

    made = CliRunner().invoke(main, ["suite", "guest.gs.s", "ctl.pir.needs-ackint", "-o", str(tmp_path / "suite")])
    assert made.exit_code == 0, made.output
    assert "pair of cases that differ in one field" in made.stdout
    assert (tmp_path / "suite-index.json").is_file()
    again = CliRunner().invoke(main, ["replay", str(tmp_path / "suite")])
    assert again.exit_code == 0, again.output
    assert "all as recorded" in again.stdout
    unknown = CliRunner().invoke(main, ["suite", "guest.gs.t"])
    assert unknown.exit_code == 2
    assert "guest.gs.t" in unknown.stderr


def test_a_way_has_a_case_also_where_the_other_way_is_impossible(trial: Trial) -> None:
    # a processor that is never in SMM: "entry to SMM" outside SMM can be violated, and live_smm = 0 never makes the check satisfied
    maker = Suite(trial)
    (atom,) = (atom for atom in maker.atoms(["ctl.entry.smm.outside.entry"]) if "live_smm" in str(atom))
    assert maker.proven_impossible(atom, violated=False)
    assert not maker.proven_impossible(atom, violated=True)
    case = maker.case(atom, violated=True)
    assert case is not None
    assert "ctl.entry.smm.outside.entry" in trial.observe(case).violated
