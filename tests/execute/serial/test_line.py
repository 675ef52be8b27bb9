"""The line to the bootable image: both sides as they are, the image's as a process, with a line between them that may lose and damage bytes."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.execute.kmod.abi import kmod_constants
from vmfuzz.execute.serial import link as link_module
from vmfuzz.execute.serial.abi import line_constants
from vmfuzz.execute.serial.coding import BadMessage, Rows, decode, encode
from vmfuzz.execute.serial.link import Link, MachineHung, Restarted, stuffed, unstuffed
from vmfuzz.execute.serial.port import LineClosed, Port
from vmfuzz.execute.wire.abi import struct_dtype

ROOT = Path(__file__).parents[3]
ECHO, DIE, HANG, TALK = 1, 2, 3, 4
DIGEST = 0x1234_5678_9ABC_DEF0
#: What follows the results in an answer of host_image.c.
TAIL = bytes(range(1, 17))

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc builds the image's side of the line")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("host_image") / "host_image"
    sources = (Path(__file__).with_name("host_image.c"), ROOT / "image" / "link.c", ROOT / "image" / "coding.c")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", f"-I{ROOT / 'image'}", f"-I{ROOT / 'kmod'}"]
    subprocess.run(["gcc", *flags, "-o", built, *sources], check=True)
    return built


@pytest.fixture
def machine(program: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The image as a process, whose standard input and output are the line."""
    there, here = socket.socketpair()
    with subprocess.Popen([program], stdin=there, stdout=there) as process:
        there.close()
        process.line = here  # type: ignore[attr-defined]
        yield process
        here.close()
        process.kill()


class ThisPort(Port):
    """A port that is open already."""

    def _open(self, where: str) -> int:
        return int(where)


class BadPort(ThisPort):
    """One in so many bytes is lost or becomes another, in both directions."""

    def __init__(self, where: str, one_in: int, seed: int) -> None:
        super().__init__(where)
        self._random, self._one_in = random.Random(seed), one_in

    def _damaged(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            if self._random.randrange(self._one_in):
                out.append(byte)
            elif self._random.randrange(2):
                out.append(self._random.randrange(256))
        return bytes(out)

    def send(self, data: bytes) -> None:
        super().send(self._damaged(data))

    def receive(self, seconds: float) -> bytes:
        data = super().receive(seconds)
        return self._damaged(data) if data else data


Opening = Callable[..., Link]


@pytest.fixture
def opened(machine: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> Opening:
    monkeypatch.setattr(link_module, "_PIECE_SECONDS", 0.1)
    monkeypatch.setattr(link_module, "_QUIET_SECONDS", 0.05)

    def open_it(port: type[ThisPort] = ThisPort, *options: int, answer_seconds: float = 30) -> Link:
        file = os.dup(machine.line.fileno())  # type: ignore[attr-defined]
        return Link(port(str(file), *options), answer_seconds=answer_seconds, boot_seconds=30)

    return open_it


def ask(link: Link, code: int, message: bytes, rows: Rows = Rows()) -> tuple[int, bytes]:  # noqa: B008
    return decode(link.request(encode(code, message, rows, DIGEST)))


def echoed(message: bytes) -> bytes:
    return bytes((byte + 1) & 0xFF for byte in message)


def results(count: int, different: int, chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Rows of an answer, with so many that differ from each other; each of these is there, and most are like the one before."""
    kinds = chance.integers(0, 256, (different, struct_dtype("result").itemsize), np.uint8) * (chance.random((different, 32)) < 0.3)
    which = np.concatenate((np.arange(different), chance.integers(0, different, count - different) if different else []))[:count]
    return np.asarray(kinds.astype(np.uint8)[np.repeat(which.astype(np.intp), chance.integers(1, 40, len(which)))[:count]])


@pytest.mark.parametrize(
    ("count", "different"), [(0, 0), (1, 1), (8, 1), (300, 1), (300, 3), (3000, 100), (20_000, 240), (20_000, 2000)], ids=str
)
def test_the_answer_of_a_run_comes_back(opened: Opening, count: int, different: int) -> None:
    """Results that are like one before take a byte at most; where too many differ they take more, and are as they were."""
    link, chance = opened(), np.random.default_rng(count + different)
    rows = results(count, different, chance)
    head: Any = np.zeros(1, struct_dtype("run"))
    stride = struct_dtype("result").itemsize + 16
    head["row_count"], head["row_bytes"] = len(rows), stride
    area = chance.integers(0, 256, (len(rows), stride), np.uint8)
    area[:, : rows.shape[1]] = rows
    payload = head.tobytes() + area.tobytes()
    before = link.received
    code, answer = ask(link, kmod_constants()["IOC_RUN"], payload, Rows(head.nbytes, stride))
    assert code == 0
    assert answer == head.tobytes() + rows.tobytes() + TAIL
    if 0 < different < 4:
        assert link.received - before < 250 + len(rows) / 8


@pytest.mark.parametrize("columns", [0, 1, 7, 8, 9, 70, 260])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_rows_of_all_shapes_come_back(opened: Opening, columns: int, count: int) -> None:
    """The image takes apart what is put together here, and this is not longer than the rows."""
    link, chance = opened(), np.random.default_rng(columns)
    table = np.tile(chance.integers(0, 2**64, columns, np.uint64), (count, 1))
    changed = chance.random(table.shape) < 0.2
    table[changed] = chance.integers(0, 2**16, int(changed.sum()), np.uint64)
    message = b"12345678" * 3 + table.tobytes()
    assert ask(link, ECHO, message, Rows(24, 8 * columns)) == (len(message), echoed(message))


def test_a_coded_message_that_does_not_fit_together_is_refused(opened: Opening) -> None:
    """The image's decoder never reads or writes outside of what it has: it runs under the address sanitizer here."""
    link, chance = opened(), random.Random(1)
    table = np.random.default_rng(1).integers(0, 3, (30, 12), np.uint64)
    good = encode(ECHO, b"12345678" + table.tobytes(), Rows(8, 96))
    refused = 0
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            bad[chance.choice((chance.randrange(4, 40), chance.randrange(40, len(bad))))] = chance.randrange(256)
        cut = chance.choice((len(bad), chance.randrange(len(bad))))
        refused += decode(link.request(bytes(bad[:cut])))[0] == errno.EMSGSIZE
    assert 100 < refused
    assert decode(link.request(good))[0] == 8 + table.nbytes


@given(st.binary(max_size=80), st.integers(0, 3))
def test_what_is_no_answer_is_told(content: bytes, kept: int) -> None:
    head: Any = np.zeros(1, struct_dtype("coded"))
    head["length"], head["from"], head["to"], head["stride"], head["kept"], head["index"] = 200, 8, 168, 32, kept, 8
    with contextlib.suppress(BadMessage):
        code, message = decode(head.tobytes() + content)
        assert (code, len(message)) == (0, 200)


def test_rows_that_are_alike_take_a_byte() -> None:
    """In which only some columns change, and of these a few in each row."""
    table = np.tile(np.arange(15, dtype=np.uint64) << np.uint64(40), (1000, 1))
    table[::10, 3] = 0
    table[5::10, 14] ^= np.uint64(0x1001)
    assert len(encode(0, bytes(96) + table.tobytes(), Rows(96, 120))) < 40 + 200 + 1000 + 100 * 2 + 100 * 3


@given(st.binary(max_size=300))
def test_a_frame_has_no_end_inside_and_gives_back_what_was_put_in(content: bytes) -> None:
    end = line_constants()["LINE_END"]
    framed = stuffed(content)
    assert framed[0] == framed[-1] == end
    assert end not in framed[1:-1]
    assert unstuffed(framed[1:-1]) == (content if len(content) >= 16 else None)


def test_an_end_lies_unread_while_the_image_works(opened: Opening) -> None:
    """Behind each frame stands one END more, and it is no frame that the image would answer."""
    link, code = opened(), line_constants()
    sent: list[bytes] = []
    deliver = link._port.send
    link._port.send = lambda data: (sent.append(data), deliver(data))[1]  # type: ignore[method-assign]
    assert ask(link, ECHO, bytes(8)) == (8, echoed(bytes(8)))
    assert sent
    for frame in sent:
        end = bytes([code["LINE_END"]])
        assert frame.startswith(end)
        assert frame.endswith(end * 2)
        assert frame.count(end) == 3
    assert not link._damaged


def test_text_is_no_frame() -> None:
    assert unstuffed(b"\r\nvmfuzz: fuzzes this machine's VM entries\r\n") is None


def test_requests_of_all_sizes_come_back(opened: Opening) -> None:
    link = opened()
    assert (link.hello.boot, link.hello.died) == (1, 0)
    assert "firmware says nothing of interest" in link.last_words
    chance = np.random.default_rng(1)
    for length in (0, 8, 800, 8 * 2048, 8 * 70_000):
        message = chance.integers(0, 3, length, np.uint8).tobytes()
        code, answer = ask(link, ECHO, message, Rows(length % 16, 16))
        assert (code, answer) == (length, echoed(message))


def test_text_between_frames_is_kept(opened: Opening) -> None:
    link = opened()
    assert ask(link, TALK, bytes(16)) == (16, echoed(bytes(16)))
    assert link.last_words.endswith("text of the image")


@pytest.mark.parametrize("seed", range(3))
def test_a_line_that_loses_and_damages_bytes_never_gives_a_wrong_answer(opened: Opening, seed: int) -> None:
    link = opened(BadPort, 1500, seed)
    chance = np.random.default_rng(seed)
    for _ in range(4):
        message = chance.integers(0, 256, 4000, np.uint8).tobytes()
        assert ask(link, ECHO, message) == (4000, echoed(message))
    assert link._piece < line_constants()["LINE_PIECE"], "nothing was lost: the test shows nothing"


class SlowPort(ThisPort):
    """Bytes take their time to the other side, as on a slow line, however long the sender waits."""

    def __init__(self, where: str, bytes_a_second: int) -> None:
        super().__init__(where)
        self._seconds = 1 / bytes_a_second
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._deliver, daemon=True).start()

    def _deliver(self) -> None:
        while True:
            data = self._waiting.get()
            time.sleep(len(data) * self._seconds)
            with contextlib.suppress(OSError, LineClosed):
                super().send(data)

    def send(self, data: bytes) -> None:
        self._waiting.put(data)


def test_a_slow_line_is_not_flooded(opened: Opening) -> None:
    """A piece takes far longer than an acknowledgement may take at first: after some have been sent twice, none is."""
    link = opened(SlowPort, 8000)
    message = np.random.default_rng(1).integers(0, 256, 8000, np.uint8).tobytes()
    assert ask(link, ECHO, message) == (8000, echoed(message))
    before = link.sent
    assert ask(link, ECHO, message) == (8000, echoed(message))
    assert link.sent - before < 1.3 * len(message)


def test_who_comes_second_finds_a_clean_line(opened: Opening) -> None:
    first = opened()
    first._port.send(stuffed(bytes(3000))[:1000])  # and is gone in the middle of a frame
    first.close()
    assert ask(opened(), ECHO, bytes(8)) == (8, echoed(bytes(8)))


def test_a_reset_is_told_with_its_culprit(opened: Opening) -> None:
    link = opened()
    with pytest.raises(Restarted) as told:
        ask(link, DIE, bytes(8))
    hello = told.value.hello
    assert (hello.boot, hello.digest, hello.row, hello.died_of_a_row) == (2, DIGEST, 5, True)
    assert "reset while this candidate ran" in hello.how
    assert ask(link, ECHO, bytes(8)) == (8, echoed(bytes(8)))


def test_a_hang_is_no_reset(opened: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "_LAST_SECONDS", 0.2)
    with pytest.raises(MachineHung, match=r"did not answer for 0.2 s: it hangs; the last that it wrote: firmware"):
        ask(opened(answer_seconds=0.2), HANG, bytes(8))


def test_a_closed_line_is_neither(opened: Opening, machine: subprocess.Popen[bytes]) -> None:
    link = opened()
    machine.kill()
    machine.wait()
    with pytest.raises(LineClosed, match="the line is closed"):
        ask(link, ECHO, bytes(8))


def test_nobody_answers() -> None:
    here, there = socket.socketpair()
    with there, pytest.raises(EnvironmentUnusable, match=r"no image answers for 0.1 s"):
        Link(ThisPort(str(here.detach())), answer_seconds=1, boot_seconds=0.1)


def test_a_machine_that_boots_is_asked_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was asked before it read anything lies in the line, and on a slow one it answers that for minutes."""
    monkeypatch.setattr(link_module, "_PIECE_SECONDS", 0.02)
    here, there = socket.socketpair()
    with there:
        with pytest.raises(EnvironmentUnusable, match=r"no image answers for 0.5 s"):
            Link(ThisPort(str(here.detach())), answer_seconds=1, boot_seconds=0.5)
        end = bytes([line_constants()["LINE_END"]])
        assert 2 <= there.recv(1 << 16).count(end) // 3 <= 6


def test_places(tmp_path: Path) -> None:
    """A Unix socket, TCP and a terminal carry bytes as they are; others are told."""
    all_bytes = bytes(range(256))
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(str(tmp_path / "line"))
        unix.listen(1)
        for where, server in ((f"unix:{tmp_path / 'line'}", unix), (f"tcp:127.0.0.1:{tcp.getsockname()[1]}", tcp)):
            port = Port(where)
            with server.accept()[0] as other:
                port.send(all_bytes)
                assert other.recv(1000) == all_bytes
                other.sendall(all_bytes)
                assert port.receive(5) == all_bytes
            with pytest.raises(LineClosed):
                port.receive(5)
            port.close()
    master, slave = os.openpty()
    port = Port(f"{os.ttyname(slave)}@9600")
    threading.Thread(target=port.send, args=(all_bytes,)).start()
    came = b""
    while len(came) < len(all_bytes):
        came += os.read(master, 1000)
    assert came == all_bytes
    port.close()
    for file in (master, slave):
        os.close(file)


@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        ("ttyS0", UsageError, "expected unix:PATH, tcp:HOST:PORT, or a terminal"),
        ("tcp:host", UsageError, "expected unix:PATH"),
        ("/dev/null@fast", UsageError, "expected unix:PATH"),
        ("/dev/null@123", UsageError, "123 baud: expected a speed of terminals"),
        ("/dev/null", EnvironmentUnusable, "Inappropriate ioctl"),
        ("unix:/nonexistent/line", EnvironmentUnusable, "is the machine on"),
        ("/dev/nonexistent", EnvironmentUnusable, "No such file"),
    ],
)
def test_a_place_that_is_none_is_told(where: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Port(where)
