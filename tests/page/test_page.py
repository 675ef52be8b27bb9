"""The page that checks a VMCS in the browser, used as a person would: with a mouse, with the keyboard only, on a telephone, with a screen reader."""

from __future__ import annotations

import http.server
import re
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.reading import read_text

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "explain" / "samples"
XEN = (SAMPLES / "xen.txt").read_text(encoding="utf-8")
NOISE = "[ 1000.%06d] systemd[1]: Started something else, number %d.\n"


def test_the_seed_question_is_answered(tab: Any, seed: str) -> None:
    said = " ".join(tab.check(seed).split())
    answer = " ".join((ROOT / "docs" / "seed-answer.txt").read_text(encoding="utf-8").split())
    opening = answer[: answer.index(" Violated checks")]
    assert opening.replace(" (line 579)", "") in said.replace(" (line 579) show it", "").replace(" Copy as Markdown", "")
    assert tab.page.locator(".mark.bad").all_inner_texts() == ["0x0000482e"]
    assert tab.page.locator("#line-579 .mark.bad").count() == 1
    tab.page.locator("button.link", has_text="show it").first.click()
    assert "encoding of guest GS access rights" in tab.page.inner_text("#detail")
    assert "that is the encoding of VMX-preemption timer value" in tab.page.inner_text("#detail")


def test_a_dump_of_xen_in_300_lines_is_annotated(tab: Any) -> None:
    noise = "".join(NOISE % (index, index) for index in range(300 - XEN.count("\n")))
    text = noise + XEN
    said = tab.check(text)
    assert "guest CR3" in said
    (dump,) = read_text(XEN, "xen")
    names = " ".join(mark.get_attribute("aria-label") for mark in tab.page.locator("#lines .mark").all())
    assert [name for name in dump.readings if f"{FIELDS[name].encoding:04X}H" not in names] == []
    assert text.count("\n") >= 300
    assert "267 lines of which nothing was read" in tab.page.inner_text(".line.skipped")
    bad = tab.page.locator(".mark.bad")
    assert bad.all_inner_texts() == ["0x8000000012345000"]
    bad.hover()
    detail = tab.page.inner_text("#detail")
    assert "guest CR3 6802H" in detail
    assert "guest.cr3.reserved" in detail
    tab.page.mouse.move(5, 5)
    assert not tab.page.locator("#detail").is_visible()
    tab.page.locator("#lines").get_by_role("button", name=re.compile("guest CR0")).first.click()
    detail = tab.page.inner_text("#detail")
    assert "0000000080050033H" in detail
    assert {"0 PE 1", "31 PG 1", "30 CD 0"} <= set(tab.page.locator("#detail .bits li").all_inner_texts())
    tab.page.keyboard.press("Escape")
    assert not tab.page.locator("#detail").is_visible()


def test_a_log_of_five_megabytes_is_searched(tab: Any, tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    lines = [NOISE % (index, index) for index in range(90_000)]
    log.write_text("".join([*lines[:60_000], XEN, *lines[60_000:]]), encoding="utf-8")
    assert log.stat().st_size > 5_000_000
    said = tab.check_file(log)
    assert "guest CR3" in said
    assert "host.log, 5." in tab.page.inner_text("#held")
    assert tab.page.locator(".mark.bad").count() == 1
    assert tab.page.locator(".line").count() < 1000
    tab.page.click("#release")
    assert tab.page.locator("#text").is_visible()


def test_nonsense_gets_a_sentence(tab: Any, tmp_path: Path) -> None:
    said = tab.check("the quick brown fox\njumps over the lazy dog\n")
    assert "Nothing that vmfuzz can read" in said
    assert "Give a VMCS dump" in said
    assert not tab.page.locator("button.copy").count()
    (tmp_path / "picture.bin").write_bytes(bytes(range(256)) * 100)
    assert "binary" in tab.check_file(tmp_path / "picture.bin")
    assert not tab.page.locator("#result").is_visible()
    assert "VM-entry failure due to invalid guest state" in tab.check("0x80000021")
    assert "Collect next" in tab.page.inner_text("#answers")
    assert "vmfuzz check FILE" not in tab.page.inner_text("#answers")  # what only a command line can do
    tab.page.fill("#text", "")
    tab.page.click("#check")
    assert tab.page.inner_text("#status") == "Paste a text first, or open a file."


def test_the_processor_counts(tab: Any) -> None:
    tab.check("GUEST_CR4 = 0x2020\nexit reason 0x80000021 qualification 0\n")
    without = tab.page.text_content(".undecided")
    tab.answered(lambda: tab.page.select_option("#processor", "granite_rapids"))
    assert "Processor: granite_rapids." in tab.page.text_content(".answer > details.read")
    assert without != tab.page.text_content(".undecided")
    tab.answered(lambda: tab.page.select_option("#processor", ""))
    assert without == tab.page.text_content(".undecided")
    assert tab.page.locator("#processor option").count() > 20


def test_the_answer_can_be_copied_as_markdown(tab: Any) -> None:
    tab.check(XEN)
    tab.page.get_by_role("button", name="Copy as Markdown").click()
    tab.page.get_by_role("button", name="Copied").wait_for()
    copied = tab.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("**The VM entry failed: ")
    assert "- **Smallest change:** set guest CR3 (6802H) to 0000000012345000H" in copied
    assert "- `guest.cr3.reserved`" in copied


def test_two_states_in_one_text_are_compared(tab: Any) -> None:
    said = tab.check("-host_CR4 = 0x2020\n+host_CR4 = 0x20\n")
    assert "Compared: the - side works, the + side fails." in said
    assert tab.page.locator("#lines .mark").all_inner_texts() == ["0x2020", "0x20"]
    assert tab.page.locator(".mark.bad").all_inner_texts() == ["0x20"]
    tab.page.locator("#lines .mark").nth(1).hover()
    assert "in state 2" in tab.page.inner_text("#detail")


def test_the_keyboard_is_enough(tab: Any) -> None:
    page, focused = tab.page, "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
    tab.check("0x80000021")
    page.locator("h1").click()
    order = []
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "text":
            break
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(XEN)
    tab.answered(lambda: page.keyboard.press("Control+Enter"))
    assert page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.textContent").startswith("H2 The VM entry failed")
    for _ in range(30):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.textContent"))
        if "mark" in page.evaluate(focused):
            break
    assert "Copy as Markdown" in order
    assert "Rule and reason" in order
    assert order[-1] == "0x8000000012345000"  # of all values the wrong one is in the tab order
    assert "guest.cr3.reserved" in page.inner_text("#detail")
    assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "detail"
    page.keyboard.press("ArrowRight")
    assert "guest RSP" in page.inner_text("#detail")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    assert "exit reason 80000021H" in page.inner_text("#detail")
    page.keyboard.press("ArrowRight")
    assert "guest CR0" in page.inner_text("#detail")
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    page.keyboard.press("Tab")  # past all values
    assert page.evaluate(focused) not in ("text", "mark ok")


def test_everything_has_a_name_for_a_screen_reader(tab: Any) -> None:
    tab.check(XEN)
    tree = tab.page.context.new_cdp_session(tab.page).send("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in tree:
        if not node.get("ignored"):
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("button", "textbox", "combobox", "link", "form", "heading", "group", "article", "region"):
        assert all(name.strip() for name in roles.get(role, []) if role not in ("article", "group")), (role, roles[role])
    assert roles["textbox"][0] == "Dump, log or error"
    assert roles["combobox"] == ["Processor"]
    assert "0x8000000012345000: guest CR3 6802H, violates a check" in roles["button"]
    levels = [int(level) for level in tab.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => h.tagName[1])")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tab.page.get_attribute("#status", "role") == "status"


#: What reaches beyond the window, or is cut off by the box that it lies in.
CUT_OFF = """() => [...document.querySelectorAll('body *')].filter(one => one.getClientRects().length && !one.closest('.hidden, option') && (
    one.getBoundingClientRect().right > document.documentElement.clientWidth + 1 || one.getBoundingClientRect().left < -1 ||
    (one.scrollWidth > one.clientWidth + 1 && one.clientWidth && !['TEXTAREA', 'SELECT'].includes(one.tagName) &&
        getComputedStyle(one).overflowX !== 'visible'))).map(one => one.tagName + '.' + one.className)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_all_can_be_read(tab: Any, scheme: str) -> None:
    tab.check(f"a word of {'many' * 60} letters\n{XEN}")
    tab.page.emulate_media(color_scheme=scheme)
    for details in tab.page.locator("#answers details").all():
        details.evaluate("one => one.open = true")
    try:
        for width in (390, 600, 768, 1024, 1280, 1344, 1440, 1920):
            tab.page.set_viewport_size({"width": width, "height": 900})
            assert tab.page.evaluate("document.documentElement.scrollWidth") == width
            assert tab.page.evaluate(CUT_OFF) == [], width
            tab.page.locator(".mark.bad").click()
            assert tab.page.evaluate(CUT_OFF) == [], f"{width}, with a value's details"
            tab.page.keyboard.press("Escape")
        unreadable = tab.page.evaluate(FAINT)
        assert unreadable == []
        red = int(re.findall(r"\d+", tab.page.evaluate("getComputedStyle(document.body).backgroundColor"))[0])
        assert (red < 128) == (scheme == "dark")
    finally:
        tab.page.emulate_media(color_scheme="light")
        tab.page.set_viewport_size({"width": 1400, "height": 900})


#: Text with less contrast to what is behind it than 4.5:1 (WCAG 2).
FAINT = """() => {
    const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => rgb(colour).slice(0, 3).map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = one => { for (; one; one = one.parentElement) {
        const ground = getComputedStyle(one).backgroundColor;
        if ((rgb(ground)[3] ?? 1) === 1) return ground;
    } };
    const worst = new Map();
    for (const one of document.querySelectorAll('body *')) {
        if (!one.getClientRects().length || ![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
        const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) worst.set(one.tagName + '.' + one.className, contrast.toFixed(2));
    }
    return [...worst].map(pair => pair.join(' '));
}"""


def test_the_browser_lets_nothing_out_of_the_page(tab: Any) -> None:
    asked: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    tried = "url => fetch(url).then(() => 'sent', error => String(error))"
    before = len(tab.said)
    try:
        assert "Failed to fetch" in tab.page.evaluate(tried, url)
        (worker,) = tab.page.workers
        assert "Failed to fetch" in worker.evaluate(tried, url)
        tab.page.evaluate("url => new Promise(done => { const one = new Image(); one.onerror = one.onload = done; one.src = url; })", url)
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []
    assert all("Content Security Policy" in line for line in tab.said[before:])
    del tab.said[before:]
    tab.elsewhere.clear()


def test_the_page_is_complete_small_and_quiet(tab: Any, built: Path) -> None:
    tab.check(XEN)
    assert tab.said == []
    assert tab.elsewhere == []
    files = [path for path in built.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20_000_000
    for name in ("index.html", "page.css", "page.js", "answer.js", "text.js", "worker.js"):
        loaded = re.findall(r"(?:src|href|import|from|fetch|url)[\s=(]*[\"'`](https?:[^\"'`]*)", (built / name).read_text(encoding="utf-8"))
        assert loaded == (["https://pyodide.org/"] if name == "index.html" else []), name  # a link, which loads nothing
