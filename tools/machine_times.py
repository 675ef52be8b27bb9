"""The table of tests/system/README.md that says what each machine test takes.

    make test-system                                            # keeps its times in build/machine-tests.xml
    python tools/machine_times.py build/machine-tests.xml       # writes the table

Tests that were skipped are left out. Times are by the clock: what counts is each test's share. The first test of a file boots its machine.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from vmfuzz.files import write_text

PAGE: Final = Path(__file__).parents[1] / "tests" / "system" / "README.md"
#: Group 2 is what `table` writes.
BLOCK: Final = re.compile(r"(<!-- times of the machine tests -->\n)(.*?)(<!-- end of times -->)", re.DOTALL)


def times(path: Path) -> dict[tuple[str, str], float]:
    """Seconds of each test that ran, by its file and name, from a JUnit file of pytest's."""
    cases = ElementTree.parse(path).iter("testcase")
    return {
        (case.attrib["classname"].rpartition(".")[2], case.attrib["name"]): float(case.attrib["time"])
        for case in cases
        if case.find("skipped") is None
    }


def table(found: dict[tuple[str, str], float]) -> str:
    """The block between the markers."""
    total = sum(found.values())
    lines = ["| test | seconds | share |", "| --- | ---: | ---: |"]
    for (file, name), seconds in sorted(found.items(), key=lambda item: item[0][0]):
        lines.append(f"| `{file}.py` `{name}` | {seconds:,.0f} | {seconds / total:.1%} |".replace("%", " %"))
    return "\n".join([*lines, f"| all | {total:,.0f} | 100 % |", ""])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="XML", help="what pytest --junitxml wrote")
    found = times(parser.parse_args().results)
    if not found:
        parser.error("no test ran; are the packages there that tests/system/README.md lists?")
    write_text(PAGE, BLOCK.sub(lambda match: match[1] + table(found) + match[3], PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
