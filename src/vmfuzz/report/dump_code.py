"""Source text of a function that reads every VMCS field and capability MSR and prints them in the form that `vmfuzz check` reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from vmfuzz.arch.capabilities import CAPABILITY_MSRS, Capabilities
from vmfuzz.arch.fields import FIELDS, Field

#: Capability MSRs that not every processor with VMX has: number -> C condition under which it may be read.
_CONDITIONS: Final = {
    0x48B: "(primary >> 63) & 1",
    0x48C: "((primary >> 63) & 1) && ((secondary >> 33 | secondary >> 37) & 1)",
    0x48D: "(basic >> 55) & 1",
    0x48E: "(basic >> 55) & 1",
    0x48F: "(basic >> 55) & 1",
    0x490: "(basic >> 55) & 1",
    0x491: "((primary >> 63) & 1) && ((secondary >> 45) & 1)",
    0x492: "(primary >> 49) & 1",
    0x493: "(exits >> 63) & 1",
}

_C_HEAD: Final = """\
/* Prints every VMCS field and VMX capability MSR as "name = 0x...", for `vmfuzz check`.
 * Call vmfuzz_dump_vmcs() in VMX root operation with the VMCS current: right after VMLAUNCH or VMRESUME failed, or in the exit handler.
 * For GCC, Clang and Microsoft's compiler. Outside of a Linux kernel module, define VMFUZZ_PRINT(name, value) before this text, for
 * example as printf("%s = 0x%llx\\n", name, value). {count} fields. */
#ifndef VMFUZZ_PRINT
#include <linux/kernel.h>
#define VMFUZZ_PRINT(name, value) printk(KERN_INFO "%s = 0x%llx\\n", name, value)
#endif

static const struct {{ unsigned short encoding; const char *name; }} vmfuzz_fields[] = {{
"""

_C_TAIL: Final = """\
};

#ifdef _MSC_VER
#include <intrin.h>

static unsigned long long vmfuzz_rdmsr(unsigned int number)
{
	return __readmsr(number);
}

/* VMREAD; returns 0 where the processor does not have the field */
static int vmfuzz_vmread(unsigned short encoding, unsigned long long *value)
{
	size_t result = 0;
	int failed = __vmx_vmread(encoding, &result);

	*value = result;
	return !failed;
}
#else
static unsigned long long vmfuzz_rdmsr(unsigned int number)
{
	unsigned int low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
	return (unsigned long long)high << 32 | low;
}

/* VMREAD; returns 0 where the processor does not have the field */
static int vmfuzz_vmread(unsigned short encoding, unsigned long long *value)
{
	unsigned long which = encoding, result = 0;
	unsigned char failed;

	__asm__ volatile("vmread %[which], %[result]; setbe %[failed]"
		: [result] "=r"(result), [failed] "=qm"(failed) : [which] "r"(which) : "cc");
	*value = result;
	return !failed;
}
#endif

static void vmfuzz_dump_vmcs(void)
{
	unsigned long long basic = vmfuzz_rdmsr(0x480), primary = vmfuzz_rdmsr(0x482), exits = vmfuzz_rdmsr(0x483);
	unsigned long long secondary = (primary >> 63) & 1 ? vmfuzz_rdmsr(0x48b) : 0;
	unsigned long long value;
	unsigned int i;

	for (i = 0; i < sizeof(vmfuzz_fields) / sizeof(vmfuzz_fields[0]); i++)
		if (vmfuzz_vmread(vmfuzz_fields[i].encoding, &value))
			VMFUZZ_PRINT(vmfuzz_fields[i].name, value);
"""

_RUST_HEAD: Final = """\
//! Prints every VMCS field and VMX capability MSR as "name = 0x...", for `vmfuzz check`. {count} fields.
use core::arch::asm;

const FIELDS: &[(u16, &str)] = &[
"""

_RUST_TAIL: Final = """\
];

/// # Safety
/// The processor must be at privilege level 0 and have the MSR.
unsafe fn rdmsr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    unsafe { asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// VMREAD; `None` where the processor does not have the field.
///
/// # Safety
/// The processor must be in VMX root operation with a current VMCS.
unsafe fn vmread(encoding: u64) -> Option<u64> {
    let (value, failed): (u64, u8);
    unsafe {
        asm!("vmread {value}, {encoding}", "setbe {failed}",
             value = out(reg) value, encoding = in(reg) encoding, failed = out(reg_byte) failed, options(nostack))
    };
    (failed == 0).then_some(value)
}

/// Calls `print` with the name and value of each field and MSR; print them as `"{name} = {value:#x}"`, one a line.
///
/// # Safety
/// The processor must be in VMX root operation with the VMCS to be read current.
pub unsafe fn dump_vmcs(mut print: impl FnMut(&str, u64)) {
    let read = |number| unsafe { rdmsr(number) };
    let (basic, primary, exits) = (read(0x480), read(0x482), read(0x483));
    let secondary = if (primary >> 63) & 1 == 1 { read(0x48b) } else { 0 };
    for &(encoding, name) in FIELDS {
        if let Some(value) = unsafe { vmread(u64::from(encoding)) } {
            print(name, value);
        }
    }
"""


def _chosen(capabilities: Capabilities | None) -> Iterable[Field]:
    return FIELDS.values() if capabilities is None else capabilities.fields


def c_code(capabilities: Capabilities | None = None) -> str:
    """The function in C for Linux. `capabilities` limit the fields to those that this processor has; a field it lacks is skipped anyway."""
    fields = list(_chosen(capabilities))
    rows = "".join(f'\t{{ 0x{field.encoding:04x}, "{field.name}" }},\n' for field in fields)
    msrs = ""
    for number, name in CAPABILITY_MSRS.items():
        condition = _CONDITIONS.get(number)
        call = f'VMFUZZ_PRINT("{name}", vmfuzz_rdmsr(0x{number:x}));'
        msrs += f"\tif ({condition})\n\t\t{call}\n" if condition else f"\t{call}\n"
    return _C_HEAD.format(count=len(fields)) + rows + _C_TAIL + msrs + "}\n"


def rust_code(capabilities: Capabilities | None = None) -> str:
    """The function in Rust without the standard library. `capabilities` as for `c_code`."""
    fields = list(_chosen(capabilities))
    rows = "".join(f'    (0x{field.encoding:04x}, "{field.name}"),\n' for field in fields)
    msrs = ""
    for number, name in CAPABILITY_MSRS.items():
        condition = _CONDITIONS.get(number)
        call = f'print("{name}", read(0x{number:x}));'
        msrs += f"    if {_rust_condition(condition)} {{\n        {call}\n    }}\n" if condition else f"    {call}\n"
    return _RUST_HEAD.format(count=len(fields)) + rows + _RUST_TAIL + msrs + "}\n"


def _rust_condition(condition: str) -> str:
    return " && ".join(
        f"{part.strip().removeprefix('(').removesuffix(')') if '&&' in condition else part.strip()} == 1" for part in condition.split("&&")
    )
