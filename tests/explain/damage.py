"""Damages dumps at random and checks that there is always an answer: python tests/explain/damage.py [COUNT [SEED [FILE...]]].

The bounded test is test_damage.py; this script is for the long run. It prints every case in which a text whose lines were only cut, left out
or shuffled puts a value under a field that the whole text does not give it, without a warning.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from vmfuzz.explain.answer import answer
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.reading import decode, read_text
from vmfuzz.explain.render import render

KINDS = ("cut", "head", "shuffle", "swap", "drop", "double", "bytes")


def damaged(text: str, kind: str, rng: random.Random) -> str:
    """The text, damaged in this way."""
    lines = text.split("\n")
    if kind == "cut":
        return text[: rng.randrange(len(text))]
    if kind == "head":
        return text[rng.randrange(len(text)) :]
    if kind == "shuffle":
        rng.shuffle(lines)
    elif kind == "swap":
        one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
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
        return decode(bytes(changed), "damaged")
    return "\n".join(lines)


def wrong_fields(dump: Dump, whole: Dump) -> list[str]:
    """Fields whose value is neither that of the whole text nor marked as assumed."""
    found = []
    for name, reading in dump.readings.items():
        original = whole.readings.get(name)
        differs = original is None or (original.value ^ reading.value) & reading.known & original.known
        if differs and not reading.assumed and not any(f"line {reading.line}:" in warning for warning in dump.warnings):
            found.append(f"{name} = {reading.value:#x} ({reading.label})")
    return found


def main(count: int, seed: int, files: list[Path]) -> int:
    """Damage each file `count` times; returns the number of wrong fields."""
    rng, began, wrong = random.Random(seed), time.monotonic(), 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        whole = read_text(text)[0]
        for _ in range(count):
            kind = rng.choice(KINDS)
            broken = damaged(text, kind, rng)
            try:
                for dump in read_text(broken):
                    render(answer(dump), explain=True)
                    if kind != "bytes":
                        for field in wrong_fields(dump, whole):
                            wrong += 1
                            print(f"{file.name}, {kind}: {field}")
            except Exception:
                Path("damaged.txt").write_text(broken, encoding="utf-8")
                print(f"{file.name}, {kind}: no answer; the text is in damaged.txt")
                raise
    print(f"{count * len(files)} damaged texts, {wrong} wrong fields, {time.monotonic() - began:.0f} s")
    return wrong


if __name__ == "__main__":
    HERE = Path(__file__).resolve()
    SAMPLES = [*sorted((HERE.parent / "samples").glob("*.txt")), *sorted((HERE.parents[3] / "shared/spec/dumps").glob("*.txt"))]
    ARGUMENTS = sys.argv[1:]
    CHOSEN = [Path(name) for name in ARGUMENTS[2:]] or SAMPLES
    sys.exit(min(1, main(int((ARGUMENTS or ["100"])[0]), int((ARGUMENTS[1:] or ["1"])[0]), CHOSEN)))
