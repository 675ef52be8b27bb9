"""Where findings lie: a campaign's directory, a corpus, or one entry; and what entries need to be shown and run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from vmfuzz.campaign.stored import has_campaign
from vmfuzz.cli.meta import UNREADABLE
from vmfuzz.cli.shipped import shipped
from vmfuzz.comparison.processor import Processor, fingerprint
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import CAPABILITIES, Entry, entry_files, find, load, load_readable
from vmfuzz.corpus.replay import capabilities_of
from vmfuzz.counted import counted
from vmfuzz.errors import UsageError
from vmfuzz.execute.base import Executor
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.execute.kinds import MODEL, PROGRAM, all_names, cpu_option, open_executor, word_of
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.state.profiles import capabilities, emulated_names, known_good, profile_names

#: The directory of a campaign's minimized findings.
FINDINGS: Final = "findings"


def place_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option --corpus of commands that look up a finding."""
    return click.option(
        "--corpus",
        "place",
        type=click.Path(path_type=Path),
        help="A campaign's directory or a corpus. [default: the campaign in this directory, else ./corpus]",
    )(function)


def executor_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options --executor and --cpu of commands that run candidates."""
    cpu = click.option(
        "--cpu",
        help="CPU model of the emulated executor (`vmfuzz caps --list`). [default: corei7_skylake_x] For model: any stored profile or capabilities "
        "file. For kvm: offer only what that profile has.",
    )
    executor = click.option(
        "--executor",
        default="auto",
        show_default=True,
        help=f"What executes VMLAUNCH: {', '.join(all_names())}. model puts the model in the place of a processor, for processors that you do not have; "
        "COMMAND starts the agent of another machine (docs/bare-metal.md, docs/kvm.md) or a program of yours (docs/program.md); WHERE is the serial "
        "line to a machine that runs the bootable image (docs/hypervisors.md); PYTHON is the interpreter of another environment.",
    )
    return executor(cpu(function))


def errata_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option --errata of commands that compare what a processor does with the manual."""
    return click.option(
        "--errata",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file of deviations that you know about. What they explain is counted as known, and not as a finding (docs/errata.md).",
    )(function)


def resolved(place: Path | None, to_read: bool = False) -> Path:
    """The place that is meant; one that is only read may be vmfuzz's own corpus. Raises UsageError where none is named and none is here."""
    if place is None:
        place = Path() if has_campaign(Path()) else Path("corpus")
        if not place.exists() and to_read:
            return shipped("corpus")
        if not place.exists():
            raise UsageError("this directory has no campaign and no corpus; name one: --corpus DIR")
    return place


def entries_place(place: Path) -> Path:
    """The directory (or file) with the entries of a place."""
    return place / FINDINGS if has_campaign(place) else place


def readable_entries(place: Path) -> tuple[list[tuple[Path, Entry]], dict[Path, str]]:
    """The entries of a place, and what is wrong with files that are none, which do not stop the others.

    That is said on standard error, and the command's exit code is 2 at its end.
    """
    entries, unreadable = load_readable(entry_files(place))
    for reason in unreadable.values():
        click.echo(f"vmfuzz: {reason}", err=True)
    if unreadable:
        click.get_current_context().meta[UNREADABLE] = len(unreadable)
        if entries:
            files = counted(len(unreadable) + len(entries), "file")
            are = "is not an entry" if len(unreadable) == 1 else "are not entries"
            click.echo(f"vmfuzz: {len(unreadable):,} of {files} in {place} {are}; the others follow", err=True)
    return entries, unreadable


def find_entry(place: Path | None, id: str, to_read: bool = False) -> tuple[Path, Entry]:
    """The entry whose id begins with `id`, or the one in the file or directory `id`; `to_read` as for `resolved`."""
    if Path(id).is_file():
        return Path(id), load(Path(id))
    if id and Path(id).is_dir():
        files = entry_files(entries_place(Path(id)))
        if len(files) > 1:
            raise UsageError(f"{id} is a directory of {counted(len(files), 'entry')}; name one entry (`vmfuzz findings {id}` lists them)")
        return files[0], load(files[0])
    place = resolved(place, to_read)
    if has_campaign(place) and not (place / FINDINGS).is_dir():
        raise UsageError(f"{place}: its findings are not minimized yet; first: vmfuzz minimize --corpus {place}")
    return find(entries_place(place), id)


def open_stored(facts: dict[str, Any]) -> Executor:
    """The executor of a stored campaign, by its facts."""
    option = facts.get("option", "auto")
    return open_executor(option, cpu=cpu_option(option, facts["cpu"]))


def option_of(processor: Processor) -> tuple[str, str]:
    """(executor, CPU model or profile) as `open_executor` takes them, to run again what the processor ran.

    Raises UsageError where it was a program, whose command nothing keeps, or no emulated CPU model has its capabilities.
    """
    if processor.executor.startswith(f"{MODEL} ") and (processor.name in profile_names() or Path(processor.name).is_file()):
        return MODEL, processor.name
    if word_of(processor.executor) == PROGRAM.rstrip(":"):
        raise UsageError(f"{processor.executor}: the record does not have its command; name the executor: --executor")
    for name in emulated_names():
        if fingerprint(capabilities(name)) == processor.capabilities and name in CPU_MODELS:
            return "auto", name
    raise UsageError(
        f"{processor.executor}: no emulated CPU here has its capabilities ({processor.capabilities}); name the executor: --executor"
    )


def _processor_of(entry: Entry, cpu: str) -> Processor:
    processors = {each.name: each for result in entry.results for each in result.processors}
    if cpu not in processors:
        raise UsageError(f"{entry.id}: it was not run on {cpu!r}; expected one of {', '.join(sorted(processors))}")
    return processors[cpu]


def stand_in(path: Path, entry: Entry, cpu: str | None = None) -> Trial:
    """A trial that only predicts, on the processor `cpu` of the entry in `path`: the first of its main result otherwise.

    Raises UsageError where the entry has no such processor, or neither a profile nor the corpus has its capabilities.
    """
    processor = entry.main_result.processors[0] if cpu is None else _processor_of(entry, cpu)
    known = capabilities_of(processor.capabilities, path)
    if known is None:
        raise UsageError(
            f"{path}: no profile here has the capabilities {processor.capabilities} of {processor.executor}; expected them in "
            f"{CAPABILITIES}/{processor.capabilities}.json beside the entries (`vmfuzz run --directory` writes the file)"
        )
    return Trial(ModelExecutor(known, known_good(known)))
