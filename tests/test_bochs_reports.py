"""The reports for Bochs's authors: each known deviation is in one list, and each report has the outcome and the image that it speaks of."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from vmfuzz.model.bochs_deviations import BOCHS_DEVIATIONS

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module("bochs_reports")
    sys.modules.pop("bochs_reports", None)


def test_each_deviation_is_either_there_or_mended(tool: ModuleType) -> None:
    assert sorted([*tool.MENDS, *tool.MENDED]) == sorted(deviation.id for deviation in BOCHS_DEVIATIONS)


def test_each_report_has_its_parts(tool: ModuleType) -> None:
    reports = tool.page().split("\n## ")[1:]
    numbered = [report for report in reports if report[0].isdigit()]
    with_entry = [deviation for deviation in BOCHS_DEVIATIONS if deviation.id in tool.MENDS and tool.entry_of(deviation) is not None]
    assert len(numbered) == len(with_entry)
    for deviation, report in zip(with_entry, numbered, strict=True):
        path, entry = tool.entry_of(deviation)
        assert entry.verdict == f"deviation:{deviation.id}"
        assert f"vmfuzz export {path.stem} --cpu " in report
        for part in ("where", "manual", "state", "expected", "actual", "proposed condition"):
            assert f"\n- **{part}**: " in report, (deviation.id, part)


def test_what_the_image_said_is_of_an_entry(tool: ModuleType) -> None:
    ids = {tool.entry_of(deviation)[1].id for deviation in BOCHS_DEVIATIONS if tool.entry_of(deviation) is not None}
    assert set(tool.images()) == ids
