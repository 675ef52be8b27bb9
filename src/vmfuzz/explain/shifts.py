"""Recognises a structure of which every field stands one place off: by trying to move the values back and judging again."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.infer import Knowledge
from vmfuzz.explain.judge import Verdict, judge, operands_of
from vmfuzz.explain.mistakes import Mistake

_ORDERS: Final = (
    ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"),
    ("cs", "ds", "ss", "es", "fs", "gs", "ldtr", "tr"),
    ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr"),
    ("cs", "ss", "ds", "es", "fs", "gs", "ldtr", "tr"),
)
_PARTS: Final = ("access_rights", "selector", "limit", "base")
#: How many checks must fail before a shift is looked for.
_MANY: Final = 5


def shifted(dump: Dump, knowledge: Knowledge, failing: int) -> Mistake | None:
    """The shift of segment registers with which (nearly) all violations vanish, or None."""
    if failing < _MANY:
        return None
    values = operands_of(dump)
    best: tuple[int, str] | None = None
    for order in _ORDERS:
        for parts in (_PARTS, *((part,) for part in _PARTS)):
            for step in (1, -1):
                moved = dict(values)
                for index, segment in enumerate(order):
                    source = order[(index + step) % len(order)]
                    for part in parts:
                        if f"guest_{source}_{part}" in values:
                            moved[f"guest_{segment}_{part}"] = values[f"guest_{source}_{part}"]
                left = len(judge(dump, knowledge, moved).of(Verdict.VIOLATED))
                if best is None or left < best[0]:
                    what = "access rights, selectors, limits and bases" if len(parts) > 1 else parts[0].replace("_", " ") + "s"
                    what = what.replace("rightss", "rights")
                    where = f"{order[step].upper()}'s in {order[0].upper()}" if step == 1 else f"{order[0].upper()}'s in {order[1].upper()}"
                    best = (
                        left,
                        f"the guest segment registers' {what} stand one place off in the order {', '.join(order).upper()} ({where})",
                    )
    if best is None or best[0] > failing // 4:
        return None
    return Mistake(
        f"It looks as if {best[1]}.",
        f"Moved by one place, the number of violated checks falls from {failing} to {best[0]}.",
        "compare the structure or the loop that fills these fields with the order of the encodings (ES, CS, SS, DS, FS, GS, LDTR, TR)",
        True,
    )
