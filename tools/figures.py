"""Put what commands print now into the documents that show it.

    python tools/figures.py

A document says `<!-- figures: COMMAND -->` before a fenced block; the block becomes what COMMAND prints. `COMMAND | WORD` leaves the paragraphs
that contain WORD. tests/test_documents.py runs the same commands and compares, all but times and rates. Same seed, same candidates holds for one
version of Hypothesis, which draws them; README.md names the one that was used.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

from vmfuzz.files import write_text

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
VMFUZZ: Final = (sys.executable, "-c", "from vmfuzz.cli.main import main; main()")
#: Group 1: the marker's line and the fence; 2: the command; 3: the word, or None; 4: the block.
BLOCK: Final = re.compile(r"(<!-- figures: (vmfuzz [^|\n]+?)(?: \| ([^\n]+?))? -->\n+```\n)(.*?)(?=```)", re.DOTALL)
MADE_WITH: Final = re.compile(r"<!-- figures made with hypothesis (\S+) -->")


def printed(command: str, word: str | None) -> str:
    """What a command prints, or the paragraphs of it with the word."""
    done = subprocess.run([*VMFUZZ, *shlex.split(command)[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"{command}: nothing printed, status {done.returncode}")
    # tables are padded with spaces up to their width
    text = "\n".join(map(str.rstrip, done.stdout.splitlines()))
    parts = [text] if word is None else [part.strip("\n") for part in text.split("\n\n") if word in part]
    return "\n\n".join(parts) + "\n"


def comparable(text: str) -> str:
    """The text without what differs from run to run: times and rates."""
    return re.sub(r"in [\d.,]+ s \([\d,]+/s; ", "in TIME (", text)


def renewed(page: Path) -> str:
    """A document with what the commands print now; a block that differs in times and rates only stays."""

    def block(match: re.Match[str]) -> str:
        now = printed(match[2], match[3])
        return match[0] if comparable(now) == comparable(match[4]) else match[1] + now

    new = BLOCK.sub(block, page.read_text(encoding="utf-8"))
    return MADE_WITH.sub(f"<!-- figures made with hypothesis {metadata.version('hypothesis')} -->", new)


def main() -> None:
    """Write the blocks anew."""
    for page in PAGES:
        new = renewed(page)
        if new != page.read_text(encoding="utf-8"):
            write_text(page, new)
            print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
