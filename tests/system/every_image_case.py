"""An exported image of one case of each known deviation of Bochs, booted in Debian's Bochs: what each says, a line each in docs/report/images.jsonl.

    python tests/system/every_image_case.py docs/report/images.jsonl     # goes on where it was stopped; python tools/bochs_reports.py writes the page

An image takes two seconds on an idle processor. A case whose control Debian's older Bochs lacks is told as such by its image.
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
from pathlib import Path
from typing import Any, Final

from image_machine import ImageMachine, last_words

from vmfuzz.cli.places import stand_in
from vmfuzz.corpus.entries import Entry, entry_files, load
from vmfuzz.corpus.image_case import export_image
from vmfuzz.model.bochs_deviations import BOCHS_DEVIATIONS

CORPUS: Final = Path(__file__).parents[2] / "corpus"
#: The model of most entries that Debian's Bochs has too.
CPU: Final = "corei7_skylake_x"
EMULATOR: Final = "Bochs 2.7 of Debian 12"
#: How an image ends, and for how long one may say nothing: a panic of Bochs leaves its line open.
ENDS: Final = ("manual demands.\n", "to be 0\n", "nobody needs.\n", "did not run here.\n")
SECONDS: Final = 150.0


def cpu_of(entry: Entry) -> str:
    """The model on which the entry is exported: CPU where the deviation shows on it."""
    shown = [each.name for result in entry.results if result.comparison == entry.verdict for each in result.processors]
    return CPU if CPU in shown else shown[0]


def outcome(path: Path, entry: Entry) -> dict[str, Any]:
    """What the image says from the outcome on, in one line; None where Bochs died of it."""
    cpu = cpu_of(entry)
    with tempfile.TemporaryDirectory() as folder:
        iso = Path(folder, "case.iso")
        iso.write_bytes(export_image(entry, stand_in(path, entry, cpu), iso, uncontained=True))
        with ImageMachine(iso, CPU).start() as machine, socket.socket(socket.AF_UNIX) as line:
            line.connect(str(machine.line))
            try:
                said = last_words(line, ENDS, SECONDS)
            except TimeoutError:
                return {"id": entry.id, "cpu": cpu, "emulator": EMULATOR, "said": None}
    start = max(said.find(word) for word in ("\nactual:", "\nnot run:"))
    return {"id": entry.id, "cpu": cpu, "emulator": EMULATOR, "said": " ".join(said[start:].split())}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    done = {json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines()} if file.exists() else set()
    for deviation in BOCHS_DEVIATIONS:
        folder = CORPUS / f"deviation.{deviation.id}"
        if not folder.is_dir():
            continue
        path = entry_files(folder)[0]
        entry = load(path)
        if entry.id in done:
            continue
        with file.open("a", encoding="utf-8") as kept:
            kept.write(json.dumps(outcome(path, entry)) + "\n")


if __name__ == "__main__":
    main()
