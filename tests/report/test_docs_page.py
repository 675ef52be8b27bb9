"""docs/report/, docs/agreement.md and docs/checks.md are what the stored summaries give, and cover every emulated CPU model."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.report.data import Report, gather
from vmfuzz.report.page import page
from vmfuzz.report.source import load

PLACE = Path(__file__).parents[2] / "docs" / "report"
FILES = [PLACE / "summaries" / f"{cpu}.json" for cpu in CPU_MODELS]
AGAIN = "make the pages again: python tools/campaigns.py pages"


@pytest.fixture(scope="module")
def report() -> Report:
    return gather([load(path) for path in FILES])


def without_pictures(text: str) -> list[str]:
    """The lines without the drawings, whose digits depend on matplotlib's version."""
    return re.sub(r"<svg.*?</svg>", "<svg>", text, flags=re.DOTALL).splitlines()


def test_the_page_is_what_the_summaries_give(report: Report) -> None:
    stored = without_pictures((PLACE / "index.html").read_text(encoding="utf-8"))
    for old, new in zip(stored, without_pictures(page(report)), strict=True):
        assert old == new, AGAIN


@pytest.mark.parametrize("name", ["agreement", "checks"])
def test_the_text_pages_are_what_the_summaries_give(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLACE.parents[1] / "tools"))
    write = getattr(importlib.import_module(f"{name}_page"), f"{name}_page")
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in FILES]
    assert (PLACE.parent / f"{name}.md").read_text(encoding="utf-8") == write(summaries), AGAIN


def test_the_page_is_small_and_about_all_models(report: Report) -> None:
    assert (PLACE / "index.html").stat().st_size < 5_000_000
    assert sorted(processor.name for processor in report.processors) == sorted(CPU_MODELS)
    candidates = {processor.candidates for processor in report.processors}
    assert len(candidates) == 1
    assert min(candidates) >= 1_000_000
