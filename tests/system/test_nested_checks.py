"""Checks are found in a text like nested.c, and a kvm_intel that can skip one of them builds where Debian's source package is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from debian_kernels import MachineError, kernels
from nested_checks import NESTED, PARAMETER, NestedCheck, build_without, checks, source_of, source_package

TEXT = """#include "x.h"
#define CC KVM_NESTED_VMENTER_CONSISTENCY_CHECK

static int first(struct vcpu *vcpu,
    struct vmcs12 *vmcs12)
{
    if (CC(a(vcpu) ||
      b))
        return 1;
    return CC(c == 0 &&
      CC(!d()));
}

static inline bool second(void)
{
    return CC(e);
}
"""


def test_each_use_of_the_macro_is_a_check() -> None:
    assert checks(TEXT) == [
        NestedCheck(7, "first", "a(vcpu) || b"),
        NestedCheck(10, "first", "c == 0 && CC(!d())"),
        NestedCheck(11, "first", "!d()"),
        NestedCheck(16, "second", "e"),
    ]


def test_a_parenthesis_that_stays_open_is_named() -> None:
    with pytest.raises(MachineError, match="never closed"):
        checks("int f(void)\n{\n\tCC(a")


def test_a_macro_that_has_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "vmx").mkdir()
    (tmp_path / NESTED).write_text("#define CC OTHER\n")
    with pytest.raises(MachineError, match="has to be looked up"):
        build_without(tmp_path, tmp_path)


@pytest.mark.parametrize("kernel", kernels(), ids=lambda kernel: kernel.name)
def test_kvm_intel_builds_with_every_check_in_it(kernel: Path, tmp_path: Path) -> None:
    if not source_package(kernel).exists():
        pytest.skip(f"{source_package(kernel).name.removesuffix('.tar.xz')} is not installed")
    source = source_of(source_package(kernel), tmp_path)
    found = checks((source / NESTED).read_text())
    assert len(found) > 100
    module = build_without(kernel, source)
    assert PARAMETER in subprocess.run(["modinfo", module], capture_output=True, text=True, check=True).stdout
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", module], capture_output=True, text=True, check=True).stdout
    assert [check for check in found if f"$0x{check.line:x}," not in code] == []
    shutil.rmtree(source)
