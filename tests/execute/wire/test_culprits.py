"""Rows that take the machine down are set apart, whoever knows which they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vmfuzz.execute.wire.culprits import Death, run_around

DEADLY = {0, 7, 8, 49}


class Machine:
    """Dies of DEADLY rows; `known`: it says of which one. The first `idle` requests end before a row runs."""

    def __init__(self, *, known: bool, idle: int = 0) -> None:
        self.known, self.idle = known, idle
        self.ran: list[int] = []
        self.blamed: dict[int, str] = {}

    def attempt(self, rows: npt.NDArray[np.intp]) -> Death | None:
        assert len(rows)
        if self.idle:
            self.idle -= 1
            return Death("reset by somebody", None, idle=True)
        for at, row in enumerate(rows.tolist()):
            if row in DEADLY:
                return Death(f"died of {row}" if self.known else "died", at if self.known else None)
        self.ran += rows.tolist()
        return None

    def blame(self, row: int, how: str) -> None:
        assert row not in self.blamed
        self.blamed[row] = how


@pytest.mark.parametrize("known", [True, False], ids=["named", "halves"])
@pytest.mark.parametrize("idle", [0, 3])
def test_each_deadly_row_is_blamed_and_all_others_run_once_in_order(known: bool, idle: int) -> None:
    machine = Machine(known=known, idle=idle)
    run_around(np.arange(50), machine.attempt, machine.blame)
    assert machine.blamed == {row: f"died of {row}" if known else "died" for row in DEADLY}
    assert machine.ran == [row for row in range(50) if row not in DEADLY]


def test_no_rows_are_no_request() -> None:
    machine = Machine(known=True)
    run_around(np.arange(0), machine.attempt, machine.blame)
    assert (machine.ran, machine.blamed) == ([], {})
