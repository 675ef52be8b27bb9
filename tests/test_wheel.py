"""sdist and wheel: built, installed into an empty environment, and used there from an empty directory. `make test-wheel` runs it."""

from __future__ import annotations

import os
import re
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


def test_the_sdist_has_all_that_the_repository_has(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    listed = run("git", "ls-files", cwd=ROOT).splitlines()
    assert set(listed) - names == set()


def test_the_wheel_is_for_every_python_and_every_glibc_that_it_runs_on(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    tag = re.fullmatch(r"vmfuzz-[\d.]+-py3-none-manylinux_2_(\d+)_x86_64\.whl", wheel.name)
    assert tag is not None, wheel.name
    run(sys.executable, "-m", "pip", "install", "--quiet", "auditwheel", cwd=built)
    said = run(sys.executable, "-m", "auditwheel", "show", str(wheel), cwd=built)
    assert f"manylinux_2_{tag[1]}_x86_64" in said, said


def test_a_wheel_user_builds_the_bootable_image(installed: Path, tmp_path: Path) -> None:
    run(str(installed / "vmfuzz"), "image-source", "sources", cwd=tmp_path)
    run("make", "-C", "sources/image", "build/vmfuzz.bin", cwd=tmp_path)
    assert (tmp_path / "sources" / "image" / "line.h").read_bytes() == (ROOT / "image" / "line.h").read_bytes()


def test_a_wheel_user_has_the_corpus_and_the_modules_sources(installed: Path, tmp_path: Path) -> None:
    vmfuzz = str(installed / "vmfuzz")
    for name in (
        "man/man1/vmfuzz-check.1",
        "bash-completion/completions/vmfuzz",
        "zsh/site-functions/_vmfuzz",
        "fish/vendor_completions.d/vmfuzz.fish",
    ):
        assert (installed.parent / "share" / name).is_file()
    assert " predicted only" in run(vmfuzz, "replay", "--executor", "none", cwd=tmp_path)
    run(vmfuzz, "kmod-source", "module", cwd=tmp_path)
    assert (tmp_path / "module" / "main.c").read_text() == (ROOT / "kmod" / "main.c").read_text()
    run("make", "-C", "module", "agent", cwd=tmp_path)
    assert (
        "is not empty"
        in subprocess.run([vmfuzz, "kmod-source", "module"], cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    )


def test_a_wheel_user_has_the_example_answerers_where_the_page_says(installed: Path, tmp_path: Path) -> None:
    place = "share/doc/vmfuzz/examples"
    assert f"`{place}` of the environment" in (ROOT / "docs" / "program.md").read_text(encoding="utf-8")
    examples, own = installed.parent / place, sorted((ROOT / "examples").glob("answerer.*"))
    assert [(examples / path.name).read_bytes() for path in own] == [path.read_bytes() for path in own] != []
    run("cc", "-O2", "-o", "answerer", str(examples / "answerer.c"), cwd=tmp_path)
    for command in ("./answerer", f"{installed / 'python'} {examples / 'answerer.py'}"):
        assert "the program follows the protocol" in run(
            str(installed / "vmfuzz"), "doctor", "--executor", f"program:{command}", cwd=tmp_path
        )


def test_a_wheel_user_has_the_json_schemas(installed: Path, tmp_path: Path) -> None:
    places = [path.relative_to(ROOT / "src") for path in (ROOT / "src" / "vmfuzz").rglob("*_schema.json")]
    assert len(places) >= 5
    code = "import sys, vmfuzz, pathlib; [print(pathlib.Path(vmfuzz.__file__).parents[1].joinpath(name).stat().st_size) for name in sys.argv[1:]]"
    sizes = run(str(installed / "python"), "-c", code, *map(str, places), cwd=tmp_path).split()
    assert [int(size) for size in sizes] == [(ROOT / "src" / place).stat().st_size for place in places]


def test_without_a_compiler_all_but_the_executors_is_installed(built: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    (sdist,) = built.glob("*.tar.gz")
    environment = {**{name: value for name, value in os.environ.items() if name != "CC"}, "PATH": str(programs)}
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", str(tmp_path), str(sdist)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    run(sys.executable, "-m", "venv", "empty", cwd=tmp_path)
    run("empty/bin/pip", "install", "--quiet", str(wheel), "pytest", "pytest-timeout", cwd=tmp_path)
    tests = ["empty/bin/python", "-m", "pytest", "--noconftest", "-c", os.devnull, str(ROOT / "tests" / "test_elsewhere.py")]
    elsewhere = {**os.environ, "VMFUZZ_ELSEWHERE": "1"}
    done = subprocess.run(tests, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    said = subprocess.run(["empty/bin/vmfuzz", "doctor"], cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert "no C compiler was found (gcc or cc)" in " ".join(said.split())


def test_the_wheel_works_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    vmfuzz = str(installed / "vmfuzz")
    assert "bochs" in run(vmfuzz, "doctor", cwd=tmp_path)
    assert "ran 10,000 candidates" in run(vmfuzz, "run", "-n", "10k", cwd=tmp_path)
    (tmp_path / "dump.txt").write_text(DUMP)
    assert "guest" in run(vmfuzz, "check", "dump.txt", cwd=tmp_path, expected=1)
    assert run(vmfuzz, "checks", "guest.pat", cwd=tmp_path).startswith("guest.pat")
    run(str(installed / "python"), "-c", "import vmfuzz; vmfuzz.known_good(vmfuzz.capabilities('tigerlake'))", cwd=tmp_path)
