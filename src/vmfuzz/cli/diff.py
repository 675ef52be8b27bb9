"""`vmfuzz diff`: two processors on the same candidates, and where they differ although the manual allows both the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape

from vmfuzz.arch.capabilities import FACT_MSRS, Capabilities
from vmfuzz.campaign.stored import has_campaign
from vmfuzz.cli.ci import is_quiet, quiet_option
from vmfuzz.cli.console import Output, Seconds
from vmfuzz.cli.places import entries_place, errata_option, readable_entries
from vmfuzz.cli.run import Count
from vmfuzz.comparison.case import base_value, format_key, key_in_words
from vmfuzz.comparison.errata import load_errata
from vmfuzz.corpus.entries import Entry
from vmfuzz.counted import counted
from vmfuzz.differences.difference import Difference, Differences, Pairing
from vmfuzz.differences.kept import DEPARTS, keep
from vmfuzz.differences.stored import Stored, compare_stored
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, EXIT_NOTHING_TESTED, UsageError
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.execute.kinds import ELSEWHERE, MODEL, PROGRAM, REMOTE, SERIAL, all_names, kind_named, open_executor
from vmfuzz.hexadecimal import as_wide, hexadecimal
from vmfuzz.model.wording import without_formats
from vmfuzz.state.profiles import processor_names

#: Options that say what is to run.
_OF_RUNNING: Final = ("cpu", "iterations", "seed", "corpus", "minimize_seconds", "directory", "errata")
_MOST_NAMES: Final = 5
_MOST_ONLY: Final = 8
#: An executor with its CPU model; what is compared.
_Executor = tuple[str, str | None]
_Side = Path | _Executor


@click.command()
@click.argument("first")
@click.argument("second")
@click.option(
    "--cpu", help="CPU model or profile for an emulated executor or the model, if FIRST or SECOND names none. [default: corei7_skylake_x]"
)
@click.option("-n", "--iterations", type=Count(), default="1M", show_default=True, help="How many candidates to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same candidates.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Run the entries of this corpus instead of drawing candidates.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Keep the differences here, as entries of a corpus.")
@click.option(
    "--minimize-seconds", type=Seconds(min=0), default=60.0, show_default=True, help="The longest time to spend on minimizing differences."
)
@errata_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@quiet_option
def diff(
    first: str,
    second: str,
    cpu: str | None,
    iterations: int,
    seed: int,
    corpus: Path | None,
    directory: Path | None,
    minimize_seconds: float,
    errata: Path | None,
    as_json: bool,
) -> None:
    """Run the same candidates on FIRST and SECOND, and report where only one of them follows the manual.

    \b
    FIRST and SECOND are each one of
      tigerlake                     an emulated CPU model (vmfuzz caps --list)
      icelake                       a stored profile: the model stands in for it
      model                         a processor that does what the manual says
      bochs, kvm, kmod              an executor on this machine
      remote:COMMAND, serial:WHERE  an executor elsewhere
      bochs@VENV/bin/python         the emulator of another environment
      bochs@VENV/bin/python:CPU     ... and its CPU model
      DIRECTORY                     a campaign or corpus: what is recorded there

    \b
    vmfuzz diff corei7_haswell_4770 corei7_skylake_x
    vmfuzz diff bochs@old/bin/python bochs --cpu tigerlake
    vmfuzz diff campaign-of-monday campaign-of-tuesday

    Candidates for which the model allows no outcome common to both are left out, because different capabilities explain them.
    Each difference is minimized, and the model says which of the two departs from the manual. With
    --directory the differences can be shown, minimized, exported and replayed like findings (`--corpus DIRECTORY`). Exit code 0: no difference; 1: some.
    """
    one, two = _executors(_side(first, cpu), _side(second, cpu), as_json)
    if directory is not None and has_campaign(directory):
        raise UsageError(f"{directory}: there is a campaign in it; keep the differences in another directory")
    cases = [entry.case for entry in _entries(corpus) if entry.behind is None] if corpus is not None else None
    with open_executor(one[0], cpu=one[1]) as a, open_executor(two[0], cpu=two[1]) as b:
        pairing = Pairing(a, b, seed, load_errata(errata))
        if cases is None:
            with _progress(quiet=as_json or is_quiet()) as on_progress:
                pairing.run(iterations, on_progress)
        else:
            pairing.run_cases(cases)
        pairing.minimize(minimize_seconds)
        files = [] if directory is None else keep(pairing, directory)
        _show(pairing, as_json)
    if files and not as_json:
        click.echo(f"{counted(len(files), 'entry')} in {directory}; look at one: vmfuzz show {files[0].stem} --corpus {directory}")
    found = pairing.result
    sys.exit(EXIT_FOUND if found.found else EXIT_AGREEMENT if found.compared else EXIT_NOTHING_TESTED)


def _executors(one: _Side, two: _Side, as_json: bool) -> tuple[_Executor, _Executor]:
    """The two, if both are executors. Two directories are compared here and now; of one, UsageError says what to do."""
    if isinstance(one, Path) and isinstance(two, Path):
        _refuse_what_runs()
        _stored(one, two, as_json)
    for side in (one, two):
        if isinstance(side, Path):
            raise UsageError(
                f"{side}: a stored campaign is compared with another stored one; to run its entries on two executors use --corpus, "
                "to run them again where they came from `vmfuzz replay`"
            )
    return cast("tuple[_Executor, _Executor]", (one, two))


def _refuse_what_runs() -> None:
    """Raise UsageError where an option says what is to run, but what was recorded is compared."""
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in _OF_RUNNING and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"{option.opts[0]} with two directories: vmfuzz compares what is recorded there and runs nothing; leave it out"
            )


def _side(name: str, cpu: str | None) -> _Side:
    """What a name means: a directory of entries, or an executor and its CPU model."""
    if name in CPU_MODELS:
        return "bochs", name
    if name in processor_names():
        return MODEL, name
    if name.startswith(ELSEWHERE):
        python, colon, model = name.rpartition(":")
        return (python, model) if colon else (name, cpu)
    if kind_named(name) is not None:
        return name, cpu if name != "kmod" and not name.startswith((REMOTE, SERIAL, PROGRAM)) else None
    if Path(name).exists():
        return Path(name)
    raise UsageError(
        f"{name!r}: neither a CPU model or profile (`vmfuzz caps --list`), an executor ({', '.join(all_names())}), nor a directory that exists"
    )


def _entries(place: Path) -> list[Entry]:
    return [entry for _, entry in readable_entries(entries_place(place))[0]]


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Differences], None] | None]:
    """A callback that keeps one line on a terminal's standard error; nothing elsewhere."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with console.status("comparing") as status:
        yield lambda result: status.update(
            f"{result.drawn:,} candidates, {result.differing:,} differ in {counted(len(result.found), 'way')}"
        )


def _stored(one: Path, two: Path, as_json: bool) -> None:
    """Compare what two corpora or campaigns recorded, and end."""
    first, second = _entries(one), _entries(two)
    stored = compare_stored(first, second)
    if as_json:
        json.dump(stored.to_json(), sys.stdout, indent=1)
        click.echo()
    else:
        _print_stored(stored)
        _print_only(one, stored.ids_first, first)
        _print_only(two, stored.ids_second, second)
    sys.exit(EXIT_FOUND if stored.differences else EXIT_AGREEMENT if stored.compared else EXIT_NOTHING_TESTED)


def _print_stored(stored: Stored) -> None:
    console = Output()
    for each in stored.differences:
        console.print(f"[bold]{each.entry}[/] on {escape(each.processor)}: {escape(each.first)} | {escape(each.second)}", soft_wrap=True)
    console.print(
        f"{counted(stored.compared, 'record')} of the same case on the same capabilities compared: {len(stored.differences):,} differ",
        soft_wrap=True,
    )
    if stored.other_capabilities:
        console.print(
            f"in both, but on processors with other capabilities: {stored.other_capabilities}; "
            "to run entries on two processors: vmfuzz diff FIRST SECOND --corpus DIRECTORY",
            soft_wrap=True,
        )


def _print_only(place: Path, ids: Sequence[str], entries: Sequence[Entry]) -> None:
    """The entries that only one of the two has, the first few in words."""
    console, named = Output(), {entry.id: entry for entry in entries}
    console.print(f"only in {escape(str(place))}: {counted(len(ids), 'entry')}", soft_wrap=True)
    for id in ids[:_MOST_ONLY]:
        entry = named[id]
        console.print(f"  {id} {escape(entry.kind)}: {escape(', '.join(entry.checks) or entry.main_result.actual)}", soft_wrap=True)
    if len(ids) > _MOST_ONLY:
        console.print(f"  ... and {len(ids) - _MOST_ONLY} more (--json has all)")


def _show(pairing: Pairing, as_json: bool) -> None:
    if as_json:
        json.dump({**pairing.result.to_json(), "capabilities": pairing.capability_differences()}, sys.stdout, indent=1)
        click.echo()
        return
    console, result = Output(), pairing.result
    open_questions = 0
    for difference in result.ordered():
        if difference.judgement == "neither" and not open_questions:
            console.print("[bold]The manual allows both outcomes, so neither processor is wrong:[/]\n")
        open_questions += difference.judgement == "neither"
        _print_difference(console, pairing, difference)
    _print_totals(console, pairing, result)


def _differing_capabilities(first: Capabilities, second: Capabilities) -> Iterator[tuple[str, list[str]]]:
    """The capability MSRs and the registers of CPUID that differ, as the manual writes them."""
    for number in sorted({*first.msrs, *second.msrs}):
        msrs = [each.msrs.get(number) for each in (first, second)]
        if msrs[0] != msrs[1]:
            yield (
                f"{FACT_MSRS.get(number, 'MSR')} ({hexadecimal(number)})",
                ["not there" if one is None else as_wide(one, 64) for one in msrs],
            )
    for leaf in sorted({*first.cpuid, *second.cpuid}):
        registers = [each.cpuid.get(leaf) for each in (first, second)]
        name = f"CPUID.{hexadecimal(leaf[0])}.{leaf[1]}"
        if None in registers:
            yield name, ["not there" if one is None else "there" for one in registers]
            continue
        for register, *values in zip(("EAX", "EBX", "ECX", "EDX"), *filter(None, registers), strict=True):
            if values[0] != values[1]:
                yield f"{name}:{register}", [as_wide(one, 32) for one in values]


def _print_totals(console: Output, pairing: Pairing, result: Differences) -> None:
    def print_(text: str) -> None:
        console.print(text, soft_wrap=True)

    print_(f"first   {escape(result.first)} ({result.versions[0]})\nsecond  {escape(result.other)} ({result.versions[1]})")
    same = "the same capabilities" if result.same_capabilities else "capabilities that differ:"
    print_(f"{same}")
    for name, values in _differing_capabilities(*pairing.capabilities()):
        print_(f"  {name}: {' | '.join(values)}")
    print_(f"{counted(result.drawn, 'candidate')} in {result.seconds:.1f} s (seed {result.seed})")
    print_(f"{result.compared:>11,} compared (both ran, and the manual allows them a common outcome)")
    print_(f"{result.not_comparable:>11,} not comparable")
    for sentence, count in result.lacking.most_common():
        print_(f"{count:>11,}   not run: {escape(sentence)}")
    if result.explained:
        print_(f"{result.explained:>11,} with different outcomes, which the different capabilities explain")
    named = sum(result.names.values())
    if named:
        print_(f"{named:>11,} failed in the same way, with messages that name different checks; most often:")
        for (here, there), count in result.names.most_common(_MOST_NAMES):
            print_(f"{count:>11,}   {escape(without_formats(here or 'nothing'))} | {escape(without_formats(there or 'nothing'))}")
    either = sum(each.judgement == "neither" for each in result.found.values())
    rest = f", of which the manual allows either in {either}" if either else ""
    print_(f"{result.differing:>11,} differ, in {counted(len(result.found), 'way')}{rest}" if result.found else "no difference")


def _print_difference(console: Output, pairing: Pairing, difference: Difference) -> None:
    shape, case = difference.shape, difference.minimal or difference.cases[0]
    base = pairing.trial.base(case.base)
    lines = [
        f"[bold]{counted(difference.count, 'candidate')}: {DEPARTS[difference.judgement]}[/]",
        f"  first   {escape(shape.first)} ({shape.first_verdict}) {escape(without_formats(difference.first_message or ''))}".rstrip(),
        f"  second  {escape(shape.other)} ({shape.other_verdict}) {escape(without_formats(difference.other_message or ''))}".rstrip(),
        f"  allowed {escape(', '.join(shape.predicted))}",
        f"  checks violated: {', '.join(shape.checks) or 'none'}",
        f"  {'smallest' if difference.minimal else 'example, not minimized'}: base {case.base}",
    ]
    if not case.mutation:
        lines.append("    the base itself shows it, without a change")
    for key, value in sorted(case.mutation.items()):
        lines.append(f"    {key_in_words(key)}: {format_key(key, base_value(base, key)) if base else '?'} -> {format_key(key, value)}")
    console.print("\n".join(lines) + "\n", soft_wrap=True)
