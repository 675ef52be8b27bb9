// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// engine.c: probe the processor, capture a known-good VMCS, and run families of candidates through VM entry.
/*
 * Freestanding: no library, no kernel headers (but for how a function returns), no interrupts expected. The same file is linked into the kernel module and,
 * as a flat image, runs on the emulated CPU. It trusts its caller for containment: a row that the processor accepts must
 * exit before it executes anything, and the host state that a row loads must be one that this code survives.
 */
#ifdef __KERNEL__
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/asm.h>
#undef BIT
#endif
#include "engine.h"
#include "engine_calls.h"

/* Kernels may want returns to go through a thunk or to be followed by INT3; their macro knows. */
#ifdef ASM_RET
#define RETURN "	" ASM_RET
#else
#define RETURN "	ret\n"
#endif

/* An MSR that a hypervisor promises and does not have faults; in a kernel it reads as 0. */
#ifdef _ASM_EXTABLE
#define IF_IT_FAULTS _ASM_EXTABLE(1b, 2b)
#else
#define IF_IT_FAULTS ""
#endif

/*
 * A VM exit is no indirect branch, but where it does not load IA32_S_CET the tracker of the guest's last branch is still at work: an event
 * that was delivered to the guest may have left it waiting for an ENDBR. The emulated CPU's kernel-less host has no tracker.
 */
#ifdef VMFUZZ_EMULATED
#define LANDING ""
#else
#define LANDING "	endbr64\n"
#endif

typedef vmfuzz_u8 u8;
typedef vmfuzz_u16 u16;
typedef vmfuzz_u32 u32;
typedef vmfuzz_u64 u64;

#define MSR_APIC_BASE 0x1b
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_VMX_BASIC 0x480
#define MSR_VMX_PINBASED 0x481
#define MSR_VMX_PROCBASED 0x482
#define MSR_VMX_EXIT 0x483
#define MSR_VMX_ENTRY 0x484
#define MSR_VMX_PROCBASED2 0x48b
#define MSR_VMX_EPT_VPID_CAP 0x48c
#define MSR_VMX_TRUE_PINBASED 0x48d
#define MSR_VMX_VMFUNC 0x491
#define MSR_VMX_PROCBASED3 0x492
#define MSR_VMX_EXIT2 0x493
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_DEBUGCTL 0x1d9
#define MSR_PAT 0x277
#define MSR_PERF_CAPABILITIES 0x345
#define MSR_RTIT_CTL 0x570
#define MSR_PKRS 0x6e1
#define MSR_S_CET 0x6a2
#define MSR_TME_ACTIVATE 0x982
#define MSR_EFER 0xc0000080
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101

#define FIELD_ENTRY_INTERRUPTION_INFO 0x4016
#define FIELD_INSTRUCTION_ERROR 0x4400
#define FIELD_EXIT_REASON 0x4402
#define FIELD_EXIT_QUALIFICATION 0x6400
#define FIELD_EXIT_INTERRUPTION_INFO 0x4404

/* A power of 2, so that no number of a condition reaches beyond. */
#define LIVE_ROOM 8

#define EXIT_EXCEPTION_OR_NMI 0
#define EXIT_EXTERNAL_INTERRUPT 1
#define FAILURE_MACHINE_CHECK 41

#define BIT(n) (1ull << (n))
#define CR4_VMXE BIT(13)
#define CR4_LA57 BIT(12)

/* ---- instructions ---- */

static inline u64 rdmsr(u32 msr)
{
	u32 low = 0, high = 0;

	asm volatile("1: rdmsr\n2:\n" IF_IT_FAULTS : "+a"(low), "+d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

static inline void wrmsr(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline struct vmfuzz_cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct vmfuzz_cpuid r = { .leaf = leaf, .subleaf = subleaf };

	asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
	return r;
}

/* Nonzero when the instruction failed, in either way. */
static inline int vmwrite(u64 encoding, u64 value)
{
	asm goto("vmwrite %1, %0; jbe %l[failed]" : : "r"(encoding), "r"(value) : "cc", "memory" : failed);
	return 0;
failed:
	return 1;
}

static inline u64 vmread(u64 encoding)
{
	u64 value = 0;

	asm volatile("vmread %1, %0" : "+r"(value) : "r"(encoding) : "cc", "memory");
	return value;
}

#ifdef VMFUZZ_EMULATED
static inline int vmxon(u64 pa)
{
	u8 failed;

	asm volatile("vmxon %1; setbe %0" : "=qm"(failed) : "m"(pa) : "cc", "memory");
	return failed;
}
#endif

static inline int vmclear(u64 pa)
{
	u8 failed;

	asm volatile("vmclear %1; setbe %0" : "=qm"(failed) : "m"(pa) : "cc", "memory");
	return failed;
}

static inline int vmptrld(u64 pa)
{
	u8 failed;

	asm volatile("vmptrld %1; setbe %0" : "=qm"(failed) : "m"(pa) : "cc", "memory");
	return failed;
}

static inline u64 read_cr0(void)
{
	u64 v;

	asm volatile("mov %%cr0, %0" : "=r"(v));
	return v;
}

static inline u64 read_cr3(void)
{
	u64 v;

	asm volatile("mov %%cr3, %0" : "=r"(v));
	return v;
}

static inline u64 read_cr4(void)
{
	u64 v;

	asm volatile("mov %%cr4, %0" : "=r"(v));
	return v;
}

#ifdef VMFUZZ_EMULATED
static inline void write_cr4(u64 v)
{
	asm volatile("mov %0, %%cr4" : : "r"(v) : "memory");
}
#endif

/* ---- probe ---- */

#ifdef VMFUZZ_EMULATED
static int has_vmx(void)
{
	return cpuid(1, 0).ecx >> 5 & 1;
}
#endif

static int has_leaf7_ebx(unsigned int bit)
{
	return cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx >> bit & 1;
}

static int has_leaf7_ecx(unsigned int bit)
{
	return cpuid(0, 0).eax >= 7 && cpuid(7, 0).ecx >> bit & 1;
}

#ifdef VMFUZZ_EMULATED
static int has_leaf7_edx(unsigned int bit)
{
	return cpuid(0, 0).eax >= 7 && cpuid(7, 0).edx >> bit & 1;
}
#endif

static void add_msr(struct vmfuzz_request *r, u32 msr)
{
	struct vmfuzz_pair *p;

	if (r->msr_count >= VMFUZZ_MAX_MSRS)
		return;
	p = &r->msrs[r->msr_count++];
	p->target = msr;
	p->value = rdmsr(msr);
}

/* RDMSR of a capability MSR that does not exist is #GP, so each is gated by the rule of Appendix A. */
static void probe_vmx_msrs(struct vmfuzz_request *r)
{
	u64 primary = rdmsr(MSR_VMX_PROCBASED);
	u64 secondary = primary >> 63 ? rdmsr(MSR_VMX_PROCBASED2) : 0;
	u32 msr;

	for (msr = MSR_VMX_BASIC; msr < MSR_VMX_PROCBASED2; msr++)
		add_msr(r, msr);
	if (primary >> 63)
		add_msr(r, MSR_VMX_PROCBASED2);
	if (secondary & (BIT(33) | BIT(37)))
		add_msr(r, MSR_VMX_EPT_VPID_CAP);
	for (msr = MSR_VMX_TRUE_PINBASED; rdmsr(MSR_VMX_BASIC) & BIT(55) && msr < MSR_VMX_TRUE_PINBASED + 4; msr++)
		add_msr(r, msr);
	if (secondary & BIT(45))
		add_msr(r, MSR_VMX_VMFUNC);
	if (primary & BIT(49))
		add_msr(r, MSR_VMX_PROCBASED3);
	if (rdmsr(MSR_VMX_EXIT) >> 63)
		add_msr(r, MSR_VMX_EXIT2);
}

static void add_cpuid(struct vmfuzz_request *r, u32 leaf, u32 subleaf)
{
	if (cpuid(leaf & 0x80000000, 0).eax >= leaf && r->cpuid_count < VMFUZZ_MAX_CPUID)
		r->cpuid[r->cpuid_count++] = cpuid(leaf, subleaf);
}

static void probe_cpuid(struct vmfuzz_request *r)
{
	u32 leaf;

	add_cpuid(r, 0, 0);
	add_cpuid(r, 1, 0);
	add_cpuid(r, 7, 0);
	if (cpuid(0, 0).eax >= 7 && cpuid(7, 0).eax >= 1)
		add_cpuid(r, 7, 1);
	if (cpuid(0, 0).eax >= 7 && cpuid(7, 0).eax >= 2)
		add_cpuid(r, 7, 2);
	add_cpuid(r, 0x0a, 0);
	add_cpuid(r, 0x0d, 0);
	add_cpuid(r, 0x0d, 1);
	add_cpuid(r, 0x14, 0);
	if (cpuid(0, 0).eax >= 0x14 && cpuid(0x14, 0).eax >= 1)
		add_cpuid(r, 0x14, 1);
	add_cpuid(r, 0x1c, 0);
	add_cpuid(r, 0x23, 0);
	if (cpuid(0, 0).eax >= 0x23 && cpuid(0x23, 0).eax >> 1 & 1)
		add_cpuid(r, 0x23, 1);	/* bitmaps of the performance counters */
	for (leaf = 0x80000000; leaf <= 0x80000008; leaf++)
		add_cpuid(r, leaf, 0);
}

static void probe(struct vmfuzz_request *r)
{
	r->msr_count = 0;
	r->cpuid_count = 0;
	probe_cpuid(r);
	add_msr(r, MSR_EFER);
	add_msr(r, MSR_PAT);
	if (cpuid(1, 0).edx >> 9 & 1)	/* APIC */
		add_msr(r, MSR_APIC_BASE);
	add_msr(r, MSR_FEATURE_CONTROL);
	add_msr(r, MSR_DEBUGCTL);
	if (has_leaf7_ebx(25))		/* Intel PT */
		add_msr(r, MSR_RTIT_CTL);
	if (cpuid(1, 0).ecx >> 15 & 1)	/* PDCM */
		add_msr(r, MSR_PERF_CAPABILITIES);
	if (has_leaf7_ecx(13))		/* TME */
		add_msr(r, MSR_TME_ACTIVATE);
	probe_vmx_msrs(r);
	r->cr0 = read_cr0();
	r->cr3 = read_cr3();
	r->cr4 = read_cr4();
}

/* ---- VMX operation ---- */

static void zero(u64 va, u64 bytes)
{
	u64 words = bytes / 8;

	asm volatile("rep stosq" : "+D"(va), "+c"(words) : "a"(0ull) : "memory");
}

/* Make the VMCS fresh, clear and current; the processor is in VMX operation. */
static int load_fresh_vmcs(const struct vmfuzz_request *r)
{
	zero(r->vmcs_va, VMFUZZ_PAGE);
	*(u32 *)r->vmcs_va = (u32)rdmsr(MSR_VMX_BASIC) & 0x7fffffff;
	if (vmclear(r->vmcs_pa) || vmptrld(r->vmcs_pa))
		return VMFUZZ_STATUS_VMPTRLD_FAILED;
	return VMFUZZ_STATUS_DONE;
}

#ifdef VMFUZZ_EMULATED
/* Enter VMX operation with a fresh, current, clear VMCS. Returns a status; DONE when it worked. */
static int vmx_start(struct vmfuzz_request *r)
{
	u64 control;
	int status;

	if (!has_vmx())
		return VMFUZZ_STATUS_NO_VMX;
	control = rdmsr(MSR_FEATURE_CONTROL);
	r->detail = control;
	if (!(control & BIT(0)))
		wrmsr(MSR_FEATURE_CONTROL, control | BIT(2) | BIT(0));
	else if (!(control & BIT(2)))
		return VMFUZZ_STATUS_NO_VMX;
	zero(r->vmxon_va, VMFUZZ_PAGE);
	*(u32 *)r->vmxon_va = (u32)rdmsr(MSR_VMX_BASIC) & 0x7fffffff;
	write_cr4(read_cr4() | CR4_VMXE);
	if (vmxon(r->vmxon_pa))
		return VMFUZZ_STATUS_VMXON_FAILED;
	status = load_fresh_vmcs(r);
	if (status != VMFUZZ_STATUS_DONE)
		asm volatile("vmxoff" : : : "cc");
	return status;
}

static void vmx_stop(struct vmfuzz_request *r)
{
	vmclear(r->vmcs_pa);
	asm volatile("vmxoff" : : : "cc");
}
#endif

/* ---- the entry itself ---- */

/*
 * Outlives a candidate's host RSP: the exit handler finds its stack here and not in the register that the exit loaded.
 * One per machine is enough, entries run on one processor at a time. Not static: the assembly below names it.
 */
extern u64 vmfuzz_saved_rsp;
#ifdef VMFUZZ_EMULATED
__attribute__((section(".hot,\"aw\",@nobits#")))
#endif
u64 vmfuzz_saved_rsp;

/*
 * u64 vmfuzz_enter(resume, mov_ss): 0 VM exit (or entry failure), 1 CF (VMfailInvalid), 2 ZF (VMfailValid), 3 neither: the
 * instruction fell through. Registers are saved on the stack because nothing guarantees what the guest leaves in them.
 */
u64 vmfuzz_enter(u64 resume, u64 mov_ss);
/* What a VM exit does not give back, for the exit handler. */
#define SAVE_REGISTERS \
    "	push %rbx\n" \
    "	push %rbp\n" \
    "	push %r12\n" \
    "	push %r13\n" \
    "	push %r14\n" \
    "	push %r15\n" \
    "	mov %rsp, vmfuzz_saved_rsp(%rip)\n"
#ifdef __KERNEL__
/* The exit handler is reached by no branch that objtool could see, and its stack pointer comes from memory. */
STACK_FRAME_NON_STANDARD(vmfuzz_enter);
#endif
asm(".section .text.entry, \"ax\"\n"	/* first in the image: stored states hold the exit handler's address */
    ".globl vmfuzz_enter\n"
    ".type vmfuzz_enter, @function\n"
    "vmfuzz_enter:\n"
    SAVE_REGISTERS
    "	xor %eax, %eax\n"
    "	test %rsi, %rsi\n"
    "	jnz 3f\n"
    "	test %rdi, %rdi\n"
    "	jnz 1f\n"
    "	vmlaunch\n"
    "	jmp 2f\n"
    "1:	vmresume\n"
    "	jmp 2f\n"
    /*
     * A null SS is legal at CPL 0 in 64-bit mode; it only has to be a MOV SS, which blocks events for one instruction. The
     * selector before it is not put back: an earlier exit may have loaded one from host_ss_selector that the GDT lacks.
     */
    "3:	test %rdi, %rdi\n"
    "	jnz 4f\n"
    "	mov %eax, %ss\n"
    "	vmlaunch\n"
    "	jmp 2f\n"
    "4:	mov %eax, %ss\n"
    "	vmresume\n"
    ".Lno_exit:\n"
    "2:	mov $1, %eax\n"
    "	jc 6f\n"
    "	mov $2, %eax\n"
    "	jz 6f\n"
    "	mov $3, %eax\n"
    "	jmp 6f\n"
    ".globl vmfuzz_exit_handler\n"
    "vmfuzz_exit_handler:\n"
    LANDING
    "	mov vmfuzz_saved_rsp(%rip), %rsp\n"
    "	xor %eax, %eax\n"
    "6:	pop %r15\n"
    "	pop %r14\n"
    "	pop %r13\n"
    "	pop %r12\n"
    "	pop %rbp\n"
    "	pop %rbx\n"
    RETURN
    "\n.size vmfuzz_enter, .-vmfuzz_enter\n"
    ".text\n");

#ifdef VMFUZZ_EMULATED
/* vmfuzz_enter(0, 0), for the loop in which each interpreted instruction counts. */
u64 vmfuzz_launch(void);
asm(".section .text.entry, \"ax\"\n"
    "vmfuzz_launch:\n"
    SAVE_REGISTERS
    "	vmlaunch\n"
    "	jmp .Lno_exit\n"
    ".text\n");
#endif

/* ---- capture ---- */

static void set_field(struct vmfuzz_request *r, u32 encoding, u64 value)
{
	u64 i;

	for (i = 0; i < r->field_count; i++)
		if (r->fields[i].target == encoding)
			break;
	if (i == r->field_count)
		return;		/* the field does not exist here */
	r->fields[i].value = value;
	vmwrite(encoding, value);
}

static u64 get_field(struct vmfuzz_request *r, u32 encoding)
{
	u64 i;

	for (i = 0; i < r->field_count; i++)
		if (r->fields[i].target == encoding)
			return r->fields[i].value;
	return 0;
}

/*
 * List every field that can be written, with value 0. VMWRITE of a field that does not exist only fails (error 12), so
 * trying is the one reliable way to know, and it finds fields that no manual lists.
 */
static void find_fields(struct vmfuzz_request *r)
{
	u32 width, area, index, encoding;

	r->field_count = 0;
	for (width = 0; width < 4; width++)
		for (area = 0; area < 4; area++)
			for (index = 0; area != 1 && index < 64; index++) {
				encoding = width << 13 | area << 10 | index << 1;
				if (r->field_count == VMFUZZ_MAX_FIELDS || vmwrite(encoding, 0))
					continue;
				r->fields[r->field_count].target = encoding;
				r->fields[r->field_count++].value = 0;
			}
}

/* Control word: what is wanted, with what must be 1, without what must be 0. `old` is the MSR's number without TRUE. */
static u64 adjust(u64 wanted, u32 old)
{
	u64 msr = rdmsr(rdmsr(MSR_VMX_BASIC) & BIT(55) ? old + 12 : old);

	return (wanted | (u32)msr) & msr >> 32;
}

static u64 capture_secondary(struct vmfuzz_request *r)
{
	u64 wanted = 0, cap;

	if (!(get_field(r, 0x4002) & BIT(31)))
		return 0;
	cap = rdmsr(MSR_VMX_PROCBASED2) >> 32;
	wanted = cap & BIT(1);		/* EPT */
	set_field(r, 0x401e, wanted);
	return wanted;
}

static void capture_controls(struct vmfuzz_request *r)
{
	u64 ept_cap, secondary;

	set_field(r, 0x4000, adjust(BIT(0) | BIT(3) | BIT(6), MSR_VMX_PINBASED));
	set_field(r, 0x4002, adjust(BIT(7) | BIT(31), MSR_VMX_PROCBASED));
	/* Load on exit whatever entry may have changed, so that no row leaks into the host or the next row. */
	set_field(r, 0x400c, adjust(BIT(9) | BIT(12) | BIT(19) | BIT(21) | BIT(23) | BIT(28) | BIT(29), MSR_VMX_EXIT));
	set_field(r, 0x4012, adjust(BIT(9) | BIT(14) | BIT(15), MSR_VMX_ENTRY));
	set_field(r, 0x4004, 0xffffffff);
	secondary = capture_secondary(r);
	if (secondary & BIT(1)) {
		ept_cap = rdmsr(MSR_VMX_EPT_VPID_CAP);
		/* An empty EPT: write-back unless only uncacheable is possible, 4 levels. */
		set_field(r, 0x201a, (r->arena_pa + 1 * VMFUZZ_PAGE) | 3 << 3 | (ept_cap & BIT(14) ? 6 : 0));
	}
	set_field(r, 0x0000, 1);	/* VPID: 0 is invalid once the control is set */
	set_field(r, 0x482e, 0);	/* timer 0: exit before the first guest instruction */
	set_field(r, 0x6004, read_cr0());
	set_field(r, 0x6006, read_cr4());
}

/* Memory operands: each points to zero pages of its own in the arena (page 0: guest page table, 1: EPT). */
static void capture_addresses(struct vmfuzz_request *r)
{
	static const struct { u16 encoding, page; } operand[] = {
		{ 0x2000, 2 }, { 0x2002, 3 }, { 0x2004, 4 }, { 0x2006, 5 }, { 0x2008, 6 }, { 0x200a, 7 },
		{ 0x200e, 8 }, { 0x2012, 9 }, { 0x2014, 10 }, { 0x2016, 11 }, { 0x2024, 12 }, { 0x2026, 13 },
		{ 0x2028, 14 }, { 0x202a, 15 }, { 0x2030, 16 }, { 0x2038, 17 }, { 0x203a, 18 }, { 0x2040, 19 },
		{ 0x2042, 20 },
	};
	unsigned int i;

	for (i = 0; i < sizeof(operand) / sizeof(operand[0]); i++)
		set_field(r, operand[i].encoding, r->arena_pa + (u64)operand[i].page * VMFUZZ_PAGE);
	set_field(r, 0x2800, ~0ull);
}

static u32 access_rights(u16 selector)
{
	u32 lar = 0;

	if (!(selector & ~3))
		return 0x10000;
	asm volatile("lar %1, %0" : "+r"(lar) : "r"((u32)selector) : "cc");
	return lar >> 8 & 0xf0ff;
}

static u32 segment_limit(u16 selector)
{
	u32 limit = 0;

	if (selector & ~3)
		asm volatile("lsl %1, %0" : "+r"(limit) : "r"((u32)selector) : "cc");
	return limit;
}

struct __attribute__((packed)) table_register {
	u16 limit;
	u64 base;
};

/* Base address in a 16-byte system descriptor (TSS, LDT). */
static u64 system_segment_base(const struct table_register *gdt, u16 selector)
{
	const u32 *d = (const u32 *)(gdt->base + (selector & ~7u));

	if (!(selector & ~3))
		return 0;
	return d[0] >> 16 | (u64)(d[1] & 0xff) << 16 | (u64)(d[1] & 0xff000000) | (u64)d[2] << 32;
}

static void capture_segments(struct vmfuzz_request *r)
{
	struct table_register gdt, idt;
	u16 selector[8];
	u64 tr_base;
	u32 i;

	asm volatile("sgdt %0" : "=m"(gdt));
	asm volatile("sidt %0" : "=m"(idt));
	asm volatile("mov %%es, %0" : "=r"(selector[0]));
	asm volatile("mov %%cs, %0" : "=r"(selector[1]));
	asm volatile("mov %%ss, %0" : "=r"(selector[2]));
	asm volatile("mov %%ds, %0" : "=r"(selector[3]));
	asm volatile("mov %%fs, %0" : "=r"(selector[4]));
	asm volatile("mov %%gs, %0" : "=r"(selector[5]));
	asm volatile("sldt %0" : "=r"(selector[6]));
	asm volatile("str %0" : "=r"(selector[7]));
	for (i = 0; i < 8; i++) {
		set_field(r, 0x0800 + 2 * i, selector[i]);
		set_field(r, 0x4800 + 2 * i, segment_limit(selector[i]));
		set_field(r, 0x4814 + 2 * i, access_rights(selector[i]));
		if (i < 6)
			set_field(r, 0x0c00 + 2 * i, selector[i] & ~7u);
	}
	set_field(r, 0x0c0c, selector[7]);
	tr_base = system_segment_base(&gdt, selector[7]);
	set_field(r, 0x6812, system_segment_base(&gdt, selector[6]));
	set_field(r, 0x6814, tr_base);
	set_field(r, 0x6c0a, tr_base);
	set_field(r, 0x680e, rdmsr(MSR_FS_BASE));
	set_field(r, 0x6c06, rdmsr(MSR_FS_BASE));
	set_field(r, 0x6810, rdmsr(MSR_GS_BASE));
	set_field(r, 0x6c08, rdmsr(MSR_GS_BASE));
	set_field(r, 0x4810, gdt.limit);
	set_field(r, 0x4812, idt.limit);
	set_field(r, 0x6816, gdt.base);
	set_field(r, 0x6c0c, gdt.base);
	set_field(r, 0x6818, idt.base);
	set_field(r, 0x6c0e, idt.base);
}

static void capture_registers(struct vmfuzz_request *r)
{
	u64 dr7, rsp;

	asm volatile("mov %%dr7, %0" : "=r"(dr7));
	asm volatile("mov %%rsp, %0" : "=r"(rsp));
	set_field(r, 0x6800, read_cr0());
	set_field(r, 0x6c00, read_cr0());
	set_field(r, 0x6802, r->arena_pa);	/* the guest's page tables map nothing */
	set_field(r, 0x6c02, read_cr3());
	set_field(r, 0x6804, read_cr4());
	set_field(r, 0x6c04, read_cr4());
	set_field(r, 0x681a, dr7);
	set_field(r, 0x681c, VMFUZZ_PAGE);
	set_field(r, 0x681e, VMFUZZ_PAGE);
	set_field(r, 0x6820, 2);
	set_field(r, 0x6c14, rsp & ~15ull);
	set_field(r, 0x6c16, (u64)vmfuzz_exit_handler);
	set_field(r, 0x482a, rdmsr(MSR_SYSENTER_CS));
	set_field(r, 0x4c00, rdmsr(MSR_SYSENTER_CS));
	set_field(r, 0x6824, rdmsr(MSR_SYSENTER_ESP));
	set_field(r, 0x6c10, rdmsr(MSR_SYSENTER_ESP));
	set_field(r, 0x6826, rdmsr(MSR_SYSENTER_EIP));
	set_field(r, 0x6c12, rdmsr(MSR_SYSENTER_EIP));
	set_field(r, 0x2802, rdmsr(MSR_DEBUGCTL));
	set_field(r, 0x2804, rdmsr(MSR_PAT));
	set_field(r, 0x2c00, rdmsr(MSR_PAT));
	set_field(r, 0x2806, rdmsr(MSR_EFER));
	set_field(r, 0x2c02, rdmsr(MSR_EFER));
}

static void capture(struct vmfuzz_request *r)
{
	find_fields(r);
	capture_controls(r);
	capture_addresses(r);
	capture_segments(r);
	capture_registers(r);
}

/* ---- run ---- */

static inline u64 *arena_word(const struct vmfuzz_request *r, u64 target)
{
	return (u64 *)(r->arena_va + (target & (VMFUZZ_ARENA_PAGES * VMFUZZ_PAGE - 8)));
}

static inline int write_pair(const struct vmfuzz_request *r, const struct vmfuzz_pair *p)
{
	if (p->target >> VMFUZZ_TARGET_ARENA_BIT) {
		*arena_word(r, p->target) = p->value;
		return 0;
	}
	return vmwrite(p->target, p->value);
}

static inline void make_clear(const struct vmfuzz_request *r)
{
	vmclear(r->vmcs_pa);
	vmptrld(r->vmcs_pa);
}

/*
 * Make the current VMCS a shadow VMCS, or an ordinary one again, and clear. Software may change the indicator, bit 31 of the region's first
 * dword, only while the VMCS is not active. Nonzero when VMPTRLD refuses it: this processor has no shadow VMCSs.
 */
static int set_shadow_indicator(const struct vmfuzz_request *r, u32 shadow)
{
	volatile u32 *revision = (volatile u32 *)r->vmcs_va;

	vmclear(r->vmcs_pa);
	*revision = (*revision & 0x7fffffff) | shadow << 31;
	return vmptrld(r->vmcs_pa);
}

/* List the base's fields that are not what they were; columns must hold the base's values. Returns their number. */
static u64 find_drift(struct vmfuzz_request *r)
{
	const struct vmfuzz_pair *base = (const struct vmfuzz_pair *)r->base_va;
	u64 i, n = 0;

	for (i = 0; i < r->base_count; i++) {
		if (base[i].target >> VMFUZZ_TARGET_ARENA_BIT)
			continue;
#ifndef VMFUZZ_EMULATED
		if ((base[i].target >> 10 & 3) == 3)
			continue;	/* host-state fields: the driver puts the processor's present values there */
#endif
		if (vmread(base[i].target) != base[i].value && n < VMFUZZ_MAX_FIELDS)
			r->drift[n++] = (u32)base[i].target;
	}
	r->drift_count = n;
	return n;
}

static void write_base_columns(const struct vmfuzz_request *r)
{
	const struct vmfuzz_pair *column = r->columns;
	u64 i;

	for (i = 0; i < r->field_columns + r->arena_columns; i++)
		write_pair(r, &column[i]);
}

/* Fill in what the outcome left in the VMCS. Returns nonzero when the VMCS is now launched. */
static inline int record(struct vmfuzz_result *out, u64 how)
{
	u32 reason;

	if (how == 0) {
		reason = (u32)vmread(FIELD_EXIT_REASON);
		out->exit_reason = reason;
		out->qualification = vmread(FIELD_EXIT_QUALIFICATION);
		out->entry_interruption_info = (u32)vmread(FIELD_ENTRY_INTERRUPTION_INFO);
		out->kind = reason >> 31 ? VMFUZZ_KIND_ENTRY_FAILURE : VMFUZZ_KIND_EXIT;
		return !(reason >> 31);
	}
	if (how == 2) {
		out->number = (u32)vmread(FIELD_INSTRUCTION_ERROR);
		out->kind = VMFUZZ_KIND_VMFAIL_VALID;
	} else {
		out->kind = how == 1 ? VMFUZZ_KIND_VMFAIL_INVALID : VMFUZZ_KIND_EXECUTOR_CRASHED;
	}
	return 0;
}

/* Events of the host in an outcome that was just recorded. On the emulated CPU there are none. */
static inline void note_events(struct vmfuzz_run_state *s, const struct vmfuzz_result *out)
{
#ifndef VMFUZZ_EMULATED
	u32 info;

	if (out->kind == VMFUZZ_KIND_ENTRY_FAILURE && (out->exit_reason & 0xffff) == FAILURE_MACHINE_CHECK)
		s->events |= VMFUZZ_EVENT_MACHINE_CHECK;
	if (out->kind != VMFUZZ_KIND_EXIT || out->exit_reason > EXIT_EXTERNAL_INTERRUPT)
		return;
	info = (u32)vmread(FIELD_EXIT_INTERRUPTION_INFO);
	if (!(info >> 31))
		return;
	if (out->exit_reason == EXIT_EXTERNAL_INTERRUPT)
		s->events |= VMFUZZ_EVENT_INTERRUPT;
	else if ((info >> 8 & 7) == 2)
		s->events |= VMFUZZ_EVENT_NMI;
	else if ((info & 0x7ff) == 0x312)	/* hardware exception 18 */
		s->events |= VMFUZZ_EVENT_MACHINE_CHECK;
#endif
}

/* An entry that fails saves nothing; a processor that does it all the same must not change what containment judged for the next row. */
static inline int saves_in_failures(const struct vmfuzz_result *out)
{
#ifdef VMFUZZ_EMULATED
	(void)out;
	return 0;
#else
	return out->kind == VMFUZZ_KIND_ENTRY_FAILURE;
#endif
}

static void record_vmwrite_failure(struct vmfuzz_result *out, u64 encoding)
{
	out->kind = VMFUZZ_KIND_VMWRITE_FAILED;
	out->number = (u32)vmread(FIELD_INSTRUCTION_ERROR);
	out->encoding = (u32)encoding;
}

/*
 * The values of one row to where they belong; what the VMCS has already is not written again. Returns the encoding of a field that VMWRITE refused
 * plus 1, else 0; such a row is not entered, and the columns after it are written all the same so that nothing of the row before remains.
 */
static inline u64 write_row(const struct vmfuzz_request *r, struct vmfuzz_run_state *s, const u64 *value, struct vmfuzz_result *out)
{
	const struct vmfuzz_pair *column = r->columns;
	u64 n = r->field_columns, refused = 0, i;

	for (i = 0; i < n; i++) {
		if (s->held && s->value[i] == value[i] && !vmfuzz_may_change(column[i].target, s->entered))
			continue;
		s->value[i] = value[i];
		if (__builtin_expect(vmwrite(column[i].target, value[i]), 0) && !refused) {
			record_vmwrite_failure(out, column[i].target);
			refused = column[i].target + 1;
		}
	}
	for (n += r->arena_columns; i < n; i++)
		*arena_word(r, column[i].target) = value[i];
	s->held = !refused;
	s->entered = 0;
	return refused;
}

/* Bring the VMCS to the launched state by entering with the base. Returns the kind of the outcome. */
static int launch_base(const struct vmfuzz_request *r, struct vmfuzz_run_state *s)
{
	struct vmfuzz_result scratch = { 0 };
	const struct vmfuzz_pair *restore = r->restore;
	u64 i;

	write_base_columns(r);
	s->held = 0;
	record(&scratch, vmfuzz_enter(0, 0));
	note_events(s, &scratch);
	for (i = 0; i < r->restore_count; i++)
		write_pair(r, &restore[i]);
	return scratch.kind;
}

/* One row whose columns include live conditions: instruction, launch state, current VMCS, MOV SS, shadow VMCS. */
static int enter_live(struct vmfuzz_request *r, struct vmfuzz_run_state *s, const u64 *value, struct vmfuzz_result *out)
{
	const struct vmfuzz_pair *column = r->columns;
	u64 n = r->field_columns + r->arena_columns, live[LIVE_ROOM] = { 0 }, i;
	int kind;

	for (i = 0; i < r->live_columns; i++)
		live[column[n + i].target & (LIVE_ROOM - 1)] = value[n + i];
	if (live[VMFUZZ_LIVE_LAUNCHED] && !s->launched) {
		kind = launch_base(r, s);
		if (kind != VMFUZZ_KIND_EXIT) {
			r->detail = (u64)kind;
			s->status = VMFUZZ_STATUS_BASE_NOT_LAUNCHED;
			return 0;
		}
		s->launched = 1;
	} else if (!live[VMFUZZ_LIVE_LAUNCHED] && s->launched) {
		make_clear(r);
		s->launched = 0;
	}
	if (write_row(r, s, value, out))
		return 0;
	if (live[VMFUZZ_LIVE_SHADOW_VMCS] && set_shadow_indicator(r, 1)) {
		s->status = VMFUZZ_STATUS_VMPTRLD_FAILED;
		set_shadow_indicator(r, 0);
		return 0;
	}
	if (live[VMFUZZ_LIVE_NO_CURRENT_VMCS])
		vmclear(r->vmcs_pa);	/* of the current VMCS: leaves none current */
	kind = record(out, vmfuzz_enter(live[VMFUZZ_LIVE_INSTRUCTION], live[VMFUZZ_LIVE_MOV_SS]));
	if (kind)
		s->launched = 1;
	if (live[VMFUZZ_LIVE_NO_CURRENT_VMCS] || live[VMFUZZ_LIVE_SHADOW_VMCS]) {
		set_shadow_indicator(r, 0);
		s->launched = 0;
	}
	return kind;
}

/*
 * The linear-address width decides what is canonical, so a row that changed it would change the outcome of the next. In 64-bit
 * mode no instruction changes it back, only another exit does. Returns nonzero when the VMCS was used for that.
 */
static int restore_la57(const struct vmfuzz_request *r, struct vmfuzz_run_state *s)
{
	if (!((read_cr4() ^ r->cr4) & CR4_LA57))
		return 0;
	make_clear(r);
	launch_base(r, s);
	make_clear(r);
	return 1;
}

/* VMCS and arena to the base's values. Returns the encoding of the field that VMWRITE refused plus 1, else 0. */
static u64 write_base(const struct vmfuzz_request *r)
{
	const struct vmfuzz_pair *base = (const struct vmfuzz_pair *)r->base_va;
	u64 i;

	if (!(r->flags & VMFUZZ_FLAG_PLATFORM))	/* it has done so */
		zero(r->arena_va, VMFUZZ_ARENA_PAGES * VMFUZZ_PAGE);
	for (i = 0; i < r->base_count; i++)
		if (write_pair(r, &base[i]))
			return base[i].target + 1;
	return 0;
}

/* Row i, and the VMCS as it was before. Returns nonzero when no further row may run: s->status, or drift found, says why. */
static inline __attribute__((always_inline)) int run_row(struct vmfuzz_request *r, struct vmfuzz_run_state *s, u64 i, u64 at)
{
	struct vmfuzz_result *out = (struct vmfuzz_result *)at;
	const u64 *value = (const u64 *)(out + 1);
	u64 live = r->live_columns, j;
	int entered;

	*(volatile u64 *)&r->current_row = i;
	if (live) {
		entered = enter_live(r, s, value, out);
		if (s->status != VMFUZZ_STATUS_DONE)
			return 1;
	} else {
		if (write_row(r, s, value, out))
			return 0;
		entered = record(out, vmfuzz_enter(0, 0));
	}
	note_events(s, out);
	s->entered = out->kind == VMFUZZ_KIND_EXIT || out->kind == VMFUZZ_KIND_ENTRY_FAILURE;
	if (entered && !live)
		make_clear(r);
	if (entered || saves_in_failures(out))
		for (j = 0; j < r->restore_count; j++)
			write_pair(r, &r->restore[j]);
	if (__builtin_expect(r->flags & VMFUZZ_FLAG_LA57, 0) && restore_la57(r, s))
		s->launched = 0;
	if (__builtin_expect(r->flags & VMFUZZ_FLAG_PARANOID, 0)) {
		write_base_columns(r);
		s->held = 0;
		if (find_drift(r)) {
			r->drift_row = i;
			return 1;
		}
	}
	return 0;
}

/* Nothing drifted so far: compare the whole VMCS with the base once at the end. */
static void check_drift(struct vmfuzz_request *r)
{
	if (r->drift_count)
		return;
	write_base_columns(r);
	find_drift(r);
	r->drift_row = r->row_count;
}

#ifdef VMFUZZ_EMULATED
/*
 * Interpreting VMWRITEs and VMREADs is half of the emulator's work. Where the platform does them, with the emulator's own code below these
 * instructions, the engine tells it the row by current_row and the request's pad: 1, write this row; 2, look at the entry of the row before.
 */
static inline void ask_platform(struct vmfuzz_request *r, u32 what)
{
	*(volatile u32 *)&r->pad = what;
	asm volatile("pause" : : : "memory");
}

/* Larger than the page that the row loop touches has room for, so not on the stack. */
static struct vmfuzz_run_state run_state;

static struct vmfuzz_run_state *fresh_state(void)
{
	run_state.status = VMFUZZ_STATUS_DONE;
	run_state.launched = run_state.held = run_state.entered = 0;
	return &run_state;
}

/* The first row shows whether VMWRITE takes all columns; it, and one of VMFUZZ_EMU_OWN_ROWS after it, goes the engine's own way. */
__attribute__((noinline, section(".text.loop"))) static int run_rows_by_platform(struct vmfuzz_request *r)
{
	const u64 row_bytes = r->row_bytes, count = r->row_count;
	u64 i = r->first_row, at = r->rows_va + i * row_bytes, end;
	struct vmfuzz_run_state *s = fresh_state();
	u32 what;

	while (i < count) {
		s->held = 0;	/* the rows before were written by the platform */
		run_row(r, s, i++, at);
		at += row_bytes;
		if (((struct vmfuzz_result *)(at - row_bytes))->kind == VMFUZZ_KIND_VMWRITE_FAILED)
			continue;
		end = count - i < VMFUZZ_EMU_OWN_ROWS - 1 ? count : i + VMFUZZ_EMU_OWN_ROWS - 1;
		what = 1;
		for (; i < end; i++, at += row_bytes) {
			*(volatile u64 *)&r->current_row = i;
			ask_platform(r, what);
			((struct vmfuzz_result *)at)->entered = 1 + (u32)vmfuzz_launch();
			what = 3;
		}
		if (what == 3)
			ask_platform(r, 2);
	}
	return s->status;
}

__attribute__((noinline, section(".text.loop"))) static int run_rows(struct vmfuzz_request *r)
{
	u64 at = r->rows_va + r->first_row * r->row_bytes, i;
	struct vmfuzz_run_state *s = fresh_state();

	for (i = r->first_row; i < r->row_count; i++, at += r->row_bytes)
		if (run_row(r, s, i, at))
			break;
	return s->status;
}

/* State that only some exits load: leave none of it behind from an earlier family. */
static void reset_host(void)
{
	if (has_leaf7_ecx(7) || has_leaf7_edx(20))
		wrmsr(MSR_S_CET, 0);
	if (has_leaf7_ecx(31))
		wrmsr(MSR_PKRS, 0);
}

static int run(struct vmfuzz_request *r)
{
	u64 refused;
	int status;

	if (r->field_columns + r->arena_columns + r->live_columns > VMFUZZ_MAX_COLUMNS)
		return VMFUZZ_STATUS_BAD_REQUEST;
	reset_host();
	status = vmx_start(r);
	if (status != VMFUZZ_STATUS_DONE)
		return status;
	r->drift_count = 0;
	r->cr4 = read_cr4();
	refused = write_base(r);
	if (refused) {
		r->detail = refused - 1;
		status = VMFUZZ_STATUS_BASE_FAILED;
	} else {
		status = r->flags & VMFUZZ_FLAG_PLATFORM ? run_rows_by_platform(r) : run_rows(r);
		if (status == VMFUZZ_STATUS_DONE)
			check_drift(r);
	}
	vmx_stop(r);
	return status;
}

/* Serve one request; never fails otherwise than by its status. */
void vmfuzz_serve(struct vmfuzz_request *r)
{
	int status = VMFUZZ_STATUS_BAD_REQUEST;

	r->status = VMFUZZ_STATUS_BUSY;
	r->detail = 0;
	if (r->abi == VMFUZZ_ABI) {
		if (r->command == VMFUZZ_COMMAND_PROBE) {
			status = VMFUZZ_STATUS_NO_VMX;
			if (has_vmx()) {
				probe(r);
				status = VMFUZZ_STATUS_DONE;
			}
		} else if (r->command == VMFUZZ_COMMAND_CAPTURE) {
			status = vmx_start(r);
			if (status == VMFUZZ_STATUS_DONE) {
				capture(r);
				vmx_stop(r);
			}
		} else if (r->command == VMFUZZ_COMMAND_RUN) {
			status = run(r);
		}
	}
	*(volatile u64 *)&r->status = (u64)status;
}

/* First byte of the image: the emulated platform starts here with the request in RDI and waits for HLT. */
void __attribute__((section(".start"), noreturn)) vmfuzz_start(struct vmfuzz_request *r)
{
	vmfuzz_serve(r);
	for (;;)
		asm volatile("hlt");
}
#endif

#ifndef VMFUZZ_EMULATED
/* The parts, for a caller that enters VMX operation itself and gives it back between rows: see engine_calls.h. */

void vmfuzz_probe(struct vmfuzz_request *r)
{
	probe(r);
}

int vmfuzz_capture(struct vmfuzz_request *r)
{
	int status = load_fresh_vmcs(r);

	if (status == VMFUZZ_STATUS_DONE) {
		capture(r);
		vmclear(r->vmcs_pa);
	}
	return status;
}

int vmfuzz_begin(struct vmfuzz_request *r)
{
	int status = load_fresh_vmcs(r);
	u64 refused;

	if (status != VMFUZZ_STATUS_DONE)
		return status;
	r->drift_count = 0;
	r->cr4 = read_cr4();
	refused = write_base(r);
	if (!refused)
		return VMFUZZ_STATUS_DONE;
	r->detail = refused - 1;
	return VMFUZZ_STATUS_BASE_FAILED;
}

int vmfuzz_pick_up(struct vmfuzz_request *r, struct vmfuzz_run_state *s)
{
	s->launched = 0;	/* VMCLEAR made it so; what is in the VMCS stays */
	return vmptrld(r->vmcs_pa);
}

void vmfuzz_put_down(struct vmfuzz_request *r)
{
	vmclear(r->vmcs_pa);
}

int vmfuzz_row(struct vmfuzz_request *r, struct vmfuzz_run_state *s, u64 i)
{
	return run_row(r, s, i, r->rows_va + i * r->row_bytes);
}

int vmfuzz_write_field(u64 encoding, u64 value)
{
	return vmwrite(encoding, value);
}

u64 vmfuzz_read_field(u64 encoding)
{
	return vmread(encoding);
}

void vmfuzz_end(struct vmfuzz_request *r)
{
	check_drift(r);
}
#endif
