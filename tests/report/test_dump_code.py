"""The source text of `vmfuzz dump-code` compiles without a warning, runs, and what it prints is read back without loss."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vmfuzz.arch.capabilities import CAPABILITY_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.reading import read_text
from vmfuzz.report.dump_code import c_code, rust_code
from vmfuzz.state.profiles import capabilities

RNG = random.Random(7)
#: No value is small or like its encoding; every conditional MSR is said to exist.
VALUES = {name: (RNG.getrandbits(64) | 0x1111) & entry.mask for name, entry in FIELDS.items() if name != "exit_reason"}
MSRS = {number: RNG.getrandbits(63) | 1 << 63 | 1 << 55 | 1 << 49 | 1 << 45 | 1 << 33 for number in CAPABILITY_MSRS}
ABSENT = {"pml_index", "guest_ia32_pkrs", "exit_reason"}

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
needs_rustc = pytest.mark.skipif(shutil.which("rustc") is None, reason="no Rust compiler")


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def given() -> dict[int, int]:
    """encoding -> value of the fields that the processor of the test has."""
    return {FIELDS[name].encoding: value for name, value in VALUES.items() if name not in ABSENT}


def assert_read_back(text: str) -> None:
    (dump,) = read_text(text, "text")
    assert {name: reading.value for name, reading in dump.readings.items()} == {n: v for n, v in VALUES.items() if n not in ABSENT}
    assert {number: msr.value for number, msr in dump.msrs.items()} == MSRS
    assert dump.warnings == []


@needs_gcc
@pytest.mark.parametrize("cpu", [None, "corei7_skylake_x"])
@pytest.mark.parametrize("flags", [["-std=gnu11"], ["-std=gnu89"], ["-xc++"], ["-std=c17", "-Wpedantic", "-Wconversion"]])
def test_the_c_text_has_no_warning(tmp_path, cpu, flags):
    code = c_code(capabilities(cpu) if cpu else None)
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux" / "kernel.h").write_text('#include <stdio.h>\n#define KERN_INFO ""\n#define printk printf\n')
    source = tmp_path / "dump.c"
    source.write_text(code + "\nvoid use(void);\nvoid use(void) { vmfuzz_dump_vmcs(); }\n")
    warn = ["-Wall", "-Wextra", "-Werror", "-O1", "-c"]
    run("gcc", *flags, *warn, "-I", tmp_path, source, "-o", tmp_path / "dump.o")
    run("gcc", *flags, *warn, "-DVMFUZZ_PRINT(name,value)=((void)(name),(void)(value))", source, "-o", tmp_path / "other.o")


@needs_gcc
def test_what_the_c_text_prints_is_read_back_without_loss(tmp_path):
    """Run as what it is for Microsoft's compiler, whose intrinsics can be stood in for."""
    fields = "".join(f"case {encoding:#x}: *value = {value:#x}ull; return 0;\n" for encoding, value in given().items())
    msrs = "".join(f"case {number:#x}: return {value:#x}ull;\n" for number, value in MSRS.items())
    (tmp_path / "intrin.h").write_text(
        f"static unsigned long long __readmsr(unsigned number) {{ switch (number) {{ {msrs} }} return 0; }}\n"
        f"static int __vmx_vmread(size_t encoding, size_t *value) {{ switch (encoding) {{ {fields} }} return 1; }}\n"
    )
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#define VMFUZZ_PRINT(name, value) printf("%s = 0x%llx\\n", name, value)\n'
        + c_code()
        + "int main(void) { vmfuzz_dump_vmcs(); return 0; }\n"
    )
    run("gcc", "-Wall", "-Wextra", "-Werror", "-D_MSC_VER=1900", "-I", tmp_path, tmp_path / "main.c", "-o", tmp_path / "main")
    assert_read_back(run(tmp_path / "main"))


@needs_rustc
@pytest.mark.parametrize("edition", ["2018", "2021"])
def test_the_rust_text_has_no_warning(tmp_path, edition):
    (tmp_path / "dump.rs").write_text("#![no_std]\n" + rust_code())
    run("rustc", "-D", "warnings", "--edition", edition, "--crate-type", "rlib", tmp_path / "dump.rs", "-o", tmp_path / "libdump.rlib")


@needs_rustc
def test_what_the_rust_text_prints_is_read_back_without_loss(tmp_path):
    """The two functions with instructions of the processor are stood in for; everything else runs as it is."""
    fields = "".join(f"{encoding:#x} => Some({value:#x}),\n" for encoding, value in given().items())
    msrs = "".join(f"{number:#x} => {value:#x},\n" for number, value in MSRS.items())
    code = re.sub(
        r"unsafe fn rdmsr(.|\n)*?\n}\n", f"unsafe fn rdmsr(number: u32) -> u64 {{ match number {{ {msrs} _ => 0 }} }}\n", rust_code()
    )
    code = re.sub(
        r"unsafe fn vmread(.|\n)*?\n}\n",
        f"unsafe fn vmread(encoding: u64) -> Option<u64> {{ match encoding {{ {fields} _ => None }} }}\n",
        code,
    )
    code = code.replace("use core::arch::asm;\n", "")
    main = 'fn main() { unsafe { dump_vmcs(|name, value| println!("{name} = {value:#x}")) } }\n'
    (tmp_path / "main.rs").write_text(code + main)
    run("rustc", "--edition", "2021", "-D", "warnings", tmp_path / "main.rs", "-o", tmp_path / "main")
    assert_read_back(run(tmp_path / "main"))
