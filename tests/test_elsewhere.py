"""Where executors cannot run: no Linux on x86-64, no C compiler. All that executes nothing works; doctor says why the rest does not.

.github/workflows/elsewhere.yml runs this on such machines; here they are made by hiding what those lack.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

#: What is hidden, by the words in which doctor says so. Each runs before vmfuzz is imported.
HIDDEN = {
    "and this is Darwin arm64": """
import platform
platform.system, platform.machine = lambda: "Darwin", lambda: "arm64"
hide("bochscpu", "cffi")
del os.memfd_create
""",
    "and this is Windows AMD64": """
import platform, subprocess, tempfile, multiprocessing.connection
platform.system, platform.machine = lambda: "Windows", lambda: "AMD64"
hide("bochscpu", "fcntl", "pwd", "termios", "resource")
for name in ("memfd_create", "sysconf", "sched_getaffinity", "sched_setaffinity", "geteuid", "getuid", "setsid", "O_CLOEXEC"):
    delattr(os, name)
""",
    "no C compiler was found (gcc or cc)": """
import pathlib, tempfile
place = pathlib.Path(tempfile.mkdtemp())
place.joinpath("why-not.txt").write_text("no C compiler was found (gcc or cc)")
import vmfuzz.execute.wire.abi
vmfuzz.execute.wire.abi.NATIVE = place
""",
}
PROLOGUE = """
import os, sys
def hide(*names):
    sys.modules.update(dict.fromkeys(names))
"""
COMMAND = "\nfrom vmfuzz.cli.main import main\nmain(prog_name='vmfuzz')\n"
INTERFACE = """
import vmfuzz
known = vmfuzz.capabilities("tigerlake")
state = vmfuzz.known_good(known).replace(guest_gs_access_rights=0)
print(*vmfuzz.predict(state, known).outcomes)
"""
#: On a machine that lacks something itself nothing has to be hidden.
LACKING = f"{platform.system()} {platform.machine()}" != "Linux x86_64" or os.environ.get("VMFUZZ_ELSEWHERE")
each_lack = pytest.mark.parametrize("said", [""] if LACKING else HIDDEN)


def run(said: str, code: str, *arguments: str, text: str = "", place: Path | None = None) -> subprocess.CompletedProcess[str]:
    source = Path(__file__).parents[1] / "src"
    path = os.pathsep.join(filter(None, (str(source) if not LACKING else "", os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, "-c", PROLOGUE + HIDDEN.get(said, "") + code, *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env={**os.environ, "PYTHONPATH": path},
    )


@each_lack
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["check", "--cpu", "tigerlake"], 1, "P bit"),
        (["check", "0x80000021"], 1, "80000021"),
        (["checks", "guest.gs.s"], 0, "guest.gs.s"),
        (["fields", "481EH"], 0, "guest_gs_access_rights"),
        (["caps", "--list"], 0, "corei7_skylake_x"),
        (["findings"], 0, "entries in"),
        (["--help"], 0, "doctor"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_executes_nothing_works(said: str, arguments: list[str], status: int, says: str, tmp_path: Path) -> None:
    dump = "guest_gs_access_rights = 0x10\nguest_gs_selector = 0x10\nguest_rflags = 0x2\nexit reason 0x80000021\n"
    done = run(said, COMMAND, *arguments, text=dump if arguments[0] == "check" else "", place=tmp_path)
    assert done.returncode == status, done.stdout + done.stderr
    assert says in done.stdout
    assert "Traceback" not in done.stderr


@each_lack
def test_the_python_interface_works(said: str) -> None:
    done = run(said, INTERFACE)
    assert "80000021H" in done.stdout, done.stderr


@each_lack
@pytest.mark.parametrize("arguments", [["doctor"], ["run", "-n", "10"], ["run", "--executor", "kvm", "-n", "10"]], ids=" ".join)
def test_executors_say_why_they_cannot_run(said: str, arguments: list[str], tmp_path: Path) -> None:
    done = run(said, COMMAND, *arguments, place=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr
    if arguments[0] == "run":
        assert done.stderr.count("\n") == 1
