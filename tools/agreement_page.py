"""docs/agreement.md from the summaries of the campaigns on all emulated CPU models; tools/campaigns.py writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from vmfuzz.model.wording import without_formats
from vmfuzz.prose import wrapped

#: The verdicts of the table, in its order.
VERDICTS: Final = ("agrees", "not_modelled", "deviation", "refused", "mismatch", "executor_crashed")
EXPLAINED: Final = """\
- *agrees*: the outcome is in the set that the model allows. If only one first exit is possible, it is that one. The VM-entry
  interruption-information field holds afterwards what the SDM says.
- *not modelled*: the outcome is allowed, but depends on something that the model does not know (memory that the case does not describe, MSRs whose
  WRMSR is not modelled).
- *deviation*: a mismatch that a known deviation of Bochs explains. `src/vmfuzz/model/bochs_deviations.py` has each with its reasons and with the
  place in Bochs's source that does it.
- *refused*: containment did not let the candidate run.
- *mismatch*: nothing explains it. There must be none.
"""


def agreement_page(summaries: Sequence[dict[str, Any]]) -> str:
    """The page; `summaries` has one summary of `vmfuzz run` for each CPU model."""
    total = sum(summary["candidates"] for summary in summaries)
    each = sorted({summary["candidates"] for summary in summaries})
    named = sum(summary["same_check_named"] for summary in summaries)
    others = sum(sum(summary["other_check_named"].values()) for summary in summaries)
    mismatches = sum(summary["verdicts"]["mismatch"] for summary in summaries)
    versions = ", ".join(sorted({summary["version"] for summary in summaries}))
    dates = sorted({summary["date"] for summary in summaries})
    sizes = f"{each[0]:,}" if len(each) == 1 else f"{each[0]:,} to {each[-1]:,}"
    seeds = sorted({summary["seed"] for summary in summaries})
    sown = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    lines = [
        f"# Model against {len(summaries)} emulated CPUs",
        "",
        "For everybody who wants to know how far to trust the model, and for authors of Bochs. You will see how many candidates ran on each emulated CPU,",
        "how many agreed, and where Bochs is known to depart from the manual.",
        "",
        f"{total:,} candidates ran, with {mismatches:,} unexplained mismatches. All processors here are *emulated*: they are the Intel CPU models with",
        f"VMX of the Bochs emulator ({versions}). Agreement with an emulator means that two readings of the manual agree, and no more; nothing on this",
        "page ran on silicon. [The report](report/index.html) shows the same campaigns check by check. For campaigns through the kernel module, in a",
        "whole machine that Debian's Bochs 2.7 emulates, see [bare-metal.md](bare-metal.md#what-has-been-tried).",
        "",
        "This command runs the campaigns:",
        "",
        "```sh",
        f"python tools/campaigns.py run STATE -n {each[-1]}",
        "```",
        "",
        f"It ran on {' to '.join(dict.fromkeys((dates[0], dates[-1])))}: one campaign of {sizes} candidates on each model, {sown}.",
        "`vmfuzz run --cpu CPU -n N --seed S` runs the same candidates again.",
        "",
        f"| CPU model (emulated) | candidates | {' | '.join(name.replace('_', ' ') for name in VERDICTS)} | checks seen deciding alone |",
        "|---|" + "---:|" * (len(VERDICTS) + 2),
        *map(_model, summaries),
        "",
        EXPLAINED,
        f"When Bochs fails an entry, it also says which of its own tests failed. In {named:,} failures on which both agree, that is a check that the",
        f"model finds violated too. In {others:,} failures it is another check"
        + (": a test in which Bochs departs from the manual (below) fails as well." if others else "."),
        "",
        *_messages(summaries),
        "| known deviation | candidates | CPU models |",
        "|---|---:|---:|",
        *_deviations(summaries),
        "",
        "[checks.md](checks.md) lists the checks that were never seen deciding alone, with the reason. It also says which readings of the SDM's",
        "ambiguities the emulated CPUs take.",
    ]
    return wrapped("\n".join(lines) + "\n")


def _messages(summaries: Sequence[dict[str, Any]]) -> list[str]:
    """The messages that name another check, as a table: there a test in which Bochs departs fails beside another."""
    counts, models = Counter[str](), Counter[str]()
    for summary in summaries:
        counts.update(summary["other_check_named"])
        models.update(summary["other_check_named"].keys())
    if not counts:
        return []
    rows = [f'| "{without_formats(text.split(": VMCS ")[-1])}" | {count:,} | {models[text]} |' for text, count in sorted(counts.items())]
    return ["| test that Bochs names | candidates | CPU models |", "|---|---:|---:|", *rows, ""]


def _model(summary: dict[str, Any]) -> str:
    verdicts = " | ".join(f"{summary['verdicts'][name]:,}" for name in VERDICTS)
    decided = sum(1 for counts in summary["checks"].values() if counts["decided"])
    return f"| {summary['processor']} | {summary['candidates']:,} | {verdicts} | {decided} of {len(summary['checks'])} |"


def _deviations(summaries: Sequence[dict[str, Any]]) -> list[str]:
    counts = Counter[str]()
    models = Counter[str]()
    for summary in summaries:
        counts.update(summary["deviations"])
        models.update(name for name, count in summary["deviations"].items() if count)
    return [f"| {name} | {count:,} | {models[name]} |" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
