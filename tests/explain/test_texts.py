"""Every text of the corpus (tests/texts) is read, judged and explained as its header says; corpus_of_texts.py writes the headers."""

from __future__ import annotations

from pathlib import Path

import corpus_of_texts as texts
import pytest


@pytest.mark.parametrize("path", texts.files(), ids=lambda path: path.relative_to(texts.TEXTS).with_suffix("").as_posix())
def test_the_answer_is_what_the_header_says(path: Path) -> None:
    try:
        difference = texts.changed(path)
    except FileNotFoundError:
        pytest.skip("the text lies beside the repository, and is not there")
    assert difference is None, "\n".join(
        [
            *(f"- {line}" for line in difference[0] if line not in difference[1]),
            *(f"+ {line}" for line in difference[1] if line not in difference[0]),
        ]
    )


def test_an_update_keeps_what_people_wrote_and_the_text(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    body = "GUEST_CR0 = 0x80000031\r\nexit reason 0x80000021, qualification 0\n\n# a line of the text\n"
    path.write_bytes(b"# note: somebody's\n\n" + body.encode())
    assert texts.update(path)
    header, text = texts.parts(path)
    assert text == body
    assert header[0] == "note: somebody's"
    assert "fields: guest_cr0=80000031@1" in header
    assert any(line.startswith("outcome: 80000021 q0 ") for line in header)
    assert not texts.update(path)


def test_every_file_says_what_it_is_for() -> None:
    without = [path for path in texts.files() if not any(line.startswith(("note: ", "text: ")) for line in texts.parts_of_header(path))]
    assert without == []
