"""IA32_FEATURE_CONTROL: the image locks it only where nobody has, and only after it has said so. No emulator here leaves it unlocked."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

IMAGE: Final = Path(__file__).parents[3] / "image"
#: What feature_control.c uses of the image's headers, on registers that are memory; `text` has what is said and done, in order.
_STUBS: Final = {
    "image.h": """
#include <stdio.h>
#include <string.h>
typedef unsigned int u32;
typedef unsigned long long u64;
extern char text[4096];
#define printk(...) ((void)sprintf(text + strlen(text), __VA_ARGS__))
void vmx_tell(void);
void vmx_lock(void);
""",
    "processor.h": """
extern u64 control;
extern u32 features;
static inline u32 leaf(u32 number, unsigned int reg) { return number == 1 && reg == 2 ? features : 0; }
static inline u64 msr_read(u32 msr) { return msr == 0x3a ? control : 0; }
static inline void msr_write(u32 msr, u64 value) { printk("wrmsr %XH\\n", msr); if (msr == 0x3a) control = value; }
""",
    "registers.c": "char text[4096]; unsigned long long control; unsigned int features;",
}
VMX: Final = 1 << 5


class Image:
    """The image's way through feature_control.c on a processor with these CPUID.1:ECX and IA32_FEATURE_CONTROL."""

    def __init__(self, library: ctypes.CDLL, features: int, control: int) -> None:
        self._library = library
        ctypes.c_uint.in_dll(library, "features").value = features
        ctypes.c_ulonglong.in_dll(library, "control").value = control
        ctypes.memset((ctypes.c_char * 4096).in_dll(library, "text"), 0, 4096)

    def tell(self) -> None:
        self._library.vmx_tell()

    def lock(self) -> None:
        self._library.vmx_lock()

    @property
    def text(self) -> str:
        """What was said and done."""
        return (ctypes.c_char * 4096).in_dll(self._library, "text").value.decode()

    @property
    def control(self) -> int:
        """IA32_FEATURE_CONTROL."""
        return ctypes.c_ulonglong.in_dll(self._library, "control").value


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("feature-control")
    for name, content in _STUBS.items():
        (folder / name).write_text(content)
    shutil.copy(IMAGE / "feature_control.c", folder)
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{folder}"]
    subprocess.run(["gcc", *flags, "-o", folder / "it.so", folder / "feature_control.c", folder / "registers.c"], check=True)
    return ctypes.CDLL(str(folder / "it.so"))


@pytest.mark.parametrize("control", [0, 4, 2])
def test_unlocked_it_is_locked_after_that_was_said(library: ctypes.CDLL, control: int) -> None:
    image = Image(library, VMX, control)
    image.tell()
    assert image.control == control
    assert "unlocked: before the first VM entry the image\nlocks it" in image.text
    image.lock()
    assert image.control == control | 5
    assert image.text.index("unlocked") < image.text.index("wrmsr 3AH")


@pytest.mark.parametrize(("features", "control"), [(VMX, 5), (VMX, 1), (0, 0), (0, 5)])
def test_otherwise_it_is_left_alone(library: ctypes.CDLL, features: int, control: int) -> None:
    """Locked by somebody, with VMX or without; or there is no VMX."""
    image = Image(library, features, control)
    image.tell()
    image.lock()
    assert image.control == control
    assert "wrmsr" not in image.text
    assert "unlocked" not in image.text
    assert ("No VMX" in image.text) == ((features, control) != (VMX, 5))
