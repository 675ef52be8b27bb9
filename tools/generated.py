"""Which committed files are not what their generators write now.

    python tools/generated.py --check [--figures]     # names each stale file and the command that writes it; exit code 1 if there is one
    python tools/generated.py                         # writes those anew

These are the files that are made of the sources or of kept results within seconds. --figures adds what commands print (figures.py), which takes
minutes. What comes of campaigns of hours has its own scripts (README.md beside this one): they keep their results, and the pages are made of these.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import api_page
import bochs_reports
import campaigns
import figures
import kvm_page
import man_pages
import module_page
import write_processors
from vmfuzz.files import write_text
from vmfuzz.state.profiles import write_profile

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Generated:
    """A file as its generator writes it now; `words`: only its words count, since another version of a library lays them out otherwise."""

    path: Path
    text: str
    command: str
    words: bool = False

    @property
    def stale(self) -> bool:
        """Whether the file says something else, or is not there."""
        if not self.path.is_file():
            return True
        kept = self.path.read_text(encoding="utf-8")
        return kept.split() != self.text.split() if self.words else kept != self.text


def generated() -> Iterator[Generated]:
    """All files that are made within seconds."""
    docs = ROOT / "docs"
    yield Generated(docs / "api.md", api_page.page(), "tools/api_page.py > docs/api.md")
    yield Generated(bochs_reports.PAGE, bochs_reports.page(), "tools/bochs_reports.py")
    yield Generated(module_page.PAGE, module_page.written(), "tools/module_page.py")
    yield Generated(kvm_page.PAGE, kvm_page.page(), "tools/kvm_page.py")
    yield Generated(kvm_page.REPORT, kvm_page.written(), "tools/kvm_page.py")
    summaries = campaigns.published()
    yield Generated(docs / "agreement.md", campaigns.agreement_page(summaries), "tools/campaigns.py pages")
    yield Generated(docs / "checks.md", campaigns.checks_page(summaries), "tools/campaigns.py pages")
    yield Generated(write_processors.PAGE, write_processors.text(), "tools/write_processors.py")
    with tempfile.TemporaryDirectory() as place:
        for processor in write_processors.processors():
            caps = processor.capabilities
            new = write_profile(Path(place), processor.name, caps, write_processors.state(caps), processor.description)
            yield Generated(write_processors.PROFILES / new.name, new.read_text(encoding="utf-8"), "tools/write_processors.py")
    with tempfile.TemporaryDirectory() as place:
        man_pages.write_pages(Path(place))
        for page in sorted(Path(place).iterdir()):
            yield Generated(docs / "man" / page.name, page.read_text(encoding="utf-8"), "tools/man_pages.py", words=True)
    with tempfile.TemporaryDirectory() as place:
        man_pages.write_completions(Path(place))
        for name in man_pages.COMPLETIONS.values():
            text = (Path(place) / name).read_text(encoding="utf-8")
            yield Generated(docs / "completion" / name, text, "tools/man_pages.py", words=True)


def shown() -> Iterator[Generated]:
    """The documents that show what commands print."""
    for page in figures.PAGES:
        yield Generated(page, figures.renewed(page), "tools/figures.py")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale")
    parser.add_argument("--figures", action="store_true", help="also what commands print, which takes minutes")
    arguments = parser.parse_args()
    stale = [file for file in (*generated(), *(shown() if arguments.figures else ())) if file.stale]
    for file in stale:
        if arguments.check:
            print(f"{file.path.relative_to(ROOT)} is stale: python {file.command}")
        else:
            write_text(file.path, file.text)
            print(f"wrote {file.path.relative_to(ROOT)}")
    if arguments.check and stale:
        sys.exit(1)


if __name__ == "__main__":
    main()
