// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// ready.c: whether this processor, as it is now, may be taken into VMX operation, and what a person can do where not.
#include <linux/printk.h>

#include "slice.h"

#define FIRMWARE_LOCKED 1
#define FIRMWARE_VMX 4
#define CR4_FRED_BIT 32
#define DEBUGCTL_TRACES 0xc0	/* TR, BTS */

int vmfuzz_check_processor(void)
{
	u64 control;

	if (!(leaf(1, 2) >> 5 & 1)) {
		pr_info_once("vmfuzz: this processor has no VMX (CPUID.1:ECX[5]), or a hypervisor hides it\n");
		return -ENODEV;
	}
	if (xen_pv()) {
		pr_info_once("vmfuzz: this kernel is a paravirtualized guest of Xen, which has VMX for itself\n");
		return -ENODEV;
	}
	/* Exists wherever VMX does. */
	control = msr_read(IA32_FEATURE_CONTROL);
	if (!(control & FIRMWARE_LOCKED)) {
		pr_info_once("vmfuzz: neither firmware nor kernel locked IA32_FEATURE_CONTROL (%llXH); kernels with KVM do\n", control);
		return -EACCES;
	}
	if (!(control & FIRMWARE_VMX)) {
		pr_info_once("vmfuzz: the firmware does not allow VMX outside SMX (IA32_FEATURE_CONTROL = %llXH): turn it on in its setup\n", control);
		return -EACCES;
	}
	if (!kernel_has_vmx()) {
		pr_info_once("vmfuzz: this kernel was told not to use VMX (clearcpuid=)\n");
		return -ENODEV;
	}
	return 0;
}

/* What does not change while a slice runs. With preemption off. */
int vmfuzz_check_state(void)
{
	if (cr4_read() >> CR4_FRED_BIT & 1) {
		pr_info_once("vmfuzz: this kernel uses FRED; start it with fred=off\n");
		return -EPROTONOSUPPORT;
	}
	if (has_cet() && cr4_read() >> 23 & 1 && msr_read(IA32_S_CET) & 1) {
		pr_info_once("vmfuzz: this kernel uses supervisor shadow stacks\n");
		return -EPROTONOSUPPORT;
	}
	/* Host selectors must have TI and RPL 0; a 64-bit program has null ones unless it asked for others. */
	if (segment_read(ES) | segment_read(DS) | segment_read(FS) | segment_read(GS)) {
		pr_info_once("vmfuzz: the caller uses data-segment selectors\n");
		return -EPROTONOSUPPORT;
	}
	return 0;
}

/* What another CPU's interrupt may have changed since the row before. With interrupts off. */
int vmfuzz_check_row(const struct slice *s)
{
	const struct registers *r = &s->registers;

	if (r->cr4 & X86_CR4_VMXE) {
		pr_info_once("vmfuzz: another program is in VMX operation; stop virtual machines and unload kvm_intel\n");
		return -EADDRINUSE;
	}
	/* VMXON faults while Intel PT traces, or the trace goes on in the guest. */
	if (s->trace && msr_read(IA32_RTIT_CTL) & 1) {
		pr_info_once("vmfuzz: Intel Processor Trace is tracing this CPU; stop it\n");
		return -EPROTONOSUPPORT;
	}
	/* The processor writes both to linear addresses of the host, which the guest's tables would translate. */
	if ((s->pebs && msr_read(IA32_PEBS_ENABLE)) || r->msr[DEBUGCTL_PLACE] & DEBUGCTL_TRACES) {
		pr_info_once("vmfuzz: perf samples this CPU with PEBS or BTS; stop it\n");
		return -EPROTONOSUPPORT;
	}
	return 0;
}
