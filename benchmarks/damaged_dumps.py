"""Damages dumps at random and answers each: there must always be an answer, and never a wrong field without a word.

    python benchmarks/damaged_dumps.py [--count 100000] [--seed 1] [--minutes 60] [--state damaged-dumps.json] [FILE...]

Each text is cut, loses its head, has lines shuffled, exchanged, left out, doubled, or bytes changed. Damage number i of a sample depends on the
seed, the sample's name and i only, so that a run that was stopped goes on from its state file, and one case can be made again (--only NAME:I).

A field is confidently wrong if its line stands in the undamaged text too, or if lines were only moved or cut, and the field has another value than
the undamaged text gives it, without a warning that names the line and without the remark that the value rests on an assumption. (Two lines
exchanged that differ in their numbers only leave no trace: nothing is compared there.) Those cases and exceptions are appended to the state
file's `.jsonl`. Without FILE: the repository's own samples, and the real ones of the specification if present.
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

from vmfuzz.explain.answer import answer
from vmfuzz.explain.dump import ALL, Dump
from vmfuzz.explain.reading import decode, read_text
from vmfuzz.explain.render import render
from vmfuzz.explain.text import mend

KINDS = ("cut", "head", "shuffle", "swap", "drop", "double", "bytes")
ROOT = Path(__file__).resolve().parents[1]
#: A value may come from so many lines and the one after them: a register's name and its parts, a line that a mail program broke.
_REACH: Final = 4
#: Seconds between two writes of the state file.
KEEP_EVERY = 20


def samples() -> list[Path]:
    """The repository's own samples, and the real ones of the specification where it lies beside the repository."""
    own = ROOT / "tests" / "explain"
    real = ROOT.parent / "shared" / "spec" / "dumps"
    return [*sorted((own / "samples").glob("*.txt")), *sorted((own / "bodies").glob("*.txt")), *sorted(real.glob("*.txt"))]


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
    """Whether two lines differ in their numbers only: to exchange such lines is to exchange numbers, which leaves no trace."""
    return re.sub(r"\b(?:0x)?[0-9a-fA-F]+\b|\d+", "#", one) == re.sub(r"\b(?:0x)?[0-9a-fA-F]+\b|\d+", "#", other)


def wrong_fields(dump: Dump, whole: Dump, broken: str, whole_lines: frozenset[str], kind: str) -> list[str]:
    """The fields that are confidently wrong."""
    found = []
    lines = mend(broken.lstrip("\ufeff")).split("\n")
    for name, reading in dump.readings.items():
        original = whole.readings.get(name)
        known = reading.known & (original.known if original else ALL)
        if original is not None and not (original.value ^ reading.value) & known:
            continue
        line = lines[reading.line - 1] if reading.line <= len(lines) else ""
        if reading.assumed or (kind == "bytes" and not whole_lines.issuperset(lines[max(0, reading.line - _REACH) : reading.line + 1])):
            continue
        if not any(f"line {reading.line}:" in warning for warning in dump.warnings):
            found.append(f"{name} = {reading.value:#x} from {line!r}")
    return found


class Sample:
    """One text, with what it says undamaged and what came of its damages so far."""

    def __init__(self, path: Path, seed: int, done: dict[str, int]) -> None:
        self.name = f"{path.parent.name}/{path.stem}"
        self.text = path.read_text(encoding="utf-8")
        self.seed = seed
        self.wholes = read_text(self.text)
        self.lines = frozenset(self.text.split("\n"))
        self.counts = Counter(done)
        self.seen: dict[int, tuple[list[str], bool]] = {}

    def case(self, number: int) -> tuple[str, str]:
        """(how, text) of damage `number`."""
        return damaged(self.text, random.Random(f"{self.seed}/{self.name}/{number}"))

    def once(self) -> dict[str, object] | None:
        """Answer the next damage; what went wrong, if anything did."""
        number = self.counts["texts"]
        kind, broken = self.case(number)
        self.counts["texts"] += 1
        again = self.seen.get(hash(broken))
        if again is None:
            again = self.seen[hash(broken)] = self.answered(broken, kind)
            self.counts["different"] += 1
        wrong, failed = again
        self.counts["wrong texts"] += bool(wrong)
        self.counts["wrong fields"] += len(wrong)
        self.counts["exceptions"] += failed
        return {"sample": self.name, "number": number, "kind": kind, "wrong": wrong} if wrong or failed else None

    def answered(self, broken: str, kind: str) -> tuple[list[str], bool]:
        """(the confidently wrong fields, whether there was an exception)."""
        try:
            wrong: list[str] = []
            traceless = kind == "swap of like lines"
            for dump in read_text(broken):
                found = answer(dump)
                if not render(found) or found.exit_code not in (0, 1, 2):
                    return ["no answer"], True
                worst = [[]] if traceless else [wrong_fields(dump, whole, broken, self.lines, kind) for whole in self.wholes]
                wrong += min(worst, key=len)
            return wrong, False
        except Exception as error:  # the whole point: any exception is a finding
            return [repr(error)], True


def run(chosen: list[Path], count: int, seed: int, seconds: float, state: Path) -> int:
    """Damage the samples in turns; returns how many texts went wrong."""
    kept = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {"seed": seed, "samples": {}, "seconds": 0.0}
    if kept["seed"] != seed:
        sys.exit(f"{state} is of seed {kept['seed']}; expected {seed}: give that --seed, or another --state")
    texts = [Sample(path, seed, kept["samples"].get(f"{path.parent.name}/{path.stem}", {})) for path in chosen]
    began, written, before = time.monotonic(), time.monotonic(), kept["seconds"]
    findings = state.with_suffix(".jsonl")
    while time.monotonic() - began < seconds and any(sample.counts["texts"] < count for sample in texts):
        for sample in texts:
            for _ in range(min(50, count - sample.counts["texts"])):
                trouble = sample.once()
                if trouble is not None:
                    with findings.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(trouble) + "\n")
        if time.monotonic() - written > KEEP_EVERY:
            written = time.monotonic()
            keep(state, seed, texts, before + written - began)
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
    for sample in texts:
        counts = sample.counts
        print(
            f"{sample.name:40} {counts['texts']:>8,} texts, {counts['wrong texts']:>5,} with a wrong field, {counts['exceptions']} exceptions"
        )
    print(
        f"{len(texts)} samples, {total['texts']:,} texts ({total['different']:,} different ones answered) in {seconds:,.0f} s: "
        f"{total['wrong texts']:,} with a confidently wrong field ({total['wrong fields']:,} fields), {total['exceptions']} exceptions"
    )
    return total["wrong texts"] + total["exceptions"]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="damages of each sample (default 100000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many; the state file keeps what is done")
    parser.add_argument("--state", type=Path, default=Path("damaged-dumps.json"))
    parser.add_argument("--only", metavar="NAME:I", help="print this damaged text and what is wrong with its answer")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    chosen = arguments.files or samples()
    if arguments.only:
        name, _, number = arguments.only.rpartition(":")
        sample = next(Sample(path, arguments.seed, {}) for path in chosen if f"{path.parent.name}/{path.stem}" == name)
        kind, broken = sample.case(int(number))
        print(broken, f"\n== {kind}: {sample.answered(broken, kind)[0]}")
        return 0
    return min(1, run(chosen, arguments.count, arguments.seed, arguments.minutes * 60, arguments.state))


if __name__ == "__main__":
    sys.exit(main())
