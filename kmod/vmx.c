// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// vmx.c: VMX operation, taken for one slice of rows at a time, and the host's state, given back after every row.
/*
 * A slice runs with preemption off and ends in VMXOFF. So VMX operation never outlives a scheduling point: close, kill, unload,
 * CPU hotplug and suspend have nothing to undo. Interrupts are off only while one row runs.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/cpufeature.h>
#include <asm/desc.h>
#include <asm/processor.h>
#include <asm/segment.h>
#include <asm/sync_core.h>
#include <asm/tlbflush.h>

#include "vmfuzz.h"

#define ROWS_PER_SLICE 64

#define FIRMWARE_LOCKED 1
#define FIRMWARE_VMX 4
#define DR7_AFTER_EXIT 0x400
#define CR4_FRED_BIT 32
#define EXIT_REASON_NMI_OR_EXCEPTION 0
#define EXIT_REASON_MACHINE_CHECK 41
#define FIELD_INTERRUPTION_INFO 0x4404

enum {
	IA32_FEATURE_CONTROL = 0x3a,
	IA32_SYSENTER_CS = 0x174,
	IA32_SYSENTER_ESP = 0x175,
	IA32_SYSENTER_EIP = 0x176,
	IA32_DEBUGCTL = 0x1d9,
	IA32_PAT = 0x277,
	IA32_PERF_GLOBAL_CTRL = 0x38f,
	IA32_VMX_BASIC = 0x480,
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

/* Own accessors: the kernel's have changed names between the versions this module is for. */
static u64 msr_read(u32 msr)
{
	u32 low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

static void msr_write(u32 msr, u64 value)
{
	asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static u32 leaf7(unsigned int reg)
{
	u32 r[4] = { 0 };

	if (cpuid_eax(0) >= 7)
		cpuid_count(7, 0, &r[0], &r[1], &r[2], &r[3]);
	return r[reg];
}

static bool has_cet(void)
{
	return leaf7(2) >> 7 & 1 || leaf7(3) >> 20 & 1;
}

/*
 * MSRs that an exit loads or clears, or that must not have changed whatever happened. RDMSR of one that does not exist is #GP,
 * hence the feature bits: register of leaf 7 (0 EAX ...), bit; -1: always there.
 */
static const struct {
	u32 msr;
	int reg, bit;
} kept[] = {
	{ IA32_SYSENTER_CS, -1, 0 },
	{ IA32_SYSENTER_ESP, -1, 0 },
	{ IA32_SYSENTER_EIP, -1, 0 },
	{ IA32_PAT, -1, 0 },
	{ IA32_EFER, -1, 0 },
	{ IA32_FS_BASE, -1, 0 },
	{ IA32_GS_BASE, -1, 0 },
	{ IA32_KERNEL_GS_BASE, -1, 0 },
	{ IA32_RTIT_CTL, 1, 25 },
	{ IA32_BNDCFGS, 1, 14 },
	{ IA32_PKRS, 2, 31 },
	{ IA32_LBR_CTL, 3, 19 },
	{ IA32_S_CET, 3, 20 },
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

static bool keeps(unsigned int i)
{
	return kept[i].reg < 0 || leaf7(kept[i].reg) >> kept[i].bit & 1;
}

static u32 tss_limit(u16 tr)
{
	u32 limit = 0;

	asm volatile("lsl %1, %0" : "+r"(limit) : "r"((u32)tr) : "cc");
	return limit;
}

static void host_save(struct host *h, const bool *exists)
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
		if (exists[i])
			h->msr[i] = msr_read(kept[i].msr);
}

/*
 * What every exit and entry failure changes whatever its fields say: the limits of GDTR and IDTR become FFFFH, LDTR unusable, DR7
 * 400H, IA32_DEBUGCTL 0. MOV SS rows leave SS null. Runs with interrupts off right after the row.
 */
static void host_repair(const struct host *h, u64 dr7, u64 debugctl)
{
	/* The bases are those that were loaded already: nothing can fault between the two. */
	asm volatile("lgdt %0" : : "m"(h->gdt));
	asm volatile("lidt %0" : : "m"(h->idt));
	if (h->ldtr)
		/* #GP if the descriptor were gone; it is the one that was in use when the slice began. */
		asm volatile("lldt %0" : : "r"(h->ldtr));
	/* The selector that the kernel ran with, so its descriptor is good. */
	asm volatile("mov %0, %%ss" : : "r"((u32)h->ss));
	if (dr7 != DR7_AFTER_EXIT)
		asm volatile("mov %0, %%dr7" : : "r"(dr7));
	if (debugctl)
		msr_write(IA32_DEBUGCTL, debugctl);
}

/* Compare with what was saved and put back what differs, which containment makes impossible. Returns the number of differences. */
static int host_check(const struct host *before, const bool *exists)
{
	struct host now;
	unsigned int i;
	int wrong = 0;

	host_save(&now, exists);
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		if (exists[i] && now.msr[i] != before->msr[i]) {
			msr_write(kept[i].msr, before->msr[i]);
			pr_err_once("vmfuzz: MSR %xH came back as %llx instead of %llx\n", kept[i].msr, now.msr[i], before->msr[i]);
			wrong++;
		}
	if (now.cr0 != before->cr0) {
		pr_err_once("vmfuzz: CR0 came back as %llx instead of %llx\n", now.cr0, before->cr0);
		write_cr0(before->cr0);
		wrong++;
	}
	if (memcmp(&now.gdt, &before->gdt, sizeof(now.gdt)) || memcmp(&now.idt, &before->idt, sizeof(now.idt)) ||
	    now.es != before->es || now.ss != before->ss || now.ds != before->ds || now.fs != before->fs || now.gs != before->gs ||
	    now.tr != before->tr || now.ldtr != before->ldtr || now.tss_limit != before->tss_limit) {
		pr_err_once("vmfuzz: a descriptor-table or segment register came back with another value\n");
		wrong++;
	}
	return wrong;
}

static int check_processor(void)
{
	u64 control;

	if (!(cpuid_ecx(1) >> 5 & 1)) {
		pr_info_once("vmfuzz: this processor has no VMX (CPUID.1:ECX[5]), or a hypervisor hides it\n");
		return -ENODEV;
	}
	/* Exists wherever VMX does. */
	control = msr_read(IA32_FEATURE_CONTROL);
	if ((control & (FIRMWARE_LOCKED | FIRMWARE_VMX)) != (FIRMWARE_LOCKED | FIRMWARE_VMX)) {
		pr_info_once("vmfuzz: the firmware does not allow VMX (IA32_FEATURE_CONTROL = %llx): turn it on in its setup\n", control);
		return -EACCES;
	}
	return 0;
}

/* With preemption off. */
static int check_state(void)
{
	u16 es, ds, fs, gs;

	if (cr4_read_shadow() & X86_CR4_VMXE) {
		pr_info_once("vmfuzz: another program is in VMX operation; stop virtual machines and unload kvm_intel\n");
		return -EADDRINUSE;
	}
	if (cr4_read_shadow() >> CR4_FRED_BIT & 1) {
		pr_info_once("vmfuzz: this kernel uses FRED; start it with fred=off\n");
		return -EPROTONOSUPPORT;
	}
	if (has_cet() && __read_cr4() >> 23 & 1 && msr_read(IA32_S_CET) & 1) {
		pr_info_once("vmfuzz: this kernel uses supervisor shadow stacks\n");
		return -EPROTONOSUPPORT;
	}
	if (leaf7(1) >> 25 & 1 && msr_read(IA32_RTIT_CTL) & 1) {
		pr_info_once("vmfuzz: Intel Processor Trace is tracing this CPU; stop it\n");
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

/* With preemption off. From here to vmx_off, INIT signals (CPU offline by reset, not by hotplug) are held back. */
static int vmx_on(struct vmfuzz_machine *m)
{
	u64 pa = virt_to_phys(m->vmxon_region);

	memset(m->vmxon_region, 0, PAGE_SIZE);
	*(u32 *)m->vmxon_region = (u32)msr_read(IA32_VMX_BASIC) & 0x7fffffff;
	cr4_set_bits(X86_CR4_VMXE);
	/* Faults when IA32_FEATURE_CONTROL or a fixed bit of CR0 or CR4 forbids it, so never without the exception table. */
	asm goto("1: vmxon %0; jbe %l[failed]\n"
		 _ASM_EXTABLE(1b, %l[failed])
		 : : "m"(pa) : "cc", "memory" : failed);
	return 0;
failed:
	cr4_clear_bits(X86_CR4_VMXE);
	pr_err_once("vmfuzz: VMXON failed\n");
	return -EIO;
}

static void vmx_off(void)
{
	/* #UD outside VMX operation, which vmx_on entered and nothing has left since. */
	asm volatile("vmxoff" : : : "cc", "memory");
	cr4_clear_bits(X86_CR4_VMXE);
}

struct slice {
	bool exists[ARRAY_SIZE(kept)];
	struct host host;
	u64 stack[32];		/* host_rsp points at its end: the engine leaves it at once, only an NMI without IST would use it */
};

static int slice_start(struct vmfuzz_machine *m, struct slice *s)
{
	unsigned int i;
	int error;

	for (i = 0; i < ARRAY_SIZE(kept); i++)
		s->exists[i] = keeps(i);
	preempt_disable();
	error = m->broken ? -EIO : check_state();
	if (!error && m->captured && smp_processor_id() != m->cpu) {
		pr_info_once("vmfuzz: the caller moved to another CPU; pin it to one\n");
		error = -EXDEV;
	}
	if (!error) {
		host_save(&s->host, s->exists);
		error = vmx_on(m);
	}
	if (error)
		preempt_enable();
	return error;
}

static int slice_end(struct vmfuzz_machine *m, struct slice *s)
{
	unsigned long flags;
	int wrong;

	vmx_off();
	local_irq_save(flags);
	/* Exits leave a limit of 67H, without the I/O permission bitmap. */
	force_reload_TR();
	/* An entry with blocking by NMI may leave NMIs blocked; IRET opens them. */
	iret_to_self();
	wrong = host_check(&s->host, s->exists);
	local_irq_restore(flags);
	preempt_enable();
	if (wrong) {
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

/* The processor's values into the fields that hold the captured ones; `all` once a slice. */
static void host_refresh(struct vmfuzz_machine *m, const struct slice *s, bool all)
{
	struct vmfuzz_request *r = m->request;
	struct vmfuzz_host_field *f;
	u64 value;

	for (f = m->host; f < m->host + m->host_count; f++) {
		if (!all && !changes_between_rows(f->encoding))
			continue;
		value = host_actual(f->encoding, s);
		if (!all && value == f->actual)
			continue;
		f->actual = value;
		if (!f->substitute)
			continue;
		if (f->column >= 0)
			r->columns[f->column].value = value;
		else
			vmfuzz_write_field(f->encoding, value);
	}
}

static void host_columns(const struct vmfuzz_machine *m, u64 *value)
{
	const struct vmfuzz_host_field *f;

	for (f = m->host; f < m->host + m->host_count; f++)
		if (f->column >= 0 && value[f->column] == f->captured)
			value[f->column] = f->actual;
}

/* ---- rows ---- */

/* An exit by NMI consumed it, and a machine check may have gone into the guest: hand both to the host. Interrupts are off. */
static void give_events_back(const struct vmfuzz_result *out)
{
	u32 info;

	if (out->kind == VMFUZZ_KIND_ENTRY_FAILURE && (out->exit_reason & 0xffff) == EXIT_REASON_MACHINE_CHECK)
		pr_emerg("vmfuzz: a machine check ended a VM entry; see the machine-check log\n");
	if (out->kind != VMFUZZ_KIND_EXIT || out->exit_reason != EXIT_REASON_NMI_OR_EXCEPTION)
		return;
	info = (u32)vmfuzz_read_field(FIELD_INTERRUPTION_INFO);
	if ((info & 0x80000700) == 0x80000200)
		/* NMIs are blocked since the exit; the IRET of the handler opens them. */
		asm volatile("int $2");
	else if ((info & 0x800007ff) == 0x80000312)
		pr_emerg("vmfuzz: a machine check ended a guest; see the machine-check log\n");
}

static void run_one(struct vmfuzz_machine *m, const struct slice *s, u64 i)
{
	struct vmfuzz_request *r = m->request;
	struct vmfuzz_result *out = (struct vmfuzz_result *)(r->rows_va + i * r->row_bytes);
	unsigned long flags;
	u64 dr7, debugctl;

	local_irq_save(flags);
	host_refresh(m, s, false);
	host_columns(m, (u64 *)(out + 1));
	asm volatile("mov %%dr7, %0" : "=r"(dr7));
	debugctl = msr_read(IA32_DEBUGCTL);
	vmfuzz_row(r, &m->run, i);
	/* With live conditions the base may have been entered before the row. */
	if (out->kind == VMFUZZ_KIND_EXIT || out->kind == VMFUZZ_KIND_ENTRY_FAILURE || r->live_columns) {
		host_repair(&s->host, dr7, debugctl);
		give_events_back(out);
	}
	local_irq_restore(flags);
}

static int slice_rows(struct vmfuzz_machine *m, struct slice *s, u64 *next, u64 end)
{
	struct vmfuzz_request *r = m->request;
	u64 last = min(end, *next + ROWS_PER_SLICE);
	int status;

	if (!m->begun) {
		status = vmfuzz_begin(r);
		m->run.status = status;
		m->run.launched = 0;
		if (status != VMFUZZ_STATUS_DONE)
			return status;
		m->begun = true;
	} else if (vmfuzz_pick_up(r, &m->run)) {
		return VMFUZZ_STATUS_VMPTRLD_FAILED;
	}
	host_refresh(m, s, true);
	for (; *next < last && m->run.status == VMFUZZ_STATUS_DONE && !r->drift_count; ++*next) {
		struct vmfuzz_result *out = (struct vmfuzz_result *)(r->rows_va + *next * r->row_bytes);

		if (out->kind != VMFUZZ_KIND_REFUSED)
			run_one(m, s, *next);
	}
	vmfuzz_put_down(r);
	return m->run.status;
}

int vmfuzz_machine_slice(struct vmfuzz_machine *m, u64 *next, u64 end)
{
	struct slice s;
	int error = slice_start(m, &s);

	if (error)
		return error;
	m->request->status = slice_rows(m, &s, next, end);
	return slice_end(m, &s);
}

int vmfuzz_machine_finish(struct vmfuzz_machine *m)
{
	struct slice s;
	int error = slice_start(m, &s);

	if (error)
		return error;
	if (!vmfuzz_pick_up(m->request, &m->run)) {
		vmfuzz_end(m->request);
		vmfuzz_put_down(m->request);
	}
	return slice_end(m, &s);
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

static void set_captured(struct vmfuzz_machine *m, u32 encoding, u64 value)
{
	u32 i;

	for (i = 0; i < m->field_count; i++)
		if (m->fields[i].target == encoding)
			m->fields[i].value = value;
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
	u32 i, j, widths = cpuid_eax(0x80000008);

	memset(l, 0, sizeof(*l));
	l->physical_bits = widths & 0xff;
	l->linear_bits = widths >> 8 & 0xff;
	l->activity_states = 1 | (probed(r, 0x485) >> 6 & 7) << 1;
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
	/* The words of 64 bits: the MSR is a mask of what may be 1. */
	l->may[VMFUZZ_SLOT_TERTIARY] = probed(r, 0x492);
	l->may[VMFUZZ_SLOT_SECONDARY_EXIT] = probed(r, 0x493);
	for (i = 0; i < VMFUZZ_SLOT_COUNT; i++)
		for (j = 0; j < m->field_count; j++)
			if (m->fields[j].target == vmfuzz_slot_encoding[i])
				l->captured[i] = m->fields[j].value;
}

/* Host fields as the driver will give them back, and not as the engine reads them. */
static void capture_host(struct vmfuzz_machine *m, const struct slice *s)
{
	u32 i;

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
}

int vmfuzz_machine_capture(struct vmfuzz_machine *m)
{
	struct slice s;
	int status, error = vmfuzz_machine_probe(m);

	if (error)
		return error;
	m->captured = false;
	error = slice_start(m, &s);
	if (error)
		return error;
	m->cpu = smp_processor_id();
	status = vmfuzz_capture(m->request);
	if (status == VMFUZZ_STATUS_DONE) {
		m->field_count = m->request->field_count;
		memcpy(m->fields, m->request->fields, sizeof(m->fields));
		capture_host(m, &s);
		m->captured = true;
	}
	error = slice_end(m, &s);
	if (error)
		return error;
	if (!m->captured)
		return -EIO;
	set_limits(m);
	return 0;
}

int vmfuzz_machine_init(struct vmfuzz_machine *m)
{
	/* Below 4 GiB: some processors want VMX structures there (IA32_VMX_BASIC[48]). */
	gfp_t where = GFP_KERNEL | GFP_DMA32 | __GFP_ZERO;

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
