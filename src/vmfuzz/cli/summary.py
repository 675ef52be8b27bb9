"""The summary of a campaign for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vmfuzz.campaign.loop import Summary
from vmfuzz.campaign.mismatches import Finding
from vmfuzz.cli.ci import again
from vmfuzz.cli.console import Output
from vmfuzz.comparison.compare import Verdict
from vmfuzz.counted import counted
from vmfuzz.execute.kinds import MODEL
from vmfuzz.findings.account import NO_FINDINGS, in_words, not_minimized
from vmfuzz.hexadecimal import as_wide, hexadecimal
from vmfuzz.model.wording import format_operand, without_formats

_WORDS = {
    Verdict.AGREES: "processor and model agree",
    Verdict.NOT_MODELLED: "allowed, but depends on something that is not modelled",
    Verdict.MISMATCH: "mismatch",
    Verdict.DEVIATION: "known deviation of this executor",
    Verdict.REFUSED: "not run: containment refused the candidate",
    Verdict.EXECUTOR_CRASHED: "executor crashed or hung",
    Verdict.NOT_RUN: "not run",
}
_FINDINGS_SHOWN = 12


def print_summary(summary: Summary, data: Mapping[str, Any]) -> None:
    """Print what ran, how it compared, which outcomes came, which checks were seen, how many findings there are, and those not minimized.

    `data`: the summary for machines, which says what became of the findings.
    """
    console = Output()
    progress, tally = summary.progress, summary.progress.tally
    state = "ended by an error after" if summary.error else f"stopped by {summary.stopped_by} after" if summary.stopped else "ran"
    console.print(
        f"{state} {counted(tally.candidates, 'candidate')} on {summary.executor} in {progress.seconds:.1f} s "
        f"({progress.rate:,.0f}/s; seed {summary.seed})"
    )
    if summary.executor.startswith(f"{MODEL} "):
        console.print("this executor is the model itself: the result says which checks the candidates reach, and nothing about a processor")
    console.print(_verdicts(summary))
    console.print(_outcomes(summary))
    if summary.lacking:
        console.print(
            f"fields that exist according to the capabilities but that VMWRITE refuses (not varied): {', '.join(summary.lacking)}"
        )
    decided, existing = int((tally.decided > 0).sum()), len(tally.decided)
    console.print(f"checks seen deciding alone: {decided} of the {existing} that exist on this processor")
    if tally.named:
        other = f"; another check: {tally.other_check.total():,}" if tally.other_check else ""
        console.print(f"failed entries whose message names a violated check: {tally.named.total():,}{other}")
    for name, (strict, lenient) in _readings(summary).items():
        console.print(f"ambiguity {name}: strict in {counted(strict, 'candidate')}, lenient in {lenient:,}")
    for name, count in tally.by_deviation.most_common():
        console.print(f"known deviation {name}: {counted(count, 'candidate')}")
    _print_findings(console, summary, data)
    for warned in progress.warned:
        of = f"; its findings: {', '.join(warned.findings)}" if warned.findings else ", which has no finding"
        texts = ", ".join(warned.warnings)
        console.print(
            f"[bold red]the kernel warned[/] {escape(texts)} after a family of {warned.candidates:,} candidates (base {warned.base}, seed "
            f"{warned.seed}){of}",
            soft_wrap=True,
        )


def _readings(summary: Summary) -> dict[str, tuple[int, int]]:
    """For each ambiguity that was met: how often the processor took the strict and the lenient reading."""
    tally = summary.progress.tally
    met: dict[str, tuple[int, int]] = {}
    for compiled, (strict, lenient) in zip(tally.model.compiled, tally.readings.tolist(), strict=True):
        if compiled.check.ambiguity and (strict or lenient):
            before = met.get(compiled.check.ambiguity, (0, 0))
            met[compiled.check.ambiguity] = (before[0] + strict, before[1] + lenient)
    return met


def _verdicts(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    for verdict, words in _WORDS.items():
        count = summary.progress.tally.verdicts[verdict]
        if count or verdict in (Verdict.AGREES, Verdict.MISMATCH):
            style = "red" if verdict is Verdict.MISMATCH and count else ""
            table.add_row(f"{count:,}", words, style=style)
    return table


def _outcomes(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, title="outcomes", title_justify="left")
    table.add_column(justify="right")
    table.add_column()
    for label, count in summary.progress.tally.outcomes.most_common(12):
        table.add_row(f"{count:,}", label)
    return table


def _print_findings(console: Console, summary: Summary, data: Mapping[str, Any]) -> None:
    words = in_words(data)
    console.print(words if words == NO_FINDINGS else f"[bold red]{words}[/]")
    left = {finding["id"] for finding in not_minimized(data)}
    shown = sorted((each for id, each in summary.progress.findings.by_id.items() if id in left), key=lambda finding: -finding.count)
    if len(shown) > _FINDINGS_SHOWN:
        console.print(f"the {_FINDINGS_SHOWN} most frequent of the {len(shown)} that are not minimized:")
    for finding in shown[:_FINDINGS_SHOWN]:
        _print_finding(console, finding)
        console.print(f"  again: {escape(again(data, finding.signature.id, None))}", soft_wrap=True)


def _print_finding(console: Console, finding: Finding) -> None:
    signature = finding.signature
    console.print(f"\n[bold]{signature.id}[/] {signature.kind}, {counted(finding.count, 'time')}")
    predicted = ", ".join(sorted(outcome.short() for outcome in finding.predicted))
    console.print(f"  predicted {predicted}; got {finding.actual.short()}")
    console.print(f"  base {finding.base_name}")
    if signature.checks:
        console.print(f"  checks violated: {', '.join(signature.checks[:6])}")
    for warning in finding.warnings:
        console.print(f"  the kernel warned: {escape(warning)}")
    if signature.message:
        console.print(f"  the executor says: {escape(without_formats(signature.message))}")
    for name, (before, after) in finding.differences.items():
        old = "unwritten" if before is None else format_operand(name, before)
        console.print(f"  {name}: {old} -> {format_operand(name, after or 0)}")
    for address, words in finding.memory_differences.items():
        console.print(f"  memory at {hexadecimal(address)}: {as_wide(words[0], 64)} -> {as_wide(words[1], 64)}")
