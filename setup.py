"""The native build: the platform around the emulated CPU (a shared object), the engine as a flat image for it, and the agent that runs the
engine in virtual machines of KVM.

Everything else about the package is in pyproject.toml. Results go to vmfuzz/execute/_native: in the source
tree for editable installs, in the wheel otherwise, together with copies of the headers from which Python reads
the wire formats.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
KMOD = ROOT / "kmod"
EXECUTE = ROOT / "src" / "vmfuzz" / "execute"
PLATFORM = EXECUTE / "bochs_platform.c"
KVM = EXECUTE / "kvm"
AGENT = (KMOD / "agent.c", KVM / "machine.c", KVM / "words.c")

#: From these Python reads the wire formats.
HEADERS = (KMOD / "engine.h", KMOD / "containment.h", KMOD / "vmfuzz_uapi.h", KVM / "machine.h")

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


def compiler() -> list[str]:
    """The C compiler's command: $CC, else gcc or cc. Ends the build with one sentence when there is none."""
    command = shlex.split(os.environ.get("CC", ""))
    for candidate in [command] if command else [["gcc"], ["cc"]]:
        if shutil.which(candidate[0]):
            return candidate
    wanted = f"$CC = {command[0]}" if command else "gcc or cc"
    raise SystemExit(f"vmfuzz: no C compiler found ({wanted}); install one, on Debian and Ubuntu with `apt-get install gcc libc6-dev`")


def compile_c(arguments: list[str]) -> None:
    """Run the compiler; a failure ends the build, the compiler has said why."""
    command = [*compiler(), *arguments]
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
        """Compile platform, engine and agent next to one another."""
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # Replaced, not overwritten: a running worker may have the old one mapped.
        part = target.with_suffix(".part")
        compile_c(["-O2", "-shared", "-fPIC", f"-I{KMOD}", "-o", str(part), str(PLATFORM)])
        part.replace(target)
        compile_c([*ENGINE_FLAGS, "-o", str(target.with_name("engine.bin")), str(KMOD / "engine.c")])
        agent = target.with_name("vmfuzz-agent.part")
        compile_c(["-O2", f"-I{KMOD}", f"-I{KVM}", "-o", str(agent), *map(str, AGENT)])
        agent.replace(target.with_name("vmfuzz-agent"))
        for header in HEADERS:
            shutil.copyfile(header, target.with_name(header.name))

    def copy_extensions_to_source(self) -> None:
        """Editable installs: all native files go to the source tree, not only the library that setuptools knows of."""
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name)).resolve()
            into = ROOT / "src" / Path(self.get_ext_filename(ext.name)).parent
            into.mkdir(parents=True, exist_ok=True)
            for name in (built.name, "engine.bin", "vmfuzz-agent", *(header.name for header in HEADERS)):
                part = into / f"{name}.part"
                shutil.copy(built.with_name(name), part)
                part.replace(into / name)


setup(
    ext_modules=[
        Extension(
            "vmfuzz.execute._native.bochs_platform",
            sources=[str(path.relative_to(ROOT)) for path in (PLATFORM, KMOD / "engine.c", *AGENT)],
            depends=[
                *("kmod/engine.h", "kmod/engine_calls.h", "kmod/engine.ld", "kmod/vmfuzz_uapi.h"),
                *(str((KVM / name).relative_to(ROOT)) for name in ("machine.h", "machine_calls.h")),
            ],
        )
    ],
    cmdclass={"build_ext": BuildNative},
)
