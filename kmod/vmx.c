// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// vmx.c: VMX operation, taken for one row at a time, and the host's state, given back after it.
/*
 * A row runs between VMXON and VMXOFF with interrupts off. So nothing else of the kernel ever meets VMX operation: no interrupt
 * handler, no KVM, no tracing that starts; and close, kill, unload, CPU hotplug and suspend have nothing to undo. A slice is as many
 * rows as run with preemption off, but interrupts on between them.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/asm.h>
#include <asm/desc.h>
#include <asm/processor.h>
#include <asm/segment.h>
#include <asm/sync_core.h>

#include "vmfuzz.h"

#define ROWS_PER_SLICE 64

#define FIRMWARE_LOCKED 1
#define FIRMWARE_VMX 4
#define DR7_AFTER_EXIT 0x400
#define CR4_FRED_BIT 32
#define MACHINE_CHECK_IN_PROGRESS 4

enum {
	IA32_FEATURE_CONTROL = 0x3a,
	IA32_MCG_STATUS = 0x17a,
	IA32_SYSENTER_CS = 0x174,
	IA32_SYSENTER_ESP = 0x175,
	IA32_SYSENTER_EIP = 0x176,
	IA32_DEBUGCTL = 0x1d9,
	IA32_PAT = 0x277,
	IA32_PERF_GLOBAL_CTRL = 0x38f,
	IA32_VMX_BASIC = 0x480,
	IA32_VMX_EPT_VPID_CAP = 0x48c,
	IA32_RTIT_CTL = 0x570,
	IA32_S_CET = 0x6a2,
	IA32_INTERRUPT_SSP_TABLE = 0x6a8,
	IA32_PKRS = 0x6e1,
	IA32_UINTR_MISC = 0x988,
	IA32_BNDCFGS = 0xd90,
	IA32_LBR_CTL = 0x14ce,
	IA32_EFER = 0xc0000080,
	IA32_FS_BASE = 0xc0000100,
	IA32_GS_BASE = 0xc0000101,
	IA32_KERNEL_GS_BASE = 0xc0000102,
};

/* Own accessors: the kernel's have changed names and headers between the versions this module is for. An MSR that does not exist reads as 0. */
static u64 msr_read(u32 msr)
{
	u32 low = 0, high = 0;

	asm volatile("1: rdmsr\n2:\n" _ASM_EXTABLE(1b, 2b) : "+a"(low), "+d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

static void msr_write(u32 msr, u64 value)
{
	asm volatile("1: wrmsr\n2:\n" _ASM_EXTABLE(1b, 2b) : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

/*
 * Without the kernel's shadow of CR4, whose functions newer kernels export to KVM alone: nobody looks at the shadow before the bit
 * is off again.
 */
static void cr4_write(u64 value)
{
	/* #GP where VMXOFF did not leave VMX operation: vmx_off looks at what became of it. */
	asm volatile("1: mov %0, %%cr4\n2:\n" _ASM_EXTABLE(1b, 2b) : : "r"(value) : "memory");
}

/* Register `reg` (0 EAX ...) of subleaf 0. */
static u32 leaf(u32 number, unsigned int reg)
{
	u32 r[4];

	asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(number), "c"(0));
	return r[reg];
}

static u32 leaf7(unsigned int reg)
{
	return leaf(0, 0) >= 7 ? leaf(7, reg) : 0;
}

static bool has_cet(void)
{
	return leaf7(2) >> 7 & 1 || leaf7(3) >> 20 & 1;
}

/* An MSR, and the bit of leaf 7 (register 0 EAX ...) without which it does not exist; -1: always there. */
struct msr_place {
	u32 msr;
	int reg, bit;
};

/* MSRs that an exit loads, or that must not have changed whatever happened. Nothing changes them between the rows of a slice. */
static const struct msr_place kept[] = {
	{ IA32_SYSENTER_CS, -1, 0 },
	{ IA32_SYSENTER_ESP, -1, 0 },
	{ IA32_SYSENTER_EIP, -1, 0 },
	{ IA32_PAT, -1, 0 },
	{ IA32_EFER, -1, 0 },
	{ IA32_FS_BASE, -1, 0 },
	{ IA32_GS_BASE, -1, 0 },
	{ IA32_KERNEL_GS_BASE, -1, 0 },
	{ IA32_PKRS, 2, 31 },
	{ IA32_S_CET, 3, 20 },
};

/* MSRs that exits clear, always or by a control, and that an interrupt's handler may write (perf does): given back after each row. */
static const struct msr_place cleared[] = {
	{ IA32_DEBUGCTL, -1, 0 },
	{ IA32_RTIT_CTL, 1, 25 },
	{ IA32_BNDCFGS, 1, 14 },
	{ IA32_LBR_CTL, 3, 19 },
	{ IA32_UINTR_MISC, 3, 5 },
};

struct table_register {
	u16 limit;
	u64 base;
} __packed;

struct host {
	struct table_register gdt, idt;
	u64 cr0;
	u16 es, ss, ds, fs, gs, tr, ldtr;
	u32 tss_limit;
	u64 msr[ARRAY_SIZE(kept)];
};

/* What a row may change and no host field brings back. */
struct registers {
	u64 cr3, cr4;
	u64 dr6, dr7;
	u64 msr[ARRAY_SIZE(cleared)];
};

/* The state of one slice. */
struct slice {
	bool keeps[ARRAY_SIZE(kept)];
	bool clears[ARRAY_SIZE(cleared)];
	struct host host;
	struct registers registers;	/* of the present row */
	bool refreshed;		/* the VMCS holds the processor's values */
	int wrong;		/* differences found in what came back */
	u64 stack[32];		/* host_rsp points at its end: the engine leaves it at once, only an NMI without IST would use it */
};

static bool exists(const struct msr_place *p)
{
	return p->reg < 0 || leaf7(p->reg) >> p->bit & 1;
}

static u32 tss_limit(u16 tr)
{
	u32 limit = 0;

	asm volatile("lsl %1, %0" : "+r"(limit) : "r"((u32)tr) : "cc");
	return limit;
}

static void host_save(struct host *h, const bool *keeps)
{
	unsigned int i;

	memset(h, 0, sizeof(*h));
	asm volatile("sgdt %0" : "=m"(h->gdt));
	asm volatile("sidt %0" : "=m"(h->idt));
	asm volatile("str %0" : "=r"(h->tr));
	asm volatile("sldt %0" : "=r"(h->ldtr));
	savesegment(es, h->es);
	savesegment(ss, h->ss);
	savesegment(ds, h->ds);
	savesegment(fs, h->fs);
	savesegment(gs, h->gs);
	h->cr0 = read_cr0();
	h->tss_limit = tss_limit(h->tr);
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		if (keeps[i])
			h->msr[i] = msr_read(kept[i].msr);
}

/*
 * What every exit and entry failure changes whatever its fields say: the limits of GDTR and IDTR become FFFFH, LDTR unusable, DR7
 * 400H. MOV SS rows leave SS null, a debug exception that the guest would have taken leaves its bits in DR6. Runs with interrupts
 * off right after the row.
 */
static void host_repair(const struct host *h, const struct registers *before)
{
	u64 dr6;

	/* The bases are those that were loaded already: nothing can fault between the two. */
	asm volatile("lgdt %0" : : "m"(h->gdt));
	asm volatile("lidt %0" : : "m"(h->idt));
	if (h->ldtr)
		/* #GP if the descriptor were gone; it is the one that was in use when the slice began. */
		asm volatile("lldt %0" : : "r"(h->ldtr));
	/* The selector that the kernel ran with, so its descriptor is good. */
	asm volatile("mov %0, %%ss" : : "r"((u32)h->ss));
	asm volatile("mov %%dr6, %0" : "=r"(dr6));
	if (dr6 != before->dr6)
		asm volatile("mov %0, %%dr6" : : "r"(before->dr6));
	if (before->dr7 != DR7_AFTER_EXIT)
		asm volatile("mov %0, %%dr7" : : "r"(before->dr7));
}

static void registers_save(struct registers *r, const bool *clears)
{
	unsigned int i;

	r->cr3 = __read_cr3();
	r->cr4 = __read_cr4();
	asm volatile("mov %%dr6, %0" : "=r"(r->dr6));
	asm volatile("mov %%dr7, %0" : "=r"(r->dr7));
	for (i = 0; i < ARRAY_SIZE(cleared); i++)
		if (clears[i])
			r->msr[i] = msr_read(cleared[i].msr);
}

/* After VMXOFF, in whose absence some processors refuse a write of IA32_RTIT_CTL. */
static void registers_restore(struct slice *s)
{
	const struct registers *before = &s->registers;
	unsigned int i;

	if (__read_cr3() != before->cr3) {
		pr_err_once("vmfuzz: CR3 came back with another value\n");
		asm volatile("mov %0, %%cr3" : : "r"(before->cr3) : "memory");
		s->wrong++;
	}
	for (i = 0; i < ARRAY_SIZE(cleared); i++)
		if (s->clears[i] && msr_read(cleared[i].msr) != before->msr[i])
			msr_write(cleared[i].msr, before->msr[i]);
}

/* Compare with what was saved and put back what differs, which containment makes impossible. */
static void host_check(struct slice *s)
{
	const struct host *before = &s->host;
	struct host now;
	unsigned int i;

	host_save(&now, s->keeps);
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		if (s->keeps[i] && now.msr[i] != before->msr[i]) {
			msr_write(kept[i].msr, before->msr[i]);
			pr_err_once("vmfuzz: MSR %xH came back as %llx instead of %llx\n", kept[i].msr, now.msr[i], before->msr[i]);
			s->wrong++;
		}
	if (now.cr0 != before->cr0) {
		pr_err_once("vmfuzz: CR0 came back as %llx instead of %llx\n", now.cr0, before->cr0);
		asm volatile("mov %0, %%cr0" : : "r"(before->cr0) : "memory");
		s->wrong++;
	}
	if (memcmp(&now.gdt, &before->gdt, sizeof(now.gdt)) || memcmp(&now.idt, &before->idt, sizeof(now.idt)) ||
	    now.es != before->es || now.ss != before->ss || now.ds != before->ds || now.fs != before->fs || now.gs != before->gs ||
	    now.tr != before->tr || now.ldtr != before->ldtr || now.tss_limit != before->tss_limit) {
		pr_err_once("vmfuzz: a descriptor-table or segment register came back with another value\n");
		s->wrong++;
	}
}

static int check_processor(void)
{
	u64 control;

	if (!(leaf(1, 2) >> 5 & 1)) {
		pr_info_once("vmfuzz: this processor has no VMX (CPUID.1:ECX[5]), or a hypervisor hides it\n");
		return -ENODEV;
	}
	/* Exists wherever VMX does. */
	control = msr_read(IA32_FEATURE_CONTROL);
	if (!(control & FIRMWARE_LOCKED)) {
		pr_info_once("vmfuzz: neither firmware nor kernel locked IA32_FEATURE_CONTROL (%llx); kernels with KVM do\n", control);
		return -EACCES;
	}
	if (!(control & FIRMWARE_VMX)) {
		pr_info_once("vmfuzz: the firmware does not allow VMX (IA32_FEATURE_CONTROL = %llx): turn it on in its setup\n", control);
		return -EACCES;
	}
	return 0;
}

/* What does not change while a slice runs. With preemption off. */
static int check_state(void)
{
	u16 es, ds, fs, gs;

	if (__read_cr4() >> CR4_FRED_BIT & 1) {
		pr_info_once("vmfuzz: this kernel uses FRED; start it with fred=off\n");
		return -EPROTONOSUPPORT;
	}
	if (has_cet() && __read_cr4() >> 23 & 1 && msr_read(IA32_S_CET) & 1) {
		pr_info_once("vmfuzz: this kernel uses supervisor shadow stacks\n");
		return -EPROTONOSUPPORT;
	}
	/* Host selectors must have TI and RPL 0; a 64-bit program has null ones unless it asked for others. */
	savesegment(es, es);
	savesegment(ds, ds);
	savesegment(fs, fs);
	savesegment(gs, gs);
	if (es | ds | fs | gs) {
		pr_info_once("vmfuzz: the caller uses data-segment selectors\n");
		return -EPROTONOSUPPORT;
	}
	return 0;
}

/* What another CPU's interrupt may have changed since the row before. With interrupts off. */
static int check_row(const struct registers *r)
{
	if (r->cr4 & X86_CR4_VMXE) {
		pr_info_once("vmfuzz: another program is in VMX operation; stop virtual machines and unload kvm_intel\n");
		return -EADDRINUSE;
	}
	/* VMXON faults while Intel PT traces, or the trace goes on in the guest. */
	if (leaf7(1) >> 25 & 1 && msr_read(IA32_RTIT_CTL) & 1) {
		pr_info_once("vmfuzz: Intel Processor Trace is tracing this CPU; stop it\n");
		return -EPROTONOSUPPORT;
	}
	return 0;
}

/* With interrupts off. From here to vmx_off, INIT signals (CPU offline by reset, not by hotplug) are held back. */
static int vmx_on(struct vmfuzz_machine *m, struct slice *s)
{
	u64 pa = virt_to_phys(m->vmxon_region);
	int error;

	registers_save(&s->registers, s->clears);
	error = check_row(&s->registers);
	if (error)
		return error;
	*(u32 *)m->vmxon_region = (u32)msr_read(IA32_VMX_BASIC) & 0x7fffffff;
	cr4_write(s->registers.cr4 | X86_CR4_VMXE);
	/* Faults when IA32_FEATURE_CONTROL or a fixed bit of CR0 or CR4 forbids it, so never without the exception table. */
	asm goto("1: vmxon %0; jbe %l[failed]\n"
		 _ASM_EXTABLE(1b, %l[failed])
		 : : "m"(pa) : "cc", "memory" : failed);
	return 0;
failed:
	cr4_write(s->registers.cr4);
	pr_err_once("vmfuzz: VMXON failed\n");
	return -EIO;
}

static void vmx_off(struct slice *s)
{
	if (__read_cr4() != (s->registers.cr4 | X86_CR4_VMXE)) {
		pr_err_once("vmfuzz: CR4 came back as %lx instead of %llx\n", __read_cr4(), s->registers.cr4 | X86_CR4_VMXE);
		s->wrong++;
	}
	/* #UD outside VMX operation, which vmx_on entered and nothing has left since. */
	asm volatile("1: vmxoff\n2:\n" _ASM_EXTABLE(1b, 2b) : : : "cc", "memory");
	cr4_write(s->registers.cr4);
	if (__read_cr4() & X86_CR4_VMXE) {
		/* VMXOFF fails under an SMM monitor (dual-monitor treatment). */
		pr_emerg_once("vmfuzz: VMXOFF failed, this CPU stays in VMX operation; restart the machine\n");
		s->wrong++;
	}
	registers_restore(s);
}

static int slice_start(struct vmfuzz_machine *m, struct slice *s)
{
	unsigned int i;
	int error;

	memset(s, 0, sizeof(*s));
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		s->keeps[i] = exists(&kept[i]);
	for (i = 0; i < ARRAY_SIZE(cleared); i++)
		s->clears[i] = exists(&cleared[i]);
	preempt_disable();
	error = m->broken ? -EIO : check_state();
	if (!error && m->captured && smp_processor_id() != m->cpu) {
		pr_info_once("vmfuzz: the caller moved to another CPU; pin it to one\n");
		error = -EXDEV;
	}
	if (error)
		preempt_enable();
	else
		host_save(&s->host, s->keeps);
	return error;
}

/* Returns an errno when host state did not come back. */
static int slice_end(struct vmfuzz_machine *m, struct slice *s)
{
	unsigned long flags;

	local_irq_save(flags);
	/* Exits leave a limit of 67H, without the I/O permission bitmap. */
	force_reload_TR();
	/* An entry with blocking by NMI may leave NMIs blocked; IRET opens them. */
	iret_to_self();
	host_check(s);
	local_irq_restore(flags);
	preempt_enable();
	if (s->wrong) {
		m->broken = true;
		return -EIO;
	}
	return 0;
}

/* ---- host-state fields ---- */

static u64 table_ssp(void)
{
	return leaf7(2) >> 7 & 1 ? msr_read(IA32_INTERRUPT_SSP_TABLE) : 0;
}

static u64 tr_base(const struct host *h)
{
	const u32 *d = (const u32 *)(h->gdt.base + (h->tr & ~7u));

	return d[0] >> 16 | (u64)(d[1] & 0xff) << 16 | (u64)(d[1] & 0xff000000) | (u64)d[2] << 32;
}

/* What the processor must get back. Fields exist only where their MSR does. */
static u64 host_actual(u32 encoding, const struct slice *s)
{
	const struct host *h = &s->host;

	switch (encoding) {
	case 0x0c00:
		return h->es;
	case 0x0c02:
		return __KERNEL_CS;
	case 0x0c04:
		return h->ss;
	case 0x0c06:
		return h->ds;
	case 0x0c08:
		return h->fs;
	case 0x0c0a:
		return h->gs;
	case 0x0c0c:
		return h->tr;
	case 0x2c00:
		return msr_read(IA32_PAT);
	case 0x2c02:
		return msr_read(IA32_EFER);
	case 0x2c04:
		return msr_read(IA32_PERF_GLOBAL_CTRL);
	case 0x2c06:
		return msr_read(IA32_PKRS);
	case 0x4c00:
		return (u32)msr_read(IA32_SYSENTER_CS);
	case 0x6c00:
		return read_cr0();
	case 0x6c02:
		return __read_cr3();
	case 0x6c04:
		return __read_cr4();
	case 0x6c06:
		return msr_read(IA32_FS_BASE);
	case 0x6c08:
		return msr_read(IA32_GS_BASE);
	case 0x6c0a:
		return tr_base(h);
	case 0x6c0c:
		return h->gdt.base;
	case 0x6c0e:
		return h->idt.base;
	case 0x6c10:
		return msr_read(IA32_SYSENTER_ESP);
	case 0x6c12:
		return msr_read(IA32_SYSENTER_EIP);
	case 0x6c14:
		return (u64)&s->stack[ARRAY_SIZE(s->stack)] & ~15ull;
	case 0x6c16:
		return (u64)vmfuzz_exit_handler;
	case 0x6c18:
		return has_cet() ? msr_read(IA32_S_CET) : 0;
	case 0x6c1c:
		return table_ssp();
	default:
		return 0;	/* SSP: supervisor shadow stacks are off; FRED and IA32_SPEC_CTRL: never loaded */
	}
}

/* Fields that an interrupt between two rows may change. */
static bool changes_between_rows(u32 encoding)
{
	return encoding == 0x6c02 || encoding == 0x6c04 || encoding == 0x2c04;
}

/* The processor's values into the fields that hold the captured ones: all of them before the first row of a slice. */
static void host_refresh(struct vmfuzz_machine *m, struct slice *s)
{
	struct vmfuzz_request *r = m->request;
	struct vmfuzz_host_field *f;
	u64 value;

	for (f = m->host; f < m->host + m->host_count; f++) {
		if (s->refreshed && !changes_between_rows(f->encoding))
			continue;
		value = host_actual(f->encoding, s);
		if (s->refreshed && value == f->actual)
			continue;
		f->actual = value;
		if (!f->substitute)
			continue;
		if (f->column >= 0)
			r->columns[f->column].value = value;
		else
			vmfuzz_write_field(f->encoding, value);
	}
	s->refreshed = true;
}

static void host_columns(const struct vmfuzz_machine *m, u64 *value)
{
	const struct vmfuzz_host_field *f;

	for (f = m->host; f < m->host + m->host_count; f++)
		if (f->column >= 0 && value[f->column] == f->captured)
			value[f->column] = f->actual;
}

static void set_captured(struct vmfuzz_machine *m, u32 encoding, u64 value)
{
	u32 i;

	for (i = 0; i < m->field_count; i++)
		if (m->fields[i].target == encoding)
			m->fields[i].value = value;
}

/* What the engine captured, with host fields as the driver will give them back and not as the engine reads them. */
static void take_capture(struct vmfuzz_machine *m, const struct slice *s)
{
	u32 i;

	m->field_count = m->request->field_count;
	memcpy(m->fields, m->request->fields, sizeof(m->fields));
	m->host_count = 0;
	for (i = 0; i < m->field_count; i++) {
		struct vmfuzz_host_field *f = &m->host[m->host_count];

		if ((m->fields[i].target >> 10 & 3) != 3 || m->host_count == VMFUZZ_HOST_FIELDS)
			continue;
		f->encoding = m->fields[i].target;
		f->captured = f->actual = host_actual(f->encoding, s);
		f->column = -1;
		f->substitute = false;
		set_captured(m, f->encoding, f->captured);
		m->host_count++;
	}
	m->cpu = smp_processor_id();
	m->captured = true;
}

/* ---- rows ---- */

/*
 * What exits consumed, back to the host: after VMXOFF, interrupts off. INT n goes through the same gate as the event would have; the IRET
 * of its handler opens NMIs, which are blocked since the exit.
 */
static void give_events_back(struct vmfuzz_machine *m, struct slice *s)
{
	u32 events = m->run.events;

	m->run.events = 0;
	if (events & VMFUZZ_EVENT_NMI)
		asm volatile("int $2");
	if (events & VMFUZZ_EVENT_MACHINE_CHECK) {
		pr_emerg("vmfuzz: a machine check ended a VM entry or a guest\n");
		/* Other processors wait for this one in their handlers. Without one in progress the exit was invented. */
		if (msr_read(IA32_MCG_STATUS) & MACHINE_CHECK_IN_PROGRESS)
			asm volatile("int $18");
	}
	if (events & VMFUZZ_EVENT_INTERRUPT) {
		/* Containment allows acknowledgement only where the timer comes first; a processor that knows better has lost it now. */
		pr_emerg_once("vmfuzz: an exit acknowledged an interrupt, which is lost; restart the machine\n");
		s->wrong++;
	}
}

static void run_row(struct vmfuzz_machine *m, const struct slice *s, u64 i)
{
	struct vmfuzz_request *r = m->request;
	struct vmfuzz_result *out = (struct vmfuzz_result *)(r->rows_va + i * r->row_bytes);

	host_columns(m, (u64 *)(out + 1));
	vmfuzz_row(r, &m->run, i);
	/* With live conditions the base may have been entered before the row. */
	if (out->kind == VMFUZZ_KIND_EXIT || out->kind == VMFUZZ_KIND_ENTRY_FAILURE || r->live_columns)
		host_repair(&s->host, &s->registers);
}

/* What is done in VMX operation; the state of the VMCS is in memory before and after. */
enum task { BEGIN, ROW, FINISH, CAPTURE };

static int in_vmx(struct vmfuzz_machine *m, struct slice *s, enum task task, u64 row)
{
	struct vmfuzz_request *r = m->request;

	if (task == CAPTURE) {
		int status = vmfuzz_capture(r);

		if (status == VMFUZZ_STATUS_DONE)
			take_capture(m, s);
		return status;
	}
	if (task == BEGIN) {
		m->run.status = vmfuzz_begin(r);
		m->run.launched = 0;
		m->begun = m->run.status == VMFUZZ_STATUS_DONE;
	} else if (vmfuzz_pick_up(r, &m->run)) {
		m->run.status = VMFUZZ_STATUS_VMPTRLD_FAILED;
		return m->run.status;
	}
	host_refresh(m, s);
	if (task == ROW)
		run_row(m, s, row);
	else if (task == FINISH)
		vmfuzz_end(r);
	vmfuzz_put_down(r);
	return m->run.status;
}

/* Enter VMX operation, do one thing, leave it. Returns an errno, or 0 and the status of what was done. */
static int with_vmx(struct vmfuzz_machine *m, struct slice *s, enum task task, u64 row, int *status)
{
	unsigned long flags;
	int error;

	local_irq_save(flags);
	error = vmx_on(m, s);
	if (!error) {
		*status = in_vmx(m, s, task, row);
		vmx_off(s);
		give_events_back(m, s);
	}
	local_irq_restore(flags);
	return error;
}

static int slice_rows(struct vmfuzz_machine *m, struct slice *s, u64 *next, u64 end)
{
	struct vmfuzz_request *r = m->request;
	u64 last = min(end, *next + ROWS_PER_SLICE);
	int status = VMFUZZ_STATUS_DONE, error = 0;

	if (!m->begun)
		error = with_vmx(m, s, BEGIN, 0, &status);
	for (; !error && !s->wrong && *next < last && status == VMFUZZ_STATUS_DONE && !r->drift_count; ++*next) {
		struct vmfuzz_result *out = (struct vmfuzz_result *)(r->rows_va + *next * r->row_bytes);

		if (out->kind != VMFUZZ_KIND_REFUSED)
			error = with_vmx(m, s, ROW, *next, &status);
		if (error)
			break;
	}
	r->status = status;
	return error;
}

int vmfuzz_machine_slice(struct vmfuzz_machine *m, u64 *next, u64 end)
{
	struct slice s;
	int error = slice_start(m, &s), ended;

	if (error)
		return error;
	error = slice_rows(m, &s, next, end);
	ended = slice_end(m, &s);
	return ended ? ended : error;
}

int vmfuzz_machine_finish(struct vmfuzz_machine *m)
{
	struct slice s;
	int status, error = slice_start(m, &s), ended;

	if (error)
		return error;
	error = with_vmx(m, &s, FINISH, 0, &status);
	ended = slice_end(m, &s);
	return ended ? ended : error;
}

/* ---- facts ---- */

int vmfuzz_machine_probe(struct vmfuzz_machine *m)
{
	int error = check_processor();

	if (error)
		return error;
	preempt_disable();
	m->request->pad = smp_processor_id();
	vmfuzz_probe(m->request);
	preempt_enable();
	return 0;
}

static u64 probed(const struct vmfuzz_request *r, u32 msr)
{
	u64 i;

	for (i = 0; i < r->msr_count; i++)
		if (r->msrs[i].target == msr)
			return r->msrs[i].value;
	return 0;
}

static void set_limits(struct vmfuzz_machine *m)
{
	static const u16 msrs[] = { 0x481, 0x482, 0x48b, 0, 0x483, 0x484, 0 };
	struct vmfuzz_limits *l = &m->limits;
	struct vmfuzz_request *r = m->request;
	bool exact = probed(r, IA32_VMX_BASIC) >> 55 & 1;
	u32 i, j, widths = leaf(0x80000008, 0);

	memset(l, 0, sizeof(*l));
	l->physical_bits = widths & 0xff;
	l->linear_bits = widths >> 8 & 0xff;
	l->arena_pa = virt_to_phys(m->arena);
	l->arena_bytes = VMFUZZ_ARENA_BYTES;
	l->cr0_fixed0 = probed(r, 0x486);
	l->cr0_fixed1 = probed(r, 0x487);
	l->cr4_fixed0 = probed(r, 0x488);
	l->cr4_fixed1 = probed(r, 0x489);
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		u64 value = msrs[i] ? probed(r, exact && msrs[i] != 0x48b ? msrs[i] + 12 : msrs[i]) : 0;

		l->must[i] = msrs[i] == 0x48b ? 0 : (u32)value;
		l->may[i] = value >> 32;
	}
	l->features = vmfuzz_features(leaf(1, 0), probed(r, IA32_VMX_EPT_VPID_CAP), l->may[VMFUZZ_SLOT_PIN]);
	/* The words of 64 bits: the MSR is a mask of what may be 1. */
	l->may[VMFUZZ_SLOT_TERTIARY] = probed(r, 0x492);
	l->may[VMFUZZ_SLOT_SECONDARY_EXIT] = probed(r, 0x493);
	for (i = 0; i < VMFUZZ_SLOT_COUNT; i++)
		for (j = 0; j < m->field_count; j++)
			if (m->fields[j].target == vmfuzz_slot_encoding[i])
				l->captured[i] = m->fields[j].value;
}

int vmfuzz_machine_capture(struct vmfuzz_machine *m)
{
	struct slice s;
	int status, error = vmfuzz_machine_probe(m), ended;

	if (error)
		return error;
	m->captured = false;
	error = slice_start(m, &s);
	if (error)
		return error;
	error = with_vmx(m, &s, CAPTURE, 0, &status);
	ended = slice_end(m, &s);
	if (ended || error)
		return ended ? ended : error;
	if (!m->captured)
		return -EIO;
	set_limits(m);
	return 0;
}

int vmfuzz_machine_init(struct vmfuzz_machine *m)
{
	/* Below 4 GiB: some processors want VMX structures there (IA32_VMX_BASIC[48]). The caller says so when there are none. */
	gfp_t where = GFP_KERNEL | GFP_DMA32 | __GFP_ZERO | __GFP_NOWARN;

	m->arena = (void *)__get_free_pages(where, get_order(VMFUZZ_ARENA_BYTES));
	m->vmxon_region = (u64 *)__get_free_page(where);
	m->vmcs_region = (void *)__get_free_page(where);
	m->request = kvzalloc(sizeof(*m->request), GFP_KERNEL);
	if (!m->arena || !m->vmxon_region || !m->vmcs_region || !m->request)
		return -ENOMEM;
	m->request->abi = VMFUZZ_ABI;
	m->request->arena_va = (u64)m->arena;
	m->request->arena_pa = virt_to_phys(m->arena);
	m->request->vmcs_va = (u64)m->vmcs_region;
	m->request->vmcs_pa = virt_to_phys(m->vmcs_region);
	return 0;
}

void vmfuzz_machine_free(struct vmfuzz_machine *m)
{
	free_pages((unsigned long)m->arena, get_order(VMFUZZ_ARENA_BYTES));
	free_page((unsigned long)m->vmxon_region);
	free_page((unsigned long)m->vmcs_region);
	kvfree(m->request);
}
