"""Files that a person names: whole or as they were, links stay links, devices and pipes stay what they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmfuzz.cli.main import main
from vmfuzz.corpus.entries import entry_files
from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.files import read_json, require_writable, write_text

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "corpus"
SUMMARY = ROOT / "docs" / "report" / "summaries" / "tigerlake.json"


def test_a_link_stays_a_link_and_its_file_keeps_its_mode(tmp_path: Path) -> None:
    file, link, chain = tmp_path / "file", tmp_path / "a" / "link", tmp_path / "chain"
    file.write_text("before", encoding="utf-8")
    file.chmod(0o640)
    link.parent.mkdir()
    link.symlink_to("../file")
    chain.symlink_to(link)
    require_writable(chain)
    write_text(chain, "after")
    assert chain.is_symlink()
    assert link.is_symlink()
    assert file.read_text(encoding="utf-8") == "after"
    assert file.stat().st_mode & 0o7777 == 0o640
    assert sorted(tmp_path.iterdir()) == [link.parent, chain, file]


def test_a_link_to_nothing_makes_the_file_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new/file")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new" / "file").read_text(encoding="utf-8") == "text"


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o640


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for refuses in (require_writable, lambda path: write_text(path, "text")):
        with pytest.raises(EnvironmentUnusable, match="Too many levels of symbolic links"):
            refuses(tmp_path / "a")


def test_a_long_name_is_no_longer_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_text(path, "text")
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    # a pipe stands for devices: a test that fails must not cost the machine one
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for path in (pipe, tmp_path / "link"):
            if path != pipe:
                path.symlink_to(pipe)
            require_writable(path)
            write_text(path, "text")
            assert os.read(reader, 10) == b"text"
            assert pipe.is_fifo()
    finally:
        os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_a_device_that_is_full_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(EnvironmentUnusable, match=r"link: No space left on device$"):
        write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert Path("/dev/full").is_char_device()


def test_what_cannot_be_written_whole_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("before", encoding="utf-8")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentUnusable, match="No space left on device; what was there before is as it was"):
        write_text(file, "after")
    assert file.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["link", "file"])
def test_standard_output_gets_the_file_and_what_is_printed(tmp_path: Path, name: str) -> None:
    """`--summary /dev/stdout > file`: through a link of our own, since the machine's may be at stake, and by the file's own name."""
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to("/proc/self/fd/1")
    program = (
        "import sys; from pathlib import Path; from vmfuzz.files import write_text; "
        "print('one'); write_text(Path(sys.argv[1]), 'two\\n'); print('three')"
    )
    with file.open("w", encoding="utf-8") as output:
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], stdout=output, check=True)
    assert link.is_symlink()
    assert file.read_text(encoding="utf-8") == "one\ntwo\nthree\n"


def commands(tmp_path: Path) -> dict[str, list[str]]:
    """Every command that writes a file by name, each to `tmp_path`/link; `verdict` writes the entry that the link leads to."""
    entry = entry_files(CORPUS)[0]
    link = str(tmp_path / "link")
    return {
        "--summary": ["run", "-n", "50", "--summary", link],
        "--html": ["report", str(SUMMARY), "--html", link],
        "--junit": ["replay", str(entry), "--executor", "none", "--junit", link],
        "export": ["export", entry.stem, "--corpus", str(CORPUS), "--c", "-o", link],
        "verdict": ["verdict", entry.stem, "open", "--corpus", str(tmp_path)],
    }


@pytest.mark.parametrize("name", commands(Path()))
def test_every_command_writes_through_links(name: str, tmp_path: Path) -> None:
    """The link's name is that of the corpus entry where the command looks for one."""
    source = entry_files(CORPUS)[0]
    file = tmp_path / "elsewhere" / "file"
    file.parent.mkdir()
    shutil.copyfile(source, file)
    file.chmod(0o600)
    link = tmp_path / (source.name if name == "verdict" else "link")
    link.symlink_to(file)
    result = CliRunner().invoke(main, commands(tmp_path)[name], catch_exceptions=False)
    assert result.exit_code in (0, 1), result.output
    assert link.is_symlink()
    assert file.read_bytes() != source.read_bytes()
    assert file.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(
    "arguments", [["report", str(SUMMARY), "--html"], ["export", "0", "--c", "-o"], ["suite", "guest.gs.p", "-o"]], ids=" ".join
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    result = CliRunner().invoke(main, [*arguments, str(tmp_path / "file" / "new")], catch_exceptions=False)
    assert result.exit_code == 3
    assert f"{tmp_path / 'file'} is not a directory that can be written" in result.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON: Expecting property name"),
        (b"[" * 200_000, "is not JSON: it is nested too deeply"),
        (b"\xff\xfe{}", "is not JSON: byte 0 is not UTF-8 text"),
        (b"", "is not JSON: Expecting value"),
    ],
    ids=["cut off", "deep", "binary", "empty"],
)
def test_what_is_no_json_is_refused_with_the_reason(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_json(tmp_path / "data.json")


def test_json_is_read(tmp_path: Path) -> None:
    write_text(tmp_path / "data.json", json.dumps({"a": [1, None]}))
    assert read_json(tmp_path / "data.json") == {"a": [1, None]}
    with pytest.raises(UsageError, match="cannot read"):
        read_json(tmp_path)


def test_a_character_that_is_none_is_written_as_json_writes_it(tmp_path: Path) -> None:
    write_text(tmp_path / "data.json", '{"reason": "\ud800"}')
    assert read_json(tmp_path / "data.json") == {"reason": "\ud800"}
