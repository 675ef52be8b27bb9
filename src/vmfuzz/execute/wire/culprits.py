"""Rows that take the machine down: the one at fault is set apart, and what remains on both sides of it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Death:
    """How the machine ended during a request, for people. `row`: that of the request which ran then, None where nobody knows; `idle`: none ran."""

    how: str
    row: int | None
    idle: bool = False


def run_around(
    rows: npt.NDArray[np.intp], attempt: Callable[[npt.NDArray[np.intp]], Death | None], blame: Callable[[int, str], None]
) -> None:
    """Run `rows` with `attempt`, which returns how the machine died of them and leaves one behind that works again.

    `blame` gets each row at fault and how the machine died. Where nobody knows the row, halves are run until it is alone.
    """
    pending = [rows]
    while pending:
        part = pending.pop()
        death = attempt(part) if len(part) else None
        if death is None:
            continue
        if death.idle:
            pending.append(part)
        elif death.row is None and len(part) > 1:
            half = len(part) // 2
            pending += [part[half:], part[:half]]
        else:
            culprit = death.row or 0
            blame(int(part[culprit]), death.how)
            pending += [part[culprit + 1 :], part[:culprit]]
