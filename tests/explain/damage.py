"""Damages dumps at random and checks that there is always an answer: python tests/explain/damage.py [COUNT [SEED [SECONDS]]] [FILE...].

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


def once(file: Path, text: str, whole: Dump, rng: random.Random) -> int:
    """Damage a text once and answer it; returns the number of wrong fields. An exception leaves the text in damaged-*.txt."""
    kind = rng.choice(KINDS)
    broken = damaged(text, kind, rng)
    wrong = 0
    try:
        for dump in read_text(broken):
            render(answer(dump), explain=True)
            for field in wrong_fields(dump, whole) if kind != "bytes" else ():
                wrong += 1
                print(f"{file.name}, {kind}: {field}", flush=True)
    except Exception as error:
        name = f"damaged-{file.stem}-{kind}-{abs(hash(broken)) % 10000}.txt"
        Path(name).write_text(broken, encoding="utf-8", errors="surrogatepass")
        print(f"{file.name}, {kind}: no answer ({error!r}); the text is in {name}", flush=True)
        return wrong + 1
    return wrong


def main(count: int, seed: int, files: list[Path], seconds: float) -> int:
    """Damage each file `count` times, in turns, for at most `seconds`; returns the number of wrong fields and of texts without an answer."""
    rng, began, wrong = random.Random(seed), time.monotonic(), 0
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    wholes = {file: read_text(text)[0] for file, text in texts.items()}
    done = 0
    while done < count and time.monotonic() - began < seconds:
        for file in files:
            wrong += once(file, texts[file], wholes[file], rng)
        done += 1
    took = time.monotonic() - began
    print(f"{done} damages of each of {len(files)} samples ({done * len(files)} texts), {wrong} wrong fields or no answer, {took:.0f} s")
    return wrong


if __name__ == "__main__":
    HERE = Path(__file__).resolve()
    SAMPLES = [*sorted((HERE.parent / "samples").glob("*.txt")), *sorted((HERE.parents[3] / "shared/spec/dumps").glob("*.txt"))]
    ARGUMENTS = sys.argv[1:]
    NUMBERS = [int(item) for item in ARGUMENTS if item.isdigit()]
    CHOSEN = [Path(name) for name in ARGUMENTS if not name.isdigit()] or SAMPLES
    COUNT, SEED, SECONDS = [*NUMBERS, *(100, 1, 1 << 30)[len(NUMBERS) :]]
    sys.exit(min(1, main(COUNT, SEED, CHOSEN, SECONDS)))
