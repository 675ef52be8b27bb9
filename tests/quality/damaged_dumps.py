"""Damages dumps at random and reads each: there must always be an answer, and never a wrong field without a word.

    python tests/quality/damaged_dumps.py [--count 100000] [--seed 1] [--minutes 60] [--state damaged-dumps.json] [FILE or DIRECTORY ...]

Each text is cut, loses its head, has lines shuffled, exchanged, left out, doubled, or bytes changed. Damage number i of a sample depends on the
seed, the sample's name and i only, so that a run that was stopped goes on from its state file, and one case can be made again (--only NAME:I).
Each text is read, which is all that the fields depend on; every `--judge`-th is also judged and its answer written, which takes five times as
long. A text that had been read before in the same run is counted and not read again.

A field (or a capability MSR) is wrong if the damaged text gives it, and the undamaged text gives it another value or none. Only bits count that
both readings call known. It is *confidently* wrong unless a warning names its line or its reading says that it rests on an assumption ("no area
named: read as guest state"). Of confidently wrong fields these leave no trace in the text, and are counted apart, by reason:

    own line      bytes were changed within the lines that the value is read from (itself, at most the four before it and the one after it): another
                  digit or letter there is another number or name (what is no character at all is seen, and the line not used)
    like lines    two lines were exchanged that differ in their numbers only, or in these and the name of a register whose parts stand on lines of
                  their own below ("ss: 0x18", "ds: 0x0"; no order of registers is common to all programs)

and, apart too although something was said, wrong fields that only the remark about an assumption covers. All others are errors of the reader. They
and all exceptions are appended to the state file's `.jsonl`. Without FILE: the real dumps of the specification where it lies beside the repository,
then the repository's own samples.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from vmfuzz.arch.capabilities import CAPABILITY_MSRS
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.dump import ALL, Dump
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.text.large import decode
from vmfuzz.explain.text.mend import mend

KINDS = ("cut", "head", "shuffle", "swap", "drop", "double", "bytes")
#: Kinds of which a sample has so few that most come up again.
_FEW: Final = frozenset({"cut", "head", "swap", "swap of like lines", "double"})
_REGISTER: Final = re.compile(r"\b(?:[c-gs]s|ldtr|tr|gdtr|idtr): *0x[0-9a-f]+$")
ROOT = Path(__file__).resolve().parents[2]
#: A value may come from so many lines and the one after them: a register's name and its parts, a line that a mail program broke.
_REACH: Final = 4
#: Why a wrong field is no error of the reader.
ERROR, OWN_LINE, LIKE_LINES, ASSUMED = "error", "own line", "like lines", "assumed"
#: Texts of one sample before it is the next one's turn.
_TURN: Final = 1000
#: Seconds between two writes of the state file.
KEEP_EVERY = 20


def samples() -> list[Path]:
    """The real samples of the specification where it lies beside the repository, then the repository's own."""
    specification = ROOT.parent / "shared" / "spec"
    own = ROOT / "tests" / "explain"
    found = [specification / "dumps", specification / "seed-question.txt", own / "samples", own / "bodies"]
    return expanded([path for path in found if path.exists()])


def expanded(paths: list[Path]) -> list[Path]:
    """The files, and the texts in the directories."""
    return [text for path in paths for text in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]


def damaged(text: str, rng: random.Random) -> tuple[str, str]:
    """(how it was damaged, the text)."""
    kind = rng.choice(KINDS)
    lines = text.split("\n")
    if kind == "cut":
        return kind, text[: rng.randrange(len(text))]
    if kind == "head":
        return kind, text[rng.randrange(len(text)) :]
    if kind == "shuffle":
        rng.shuffle(lines)
    elif kind == "swap":
        one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        if alike(lines[one], lines[other]):
            kind = "swap of like lines"
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == "drop":
        for _ in range(rng.randrange(1, min(10, len(lines)))):
            del lines[rng.randrange(len(lines))]
    elif kind == "double":
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    else:
        changed = bytearray(text.encode())
        for _ in range(rng.randrange(1, 20)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return kind, decode(bytes(changed), "damaged")
    return kind, "\n".join(lines)


def alike(one: str, other: str) -> bool:
    """Whether two lines differ in their numbers only, or are of nothing but a register and a number: their exchange leaves no trace."""
    return _numbers_out(one) == _numbers_out(other) or bool(_REGISTER.search(one) and _REGISTER.sub("", one) == _REGISTER.sub("", other))


def _numbers_out(line: str) -> str:
    return re.sub(r"\b(?:0x)?[0-9a-fA-F]+\b|\d+", "#", line)


def wrong_fields(dump: Dump, whole: Dump, broken: str, whole_lines: frozenset[str], kind: str) -> list[tuple[str, str]]:
    """The confidently wrong fields: (why it is so, the field with its value and line)."""
    found: list[tuple[str, str]] = []
    lines: list[str] = []
    for name, reading in dump.readings.items():
        original = whole.readings.get(name)
        known = reading.known & (original.known if original else ALL)
        if original is not None and not (original.value ^ reading.value) & known:
            continue
        if name == "exit_reason" and whole.reported is not None and whole.reported.exit_reason == reading.value:
            continue  # told in other words
        if any(warned.line == reading.line for warned in dump.warned):
            continue
        lines = lines or mend(broken.lstrip("\ufeff")).split("\n")
        nearby = lines[max(0, reading.line - _REACH) : reading.line + 1]
        if reading.assumed:
            reason = ASSUMED
        elif kind == "bytes" and not whole_lines.issuperset(nearby):
            reason = OWN_LINE
        else:
            reason = LIKE_LINES if kind == "swap of like lines" else ERROR
        found.append((reason, f"{name} = {reading.value:#x} from {lines[reading.line - 1 : reading.line]}"))
    for number, msr in dump.msrs.items():
        wanted = whole.msrs.get(number)
        if (wanted is None or wanted.value != msr.value) and all(warned.line != msr.line for warned in dump.warned):
            lines = lines or mend(broken.lstrip("\ufeff")).split("\n")
            own = kind == "bytes" and not whole_lines.issuperset(lines[msr.line - 1 : msr.line])
            reason = OWN_LINE if own else LIKE_LINES if kind == "swap of like lines" else ERROR
            found.append((reason, f"{CAPABILITY_MSRS[number]} = {msr.value:#x}"))
    return found


class Sample:
    """One text, with what it says undamaged and what came of its damages so far."""

    def __init__(self, path: Path, seed: int, done: dict[str, int]) -> None:
        self.name = name_of(path)
        self.text = path.read_text(encoding="utf-8")
        self.seed = seed
        self.wholes = read_text(self.text)
        self.lines = frozenset(mend(self.text).split("\n"))
        self.counts = Counter(done)
        self.seen: dict[int, frozenset[str]] = {}

    def case(self, number: int) -> tuple[str, str]:
        """(how, text) of damage `number`."""
        return damaged(self.text, random.Random(f"{self.seed}/{self.name}/{number}"))

    def once(self, judge: int) -> dict[str, object] | None:
        """Read the next damage; what went wrong, if anything did."""
        number = self.counts["texts"]
        kind, broken = self.case(number)
        self.counts["texts"] += 1
        again = self.seen.get(hash(broken)) if kind in _FEW else None
        wrong: list[tuple[str, str]] = []
        if again is None:
            judged = number % judge == 0
            wrong = self.read(broken, kind, judged)
            again = frozenset(reason for reason, _ in wrong)
            self.counts["different"] += 1
            self.counts["judged"] += judged
            if kind in _FEW:
                self.seen[hash(broken)] = again
        self.counts.update(again)
        errors = [what for reason, what in wrong if reason in (ERROR, "exception")]
        return {"sample": self.name, "number": number, "kind": kind, "wrong": errors} if errors else None

    def read(self, broken: str, kind: str, judged: bool) -> list[tuple[str, str]]:
        """The confidently wrong fields, or the exception."""
        try:
            wrong: list[tuple[str, str]] = []
            for dump in read_text(broken):
                if judged:
                    found = answer(dump)
                    if not render(found) or found.exit_code not in (0, 1, 2):
                        return [("exception", "no answer")]
                each = [wrong_fields(dump, whole, broken, self.lines, kind) for whole in self.wholes]
                wrong += min(each, key=lambda fields: (sum(reason == ERROR for reason, _ in fields), len(fields)))
            return wrong
        except Exception as error:  # the whole point: any exception is a finding
            return [("exception", repr(error))]


def name_of(path: Path) -> str:
    """What a sample is called in the state file."""
    return f"{path.parent.name}/{path.stem}"


def run(chosen: list[Path], seconds: float, state: Path, arguments: argparse.Namespace) -> int:
    """Damage the samples in turns; returns how many texts went wrong."""
    seed, count = arguments.seed, arguments.count
    kept = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {"seed": seed, "samples": {}, "seconds": 0.0}
    if kept["seed"] != seed:
        sys.exit(f"{state} is of seed {kept['seed']}; expected {seed}: give that --seed, or another --state")
    texts = [Sample(path, seed, kept["samples"].get(name_of(path), {})) for path in chosen]
    began, written, before = time.monotonic(), time.monotonic(), kept["seconds"]
    findings = state.with_suffix(".jsonl")
    while any(sample.counts["texts"] < count for sample in texts) and time.monotonic() - began < seconds:
        for sample in texts:
            for _ in range(min(_TURN, count - sample.counts["texts"])):
                trouble = sample.once(arguments.judge)
                if trouble is not None:
                    with findings.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(trouble) + "\n")
            if time.monotonic() - written > KEEP_EVERY:
                written = time.monotonic()
                keep(state, seed, texts, before + written - began)
            if time.monotonic() - began >= seconds:
                break
    keep(state, seed, texts, before + time.monotonic() - began)
    return report(texts, before + time.monotonic() - began)


def keep(state: Path, seed: int, texts: list[Sample], seconds: float) -> None:
    """Write the state, whole or not at all."""
    data = {"seed": seed, "seconds": round(seconds, 1), "samples": {sample.name: dict(sample.counts) for sample in texts}}
    new = state.with_suffix(".new")
    new.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    new.replace(state)


def report(texts: list[Sample], seconds: float) -> int:
    """Print a line a sample and the sum."""
    total = sum((sample.counts for sample in texts), Counter[str]())
    print(f"{'texts with':42}{'texts':>10}{'exception':>10}{ERROR:>7} | {OWN_LINE:>9}{LIKE_LINES:>11}{ASSUMED:>9}")
    for name, counts in [*((sample.name, sample.counts) for sample in texts), (f"{len(texts)} samples", total)]:
        print(
            f"{name:42}{counts['texts']:>10,}{counts['exception']:>10,}{counts[ERROR]:>7,} | "
            f"{counts[OWN_LINE]:>9,}{counts[LIKE_LINES]:>11,}{counts[ASSUMED]:>9,}"
        )
    print(f"{total['different']:,} different texts read, {total['judged']:,} of them judged, in {seconds:,.0f} s")
    return total[ERROR] + total["exception"]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="damages of each sample (default 100000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judge", type=int, default=50, metavar="N", help="judge every N-th text as well (default 50)")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many; the state file keeps what is done")
    parser.add_argument("--state", type=Path, default=Path("damaged-dumps.json"))
    parser.add_argument("--only", metavar="NAME:I", help="print this damaged text and what is wrong with its answer")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    chosen = expanded(arguments.files) or samples()
    if arguments.only:
        name, _, number = arguments.only.rpartition(":")
        sample = next((Sample(path, arguments.seed, {}) for path in chosen if name_of(path) == name), None)
        if sample is None:
            sys.exit(f"no sample is called {name}; expected one of {', '.join(map(name_of, chosen))}")
        kind, broken = sample.case(int(number))
        print(broken, f"\n== {kind}: {sample.read(broken, kind, judged=True)}")
        return 0
    return min(1, run(chosen, arguments.minutes * 60, arguments.state, arguments))


if __name__ == "__main__":
    sys.exit(main())
