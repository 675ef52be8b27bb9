"""Reads, judges and explains texts with Python's standard library alone, as the page in the browser does: no package can be imported.

    python -I -S tests/explain/standard_library_only.py             # every text of tests/texts: is the answer what its header says?
    python -I -S tests/explain/standard_library_only.py FILE ...    # these only

-S leaves out the folder that packages are installed in. test_standard_library_only.py runs this with some of the texts.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: What vmfuzz needs otherwise.
PACKAGES = ("numpy", "cffi", "click", "rich", "hypothesis", "bochscpu")


def main(names: list[str]) -> int:
    """Command line."""
    importable = [name for name in PACKAGES if importlib.util.find_spec(name) is not None]
    if importable:
        print(f"run this with python -I -S: {', '.join(importable)} can be imported")
        return 2
    sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE)]
    import corpus_of_texts

    from vmfuzz.explain.answer.as_json import to_json
    from vmfuzz.explain.answer.states import answers
    from vmfuzz.explain.page_data import answered

    different = read = 0
    for path in [Path(name) for name in names] or corpus_of_texts.files():
        try:
            difference = corpus_of_texts.changed(path)
            text = corpus_of_texts.parts(path)[1]
        except FileNotFoundError:
            continue
        read += 1
        codes = [to_json(found)["exit_code"] for found in answers(corpus_of_texts.read_text(text, "text"))]
        shown = [one["exit_code"] for one in answered(text.encode("utf-8"))["answers"]]
        # the page takes a single line as what a person asks about, and so may have an answer where a text has none
        if difference is not None or (shown != codes and text.strip().count("\n")):
            print(f"another answer: {path}")
            different += 1
    print(f"{read} texts, {different} with another answer than with all packages")
    return 1 if different or not read else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
