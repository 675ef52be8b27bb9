"""Pages for a terminal: prose is wrapped, what a line means stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmfuzz.prose import COLUMNS, wrapped

PAGE = """\
# A heading that is longer than eighty columns, because it names everything that this page is about

A paragraph that is longer than eighty columns is wrapped; `a piece of code` in it is not torn.
- An item that is longer than eighty columns goes on below its own first word, wherever that is.
  So does its second line.

| a table | that is as wide as it has to be, whatever the number of columns of anybody's terminal |
|---|---|

```sh
a command --with many --options --that is longer --than eighty columns --and stays on one line
```
"""


def test_prose_is_wrapped_and_nothing_else() -> None:
    shown = wrapped(PAGE)
    assert shown.split() == PAGE.split()
    kept = [line for line in PAGE.splitlines() if line.startswith(("#", "| a", "a command"))]
    assert [line for line in shown.splitlines() if len(line) > COLUMNS] == kept
    assert (
        "\n- An item that is longer than eighty columns goes on below its own first word,\n  wherever that is. So does its second line.\n"
        in shown
    )
    assert "`a piece of code`" in shown


WORD = st.text("ab", min_size=1, max_size=9) | st.sampled_from(["-", "#", "1.", "+", ">", "`a b`", "*"])


@given(st.lists(WORD, min_size=1, max_size=60))
def test_a_paragraph_stays_one_paragraph(words: list[str]) -> None:
    text = "\n".join(["begin " + " ".join(words), "", "end"])
    shown = wrapped(text)
    assert shown.split() == text.split()
    assert wrapped(shown) == shown
    *lines, blank, end = shown.split("\n")
    assert (blank, end) == ("", "end")
    assert not any(line.split(" ")[0] in {"-", "#", "1.", "+", ">", "*"} for line in lines)
