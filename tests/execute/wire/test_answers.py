"""What the engine's answers mean, the same for every executor with an engine."""

from __future__ import annotations

import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.errors import ExecutorError, UsageError
from vmfuzz.execute.wire.abi import constants
from vmfuzz.execute.wire.answers import Drift, require_done


def test_what_drifts_is_written_back_from_then_on() -> None:
    drift, asked = Drift(1), []

    def run(restored: set[int]) -> set[int]:
        asked.append(set(restored))
        return {1, 2, 3} if len(asked) == 1 else {3}

    drift.until_still("me", {7}, run)
    assert asked == [{1, 7}, {1, 2, 3, 7}]
    assert (drift.restored, drift.left, drift.reruns) == ({1, 2, 3}, {3}, 1)
    drift.until_still("me", set(), run)
    assert asked[2:] == [{1, 2, 3}]


def test_drift_without_an_end_is_an_error() -> None:
    numbers = iter(range(1000))
    with pytest.raises(ExecutorError, match="me: fields keep drifting after 20 runs"):
        Drift().until_still("me", set(), lambda _restored: {next(numbers)})


def test_only_fields_are_named() -> None:
    drift = Drift()
    drift.left = {FIELDS["guest_rip"].encoding, 1 << constants()["TARGET_ARENA_BIT"]}
    assert drift.left_fields() == ["guest_rip"]


def test_a_status_that_is_not_done_is_an_error() -> None:
    status = constants()
    require_done("me", status["STATUS_DONE"], 0)
    with pytest.raises(UsageError, match="guest_smbase: the base of the batch writes it, but me lacks this field"):
        require_done("me", status["STATUS_BASE_FAILED"], FIELDS["guest_smbase"].encoding)
    with pytest.raises(ExecutorError, match="me: live_launch_state = 1"):
        require_done("me", status["STATUS_BASE_NOT_LAUNCHED"], 1)
