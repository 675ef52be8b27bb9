"""`vmfuzz check`: why did this VM entry fail? Reads a VMCS dump, a log, or just an error number."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, Final

import click

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, EXIT_USAGE, UsageError
from vmfuzz.explain.answer.annotate import annotated
from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.as_json import to_json
from vmfuzz.explain.answer.errata import fits
from vmfuzz.explain.answer.layout import WIDTH
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.answer.states import answers
from vmfuzz.explain.answer.verify import fitting_cpu, verified
from vmfuzz.explain.dump import Dump, Program
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.encodings import collect
from vmfuzz.explain.given import dump_of_words, dumps_of, from_words
from vmfuzz.explain.text.large import read_all
from vmfuzz.explain.text.lines import lines_of
from vmfuzz.explain.text.mend import mend


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]})
@click.argument("what", nargs=-1, metavar="[FILE | ERROR]...")
@click.option("--cpu", metavar="PROFILE", help="The processor, as a stored profile (vmfuzz caps --list names them).")
@click.option(
    "--capabilities", "capabilities_file", type=click.Path(path_type=Path), help="The processor, as a file that `vmfuzz caps --json` wrote."
)
@click.option("--reported", metavar="TEXT", help='What was reported, such as "0x80000021 qual 0" or "VMLAUNCH error 7".')
@click.option(
    "--working",
    type=click.Path(path_type=Path),
    help="A dump of a state that enters on the same processor: what differs, and what that proves about the processor.",
)
@click.option(
    "--encodings",
    type=click.Path(path_type=Path),
    help="A file with your list of encodings (source in any language, or a table), to compare with the architecture's.",
)
@click.option(
    "--errata",
    type=click.Path(path_type=Path),
    help="A file of deviations that you know about (docs/errata.md); the answer names one that fits.",
)
@click.option("--explain", is_flag=True, help="Say why the processor makes each violated check.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Try the failing and the corrected values on an emulated CPU.")
@click.option(
    "--annotate",
    is_flag=True,
    help="Print the text first, each value marked by the field that it was read as, and what was not understood.",
)
@click.option("--trace", is_flag=True, help="Say how each line was read, and what was not believed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    what: tuple[str, ...],
    cpu: str | None,
    capabilities_file: Path | None,
    reported: str | None,
    working: Path | None,
    encodings: Path | None,
    errata: Path | None,
    explain: bool,
    verify: bool,
    annotate: bool,
    trace: bool,
    as_json: bool,
) -> None:
    """Why did my VM entry fail?

    Reads VMCS dumps of Linux KVM, Xen, QEMU, VirtualBox, lines of names and values, or vmfuzz's JSON, and finds the format by itself. Without
    a FILE, standard input is read. An error number or a log line works too.

    \b
    vmfuzz check dump.txt
    dmesg | vmfuzz check
    vmfuzz check 0x80000021
    vmfuzz check "KVM: entry failed, hardware error 0x7"
    vmfuzz check bad.txt --working good.txt
    vmfuzz check dump.txt --encodings vmcs.h --explain

    Exit codes: 0 no check fails, of those that vmfuzz can judge from the text (the answer counts the others), 1 a check fails or the entry is reported to
    have failed, 2 unreadable.
    """
    if as_json and (annotate or trace):
        raise UsageError("--annotate and --trace print text; leave them out with --json, which has the line and the columns of each value")
    processor = _processor(cpu, capabilities_file)
    dumps = _dumps(what)
    if reported is not None:
        dumps = _narrowed(dumps, reported)
    if encodings is not None:
        dumps = _with_encodings(dumps, encodings)
    found = answers(dumps, processor, _working(working) if working is not None else None)
    if errata is not None:
        found = _with_errata(found, errata, processor)
    if as_json:
        data = [to_json(one) for one in found]
        click.echo(json.dumps(data[0] if len(data) == 1 else data, indent=1))
    else:
        if annotate:
            _annotate(dumps)
        if trace:
            _trace(dumps)
        _print(found, explain, verify)
    raise click.exceptions.Exit(_exit_code(found))


#: So many answers are printed in full (--json has all), and so many tried on an emulated CPU.
_MOST_PRINTED: Final = 10
_MOST_VERIFIED: Final = 3


def _print(answers: list[Answer], explain: bool, verify: bool) -> None:
    width = WIDTH if sys.stdout.isatty() else None
    for index, one in enumerate(answers[:_MOST_PRINTED]):
        if len(answers) > 1:
            click.echo(("" if not index else "\n") + f"== {one.dump.source} ==")
        click.echo(render(one, explain, verified(one) if verify and index < _MOST_VERIFIED else "", width), nl=False)
    if len(answers) > _MOST_PRINTED:
        failing = sum(one.exit_code == EXIT_FOUND for one in answers)
        click.echo(f"\n{len(answers)} dumps, {failing} of which fail a check or report a failed entry.\n--json has the answers to all.")


def _annotate(dumps: list[Dump]) -> None:
    for lines, of_text in groupby(dumps, key=lambda dump: dump.lines):
        if lines:
            click.echo(annotated(list(of_text)))


def _trace(dumps: list[Dump]) -> None:
    for dump in dumps:
        click.echo("\n".join([f"{dump.source}: {dump.format}", *(f"  {step}" for step in dump.trace)]) + "\n")


def _exit_code(answers: list[Answer]) -> int:
    codes = [one.exit_code for one in answers]
    if all(code == EXIT_USAGE for code in codes):
        return EXIT_USAGE
    return EXIT_FOUND if EXIT_FOUND in codes else EXIT_AGREEMENT


def _processor(cpu: str | None, capabilities_file: Path | None) -> Capabilities | None:
    if cpu is not None and capabilities_file is not None:
        raise UsageError("--cpu and --capabilities both name the processor; give one of them")
    if capabilities_file is not None:
        return Capabilities.load(capabilities_file)
    if cpu is None:
        return None
    from vmfuzz.state.profiles import capabilities

    return capabilities(cpu)


def _dumps(what: tuple[str, ...]) -> list[Dump]:
    if not what:
        if sys.stdin.isatty():
            click.echo("vmfuzz check: paste a dump, a log or an error here and end with Ctrl-D; `vmfuzz check FILE` reads a file", err=True)
        return _from_stream(sys.stdin.buffer, "-")
    loose: list[str] = []
    dumps: list[Dump] = []
    for item in what:
        if item != "-" and not _is_file(item):
            loose.append(item)
        elif item == "-":
            dumps += _from_stream(sys.stdin.buffer, "-")
        else:
            dumps += _from_file(Path(item))
    if loose:
        dumps.append(_from_argument(" ".join(loose)))
    return dumps


def _is_file(item: str) -> bool:
    try:
        return Path(item).exists()
    except (OSError, ValueError):
        return False


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return read_all(stream, str(path))[0]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _with_errata(found: list[Answer], path: Path, processor: Capabilities | None) -> list[Answer]:
    """The answers with the errata of the file that fit; their bases are those of the processor, or of the CPU model that fits the text best."""
    from vmfuzz.comparison.errata import load_errata, places_of
    from vmfuzz.generate.bases import Bases
    from vmfuzz.model.predict import Model
    from vmfuzz.state.profiles import capabilities, known_good

    errata = load_errata(path)
    answers = []
    for one in found:
        known = processor or capabilities(fitting_cpu(one.state.values)[0])
        bases = Bases(Model(known), known_good(known))
        own = [(each.id, each.text) for each in errata if fits(places_of(each, bases), one.state.values, one.dump.reported)]
        answers.append(replace(one, own_errata=tuple(own)))
    return answers


def _working(path: Path) -> Dump:
    """The state that works: the last that a file shows."""
    dumps = [dump for dump in _from_file(path) if dump.readings]
    if not dumps:
        raise UsageError(f"{path} has no VMCS field with a value; expected a dump of a state that enters, to compare with")
    return dumps[-1]


def _from_file(path: Path) -> list[Dump]:
    if path.is_dir():
        raise UsageError(
            f"cannot read {path}: it is a directory; expected a file with a dump or a log (`vmfuzz findings {path}` lists what a campaign found)"
        )
    try:
        with path.open("rb") as stream:
            return _from_stream(stream, str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _from_stream(stream: BinaryIO, name: str) -> list[Dump]:
    return dumps_of(stream, "standard input" if name == "-" else name)


def _from_argument(text: str) -> Dump:
    """A bare number, or a log line given as an argument."""
    dump = dump_of_words(text, "the command line")
    if dump.empty:
        raise UsageError(
            f"{text!r} is neither a file nor an outcome of a VM entry; expected a file with a dump, or an error such as 0x80000021"
        )
    return dump


def _narrowed(dumps: list[Dump], reported: str) -> list[Dump]:
    """The dumps with the outcome that the person gives. Raises UsageError for what is none."""
    outcome = from_words(reported)
    if outcome is None:
        raise UsageError(
            f'--reported {reported!r} is not an outcome of a VM entry; expected text such as "0x80000021 qual 0" or "VMLAUNCH error 7"'
        )
    return [replace(dump, reported=outcome) for dump in dumps]


def _with_encodings(dumps: list[Dump], path: Path) -> list[Dump]:
    """The dumps with the list of encodings in a file. Raises UsageError where it has none."""
    found = Found()
    collect(lines_of(mend(_read(path))), found)
    if not found.definitions:
        raise UsageError(
            f"vmfuzz finds no list of encodings in {path}; expected lines with a name and a number, such as `GUEST_CS_SELECTOR = 0x802,`"
        )
    return [
        replace(
            dump,
            program=Program(
                [*dump.program.definitions, *found.definitions],
                {**found.written, **dump.program.written},
                dump.program.zeroed or found.zeroed,
            ),
        )
        for dump in dumps
    ]
