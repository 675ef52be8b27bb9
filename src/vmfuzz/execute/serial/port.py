"""The serial line as a file: a socket of a hypervisor, a TCP connection, a terminal."""

from __future__ import annotations

import os
import select
import socket
from typing import Final

from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.execute.kmod.device import DeviceLost
from vmfuzz.execute.serial.abi import line_constants

EXPECTED: Final = "unix:PATH, tcp:HOST:PORT, or a terminal: /dev/ttyUSB0, /dev/ttyS0@57600, /dev/pts/3"
_AT_ONCE: Final = 1 << 16


class LineClosed(DeviceLost):
    """The other end closed the line: the virtual machine ended, or an adapter was pulled out."""


class Port:
    """The line at `where` (EXPECTED says how it is written).

    Raises UsageError for what is no such place, and EnvironmentUnusable where it cannot be opened.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        try:
            self._file = self._open(where)
        except OSError as error:
            raise EnvironmentUnusable(
                f"serial:{where}: {error.strerror or error}; is the machine on, and has its port been given this place (docs/hypervisors.md)?"
            ) from None

    def _open(self, where: str) -> int:
        kind, _, place = where.partition(":")
        if kind == "unix" and place:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(place)
                return line.detach()
        host, _, port = place.rpartition(":")
        if kind == "tcp" and host and port.isdecimal():
            return socket.create_connection((host, int(port))).detach()
        path, _, baud = where.partition("@")
        if not path.startswith("/") or (baud and not baud.isdecimal()):
            raise UsageError(f"serial:{where}: expected {EXPECTED}")
        return _open_terminal(path, int(baud or line_constants()["LINE_BAUD"]), where)

    def send(self, data: bytes) -> None:
        """Write all bytes. Raises LineClosed."""
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise self._closed(error.strerror) from None

    def receive(self, seconds: float) -> bytes:
        """What is there; waits at most so many seconds for it, then nothing. Raises LineClosed."""
        if not select.select([self._file], [], [], max(seconds, 0))[0]:
            return b""
        try:
            data = os.read(self._file, _AT_ONCE)
        except OSError as error:
            raise self._closed(error.strerror) from None
        if not data:
            raise self._closed("end of file")
        return data

    def _closed(self, why: str | None) -> LineClosed:
        return LineClosed(f"serial:{self.where}: the line is closed ({why}); did the virtual machine end?")

    def close(self) -> None:
        """Give the line back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _open_terminal(path: str, baud: int, where: str) -> int:
    """A terminal that passes bytes as they are. Raises UsageError for a speed that there is not."""
    import termios  # there is none on Windows
    import tty

    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise UsageError(
            f"serial:{where}: {baud} baud: expected a speed of terminals, such as {line_constants()['LINE_BAUD']}, which the image has"
        )
    file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        tty.setraw(file)
        mode = termios.tcgetattr(file)
        mode[2] = (mode[2] | termios.CLOCAL | termios.CREAD) & ~termios.CRTSCTS
        mode[4] = mode[5] = speed
        termios.tcsetattr(file, termios.TCSANOW, mode)
    except termios.error as error:
        os.close(file)
        raise OSError(error.args[0], error.args[1]) from None
    return file
