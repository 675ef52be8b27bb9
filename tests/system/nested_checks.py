"""KVM's own consistency checks, and a kvm_intel that skips one of them at run time: how a missing check is planted in a hypervisor that people run.

nested.c wraps each check of a VM entry in the macro `CC(...)`. `source_of` unpacks the file from Debian's package linux-source-X.Y, `checks` lists
the macro's uses, and `build_without` compiles kvm_intel for one of Debian's kernels with a module parameter that names the line of the check to skip.
Nothing of the source is kept: what is built goes into a folder that the caller names.
"""

from __future__ import annotations

import bisect
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from debian_kernels import MachineError, release

KVM: Final = "arch/x86/kvm"
NESTED: Final = "vmx/nested.c"
PARAMETER: Final = "skipped_check_line"
_DEFINITION: Final = "#define CC KVM_NESTED_VMENTER_CONSISTENCY_CHECK\n"
#: The kernel's own macro, written out because its trace wants the text of the condition as it stands, but that the entry goes on where the check
#: stands on the line that is named, and that the line follows the text: some texts stand in two places. A compiler counts the line on which a use
#: begins. A negative number skips nothing.
_SKIPPING: Final = f"""static int {PARAMETER} = -1;
module_param({PARAMETER}, int, 0644);
#define CC(condition) ({{ \\
	bool failed = (condition); \\
	if (failed) \\
		trace_kvm_nested_vmenter_failed(#condition " " __stringify(__LINE__), 0); \\
	failed && READ_ONCE({PARAMETER}) != __LINE__; \\
}})
"""
#: What kvm_intel is made of: what the kernel's own arch/x86/kvm/Makefile says, for kernels 6.1 to 6.12.
_KBUILD: Final = """obj-m := kvm-intel.o
kvm-intel-y := vmx/vmx.o vmx/vmenter.o vmx/pmu_intel.o vmx/vmcs12.o vmx/nested.o vmx/posted_intr.o
kvm-intel-y += $(patsubst $(src)/%.c,%.o,$(wildcard $(src)/vmx/evmcs.c $(src)/vmx/main.c))
kvm-intel-$(CONFIG_X86_SGX_KVM) += vmx/sgx.o
kvm-intel-$(CONFIG_KVM_HYPERV) += vmx/hyperv.o vmx/hyperv_evmcs.o
ifdef CONFIG_KVM_HYPERV
kvm-intel-$(CONFIG_HYPERV) += vmx/vmx_onhyperv.o
endif
ccflags-y += -I$(src)
AFLAGS_vmx/vmenter.o := -iquote $(obj)
$(obj)/vmx/vmenter.o: $(obj)/kvm-asm-offsets.h
$(obj)/kvm-asm-offsets.h: $(obj)/kvm-asm-offsets.s FORCE
	$(call filechk,offsets,__KVM_ASM_OFFSETS_H__)
targets += kvm-asm-offsets.s
"""
_FUNCTION: Final = re.compile(r"^(?:static )?(?:inline )?[a-z][\w ]*[ *](\w+)\([^;{]*\)\n\{", re.MULTILINE)


@dataclass(frozen=True)
class NestedCheck:
    """One use of `CC`: the line on which it begins, the function that it stands in, and the condition that fails the entry, on one line."""

    line: int
    function: str
    condition: str


def source_package(kernel: Path) -> Path:
    """Where Debian's package linux-source-X.Y puts the source of one of `debian_kernels.kernels`; it may not be there."""
    version = ".".join(release(kernel).split(".")[:2])
    return kernel.parents[2] / "usr/src" / f"linux-source-{version}.tar.xz"


def source_of(package: Path, folder: Path) -> Path:
    """Unpack arch/x86/kvm of a source package into `folder`; returns its path there. Raises MachineError where there is none."""
    if not package.exists():
        raise MachineError(f"{package} is missing: install {package.name.removesuffix('.tar.xz')}")
    beginning = f"{package.name.removesuffix('.tar.xz')}/{KVM}/"
    with tarfile.open(package) as archive:
        for member in archive:
            if member.name.startswith(beginning):
                archive.extract(member, folder, filter="data")
    return folder / beginning


def checks(nested: str) -> list[NestedCheck]:
    """The uses of `CC` in the text of nested.c, in order; one of them stands within another."""
    lines = [match.start() for match in re.finditer(r"^", nested, re.MULTILINE)]
    functions = [(match.start(), match[1]) for match in _FUNCTION.finditer(nested)]
    found = []
    for use in re.finditer(r"\bCC\(", nested):
        before = bisect.bisect([start for start, _ in functions], use.start())
        condition = re.sub(r"\s+", " ", nested[use.end() : _closing(nested, use.end() - 1)])
        found.append(NestedCheck(bisect.bisect(lines, use.start()), functions[before - 1][1], condition))
    return found


def _closing(text: str, opening: int) -> int:
    """Where the parenthesis at `opening` is closed."""
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
    raise MachineError(f"nested.c: the parenthesis at character {opening} is never closed")


def build_without(kernel: Path, source: Path) -> Path:
    """Build kvm_intel with the parameter in `source` (as `source_of` made it), which is changed; returns the module. Raises MachineError.

    `insmod kvm-intel.ko skipped_check_line=N`, or a number written to /sys/module/kvm_intel/parameters/skipped_check_line, skips the check on line N.
    """
    nested = source / NESTED
    text = nested.read_text(encoding="utf-8")
    if _DEFINITION in text:
        # the lines keep their numbers: `#line` says how those that follow are counted
        place = text.index(_DEFINITION)
        after = text.count("\n", 0, place) + 2
        nested.write_text(text.replace(_DEFINITION, f'{_SKIPPING}#line {after} "{NESTED}"\n', 1), encoding="utf-8")
    elif PARAMETER not in text:
        raise MachineError(f"{nested}: `{_DEFINITION.strip()}` is not there; the macro of this kernel has to be looked up")
    (source / "Makefile").unlink(missing_ok=True)
    (source / "Kbuild").write_text(_KBUILD, encoding="utf-8")
    done = subprocess.run(["make", "-C", kernel, f"M={source}", "modules"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"kvm_intel does not build for {release(kernel)}:\n{done.stdout}{done.stderr}")
    return source / "kvm-intel.ko"
