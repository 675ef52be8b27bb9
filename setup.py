"""The native build: the platform around the emulated CPU (a shared object), the engine as a flat image for it, the agent that runs the
engine in virtual machines of KVM, and the evaluation of the model's conditions over columns (a shared object).

Everything else about the package is in pyproject.toml. Results go to vmfuzz/execute/_native: in the source
tree for editable installs, in the wheel otherwise, together with what the headers of the wire formats declare, from
which Python takes these.
"""

from __future__ import annotations

import json
import os
import platform
import re
import runpy
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
KMOD = ROOT / "kmod"
IMAGE = ROOT / "image"
EXECUTE = ROOT / "src" / "vmfuzz" / "execute"
PLATFORM = EXECUTE / "bochs" / "platform.c"
COLUMNS = ROOT / "src" / "vmfuzz" / "model" / "columns.c"
KVM = EXECUTE / "kvm"
AGENT = (KMOD / "agent.c", KMOD / "requests.c", KVM / "machine.c", KVM / "words.c")

#: From these Python takes the wire formats, in this order.
HEADERS = (KMOD / "engine.h", KMOD / "containment.h", KMOD / "vmfuzz_uapi.h", KVM / "machine.h", IMAGE / "line.h", IMAGE / "case.h")
#: Of the bootable image: what `vmfuzz export --image` makes a case of.
FLAT = ("vmfuzz.bin", "bios.bin")

ENGINE_FLAGS = [
    "-O2",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-pic",
    "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables",
    "-fno-jump-tables",  # no indirect branches: a candidate may turn on endbranch tracking in the host
    "-fno-tree-loop-distribute-patterns",  # no calls of memset, there is no library
    "-mgeneral-regs-only",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-DVMFUZZ_EMULATED",
    "-nostdlib",
    "-Wl,--build-id=none",
    f"-Wl,-T,{KMOD / 'engine.ld'},--oformat=binary",
]


def compiler() -> list[str] | None:
    """The C compiler's command: $CC, else gcc or cc; None where there is none. Ends the build where $CC names one that is not there."""
    command = shlex.split(os.environ.get("CC", ""))
    for candidate in [command] if command else [["gcc"], ["cc"]]:
        if shutil.which(candidate[0]):
            return candidate
    if command:
        raise SystemExit(f"vmfuzz: the C compiler of $CC = {command[0]} was not found; name one that is there, or none")
    return None


def why_not_native() -> str | None:
    """Why the native files cannot be built here, for people, or None where they can. Without them all works but the executors."""
    here = f"{platform.system()} {platform.machine()}"
    if here != "Linux x86_64":
        return f"executors need Linux on x86-64, and this is {here}"
    if compiler() is None:
        return "no C compiler was found (gcc or cc): install one, on Debian and Ubuntu with `apt-get install gcc libc6-dev`, and then vmfuzz again"
    return None


def compile_c(arguments: list[str]) -> None:
    """Run the compiler; a failure ends the build, the compiler has said why."""
    command = [*(compiler() or ()), *arguments]
    print(shlex.join(command), flush=True)
    status = subprocess.call(command)
    if status:
        raise SystemExit(f"vmfuzz: the C compiler failed with status {status}: {shlex.join(command)}")


class BuildNative(build_ext):
    """Builds the native files instead of a Python extension module."""

    def get_ext_filename(self, fullname: str) -> str:
        """A plain library: its name carries no Python version."""
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile platform, engine, agent and conditions next to one another."""
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # Replaced, not overwritten: a running worker may have the old one mapped.
        part = target.with_suffix(".part")
        compile_c(["-O2", "-shared", "-fPIC", f"-I{KMOD}", "-o", str(part), str(PLATFORM)])
        part.replace(target)
        columns = target.with_name("columns.so.part")
        compile_c(["-O2", "-shared", "-fPIC", "-o", str(columns), str(COLUMNS)])
        columns.replace(target.with_name("columns.so"))
        compile_c([*ENGINE_FLAGS, "-o", str(target.with_name("engine.bin")), str(KMOD / "engine.c")])
        agent = target.with_name("vmfuzz-agent.part")
        compile_c(["-O2", f"-I{KMOD}", f"-I{KVM}", "-o", str(agent), *map(str, AGENT)])
        agent.replace(target.with_name("vmfuzz-agent"))
        declared = runpy.run_path(str(EXECUTE / "wire" / "declared.py"))["declared"](HEADERS)
        target.with_name("declared.json").write_text(json.dumps(declared), encoding="utf-8")
        self._build_image(target.with_name("image"))

    @staticmethod
    def _build_image(into: Path) -> None:
        """The bootable image, where `make` is there: only `vmfuzz export --image` needs it, and says so."""
        shutil.rmtree(into, ignore_errors=True)
        if not shutil.which("make") or not shutil.which("objcopy"):
            print("vmfuzz: built without the bootable image: there is no make or no objcopy", flush=True)
            return
        with tempfile.TemporaryDirectory() as build:
            command = ["make", "-s", "-C", str(IMAGE), f"BUILD={build}", f"CC={shlex.join(compiler() or ())}", "flat"]
            if subprocess.call(command):
                raise SystemExit(f"vmfuzz: the bootable image could not be built: {shlex.join(command)}")
            into.mkdir()
            for name in FLAT:
                shutil.copyfile(Path(build, name), into / name)

    def copy_extensions_to_source(self) -> None:
        """Editable installs: all native files go to the source tree, not only the library that setuptools knows of."""
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name)).resolve()
            into = ROOT / "src" / Path(self.get_ext_filename(ext.name)).parent
            into.mkdir(parents=True, exist_ok=True)
            for name in (built.name, "columns.so", "declared.json", "engine.bin", "vmfuzz-agent"):
                part = into / f"{name}.part"
                shutil.copy(built.with_name(name), part)
                part.replace(into / name)
            shutil.rmtree(into / "image", ignore_errors=True)
            if built.with_name("image").is_dir():
                shutil.copytree(built.with_name("image"), into / "image")


class BuildPython(build_py):
    """Adds what is not Python and lies elsewhere in the source tree: the corpus, the sources of module and image, and why there are no native files."""

    def run(self) -> None:
        """Copy the packages and, into a wheel, the rest; an editable install finds it in the source tree."""
        super().run()
        why_not = WHY_NOT_NATIVE
        note = (ROOT / "src" if self.editable_mode else Path(self.build_lib)) / "vmfuzz" / "execute" / "_native" / "why-not.txt"
        note.unlink(missing_ok=True)
        if why_not is not None:
            print(f"vmfuzz: built without executors: {why_not}", flush=True)
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(why_not + "\n", encoding="utf-8")
        if not self.editable_mode:
            for source, name in ((ROOT / "corpus", "corpus"), (KMOD, "kmod"), (IMAGE, "image")):
                shutil.copytree(source, Path(self.build_lib, "vmfuzz", "shipped", name), ignore=_NOT_SHIPPED, dirs_exist_ok=True)
            shutil.copytree(KVM, Path(self.build_lib, "vmfuzz", "shipped", "kmod", "kvm"), ignore=_NOT_C, dirs_exist_ok=True)


_NOT_C = shutil.ignore_patterns("*.py", "__pycache__")
_NOT_SHIPPED = shutil.ignore_patterns(
    "*.o", "*.ko", "*.mod", "*.mod.c", "*.cmd", ".*", "Module.symvers", "modules.order", "vmfuzz-agent", "build"
)

#: What a wheel that runs on any glibc system may need (PEP 600, as auditwheel's policies have it); ours needs no more than this.
_LIBRARIES = {b"libc.so.6"}


def manylinux(files: Iterable[Path]) -> str:
    """The platform tag for programs and libraries: the newest symbol version of glibc that any of them needs, at least 2.17."""
    minor = 17
    for path in files:
        content = path.read_bytes()
        needed = set(re.findall(rb"\0(lib[\w+-]+\.so[.\d]*)(?=\0)", content))
        if not needed <= _LIBRARIES:
            raise SystemExit(f"vmfuzz: {path.name} needs {b', '.join(needed - _LIBRARIES).decode()}, which not every system has")
        minor = max([minor, *(int(version) for version in re.findall(rb"\0GLIBC_2\.(\d+)", content))])
    return f"manylinux_2_{minor}_x86_64"


class Wheel(bdist_wheel):
    """A wheel for every Python 3: what is native in it is no extension module."""

    def get_tag(self) -> tuple[str, str, str]:
        """Pure where there are no native files, else that of the C library that they need."""
        if WHY_NOT_NATIVE is not None:
            return "py3", "none", "any"
        native = Path(self.get_finalized_command("build_ext").build_lib, "vmfuzz", "execute", "_native")
        files = [path for path in (native / "bochs_platform.so", native / "columns.so", native / "vmfuzz-agent") if path.exists()]
        return "py3", "none", manylinux(files) if files else super().get_tag()[2]


WHY_NOT_NATIVE = why_not_native()

if __name__ == "__main__":
    setup(
        ext_modules=[]
        if WHY_NOT_NATIVE
        else [
            Extension(
                "vmfuzz.execute._native.bochs_platform",
                sources=[str(path.relative_to(ROOT)) for path in (PLATFORM, COLUMNS, KMOD / "engine.c", *AGENT)],
                depends=[
                    *(
                        "kmod/engine.h",
                        "kmod/engine_calls.h",
                        "kmod/engine.ld",
                        "kmod/harness.h",
                        "kmod/requests.h",
                        "kmod/vmfuzz_uapi.h",
                        *(str(path.relative_to(ROOT)) for path in sorted(IMAGE.glob("*.[chS]"))),
                    ),
                    *(str((KVM / name).relative_to(ROOT)) for name in ("machine.h", "machine_calls.h")),
                ],
            )
        ],
        cmdclass={"build_ext": BuildNative, "build_py": BuildPython, "bdist_wheel": Wheel},
    )
