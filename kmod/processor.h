/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* processor.h: the privileged instructions outside the engine, a function each. tests/execute/kmod/fake_kernel puts an imagined processor in its place. */
#ifndef VMFUZZ_PROCESSOR_H
#define VMFUZZ_PROCESSOR_H

#include <linux/types.h>
#include <asm/asm.h>
#include <asm/cpufeature.h>
#include <asm/desc.h>
#include <asm/processor.h>
#include <asm/segment.h>
#include <asm/sync_core.h>

struct table_register {
	u16 limit;
	u64 base;
} __packed;

/* Own accessors: the kernel's have changed names and headers between the versions this module is for. An MSR that does not exist reads as 0. */
static inline u64 msr_read(u32 msr)
{
	u32 low = 0, high = 0;

	asm volatile("1: rdmsr\n2:\n" _ASM_EXTABLE(1b, 2b) : "+a"(low), "+d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

/* Whether it can be read. */
static inline bool msr_try_read(u32 msr, u64 *value)
{
	u32 low = 0, high = 0, there = 0;

	asm volatile("1: rdmsr\n	movl $1, %2\n2:\n" _ASM_EXTABLE(1b, 2b) : "+a"(low), "+d"(high), "+r"(there) : "c"(msr));
	*value = (u64)high << 32 | low;
	return there;
}

static inline void msr_write(u32 msr, u64 value)
{
	asm volatile("1: wrmsr\n2:\n" _ASM_EXTABLE(1b, 2b) : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

/* Register `reg` (0 EAX ...) of subleaf 0. */
static inline u32 leaf(u32 number, unsigned int reg)
{
	u32 r[4];

	asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(number), "c"(0));
	return r[reg];
}

static inline u64 cr0_read(void)
{
	return read_cr0();
}

static inline void cr0_write(u64 value)
{
	asm volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static inline u64 cr3_read(void)
{
	return __read_cr3();
}

static inline void cr3_write(u64 value)
{
	asm volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

static inline u64 cr4_read(void)
{
	return __read_cr4();
}

/*
 * Without the kernel's shadow of CR4, whose functions newer kernels export to KVM alone: nobody looks at the shadow before the bit
 * is off again. #GP where VMXOFF did not leave VMX operation: the caller looks at what became of it.
 */
static inline void cr4_write(u64 value)
{
	asm volatile("1: mov %0, %%cr4\n2:\n" _ASM_EXTABLE(1b, 2b) : : "r"(value) : "memory");
}

static inline u64 dr6_read(void)
{
	u64 value;

	asm volatile("mov %%dr6, %0" : "=r"(value));
	return value;
}

static inline void dr6_write(u64 value)
{
	asm volatile("mov %0, %%dr6" : : "r"(value));
}

static inline u64 dr7_read(void)
{
	u64 value;

	asm volatile("mov %%dr7, %0" : "=r"(value));
	return value;
}

static inline void dr7_write(u64 value)
{
	asm volatile("mov %0, %%dr7" : : "r"(value));
}

static inline void gdt_read(struct table_register *gdt)
{
	asm volatile("sgdt %0" : "=m"(*gdt));
}

static inline void gdt_write(const struct table_register *gdt)
{
	asm volatile("lgdt %0" : : "m"(*gdt));
}

static inline void idt_read(struct table_register *idt)
{
	asm volatile("sidt %0" : "=m"(*idt));
}

static inline void idt_write(const struct table_register *idt)
{
	asm volatile("lidt %0" : : "m"(*idt));
}

static inline u16 tr_read(void)
{
	u16 selector;

	asm volatile("str %0" : "=r"(selector));
	return selector;
}

/* The kernel's TSS again, with its whole limit. */
static inline void tr_reload(void)
{
	force_reload_TR();
}

static inline u16 ldtr_read(void)
{
	u16 selector;

	asm volatile("sldt %0" : "=r"(selector));
	return selector;
}

/* #GP if the descriptor were gone; it is the one that was in use before. */
static inline void ldtr_write(u16 selector)
{
	asm volatile("lldt %0" : : "r"(selector));
}

/* The data-segment registers in the order of their numbers; FS and GS lose their base when they are written. */
enum data_segment { ES, SS, DS, FS, GS, DATA_SEGMENTS };

static inline u16 segment_read(enum data_segment number)
{
	u16 value = 0;

	switch (number) {
	case ES:
		savesegment(es, value);
		break;
	case SS:
		savesegment(ss, value);
		break;
	case DS:
		savesegment(ds, value);
		break;
	case FS:
		savesegment(fs, value);
		break;
	default:
		savesegment(gs, value);
	}
	return value;
}

/* A selector with which the kernel ran, so its descriptor is good. */
static inline void segment_write(enum data_segment number, u16 value)
{
	switch (number) {
	case ES:
		asm volatile("mov %0, %%es" : : "r"((u32)value));
		break;
	case SS:
		asm volatile("mov %0, %%ss" : : "r"((u32)value));
		break;
	case DS:
		asm volatile("mov %0, %%ds" : : "r"((u32)value));
		break;
	case FS:
		asm volatile("mov %0, %%fs" : : "r"((u32)value));
		break;
	default:
		asm volatile("mov %0, %%gs" : : "r"((u32)value));
	}
}

/* Nonzero when it failed: it faults when IA32_FEATURE_CONTROL or a fixed bit of CR0 or CR4 forbids it, so never without the exception table. */
static inline int vmxon(u64 pa)
{
	asm goto("1: vmxon %0; jbe %l[failed]\n"
		 _ASM_EXTABLE(1b, %l[failed])
		 : : "m"(pa) : "cc", "memory" : failed);
	return 0;
failed:
	return 1;
}

/* #UD outside VMX operation. */
static inline void vmxoff(void)
{
	asm volatile("1: vmxoff\n2:\n" _ASM_EXTABLE(1b, 2b) : : : "cc", "memory");
}

struct invalidation {
	u64 context, address;
};

#define ALL_CONTEXTS 2ull

/* Every translation of every EPT, whatever its VPID. Nonzero when it failed. */
static inline int invept_all(void)
{
	struct invalidation all = { 0, 0 };

	asm goto("1: invept %0, %1; jbe %l[failed]\n"
		 _ASM_EXTABLE(1b, %l[failed])
		 : : "m"(all), "r"(ALL_CONTEXTS) : "cc", "memory" : failed);
	return 0;
failed:
	return 1;
}

/* Every translation of every VPID but 0, which entries and exits flush. Nonzero when it failed. */
static inline int invvpid_all(void)
{
	struct invalidation all = { 0, 0 };

	asm goto("1: invvpid %0, %1; jbe %l[failed]\n"
		 _ASM_EXTABLE(1b, %l[failed])
		 : : "m"(all), "r"(ALL_CONTEXTS) : "cc", "memory" : failed);
	return 0;
failed:
	return 1;
}

/* The kernel's CS again, whose selector an exit may have loaded with anything; IRET is the only far jump that the kernel's tools know in a function. */
static inline void cs_reload(void)
{
	u64 scratch;

	asm volatile("mov %%ss, %k0\n	push %0\n	push %%rsp\n	addq $8, (%%rsp)\n	pushfq\n	push %1\n	push $1f\n	iretq\n1:\n"
		     : "=&r"(scratch) : "i"(__KERNEL_CS) : "cc", "memory");
}

/* Through the same gates as the events themselves; the IRET of the handler opens NMIs. */
static inline void raise_nmi(void)
{
	asm volatile("int $2");
}

static inline void raise_machine_check(void)
{
	asm volatile("int $18");
}

/* Whether the kernel goes by VMX: not after clearcpuid=vmx. */
static inline bool kernel_has_vmx(void)
{
	return boot_cpu_has(X86_FEATURE_VMX);
}

static inline bool xen_pv(void)
{
	return boot_cpu_has(X86_FEATURE_XENPV);
}

static inline void open_nmis(void)
{
	iret_to_self();
}

#endif
