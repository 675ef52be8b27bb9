"""The script of raw rows: its state, and some of its rows through both predicates. Its machine is that of test_bochs.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from every_row import CHUNK, State, through_the_predicates

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")


def test_both_predicates_refuse_the_same_raw_rows(tmp_path: Path) -> None:
    """A chunk for each CPU model at each risk; what is done is not done again."""
    path = tmp_path / "rows.jsonl"
    assert through_the_predicates(State(path), 7 * CHUNK) == ""
    assert through_the_predicates(State(path), 13 * CHUNK) == ""
    chunks = [json.loads(line) for line in path.read_text().splitlines()]
    for risk in ("bold", "virtual"):
        assert [(chunk["risk"], chunk["seed"]) for chunk in chunks if chunk["risk"] == risk] == [(risk, seed) for seed in range(1, 14)]
    assert len({chunk["cpu"] for chunk in chunks}) == 13
    assert sum(chunk["differ"] for chunk in chunks) == 0
    assert 0 < sum(chunk["refused"] for chunk in chunks) < 39 * CHUNK


def test_another_module_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"module": "another", "part": "machine", "risk": "safe", "seed": 7, "rows": 100}) + "\n")
    state = State(path)
    assert (state.total("machine", "safe", "rows"), state.next_seed("machine", "safe")) == (0, 1)
    state.add("machine", "safe", 1, {"rows": 50})
    assert (State(path).total("machine", "safe", "rows"), State(path).next_seed("machine", "safe")) == (50, 2)
