"""How much processor time the page takes, in headless Chromium, until it is ready and until it has an answer: `make page`, then

    python tests/page/measure.py            # five times
    python tests/page/measure.py --times 1

Prints seconds of processor time of the page's process, all its threads together, as Chromium counts them. They are no test: how many they are depends
on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import http.server
import shutil
import statistics
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def _busiest(session: Any) -> float:
    """Processor time of the process that renders the page: of several such processes the one that has had most."""
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return max(one["cpuTime"] for one in processes if one["type"] == "renderer")


def _measured(chromium: Any, address: str, text: str) -> tuple[float, float]:
    browser = chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    try:
        session, tab = browser.new_browser_cdp_session(), browser.new_page()
        tab.set_default_timeout(0)
        tab.goto(address)
        tab.wait_for_selector("[data-state=ready]")
        ready = _busiest(session)
        tab.fill("#text", text)
        tab.click("#check")
        tab.wait_for_selector("[data-state=answered]")
        return ready, _busiest(session)
    finally:
        browser.close()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    place = ROOT / "build" / "page"
    if not (place / "vmfuzz.zip").is_file():
        print(f"{place} has no page: run `make page` first")
        return 2
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(place)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = (ROOT / "tests" / "explain" / "samples" / "xen.txt").read_text(encoding="utf-8")
    with sync_playwright() as playwright:
        each = [_measured(playwright.chromium, f"http://127.0.0.1:{server.server_port}/", text) for _ in range(arguments.times)]
    for what, seconds in zip(("ready", "answered"), zip(*each, strict=True), strict=True):
        print(f"{what}: {statistics.median(seconds):.1f} s of processor time (median; {min(seconds):.1f} to {max(seconds):.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
