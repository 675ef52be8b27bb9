"""The page in a real browser: it opens offline without a word on the console, fits every width, filters, prints, follows dark and light."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmfuzz.model.checks import CHECKS
from vmfuzz.report.data import State
from vmfuzz.report.page import page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(campaigns: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page(campaigns.report), encoding="utf-8")
    return path.as_uri()


def opened(browser: Any, address: str, width: int = 1400, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page, opened without a network, and what it complains about or asks for."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url) if not request.url.startswith((address, "data:")) else None)
    tab.goto(address)
    return tab, said


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400, 3840])
def test_the_page_fits_the_window_and_says_nothing_on_the_console(browser: Any, address: str, width: int, scheme: str) -> None:
    tab, said = opened(browser, address, width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert said == []
    assert len(tab.screenshot(full_page=True)) > 20_000


ALL_MODELS = (Path(__file__).parents[2] / "docs" / "report" / "index.html").as_uri()
#: What of a table or of the matrix lies beyond the box in which it would scroll, and column names that stand nowhere.
CUT_OFF = """() => [...document.querySelectorAll('.scroll, #matrix')].filter(box => box.scrollWidth > box.clientWidth)
    .map(box => (box.id || box.firstElementChild.id || box.firstElementChild.className) + ' ' + box.scrollWidth + ' in ' + box.clientWidth)"""
NAMELESS = """() => [...document.querySelectorAll('#bars, .counts')].filter(table => table.getClientRects().length && !(
    [...table.querySelectorAll('thead th.up span')].every(name => name.getClientRects().length) ||
    [...table.querySelectorAll('tbody td[data-label]')].every(cell =>
        getComputedStyle(cell, '::before').content === JSON.stringify(cell.dataset.label)))).map(table => table.id || table.className)"""


@pytest.mark.parametrize("width", [390, 600, 768, 1024, 1280, 1440, 1700, 1920])
@pytest.mark.parametrize("models", ["three", "all"])
def test_no_column_is_cut_off_and_every_column_has_its_name(browser: Any, address: str, models: str, width: int) -> None:
    tab, _ = opened(browser, ALL_MODELS if models == "all" else address, width)
    tab.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert tab.evaluate(CUT_OFF) == []
    assert tab.evaluate(NAMELESS) == []
    names = tab.locator("#matrix thead th.up span")
    assert all(name.is_visible() for name in names.all())
    assert "per second" in tab.locator("#runs").inner_text() or "per second" in tab.evaluate(
        "getComputedStyle(document.querySelector('#runs td:nth-child(5)'), '::before').content"
    )


def test_the_matrix_is_there_and_its_header_stays(browser: Any, address: str) -> None:
    tab, _ = opened(browser, address)
    assert tab.locator("#matrix tr.row").count() == len(CHECKS)
    assert tab.locator("#matrix thead th.up").count() == 3
    assert tab.locator("#matrix td.finding").count() >= 2
    tab.locator("#matrix").evaluate("box => box.scrollTop = 4000")
    header, box = tab.locator("#matrix thead th").first.bounding_box(), tab.locator("#matrix").bounding_box()
    assert abs(header["y"] - box["y"]) < 3


def test_the_filter_and_the_choice_leave_the_rows_that_fit(browser: Any, address: str) -> None:
    tab, _ = opened(browser, address)
    tab.fill("#filter", "Guest.CS base")
    rows = tab.locator("#matrix tr.row:visible").all_inner_texts()
    assert 0 < len(rows) < 10
    assert all("guest.cs" in row.lower() and "base" in row.lower() for row in rows)
    assert tab.inner_text("#shown") == f"{len(rows)} checks"
    tab.fill("#filter", "no such check")
    assert tab.locator("#matrix tbody:visible").count() == 0
    tab.fill("#filter", "")
    assert tab.locator("#matrix tr.row:visible").count() == len(CHECKS)
    tab.select_option("#show", "finding")
    assert tab.locator("#matrix tr.row:visible").count() == tab.locator("#matrix tr.row:has(td.finding)").count() > 0
    tab.select_option("#show", "differs")
    assert 0 < tab.locator("#matrix tr.row:visible").count() < len(CHECKS)


def test_links_go_where_they_say(browser: Any, address: str) -> None:
    tab, _ = opened(browser, address)
    links = tab.locator("nav a").all()
    assert len(links) == 9
    for link in links:
        link.click()
        target = tab.evaluate("document.querySelector(location.hash).getBoundingClientRect().top")
        assert -1 <= target <= 900


def test_a_finding_in_the_matrix_leads_to_its_case(browser: Any, address: str) -> None:
    tab, _ = opened(browser, address)
    row = tab.locator("#matrix tr.row", has_text="guest.gs.base").first
    row.locator("td.finding a").click()
    case = tab.locator(tab.evaluate("location.hash"))
    assert "guest.gs.base" in case.inner_text()
    assert -1 <= case.bounding_box()["y"] <= 900


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, by WCAG 2."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_colour(browser: Any, address: str, scheme: str) -> None:
    tab, _ = opened(browser, address, scheme=scheme)
    assert (luminance(tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")) < 0.5) == (scheme == "dark")
    for state in State:
        if state is State.ABSENT:
            continue
        of = f"getComputedStyle(document.querySelector('.legend .{state.name.lower()}'))"
        light, dark = sorted((luminance(tab.evaluate(f"{of}.color")), luminance(tab.evaluate(f"{of}.backgroundColor"))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, state
    ink = tab.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert (luminance(ink) > 0.5) == (scheme == "dark")


def test_the_page_prints_whole(browser: Any, address: str) -> None:
    tab, _ = opened(browser, address)
    printed = tab.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    tab.emulate_media(media="print")
    assert not tab.locator(".tools").is_visible()
    assert tab.evaluate("getComputedStyle(document.getElementById('matrix')).overflow") == "visible"
