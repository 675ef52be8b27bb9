"""A campaign on each profile of a processor, with the model in the processor's place, and which checks never decide alone: docs/processors.md.

    python tools/model_campaigns.py run [-n 5M] [--seed 1] [PROFILE ...]
    python tools/model_campaigns.py sets [-n 1M] [--seed 1]
    python tools/model_campaigns.py prove

`run` keeps what comes of each profile in processors/campaigns.json beside this script. `sets` does the same for the capability MSRs of real processors
of which nothing else is known (tests/arch/vmx_capability_msrs.csv); a set with as many candidates is not run again. `prove` asks the solver (extra
`solver`) about each check that was seen deciding alone on no profile, the campaigns of docs/report on emulated CPU models included: is there a state, on
any profile on which the check exists, in which a processor that leaves it out does something else? `python tools/write_processors.py` then writes the
page.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.campaign.loop import Campaign
from vmfuzz.cli.run import Count
from vmfuzz.comparison.compare import Verdict
from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.files import write_text
from vmfuzz.generate.visible import visibility_of
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.predict import Model
from vmfuzz.model.small_errors import CHECK_DROPPED, errors_of
from vmfuzz.state.profiles import known_good, processor_names, profile_names

RESULTS: Final = Path(__file__).with_name("processors") / "campaigns.json"
SETS: Final = Path(__file__).parents[1] / "tests" / "arch" / "vmx_capability_msrs.csv"
SUMMARIES: Final = Path(__file__).parents[1] / "docs" / "report" / "summaries"
PROVEN: Final = "proven"
FOUND: Final = "a state exists"
GAVE_UP: Final = "the solver gave up"
#: The check never fails an entry: where it would, the outcome counts as not modelled.
NOT_REQUIRED: Final = "not required"


def results() -> dict[str, Any]:
    """What is kept: {"campaigns": {profile: ...}, "sets": {processor: ...}, "proofs": {check: {profile: PROVEN, FOUND, ...}}}."""
    empty: dict[str, Any] = {"campaigns": {}, "sets": {}, "proofs": {}}
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else empty


def keep(part: str, name: str, value: Any) -> None:
    """Put one result to those that are kept."""
    data = results()
    data[part][name] = value
    data[part] = dict(sorted(data[part].items()))
    write_text(RESULTS, json.dumps(data, indent=1) + "\n")


def run(name: str, candidates: int, seed: int) -> dict[str, Any]:
    """A campaign on one profile: its counts, and the checks that exist there and were never seen deciding alone."""
    with open_executor("model", cpu=name) as executor:
        return counts(Campaign(executor, seed), candidates)


def counts(campaign: Campaign, candidates: int) -> dict[str, Any]:
    """What a campaign counts over so many candidates."""
    summary = campaign.run(candidates)
    tally = summary.progress.tally
    return {
        "seed": campaign.seed,
        "candidates": tally.candidates,
        "agree": tally.verdicts[Verdict.AGREES],
        "not_modelled": tally.verdicts[Verdict.NOT_MODELLED],
        "findings": len(summary.progress.findings.by_id),
        "checks": len(tally.decided),
        "never_alone": [compiled.check.id for compiled, count in zip(tally.model.compiled, tally.decided, strict=True) if not count],
    }


def public_sets() -> Iterator[Capabilities]:
    """The different sets of capability MSRs of real processors."""
    lines = [line for line in SETS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines):
        name = row.pop("processor")
        yield Capabilities(name, {int(column.removeprefix("msr_"), 16): int(text, 16) for column, text in row.items() if text})


def seen_alone(campaigns: dict[str, Any], exists: dict[str, set[str]]) -> set[str]:
    """Ids of the checks that were seen deciding alone on some profile; `exists` has the checks of each."""
    seen = {id for name, result in campaigns.items() for id in exists[name] - set(result["never_alone"])}
    for path in SUMMARIES.glob("*.json"):
        counts = json.loads(path.read_text(encoding="utf-8"))["checks"]
        seen |= {id for id, count in counts.items() if count["decided"]}
    return seen


def run_sets(candidates: int, seed: int) -> None:
    """A campaign on each set that has none of as many candidates."""
    for caps in public_sets():
        if results()["sets"].get(caps.name, {}).get("candidates", 0) >= candidates:
            continue
        result = counts(Campaign(ModelExecutor(caps, known_good(caps)), seed), candidates)
        keep("sets", caps.name, {name: result[name] for name in ("seed", "candidates", "agree", "not_modelled", "findings", "checks")})
        print(f"{caps.name}: {result}", flush=True)


def checks_of(name: str) -> set[str]:
    """Ids of the checks that exist on a profile."""
    with open_executor("model", cpu=name) as executor:
        return {compiled.check.id for compiled in Model(executor.capabilities()).compiled}


def prove(names: Sequence[str]) -> None:
    """Ask the solver on these profiles about every check that no campaign saw deciding alone."""
    exists = {name: checks_of(name) for name in profile_names()}
    left = {check.id for check in CHECKS} - seen_alone(results()["campaigns"], exists)
    found: dict[str, dict[str, str]] = {id: {} for id in left}
    for name in names:
        here = left & exists[name]
        if not here:
            continue
        with open_executor("model", cpu=name) as executor:
            campaign = Campaign(executor, 1)
        for id in here:
            found[id][name] = NOT_REQUIRED
        visibility = visibility_of(campaign.generator)
        for error in errors_of(campaign.model, (CHECK_DROPPED,)):
            id = campaign.model.compiled[error.check].check.id
            if id in here:
                try:
                    found[id][name] = FOUND if visibility.witness(error) is not None else PROVEN
                except EnvironmentUnusable:
                    found[id][name] = GAVE_UP
                print(f"{name}: {id}: {found[id][name]}", flush=True)
    data = results()
    data["proofs"] = dict(sorted(found.items()))
    write_text(RESULTS, json.dumps(data, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="a campaign on each profile")
    runs.add_argument("-n", default="5M", type=lambda text: Count().convert(text, None, None), help="candidates on each (5M)")
    runs.add_argument("--seed", type=int, default=1)
    sets = commands.add_parser("sets", help="a campaign on each set of capability MSRs")
    sets.add_argument("-n", default="1M", type=lambda text: Count().convert(text, None, None), help="candidates on each (1M)")
    sets.add_argument("--seed", type=int, default=1)
    proofs = commands.add_parser("prove", help="ask the solver about checks never seen deciding alone")
    for command in (runs, proofs):
        command.add_argument("profiles", nargs="*", metavar="PROFILE", help="default: all profiles of processors")
    arguments = parser.parse_args()
    os.nice(10)
    if arguments.command == "prove":
        prove(arguments.profiles or processor_names())
        return
    if arguments.command == "sets":
        run_sets(arguments.n, arguments.seed)
        return
    for name in arguments.profiles or processor_names():
        result = run(name, arguments.n, arguments.seed)
        keep("campaigns", name, result)
        print(f"{name}: {result}", flush=True)


if __name__ == "__main__":
    main()
