"""The corpus of texts: what `vmfuzz check` makes of each text in tests/texts, kept as header lines above it.

    python tests/explain/corpus_of_texts.py             # which texts are read in another way than their headers say
    python tests/explain/corpus_of_texts.py --update    # write the headers anew: a change of behaviour is then a diff

A file is header lines, an empty line, and the text as somebody would paste it. A header line is "# key: value":

    note          what the text is for (written by hand, kept by --update; the only line that a new file needs)
    source        a public program's documented output or the place of a real text (by hand)
    text          the text lies beside the repository, in this file of the specification (by hand)
    exit          the exit code of `vmfuzz check`
    format        what the text was taken for
    outcome       80000021 q0, error 7, VMfailInvalid, or a failure without a number in words
    explains      checks that are violated and explain the outcome
    violated      checks that are violated and do not explain it
    contradicted  checks that the values violate, and that passed all the same
    cause, remark what mistakes are named, one a line
    fields        name=value@line; "/mask" if only these bits are known, "?" if something had to be assumed
    msrs, beside  capability MSRs, values that stand beside the VMCS
    definitions   NAME=encoding@line of lists of encodings, "!" before those that are wrong
    unread        labels with a number that mean no field
    warns         one warning a line
    foreign, nested, said, refused, error   what other programs say
    dump          the lines that follow are of the second, third ... dump in the text
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.dump import ALL, Dump, Reading
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.reported import Report, Reported

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ROOT / "tests" / "texts"
SPECIFICATION = ROOT.parent / "shared" / "spec"
#: Header lines that people write; everything else is written by --update.
BY_HAND = ("note", "source", "text")
_WIDTH = 140


def files() -> list[Path]:
    """The files of the corpus."""
    return sorted(TEXTS.rglob("*.txt"))


def parts(path: Path) -> tuple[list[str], str]:
    """(the header lines without their "# ", the text) of a file; FileNotFoundError if the text lies beside the repository and is not there."""
    lines = parts_of_header(path)
    text = path.read_bytes().decode("utf-8").partition("\n\n")[2]
    place = next((line.removeprefix("text: ") for line in lines if line.startswith("text: ")), "")
    return lines, (SPECIFICATION / place).read_bytes().decode("utf-8") if place else text


def parts_of_header(path: Path) -> list[str]:
    """The header lines of a file without their "# "."""
    header = path.read_bytes().decode("utf-8").partition("\n\n")[0]
    return [line.removeprefix("# ") for line in header.split("\n") if line.startswith("# ")]


def described(text: str) -> list[str]:
    """What is made of a text, as header lines."""
    lines: list[str] = []
    for number, dump in enumerate(read_text(text, "text"), 1):
        lines += [f"dump: {number}"] * (number > 1) + list(_described(answer(dump)))
    return lines


def _described(found: Answer) -> Iterator[str]:
    dump = found.dump
    yield f"exit: {found.exit_code}"
    yield f"format: {dump.format}"
    if dump.reported is not None:
        yield f"outcome: {_outcome(dump.reported)}"
    for key, findings in (
        ("explains", [finding for finding in found.violated if finding.explains]),
        ("violated", [finding for finding in found.violated if not finding.explains]),
        ("contradicted", found.contradicted),
    ):
        yield from _listed(key, [finding.check.id for finding in findings])
    yield from (f"cause: {_one_line(mistake.what)}" for mistake in found.causes)
    yield from (f"remark: {_one_line(mistake.what)}" for mistake in found.remarks)
    yield from _of_reading(dump)


def _of_reading(dump: Dump) -> Iterator[str]:
    yield from _listed("fields", [f"{name}={_value(reading)}" for name, reading in dump.readings.items()])
    yield from _listed("msrs", [f"{number:x}={one.value:x}@{one.line}" for number, one in dump.msrs.items()])
    yield from _listed("beside", [f"{name}={_value(reading)};" for name, reading in dump.beside.items()])
    yield from _listed(
        "definitions",
        [
            f"{'!' * (FIELDS[one.field].encoding != one.encoding)}{one.name}={one.encoding:x}@{one.line}"
            + ("" if one.name.lower() == one.field else f" ({one.field})")
            for one in dump.program.definitions
        ],
    )
    yield from _listed("written", [f"{name}@{line}" for name, line in dump.program.written.items()])
    yield from _listed("unread", [f"{_one_line(label)}@{line};" for label, line in dump.unread])
    yield from (f"warns: {_one_line(warning)}" for warning in dump.warnings)
    yield from _listed("foreign", [_one_line(dump.foreign)] if dump.foreign else [])
    yield from _listed("nested", [dump.nested.partition(".")[0]] if dump.nested else [])
    yield from (f"said: {' '.join(check.id for check in said.checks)}@{said.line}" for said in dump.named)
    yield from _listed(
        "refused", [f"msr {dump.refused_msr[1]:x}={dump.refused_msr[2]:x}@{dump.refused_msr[0]}"] if dump.refused_msr else []
    )
    yield from _listed("error", [f"HM {dump.hm_error}"] if dump.hm_error else [])


def _outcome(reported: Reported) -> str:
    words = [str(reported.kind)] if reported.kind is not Report.TOLD else []
    if reported.exit_reason is not None:
        words.append(f"{reported.exit_reason:08x}" if reported.exit_reason >> 31 else f"exit {reported.exit_reason}")
    elif reported.error is None:
        words.append("" if words else "VMfailInvalid")
    else:
        words.append(f"error {reported.error}" if reported.error else "without a number")
    words += [f"q{reported.qualification:x}"] if reported.qualification is not None else []
    words += [f"entry {reported.msr_entry}"] if reported.msr_entry is not None else []
    return _one_line(" ".join(filter(None, words)) + f" ({reported.text})" + (f"; {reported.remark}" if reported.remark else ""))


def _value(reading: Reading) -> str:
    known = "" if reading.known == ALL else f"/{reading.known:x}"
    return f"{reading.value:x}{known}{'?' * bool(reading.assumed)}@{reading.line}"


def _one_line(text: str) -> str:
    """Text without line ends and without what no editor shows."""
    return " ".join(text.split()).encode("unicode_escape").decode("ascii")


def _listed(key: str, items: list[str]) -> Iterator[str]:
    """The items on as many lines with this key as they need."""
    for line in textwrap.wrap(" ".join(items), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"{key}: {line}"


def changed(path: Path) -> tuple[list[str], list[str]] | None:
    """(the lines that the header has, those that it should have), without those written by hand; None where they are the same."""
    header, text = parts(path)
    own = [line for line in header if line.partition(": ")[0] not in BY_HAND]
    wanted = described(text)
    return None if own == wanted else (own, wanted)


def update(path: Path) -> bool:
    """Write the header of a file anew; returns whether it changed."""
    difference = changed(path)
    if difference is None:
        return False
    header, text = parts(path)
    by_hand = [line for line in header if line.partition(": ")[0] in BY_HAND]
    body = "" if any(line.startswith("text: ") for line in by_hand) else text
    path.write_bytes(("".join(f"# {line}\n" for line in [*by_hand, *difference[1]]) + "\n" + body).encode("utf-8"))
    return True


def bodies(paths: Iterable[Path]) -> list[str]:
    """The texts of these files that are at hand."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found.append(parts(path)[1])
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the headers anew")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="these only")
    arguments = parser.parse_args()
    count = 0
    for path in arguments.files or files():
        try:
            difference = changed(path)
        except FileNotFoundError:
            continue
        if difference is None:
            continue
        count += 1
        own, wanted = difference
        if arguments.update:
            update(path)
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
        if not arguments.update:
            print(
                *(f"    - {line}" for line in own if line not in wanted), *(f"    + {line}" for line in wanted if line not in own), sep="\n"
            )
    print(f"{count} {'headers written' if arguments.update else 'texts are read in another way than their headers say'}")
    return 0 if arguments.update else min(1, count)


if __name__ == "__main__":
    sys.exit(main())
