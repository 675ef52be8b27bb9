"""The page as `make page` builds it, served on this machine, and opened in headless Chromium."""

from __future__ import annotations

import fcntl
import http.server
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "page"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder of the page, built where it is not what the sources give. Skips where nobody could build it."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("no npm on this machine (Debian: apt-get install nodejs npm), so the page cannot be built")
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / ".page-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers of pytest: one builds, the others find it built
        made = subprocess.run(["make", "-C", ROOT, "page"], capture_output=True, text=True, check=False)
    if "npm could not fetch" in made.stdout:
        pytest.skip("npm cannot fetch Pyodide here, so the page cannot be built")
    assert made.returncode == 0, made.stdout + made.stderr
    return BUILT


@pytest.fixture(scope="session")
def address(built: Path) -> Iterator[str]:
    """Where the page is served."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")  # two at a time are too many for playwright: tests/report has its own
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Tab:
    """The page in a tab: what it says on the console, and what it asks for elsewhere."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.said, self.elsewhere = page, list[str](), list[str]()
        page.set_default_timeout(0)  # a slow machine is no failure
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.context.on("request", lambda request: self._asked(request.url, address))
        page.goto(address)
        page.wait_for_selector("[data-state=ready], [data-state=failed]")
        assert page.inner_text("#status") == ""

    def _asked(self, url: str, address: str) -> None:
        if not url.startswith((address, f"blob:{address}")):
            self.elsewhere.append(url)

    def answered(self, question: Callable[[], object]) -> str:
        """What the page says once it has an answer to what `question` asks."""
        self.page.evaluate("document.documentElement.dataset.state = 'asked'")
        question()
        self.page.wait_for_selector("[data-state=answered]")
        return self.page.inner_text("#answers") if self.page.locator("#result").is_visible() else self.page.inner_text("#status")

    def check(self, text: str) -> str:
        """The answer to a text."""
        if self.page.locator("#release").is_visible():
            self.page.click("#release")
        self.page.fill("#text", text)
        return self.answered(lambda: self.page.click("#check"))

    def check_file(self, path: Path) -> str:
        """The answer to a file."""
        return self.answered(lambda: self.page.set_input_files("#file", path))


@pytest.fixture(scope="module")
def tab(browser: Any, address: str) -> Iterator[Tab]:
    """The page, ready; the tests of a module share it, since Python takes seconds to start."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, permissions=["clipboard-read", "clipboard-write"])
    opened = Tab(context.new_page(), address)
    yield opened
    context.close()


@pytest.fixture(scope="session")
def seed() -> str:
    """The seed question, which lies beside the repository; the test is skipped where it is not present."""
    path = ROOT.parent / "shared" / "spec" / "seed-question.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not present")
    return path.read_text(encoding="utf-8")
