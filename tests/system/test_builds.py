"""The module builds without a word against every kernel whose headers are installed: W=1, and sparse."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from debian_kernels import build_module, complaints, headers, release
from machine import needs

missing = needs("build")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(600)]


@pytest.mark.parametrize("kernel", headers(), ids=release)
def test_the_build_says_nothing(kernel: Path, tmp_path: Path) -> None:
    """Neither compiler, sparse, objtool nor modpost."""
    assert complaints(build_module(tmp_path, kernel)) == []
    assert (tmp_path / "vmfuzz.ko").exists()


def test_a_warning_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "kmod"
    shutil.copytree(Path(__file__).parents[2] / "kmod", sources, ignore=shutil.ignore_patterns("*.o", "*.ko", "*.cmd"))
    with (sources / "containment.c").open("a") as file:
        file.write("\nint vmfuzz_unused(int i);\nint vmfuzz_unused(int i) { int k; return i; }\n")
    monkeypatch.setattr("debian_kernels.KMOD", sources)
    build = tmp_path / "build"
    build.mkdir()
    assert any("unused" in line for line in complaints(build_module(build, headers()[0])))
