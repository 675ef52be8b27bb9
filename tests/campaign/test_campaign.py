"""The campaign: verdicts, findings, counts, and a planted error of the model that is found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import pytest

from vmfuzz.arch.outcomes import ANY_EXIT, Kind, Outcome, Outcomes
from vmfuzz.campaign.loop import Campaign, Summary
from vmfuzz.campaign.mismatches import EXAMPLES_PER_BATCH, Findings
from vmfuzz.campaign.tally import Tally
from vmfuzz.comparison.compare import AlteredModel, Comparison, Verdict, compare
from vmfuzz.comparison.signature import Signature, signature_of
from vmfuzz.execute.base import Executor
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.generate.families import Generator
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import TRUE
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.outcome_codes import mask_of
from vmfuzz.model.predict import model_of, predict
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)
MODEL = model_of(CAPS)
ENTERED = Outcome(Kind.EXIT, 52, 0)
CONTROLS = Outcome(Kind.VMFAIL_VALID, 7)
HOST = Outcome(Kind.VMFAIL_VALID, 8)
GUEST = Outcome(Kind.ENTRY_FAILURE, 33, 0)


def outcomes(*each: Outcome, messages: Sequence[str | None] = ()) -> Outcomes:
    columns = Outcomes.empty(len(each))
    for row, outcome in enumerate(each):
        columns.kind[row], columns.number[row], columns.qualification[row] = outcome.kind, outcome.number, outcome.qualification or 0
    columns.messages = sorted({message for message in messages if message})
    for row, message in enumerate(messages):
        columns.message[row] = columns.messages.index(message) if message else -1
    return columns


def compared(states: Sequence[Vmcs], actual: Outcomes, altered: AlteredModel | None = None) -> Comparison:
    return compare(MODEL.predict_batch(VmcsBatch.of(states)), actual, altered)


# Verdicts

BAD_CONTROLS = GOOD.replace(cr3_target_count=5)
BAD_GUEST = GOOD.replace(guest_rflags=0)
AMBIGUOUS = GOOD.replace(guest_cs_access_rights=GOOD["guest_cs_access_rights"] | 1 << 16)
UNKNOWN = GOOD.replace(vmcs_link_pointer=GOOD["io_bitmap_a"])


@pytest.mark.parametrize(
    ("state", "actual", "verdict"),
    [
        (GOOD, ENTERED, Verdict.AGREES),
        (GOOD, GUEST, Verdict.MISMATCH),
        (GOOD, CONTROLS, Verdict.MISMATCH),
        (BAD_CONTROLS, CONTROLS, Verdict.AGREES),
        (BAD_CONTROLS, HOST, Verdict.MISMATCH),
        (BAD_CONTROLS, ENTERED, Verdict.MISMATCH),
        (BAD_CONTROLS.replace(host_cs_selector=0), HOST, Verdict.AGREES),
        (BAD_GUEST, GUEST, Verdict.AGREES),
        (BAD_GUEST, Outcome(Kind.ENTRY_FAILURE, 33, 4), Verdict.MISMATCH),
        (BAD_GUEST, ENTERED, Verdict.MISMATCH),
        (AMBIGUOUS, GUEST, Verdict.AGREES),
        (AMBIGUOUS, ENTERED, Verdict.AGREES),
        (UNKNOWN, Outcome(Kind.ENTRY_FAILURE, 33, 4), Verdict.NOT_MODELLED),
        (UNKNOWN, ENTERED, Verdict.NOT_MODELLED),
        (UNKNOWN, CONTROLS, Verdict.MISMATCH),
        (GOOD, Outcome(Kind.VMWRITE_FAILED, 12), Verdict.MISMATCH),
        (GOOD, Outcome(Kind.REFUSED), Verdict.REFUSED),
        (GOOD, Outcome(Kind.EXECUTOR_CRASHED), Verdict.EXECUTOR_CRASHED),
        (GOOD, Outcome(Kind.NOT_RUN), Verdict.NOT_RUN),
    ],
)
def test_a_verdict_compares_the_outcome_with_what_is_allowed(state: Vmcs, actual: Outcome, verdict: Verdict) -> None:
    assert Verdict(int(compared([state], outcomes(actual)).verdict[0])) is verdict


def test_a_mismatch_that_a_deviation_explains_is_no_mismatch() -> None:
    known = Deviation("made-up", "model", "t", "t", "s", skipping("ctl.cr3target.count"))
    altered = AlteredModel(CAPS, [known])
    result = compared([BAD_CONTROLS, BAD_GUEST, BAD_CONTROLS], outcomes(ENTERED, ENTERED, CONTROLS), altered)
    assert [Verdict(int(verdict)) for verdict in result.verdict] == [Verdict.DEVIATION, Verdict.MISMATCH, Verdict.AGREES]
    assert result.deviation.tolist() == [0, -1, -1]


def test_rows_are_disputed_where_a_deviation_gives_another_outcome() -> None:
    skips = Deviation("made-up", "model", "t", "t", "s", skipping("ctl.cr3target.count"))
    prediction = MODEL.predict_batch(VmcsBatch.of([GOOD, BAD_CONTROLS, BAD_GUEST]))
    assert AlteredModel(CAPS, [skips]).disputes(prediction).tolist() == [False, True, False]
    # another exit where the guest enters, unless the model allows that exit too
    for exit, disputed in ((Outcome(Kind.EXIT, 0), True), (ENTERED, False)):
        exits = Deviation("made-up", "model", "t", "t", "s", exits=((TRUE, mask_of((exit,))),))
        assert AlteredModel(CAPS, [exits]).disputes(prediction).tolist() == [disputed, False, False]


# Findings


def test_a_signature_names_the_checks_that_decide() -> None:
    result = compared([BAD_CONTROLS.replace(guest_rflags=0)], outcomes(ENTERED, messages=["its word"]))
    signature = signature_of(result, 0)
    assert signature.checks == ("ctl.cr3target.count",)
    assert signature.kind == "accepts what the model refuses"
    assert signature.message == "its word"


@pytest.mark.parametrize(
    ("state", "actual", "kind"),
    [
        (GOOD, GUEST, "refuses what the model accepts"),
        (BAD_GUEST, ENTERED, "accepts what the model refuses"),
        (BAD_GUEST, CONTROLS, "other failure than predicted"),
        (GOOD, Outcome(Kind.EXECUTOR_CRASHED), "executor-crash"),
    ],
)
def test_a_finding_says_what_kind_of_disagreement_it_is(state: Vmcs, actual: Outcome, kind: str) -> None:
    findings = Findings()
    assert len(findings.add(compared([state], outcomes(actual)), "base")) == 1
    assert [finding.signature.kind for finding in findings.by_id.values()] == [kind]


def test_mismatches_of_one_cause_are_one_finding_with_the_smallest_example() -> None:
    findings = Findings()
    batch = VmcsBatch(GOOD, {"cr3_target_count": [5, 6, 5], "vpid": [9, GOOD["vpid"], 3]})
    result = compare(MODEL.predict_batch(batch), outcomes(ENTERED, ENTERED, ENTERED))
    (met,) = findings.add(result, "base")
    assert findings.add(result, "base") == [met]
    (finding,) = findings.by_id.values()
    assert finding.count == 6
    assert finding.differences == {"cr3_target_count": (GOOD["cr3_target_count"], 6)}
    assert finding.predicted == {CONTROLS}
    assert finding.actual.kind is Kind.EXIT


def test_agreement_and_refusals_are_no_findings() -> None:
    findings = Findings()
    assert len(findings.add(compared([GOOD, BAD_CONTROLS, GOOD], outcomes(ENTERED, CONTROLS, Outcome(Kind.REFUSED))), "base")) == 0
    assert not findings.by_id


def test_every_mismatch_of_a_large_group_is_counted() -> None:
    findings, count = Findings(), 5 * EXAMPLES_PER_BATCH
    batch = VmcsBatch(GOOD, {"cr3_target_count": [5 + number for number in range(count)]})
    findings.add(compare(MODEL.predict_batch(batch), outcomes(*[ENTERED] * count)), "base")
    assert sum(finding.count for finding in findings.by_id.values()) == count


def test_ids_of_findings_are_made_of_their_content_and_never_change() -> None:
    one = Signature("accepts what the model refuses", ("guest.gs.p",), "entered, exit 52", None)
    assert one.id == "b886ff8896"
    assert one.id == Signature(one.kind, one.checks, one.actual, one.message).id
    assert one.id != Signature(one.kind, ("guest.gs.s",), one.actual, one.message).id
    assert one.id != Signature(one.kind, one.checks, one.actual, "word").id


# Counts


def test_the_tally_counts_verdicts_outcomes_and_checks() -> None:
    tally = Tally(MODEL)
    states = [GOOD, BAD_CONTROLS, BAD_GUEST, BAD_CONTROLS.replace(host_cs_selector=0), GOOD]
    tally.add(compared(states, outcomes(ENTERED, CONTROLS, ENTERED, CONTROLS, Outcome(Kind.REFUSED))))
    data = tally.to_json()
    assert (data["candidates"], data["executed"]) == (5, 4)
    assert data["verdicts"] == {
        "agrees": 3,
        "not_modelled": 0,
        "mismatch": 1,
        "deviation": 0,
        "refused": 1,
        "executor_crashed": 0,
        "not_run": 0,
    }
    assert data["outcomes"] == {"VMfailValid(7)": 2, "entered, exit 52": 2, "refused by containment": 1}
    assert data["checks"]["ctl.cr3target.count"] == {"violated": 2, "decided": 1}
    assert data["checks"]["host.sel.cs.null"] == {"violated": 1, "decided": 0}
    assert data["checks"]["guest.rflags.reserved.one"] == {"violated": 1, "decided": 0}
    assert tally.agreement == 3


def test_the_tally_counts_which_reading_of_an_ambiguity_was_taken() -> None:
    tally = Tally(MODEL)
    tally.add(compared([AMBIGUOUS, AMBIGUOUS, GOOD], outcomes(GUEST, ENTERED, ENTERED)))
    assert tally.to_json()["readings"]["guest.cs.unusable"] == {"strict": 1, "lenient": 1}


def test_the_tally_counts_known_deviations_by_name() -> None:
    known = Deviation("made-up", "model", "t", "t", "s", skipping("ctl.cr3target.count"))
    tally = Tally(MODEL, [known])
    tally.add(compared([BAD_CONTROLS, BAD_CONTROLS], outcomes(ENTERED, CONTROLS), AlteredModel(CAPS, [known])))
    assert tally.to_json()["deviations"] == {"made-up": 1}


def test_tallies_add_up() -> None:
    one, other = Tally(MODEL), Tally(MODEL)
    for tally in (one, other):
        tally.add(compared([GOOD, BAD_CONTROLS], outcomes(ENTERED, CONTROLS)))
    one.merge(other)
    both = one.to_json()
    assert both["candidates"] == 4
    assert both["verdicts"]["agrees"] == 4
    assert both["checks"]["ctl.cr3target.count"] == {"violated": 2, "decided": 2}


NMI_STATE = GOOD.replace(vm_entry_interruption_info=0x8000_0202)
#: An exit that may follow the injection of an NMI.
AFTER_NMI = next(
    outcome if outcome.number != ANY_EXIT else ENTERED for outcome in sorted(predict(NMI_STATE, CAPS).outcomes) if outcome.kind is Kind.EXIT
)


def with_info(info: int, actual: Outcome = GUEST) -> tuple[list[Vmcs], Outcomes]:
    """A case with an injected NMI, and its outcome with the interruption information left as `info`."""
    columns = outcomes(actual)
    columns.entry_interruption_info[0] = info
    return [NMI_STATE.replace(guest_rflags=0) if actual is GUEST else NMI_STATE], columns


NMI = 0x8000_0202


@pytest.mark.parametrize(
    ("actual", "info", "verdict"),
    [
        (GUEST, NMI, Verdict.AGREES),
        (GUEST, NMI & 0x7FFF_FFFF, Verdict.MISMATCH),
        (AFTER_NMI, NMI & 0x7FFF_FFFF, Verdict.AGREES),
        (AFTER_NMI, NMI, Verdict.MISMATCH),
    ],
    ids=["failure keeps it", "failure clears it", "entry clears it", "entry keeps it"],
)
def test_a_failure_keeps_the_interruption_information_and_an_entry_clears_its_valid_bit(
    actual: Outcome, info: int, verdict: Verdict
) -> None:
    states, columns = with_info(info, actual)
    assert Verdict(int(compared(states, columns).verdict[0])) is verdict


def test_no_deviation_of_checks_explains_a_wrong_interruption_information() -> None:
    unrelated = AlteredModel(CAPS, [Deviation("made-up", "model", "t", "t", "s", skipping("ctl.cr3target.count"))])
    states, columns = with_info(0)
    assert Verdict(int(compared(states, columns, unrelated).verdict[0])) is Verdict.MISMATCH


# Whole campaigns, against the model as the processor

COUNTED = ("candidates", "executed", "verdicts", "outcomes", "checks", "readings", "deviations", "findings", "bases")


class Processor(ModelExecutor):
    """Makes the checks it is given, and leaves the interruption information as the SDM says."""

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        result = super().run(batch)
        assert isinstance(batch, VmcsBatch)
        written = np.broadcast_to(OperandValues(batch)("vm_entry_interruption_info"), len(batch))
        result.entry_interruption_info[:] = np.where(result.kind == Kind.ENTRY_FAILURE, written, 0)
        return result


@cache
def campaign(seed: int = 0, iterations: int = 20_000, dropped: str | None = None) -> Summary:
    checks = [check for check in CHECKS if check.id != dropped]
    made = Campaign(Processor(CAPS, GOOD, checks), seed, MODEL)
    made.generator = generator()
    return made.run(iterations)


@cache
def generator() -> Generator:
    """One generator for all campaigns: it looks through its bases only once."""
    return Generator(MODEL, GOOD)


def counted(summary: Summary) -> dict[str, Any]:
    data = summary.to_json()
    return {key: data[key] for key in COUNTED}


def test_a_processor_that_follows_the_model_agrees_on_everything() -> None:
    summary = campaign()
    data = summary.to_json()
    assert data["findings"] == []
    assert data["verdicts"]["mismatch"] == 0
    assert data["candidates"] == data["wanted"] == 20_000
    assert data["verdicts"]["agrees"] > 10_000
    assert not summary.stopped
    assert sum(check["decided"] > 0 for check in data["checks"].values()) > 20


def test_a_check_that_the_processor_leaves_out_is_found_and_named() -> None:
    decided = [id for id, check in campaign().to_json()["checks"].items() if check["decided"] > 3 and not BY_ID[id].ambiguity]
    for dropped in decided[:: len(decided) // 4]:
        findings = campaign(dropped=dropped).progress.findings.by_id.values()
        assert any(finding.signature.checks == (dropped,) for finding in findings), dropped
        for finding in findings:
            assert dropped in finding.signature.checks
            violated = [compiled.check.id for compiled in MODEL.predict_batch(VmcsBatch(finding.example, {}, count=1)).violations_of(0)]
            assert dropped in violated


def test_the_model_executor_itself_agrees_on_everything() -> None:
    assert Campaign(ModelExecutor(CAPS, GOOD), 0).run(20_000).to_json()["findings"] == []


def test_the_same_seed_gives_the_same_summary_and_another_seed_another() -> None:
    again = Campaign(Processor(CAPS, GOOD), 0).run(20_000)
    assert counted(campaign()) == counted(again)
    assert counted(campaign()) != counted(campaign(seed=1))


@pytest.mark.parametrize("iterations", [1, 4095, 4097])
def test_exactly_the_wanted_number_of_candidates_is_run(iterations: int) -> None:
    assert campaign(iterations=iterations).progress.tally.candidates == iterations


def test_progress_is_reported_after_every_family() -> None:
    seen: list[int] = []
    made = Campaign(ModelExecutor(CAPS, GOOD), 0)
    rows = [plan.rows for plan in made.plan(0)]
    made.run(sum(rows[:5]) + 7, lambda progress: seen.append(progress.tally.candidates))
    assert seen == [*accumulate(rows[:5]), sum(rows[:5]) + 7]


class Interrupted(ModelExecutor):
    """Ctrl-C during the third batch."""

    runs = 0

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        self.runs += 1
        if self.runs == 3:
            raise KeyboardInterrupt
        return super().run(batch)


def test_ctrl_c_ends_the_campaign_with_the_summary_of_what_ran() -> None:
    made = Campaign(Interrupted(CAPS, GOOD), 0)
    rows = [plan.rows for plan in made.plan(0)]
    summary = made.run(1_000_000)
    assert summary.stopped
    assert summary.progress.tally.candidates == sum(rows[:2])
    assert summary.to_json()["stopped"] is True
    assert summary.to_json()["wanted"] == 1_000_000


def test_the_model_executor_is_an_executor() -> None:
    assert isinstance(ModelExecutor(CAPS, GOOD), Executor)
