"""vmfuzz's side of the serial line: frames, pieces, acknowledgements. image/line.h describes it, image/link.c is the other side."""

from __future__ import annotations

import re
import secrets
import time
import zlib
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.execute.kmod.device import DeviceLost
from vmfuzz.execute.serial.abi import line_constants
from vmfuzz.execute.serial.port import Port
from vmfuzz.execute.wire.abi import struct_dtype

#: So long the other side may take to acknowledge a piece, then it is sent again; longer on a line that was seen to be slow.
_PIECE_SECONDS: Final = 2.0
#: On a slow line an acknowledgement may take so many times as long as the last one did.
_PATIENCE: Final = 4
#: Who does not say hello is asked again after that, then ever less often, up to this.
_MOST_GREETING_SECONDS: Final = 30.0
#: After its first word the image answers what was sent while it booted, until it is quiet for so long.
_QUIET_SECONDS: Final = 0.2
#: After a request's time is over, its answer is asked for so much longer: it may be there and its beginning lost.
_LAST_SECONDS: Final = 6.0
#: A piece that got lost is sent in smaller ones: some UARTs overwrite what nobody has read yet (ACRN's after 256 bytes).
_LEAST_PIECE: Final = 128
#: So many lines of the image's text are kept.
_LINES: Final = 12
_ESCAPE_SEQUENCES: Final = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]|[^\x20-\x7e]+")


class MachineHung(DeviceLost):
    """The machine does not answer any more, and nobody reset it."""


class Restarted(DeviceLost):
    """The machine was reset and the image is there again; `hello` is what it said."""

    def __init__(self, text: str, hello: Hello) -> None:
        super().__init__(text)
        self.hello = hello


@dataclass(frozen=True)
class Hello:
    """What the image knows of itself: `struct vmfuzz_line_hello`."""

    version: int
    uapi_version: int
    boot: int
    boots: int
    died: int
    vector: int
    digest: int
    row: int

    @property
    def died_of_a_row(self) -> bool:
        """Whether the machine was reset while a row ran: `row` of the request with this `digest`."""
        return self.died >= line_constants()["DIED_ROW"]

    @property
    def died_of_nothing(self) -> bool:
        """Whether the machine was reset while no row ran: between two requests, or while one came over the line."""
        return self.died == line_constants()["DIED_IDLE"]

    @property
    def how(self) -> str:
        """How the boot before this one ended, for people."""
        code = line_constants()
        return {
            code["DIED_IDLE"]: "the machine was reset while no candidate ran",
            code["DIED_ROW"]: "the machine was reset while this candidate ran, and printed nothing (a triple fault, or a hang)",
            code["DIED_EXCEPTION"]: f"exception {self.vector} in the host while this candidate ran",
            code["DIED_HOST_STATE"]: "host state did not come back after this candidate",
        }.get(self.died, "the machine was reset, and its memory did not last")


@dataclass(frozen=True)
class _Frame:
    kind: int
    number: int
    offset: int
    total: int
    piece: bytes


def stuffed(content: bytes) -> bytes:
    """A frame with `content` and its CRC in it."""
    code = line_constants()
    end, esc = bytes([code["LINE_END"]]), bytes([code["LINE_ESC"]])
    whole = content + zlib.crc32(content).to_bytes(4, "little")
    whole = whole.replace(esc, esc + bytes([code["LINE_ESC_ESC"]])).replace(end, esc + bytes([code["LINE_ESC_END"]]))
    return end + whole + end


def unstuffed(between: bytes) -> bytes | None:
    """The content of what stands between two ENDs; None where that is no frame."""
    code = line_constants()
    end, esc = bytes([code["LINE_END"]]), bytes([code["LINE_ESC"]])
    whole = between.replace(esc + bytes([code["LINE_ESC_END"]]), end).replace(esc + bytes([code["LINE_ESC_ESC"]]), esc)
    if len(whole) < struct_dtype("line_head").itemsize + 4 or zlib.crc32(whole[:-4]).to_bytes(4, "little") != whole[-4:]:
        return None
    return whole[:-4]


class Link:
    """A line with the image at its other end.

    `answer_seconds`: so long a request may take; `boot_seconds`: so long the machine may take to boot. Raises EnvironmentUnusable where nobody
    answers, or an image of another version.
    """

    def __init__(self, port: Port, *, answer_seconds: float, boot_seconds: float) -> None:
        self._port, self._answer_seconds, self._boot_seconds = port, answer_seconds, boot_seconds
        self._kept = bytearray()
        self._text: deque[str] = deque(maxlen=_LINES)
        self._number = secrets.randbits(31)
        self._piece = line_constants()["LINE_PIECE"]
        #: so long an acknowledgement may take on this line
        self._patience = _PIECE_SECONDS
        #: whether something came since the present request that is no frame
        self._damaged = False
        #: bytes sent and received so far
        self.sent = self.received = 0
        self.hello = self.greet()

    @property
    def last_words(self) -> str:
        """What the image, or the firmware before it, wrote last, as one line."""
        return " / ".join(self._text)

    def greet(self, other_than: int | None = None) -> Hello:
        """Wait until the image says who it is, and in another boot than `other_than`, where that is given."""
        until, wait = time.monotonic() + self._boot_seconds, self._patience
        while time.monotonic() < until:
            self._send("LINE_HELLO")
            while (frame := self._frame(min(wait, until - time.monotonic()))) is not None:
                if frame.kind == line_constants()["LINE_HELLO"] and (hello := _hello(frame)).boot != other_than:
                    while self._frame(_QUIET_SECONDS) is not None:
                        continue
                    return self._accepted(hello)
            # a machine that boots says hello by itself; all that was asked before it read anything lies in the line until then
            wait = min(2 * wait, _MOST_GREETING_SECONDS)
        said = f"; the last that came: {self.last_words}" if self._text else ""
        raise EnvironmentUnusable(
            f"serial:{self._port.where}: no image answers for {self._boot_seconds:g} s{said}; is the machine on, did it boot vmfuzz.iso, is its "
            "first serial port this line (docs/hypervisors.md)?"
        )

    def _accepted(self, hello: Hello) -> Hello:
        expected = line_constants()["LINE_VERSION"]
        if hello.version != expected:
            raise EnvironmentUnusable(
                f"serial:{self._port.where}: the image speaks version {hello.version} of the line, this vmfuzz {expected}; build it again: make -C image"
            )
        self.hello = hello
        return hello

    def request(self, coded: bytes) -> bytes:
        """Send a coded request and wait for its coded answer. Raises Restarted, MachineHung and LineClosed."""
        self._number = self._number % 0x7FFF_FFFF + 1
        self._damaged = False
        first = self._put(coded)
        if first is None:
            first = self._first_part()
        answer = bytearray(first.piece)
        while len(answer) < first.total:
            answer += self._part(len(answer), self._answer_seconds).piece
        return bytes(answer)

    def _put(self, coded: bytes) -> _Frame | None:
        """Send a request piece by piece; the first part of the answer, if that came in place of the last acknowledgement."""
        code, offset, lossless, again, until = line_constants(), 0, True, False, time.monotonic() + self._answer_seconds
        while offset < len(coded):
            began, whole = time.monotonic(), len(coded) - offset >= self._piece
            self._send("LINE_PUT", offset, len(coded), coded[offset : offset + self._piece])
            frame = self._acknowledgement(offset)
            if frame is None:
                lossless, again = False, True
                self._lost()
                if time.monotonic() > until:
                    raise self._hung("acknowledges no request")
            elif frame.kind == code["LINE_PART"]:
                return frame
            else:
                if whole and not again:  # of one that was sent twice nobody knows which is acknowledged
                    self._patience = max(_PIECE_SECONDS, _PATIENCE * (time.monotonic() - began))
                offset, again, until = frame.offset, False, time.monotonic() + self._answer_seconds
        if lossless:
            self._piece = min(self._piece * 2, code["LINE_PIECE"])
        return None

    def _lost(self) -> None:
        """Nothing came in time: it was lost, for which smaller pieces help, or the line is slow, for which patience does."""
        self._piece = max(self._piece // 2, _LEAST_PIECE)
        self._patience = min(2 * self._patience, max(self._answer_seconds, _PIECE_SECONDS))

    def _acknowledgement(self, offset: int) -> _Frame | None:
        """What says that the piece at `offset` arrived; None where it has to be sent again. One that came twice is acknowledged twice."""
        code, until = line_constants(), time.monotonic() + self._patience
        while (frame := self._reply(until - time.monotonic())) is not None and frame.kind != code["LINE_AGAIN"]:
            if frame.kind == code["LINE_PART"] or (frame.kind == code["LINE_GOT"] and frame.offset > offset):
                return frame
        return None

    def _first_part(self) -> _Frame:
        """The answer's beginning, which comes by itself; asked for after silence, and where something came that is no frame."""
        until = time.monotonic() + self._answer_seconds
        while (left := until - time.monotonic()) > 0:
            frame = self._reply(min(left, self._patience))
            if frame is not None and frame.kind == line_constants()["LINE_PART"] and frame.offset == 0:
                return frame
            if frame is None and (self._damaged or self._kept):
                break
        return self._part(0, max(until - time.monotonic(), _LAST_SECONDS))

    def _part(self, offset: int, seconds: float) -> _Frame:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._send("LINE_GET", offset, self._piece)
            while (frame := self._reply(self._patience)) is not None:
                if frame.kind == line_constants()["LINE_PART"] and frame.offset == offset:
                    return frame
            self._lost()
        raise self._hung(f"did not answer for {self._answer_seconds:g} s")

    def _hung(self, what: str) -> MachineHung:
        return MachineHung(
            f"serial:{self._port.where}: the machine {what}: it hangs; the last that it wrote: {self.last_words or 'nothing'}"
        )

    def _reply(self, seconds: float) -> _Frame | None:
        """The next frame that belongs to the present request, or says that one came damaged; None where there is none for so long."""
        code, until = line_constants(), time.monotonic() + seconds
        while (frame := self._frame(until - time.monotonic())) is not None:
            if frame.kind == code["LINE_HELLO"]:
                hello = _hello(frame)
                if hello.boot != self.hello.boot:
                    raise Restarted(f"serial:{self._port.where}: the machine was reset while it worked on a request", self._accepted(hello))
            elif frame.kind == code["LINE_AGAIN"] or frame.number == self._number:
                return frame
        return None

    def _frame(self, seconds: float) -> _Frame | None:
        """The next good frame; what is none is kept as text. None after so many seconds without one."""
        end, until = line_constants()["LINE_END"], time.monotonic() + seconds
        while True:
            while (at := self._kept.find(end)) >= 0:
                between = bytes(self._kept[:at])
                del self._kept[: at + 1]
                content = unstuffed(between)
                if content is not None:
                    head = np.frombuffer(content, struct_dtype("line_head"), 1)[0]
                    piece = content[struct_dtype("line_head").itemsize :]
                    return _Frame(int(head["kind"]), int(head["number"]), int(head["offset"]), int(head["total"]), piece)
                self._keep_text(between)
            if time.monotonic() >= until:
                return None
            data = self._port.receive(until - time.monotonic())
            self.received += len(data)
            self._kept += data

    def _keep_text(self, between: bytes) -> None:
        self._damaged |= bool(between)
        lines = _ESCAPE_SEQUENCES.sub("\n", between.decode("ascii", "replace")).split("\n")
        self._text += [line.strip() for line in lines if len(line.strip()) > 1]

    def _send(self, kind: str, offset: int = 0, total: int = 0, piece: bytes = b"") -> None:
        head: Any = np.zeros(1, struct_dtype("line_head"))
        head["kind"], head["number"], head["offset"], head["total"] = line_constants()[kind], self._number, offset, total
        data = stuffed(head.tobytes() + piece) + bytes([line_constants()["LINE_END"]])
        self.sent += len(data)
        self._port.send(data)

    def close(self) -> None:
        """Give the line back."""
        self._port.close()


def _hello(frame: _Frame) -> Hello:
    said = np.frombuffer(frame.piece, struct_dtype("line_hello"), 1)[0]
    return Hello(**{name: int(said[name]) for name in said.dtype.names})
