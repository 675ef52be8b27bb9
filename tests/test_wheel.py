"""sdist and wheel: built, installed into an empty environment, and used there from an empty directory. `make test-wheel` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif("VMFUZZ_TEST_WHEEL" not in os.environ, reason="takes a minute and a package index: make test-wheel")
DUMP = "VMCS 0x4814 = 0x1c093\nguest_gs_access_rights = 0x0\nguest_cs_access_rights = 0xa09b\nexit reason 0x80000021\n"


def run(*command: str, cwd: Path, expected: int = 0) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == expected, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with sdist and wheel; the wheel is built from the sdist."""
    into = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(into), str(ROOT), cwd=into)
    return into


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment that holds the wheel and what it needs."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", str(environment), cwd=built)
    (wheel,) = built.glob("*.whl")
    run(str(environment / "bin" / "pip"), "install", "--quiet", str(wheel), cwd=built)
    return environment / "bin"


def test_the_sdist_has_what_the_build_needs(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"setup.py", "LICENSE", "kmod/LICENSE", "kmod/engine.c", "kmod/engine.h", "kmod/engine.ld", "README.md"}
    assert needed <= names, needed - names


def test_the_wheel_works_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    vmfuzz = str(installed / "vmfuzz")
    assert "bochs" in run(vmfuzz, "doctor", cwd=tmp_path)
    assert "ran 10,000 candidates" in run(vmfuzz, "run", "-n", "10k", cwd=tmp_path)
    (tmp_path / "dump.txt").write_text(DUMP)
    assert "guest" in run(vmfuzz, "check", "dump.txt", cwd=tmp_path, expected=1)
    assert run(vmfuzz, "checks", "guest.pat", cwd=tmp_path).startswith("guest.pat")
    run(str(installed / "python"), "-c", "import vmfuzz; vmfuzz.known_good(vmfuzz.capabilities('tigerlake'))", cwd=tmp_path)
