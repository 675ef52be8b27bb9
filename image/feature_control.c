// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// feature_control.c: whether this processor offers VMX, and IA32_FEATURE_CONTROL, which has to be locked before VMX operation: by the image where nobody has.
#include "image.h"
#include "processor.h"

#define IA32_FEATURE_CONTROL 0x3a
#define IA32_VMX_BASIC 0x480
#define LOCKED 1
#define VMX_OUTSIDE_SMX 4

/* Say what the processor offers, or lacks, and what will be done about it. */
void vmx_tell(void)
{
	u64 control;

	if (!(leaf(1, 2) >> 5 & 1)) {
		printk("No VMX: this processor has none (CPUID.1:ECX[5] = 0), or a hypervisor hides it.\n"
		       "Turn on nested virtualization for this machine (docs/hypervisors.md).\n");
		return;
	}
	control = msr_read(IA32_FEATURE_CONTROL);
	if (control & LOCKED && !(control & VMX_OUTSIDE_SMX)) {
		printk("No VMX: the firmware locked it (IA32_FEATURE_CONTROL = %llXH). Turn it on in its setup.\n", control);
		return;
	}
	printk("VMX is there (IA32_FEATURE_CONTROL = %llXH, IA32_VMX_BASIC = %llXH).\n", control, msr_read(IA32_VMX_BASIC));
	if (!(control & LOCKED))
		printk("The firmware left IA32_FEATURE_CONTROL unlocked: before the first VM entry the image\n"
		       "locks it with VMX allowed, until the next reset.\n");
}

/* After vmx_tell, and only where nothing else is missing. */
void vmx_lock(void)
{
	u64 control;

	if (!(leaf(1, 2) >> 5 & 1))
		return;
	control = msr_read(IA32_FEATURE_CONTROL);
	if (!(control & LOCKED))
		msr_write(IA32_FEATURE_CONTROL, control | LOCKED | VMX_OUTSIDE_SMX);
}
