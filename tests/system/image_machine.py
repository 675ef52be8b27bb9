"""A machine with the bootable image in Debian's Bochs; its serial line is a Unix socket, for one caller at a time."""

from __future__ import annotations

import argparse
import contextlib
import select
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from machine import TIED, drain_screen

ROOT: Final = Path(__file__).parents[2]
#: Bochs counts a machine's time in instructions: with so few of them a second, a byte of the line is 17 instructions and not 4,000.
_INSTRUCTIONS_A_SECOND: Final = 1_000_000
_AT_ONCE: Final = 1 << 16
#: More often the machine is not reset: its debugger stops at each reset and goes on with a line of this file.
_MOST_RESETS: Final = 1000
_BOCHSRC: Final = """config_interface: textconfig
display_library: term
cpu: model={cpu}, count=1, ips={ips}, reset_on_triple_fault=1{options}
memory: guest=128, host=128
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}
clock: sync=none
log: {folder}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
"""


def needs_image() -> str | None:
    """What is missing to build the image, as a sentence; None when all is there."""
    missing = [tool for tool in ("gcc", "make", "objcopy", "grub-mkrescue", "xorriso", "mformat") if not shutil.which(tool)]
    missing += [str(path) for path in map(Path, ("/usr/lib/grub/i386-pc", "/usr/lib/grub/x86_64-efi")) if not path.exists()]
    return f"missing: {', '.join(missing)}; tests/system/README.md says what to install" if missing else None


def image_options(description: str | None, candidates: int) -> argparse.ArgumentParser:
    """The options of the programs that run campaigns on the image; `candidates`: so many unless said otherwise."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=candidates)
    parser.add_argument("--cpu", default="corei7_skylake_x", help="a CPU model of Debian's Bochs")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def build_image(folder: Path, *extra: str) -> Path:
    """Build the image into a folder; `extra`: what make is told besides. Returns the ISO."""
    subprocess.run(["make", "-s", "-C", ROOT / "image", f"BUILD={folder}", *extra], check=True)
    return folder / "vmfuzz.iso"


def build_flat(folder: Path, *extra: str) -> tuple[Path, Path]:
    """Build what exported cases are made of into a folder, which needs no GRUB: the flat image and the boot sector."""
    subprocess.run(["make", "-s", "-C", ROOT / "image", f"BUILD={folder}", "flat", *extra], check=True)
    return folder / "vmfuzz.bin", folder / "bios.bin"


def last_words(connected: socket.socket, ends: tuple[str, ...], seconds: float) -> str:
    """What a machine writes on its line until one of `ends` is in it, or the line is closed."""
    connected.settimeout(seconds)
    said = ""
    while not any(end in said for end in ends):
        data = connected.recv(1 << 12)
        if not data:
            break
        said += data.decode("ascii", "replace").replace("\r", "")
    return said


class Line:
    """The line between an emulator, which connects to the TCP port `port`, and whoever connects to the Unix socket `path`, one caller at a time.

    Not a terminal, which Linux fills from a thread of its own, while the machine counts the time that it waits for a byte as its own.
    """

    def __init__(self, path: Path) -> None:
        self._wire = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._wire.getsockname()[1]
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(1)
        self._carrier = threading.Thread(target=self._carry, daemon=True)

    def start(self) -> None:
        """Before the machine is switched on."""
        self._carrier.start()

    def close(self) -> None:
        """After the machine has ended."""
        self._carrier.join()  # it reads the end
        self._wire.close()

    def _carry(self) -> None:
        """Bytes between the machine and whoever is connected; what the machine says while nobody is goes nowhere."""
        machine = self._wire.accept()[0]
        machine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller: socket.socket | None = None
        while True:
            for ready in select.select([machine, caller or self._server], [], [])[0]:
                if ready is self._server:
                    caller = self._server.accept()[0]
                elif ready is caller:
                    caller = self._to_machine(caller, machine)
                elif not self._to_caller(machine, caller):
                    self._server.close()
                    for end in filter(None, (machine, caller)):
                        end.close()
                    return

    def _to_machine(self, caller: socket.socket, machine: socket.socket) -> socket.socket | None:
        with contextlib.suppress(OSError):
            data = caller.recv(_AT_ONCE)
            if data:
                machine.sendall(data)
                return caller
        caller.close()
        return None

    def _to_caller(self, machine: socket.socket, caller: socket.socket | None) -> bool:
        try:
            # acknowledged at once: Bochs sends byte by byte, and Linux holds back the next until then
            machine.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            data = machine.recv(_AT_ONCE)
        except OSError:
            return False
        if caller is not None:
            with contextlib.suppress(OSError):
                caller.sendall(data)
        return bool(data)


class ImageMachine:
    """The image of an ISO on a CPU model of Bochs; `line` is its serial line. `options`: of Bochs's line `cpu`, besides."""

    emulator = "bochs"

    def __init__(self, iso: Path, cpu: str = "corei7_skylake_x", ips: int = _INSTRUCTIONS_A_SECOND, options: str = "") -> None:
        self.cpu = cpu
        self._temporary = tempfile.TemporaryDirectory(prefix="vmfuzz-image-")
        self.folder = Path(self._temporary.name)
        self.line = self.folder / "line"
        self._carried = Line(self.line)
        settings = {"cpu": cpu, "ips": ips, "options": options, "iso": iso, "port": self._carried.port, "folder": self.folder}
        (self.folder / "bochsrc").write_text(_BOCHSRC.format(**settings))
        (self.folder / "debugger.rc").write_text("c\n" * _MOST_RESETS)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Switch it on."""
        threading.Thread(target=drain_screen, args=(self.folder,), daemon=True).start()
        self._carried.start()
        bochs = ["env", "--block-signal=ALRM", "script", "-qec", "exec bochs -q -f bochsrc -rc debugger.rc", "/dev/null"]
        with (self.folder / "screen.log").open("wb") as screen:
            self._process = subprocess.Popen([*TIED, *bochs], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen)
        return self

    def close(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
            self._carried.close()
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
