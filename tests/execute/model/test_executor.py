"""The model in a processor's place does what every executor must do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vmfuzz.errors import ExecutorError
from vmfuzz.execute import conformance
from vmfuzz.execute.base import Executor
from vmfuzz.execute.kinds import open_executor


@pytest.mark.parametrize("cpu", ["corei7_skylake_x", "core2_penryn_t9600"])
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Callable[[Executor], None], cpu: str) -> None:
    with open_executor("model", cpu=cpu) as executor:
        check(executor)


def test_a_closed_one_runs_nothing() -> None:
    executor = open_executor("model")
    executor.close()
    executor.close()
    with pytest.raises(ExecutorError, match="closed"):
        executor.run([executor.known_good()])
