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

#include "processor.h"
#include "vmfuzz.h"

#define ROWS_PER_SLICE 64

#define FIRMWARE_LOCKED 1
#define FIRMWARE_VMX 4
#define DR7_AFTER_EXIT 0x400
#define CR4_FRED_BIT 32
#define MACHINE_CHECK_IN_PROGRESS 4
#define DEBUGCTL_TRACES 0xc0	/* TR, BTS */
#define PEBS_UNAVAILABLE_BIT 12

enum {
	IA32_FEATURE_CONTROL = 0x3a,
	IA32_MCG_STATUS = 0x17a,
	IA32_SYSENTER_CS = 0x174,
	IA32_SYSENTER_ESP = 0x175,
	IA32_SYSENTER_EIP = 0x176,
	IA32_MISC_ENABLE = 0x1a0,
	IA32_DEBUGCTL = 0x1d9,
	IA32_PAT = 0x277,
	IA32_PERF_GLOBAL_CTRL = 0x38f,
	IA32_PEBS_ENABLE = 0x3f1,
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

static u32 leaf7(unsigned int reg)
{
	return leaf(0, 0) >= 7 ? leaf(7, reg) : 0;
}

static bool has_cet(void)
{
	return leaf7(2) >> 7 & 1 || leaf7(3) >> 20 & 1;
}

/* An MSR and its name, and what CPUID says where it exists: one of the bits in register `reg` (0 EAX ...) of a leaf; leaf 0: always there. */
struct msr_place {
	u32 msr, leaf, reg, bits;
	const char *name;
};

/* MSRs that an exit loads, or that must not have changed whatever happened. Nothing changes them between the rows of a slice. */
static const struct msr_place kept[] = {
	{ IA32_SYSENTER_CS, 0, 0, 0, "IA32_SYSENTER_CS" },
	{ IA32_SYSENTER_ESP, 0, 0, 0, "IA32_SYSENTER_ESP" },
	{ IA32_SYSENTER_EIP, 0, 0, 0, "IA32_SYSENTER_EIP" },
	{ IA32_PAT, 0, 0, 0, "IA32_PAT" },
	{ IA32_EFER, 0, 0, 0, "IA32_EFER" },
	{ IA32_FS_BASE, 0, 0, 0, "IA32_FS_BASE" },
	{ IA32_GS_BASE, 0, 0, 0, "IA32_GS_BASE" },
	{ IA32_KERNEL_GS_BASE, 0, 0, 0, "IA32_KERNEL_GS_BASE" },
	{ IA32_PKRS, 7, 2, 1u << 31, "IA32_PKRS" },
	{ IA32_S_CET, 7, 3, 1u << 20, "IA32_S_CET" },
};

/* MSRs that exits change, always or by a control, and that an interrupt's handler may write (perf does): given back after each row. */
static const struct msr_place cleared[] = {
	{ IA32_DEBUGCTL, 0, 0, 0, "IA32_DEBUGCTL" },
	{ IA32_RTIT_CTL, 7, 1, 1u << 25, "IA32_RTIT_CTL" },
	{ IA32_BNDCFGS, 7, 1, 1u << 14, "IA32_BNDCFGS" },
	{ IA32_LBR_CTL, 7, 3, 1u << 19, "IA32_LBR_CTL" },
	{ IA32_UINTR_MISC, 7, 3, 1u << 5, "IA32_UINTR_MISC" },
	/* Version 2 or later. Some processors clear bits 34:32 in an exit that loads it (AAK155, AAP115, AAT100, BC86, AAY89, BD102, BA97). */
	{ IA32_PERF_GLOBAL_CTRL, 0xa, 0, 0xfe, "IA32_PERF_GLOBAL_CTRL" },
};

#define DEBUGCTL_PLACE 0

struct host {
	struct table_register gdt, idt;
	u64 cr0;
	u16 segment[DATA_SEGMENTS], tr;
	u64 msr[ARRAY_SIZE(kept)];
};

/* What a row may change and no host field brings back, or an interrupt between two rows. */
struct registers {
	u64 cr3, cr4;
	u64 dr6, dr7;
	u16 ldtr;
	u64 msr[ARRAY_SIZE(cleared)];
};

/* Something that came back with another value. */
struct difference {
	const char *what;
	u64 came, instead;
};

/* The state of one slice. Nothing is printed before its end, when the host is repaired. */
struct slice {
	bool keeps[ARRAY_SIZE(kept)];
	bool clears[ARRAY_SIZE(cleared)];
	bool trace, pebs, machine_checks;	/* the processor has Intel PT, PEBS, IA32_MCG_STATUS */
	struct host host;
	struct registers registers;	/* of the present row */
	bool refreshed;		/* the VMCS holds the processor's values */
	bool exited;		/* the present row */
	u32 events;		/* enum vmfuzz_events of all rows */
	unsigned int wrong;	/* differences found in what came back */
	struct difference difference[4];	/* the first of them */
	u64 stack[32];		/* host_rsp points at its end: the engine leaves it at once, only an NMI without IST would use it */
};

static bool exists(const struct msr_place *p)
{
	return !p->leaf || (leaf(0, 0) >= p->leaf && leaf(p->leaf, p->reg) & p->bits);
}

static void note_difference(struct slice *s, const char *what, u64 came, u64 instead)
{
	if (s->wrong < ARRAY_SIZE(s->difference))
		s->difference[s->wrong] = (struct difference){ what, came, instead };
	s->wrong++;
}

static void host_save(struct host *h, const bool *keeps)
{
	unsigned int i;

	gdt_read(&h->gdt);
	idt_read(&h->idt);
	h->tr = tr_read();
	for (i = 0; i < DATA_SEGMENTS; i++)
		h->segment[i] = segment_read(i);
	h->cr0 = cr0_read();
	for (i = 0; i < ARRAY_SIZE(kept); i++)
		if (keeps[i])
			h->msr[i] = msr_read(kept[i].msr);
}

static void registers_save(struct registers *r, const bool *clears)
{
	unsigned int i;

	r->cr3 = cr3_read();
	r->cr4 = cr4_read();
	r->dr6 = dr6_read();
	r->dr7 = dr7_read();
	r->ldtr = ldtr_read();
	for (i = 0; i < ARRAY_SIZE(cleared); i++)
		if (clears[i])
			r->msr[i] = msr_read(cleared[i].msr);
}

/* What containment makes impossible: a register that the exit loaded with another value than the host's. */
static void repair_registers(struct slice *s)
{
	const struct host *h = &s->host;
	const struct registers *before = &s->registers;
	u64 cr4 = before->cr4 | X86_CR4_VMXE;

	if (cr3_read() != before->cr3) {
		note_difference(s, "CR3", cr3_read(), before->cr3);
		cr3_write(before->cr3);
	}
	if (cr0_read() != h->cr0) {
		note_difference(s, "CR0", cr0_read(), h->cr0);
		cr0_write(h->cr0);
	}
	if (cr4_read() != cr4) {
		note_difference(s, "CR4", cr4_read(), cr4);
		cr4_write(cr4);
	}
}

/* The same for segments and descriptor tables, whose limits an exit changes rightly. */
static void repair_segments(struct slice *s)
{
	static const char *const name[] = { "ES", "SS", "DS", "FS", "GS" };
	const struct host *h = &s->host;
	struct table_register gdt, idt;
	unsigned int i;

	gdt_read(&gdt);
	idt_read(&idt);
	gdt_write(&h->gdt);
	idt_write(&h->idt);
	if (gdt.base != h->gdt.base)
		note_difference(s, "GDTR", gdt.base, h->gdt.base);
	if (idt.base != h->idt.base)
		note_difference(s, "IDTR", idt.base, h->idt.base);
	for (i = 0; i < DATA_SEGMENTS; i++) {
		u16 came = segment_read(i);

		if (came == h->segment[i])
			continue;
		segment_write(i, h->segment[i]);
		/* Rows with MOV SS leave SS null. */
		if (i != SS || came)
			note_difference(s, name[i], came, h->segment[i]);
	}
	if (tr_read() != h->tr) {
		note_difference(s, "TR", tr_read(), h->tr);
		tr_reload();
	}
}

static void repair_msrs(struct slice *s)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kept); i++) {
		u64 came = s->keeps[i] ? msr_read(kept[i].msr) : 0;

		if (!s->keeps[i] || came == s->host.msr[i])
			continue;
		msr_write(kept[i].msr, s->host.msr[i]);
		note_difference(s, kept[i].name, came, s->host.msr[i]);
	}
}

/*
 * Right after a row that left through the exit handler, interrupts off, before anything else of the kernel runs. First what should never
 * be necessary; FS and GS get their bases back after their selectors. Then what every exit and entry failure changes whatever its fields
 * say: the limits of GDTR and IDTR become FFFFH, LDTR unusable, DR7 400H; a debug exception that the guest would have taken leaves its
 * bits in DR6.
 */
static void host_repair(struct slice *s)
{
	const struct registers *before = &s->registers;

	repair_registers(s);
	repair_segments(s);
	repair_msrs(s);
	if (before->ldtr)
		ldtr_write(before->ldtr);
	if (dr6_read() != before->dr6)
		dr6_write(before->dr6);
	if (before->dr7 != DR7_AFTER_EXIT)
		dr7_write(before->dr7);
}

/* After VMXOFF, in whose absence some processors refuse a write of IA32_RTIT_CTL. */
static void registers_restore(const struct slice *s)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cleared); i++)
		if (s->clears[i] && msr_read(cleared[i].msr) != s->registers.msr[i])
			msr_write(cleared[i].msr, s->registers.msr[i]);
}

static int check_processor(void)
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
		pr_info_once("vmfuzz: neither firmware nor kernel locked IA32_FEATURE_CONTROL (%llx); kernels with KVM do\n", control);
		return -EACCES;
	}
	if (!(control & FIRMWARE_VMX)) {
		pr_info_once("vmfuzz: the firmware does not allow VMX outside SMX (IA32_FEATURE_CONTROL = %llx): turn it on in its setup\n", control);
		return -EACCES;
	}
	if (!kernel_has_vmx()) {
		pr_info_once("vmfuzz: this kernel was told not to use VMX (clearcpuid=)\n");
		return -ENODEV;
	}
	return 0;
}

/* What does not change while a slice runs. With preemption off. */
static int check_state(void)
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
static int check_row(const struct slice *s)
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

/*
 * Nothing flushes the translations that an earlier user of VMX left in this CPU: VMXON and VMXOFF do not, and KVM leaves it to whoever
 * takes a page of a freed table next. Somebody may have used VMX since the row before. Where a type is missing, containment refuses what
 * would need it. Nonzero when it failed.
 */
static int invalidate_translations(const struct vmfuzz_limits *l)
{
	if (l->features & VMFUZZ_HAS_INVEPT && invept_all())
		return 1;
	return l->features & VMFUZZ_HAS_INVVPID && invvpid_all();
}

/* With interrupts off. From here to vmx_off, INIT signals (CPU offline by reset, not by hotplug) are held back. */
static int vmx_on(struct vmfuzz_machine *m, struct slice *s)
{
	int error;

	registers_save(&s->registers, s->clears);
	error = check_row(s);
	if (error)
		return error;
	*(u32 *)m->vmxon_region = (u32)msr_read(IA32_VMX_BASIC) & 0x7fffffff;
	cr4_write(s->registers.cr4 | X86_CR4_VMXE);
	error = vmxon(virt_to_phys(m->vmxon_region));
	if (!error) {
		error = invalidate_translations(&m->limits);
		if (error)
			vmxoff();
	}
	if (error) {
		cr4_write(s->registers.cr4);
		pr_err_once("vmfuzz: VMXON, or INVEPT and INVVPID after it, failed\n");
		return -EIO;
	}
	return 0;
}

static void vmx_off(struct slice *s)
{
	vmxoff();
	cr4_write(s->registers.cr4);
	/* VMXOFF fails under an SMM monitor (dual-monitor treatment). */
	if (cr4_read() & X86_CR4_VMXE)
		note_difference(s, "VMXOFF failed, restart the machine: CR4", cr4_read(), s->registers.cr4);
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
	s->trace = leaf7(1) >> 25 & 1;
	s->pebs = leaf(1, 3) >> 21 & 1 && !(msr_read(IA32_MISC_ENABLE) >> PEBS_UNAVAILABLE_BIT & 1);
	s->machine_checks = leaf(1, 3) >> 14 & 1;
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

/* What was found since the slice began, once each kind. With everything repaired, interrupts and preemption on. */
static void report(const struct slice *s)
{
	unsigned int i;

	for (i = 0; i < min_t(unsigned int, s->wrong, ARRAY_SIZE(s->difference)); i++)
		pr_err_ratelimited("vmfuzz: %s came back as %llx instead of %llx\n", s->difference[i].what, s->difference[i].came,
				   s->difference[i].instead);
	if (s->events & VMFUZZ_EVENT_MACHINE_CHECK)
		pr_emerg("vmfuzz: a machine check ended a VM entry or a guest\n");
	if (s->events & VMFUZZ_EVENT_INTERRUPT)
		pr_emerg_once("vmfuzz: an exit acknowledged an interrupt, which is lost; restart the machine\n");
}

/* Returns an errno when host state did not come back. */
static int slice_end(struct vmfuzz_machine *m, struct slice *s)
{
	unsigned long flags;

	local_irq_save(flags);
	/* Exits leave a limit of 67H, without the I/O permission bitmap. */
	tr_reload();
	/* An entry with blocking by NMI may leave NMIs blocked; IRET opens them. */
	open_nmis();
	local_irq_restore(flags);
	preempt_enable();
	report(s);
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
		return h->segment[ES];
	case 0x0c02:
		return __KERNEL_CS;
	case 0x0c04:
		return h->segment[SS];
	case 0x0c06:
		return h->segment[DS];
	case 0x0c08:
		return h->segment[FS];
	case 0x0c0a:
		return h->segment[GS];
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
		return cr0_read();
	case 0x6c02:
		return cr3_read();
	case 0x6c04:
		return cr4_read();
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
		raise_nmi();
	/*
	 * Other processors wait for this one in their handlers. Whatever the exit's reason: a guest may have taken the machine check, through
	 * tables that map nothing. Without one in progress the exit was invented.
	 */
	if (s->exited && s->machine_checks && msr_read(IA32_MCG_STATUS) & MACHINE_CHECK_IN_PROGRESS) {
		events |= VMFUZZ_EVENT_MACHINE_CHECK;
		raise_machine_check();
	}
	/* Containment allows acknowledgement only where the timer comes first; a processor that knows better has lost it now. */
	if (events & VMFUZZ_EVENT_INTERRUPT)
		s->wrong++;
	s->events |= events;
}

static void run_row(struct vmfuzz_machine *m, struct slice *s, u64 i)
{
	struct vmfuzz_request *r = m->request;
	struct vmfuzz_result *out = (struct vmfuzz_result *)(r->rows_va + i * r->row_bytes);

	host_columns(m, (u64 *)(out + 1));
	vmfuzz_row(r, &m->run, i);
	/* With live conditions the base may have been entered before the row. */
	s->exited = out->kind == VMFUZZ_KIND_EXIT || out->kind == VMFUZZ_KIND_ENTRY_FAILURE || r->live_columns;
	if (s->exited)
		host_repair(s);
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
	s->exited = false;
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

/* With preemption off: all facts are of one CPU. */
static int probe_here(struct vmfuzz_machine *m)
{
	int error = check_processor();

	if (error)
		return error;
	m->request->pad = smp_processor_id();
	vmfuzz_probe(m->request);
	return 0;
}

int vmfuzz_machine_probe(struct vmfuzz_machine *m)
{
	int error;

	preempt_disable();
	error = probe_here(m);
	preempt_enable();
	return error;
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
	int status, error, ended;

	m->captured = false;
	error = slice_start(m, &s);
	if (error)
		return error;
	error = probe_here(m);
	if (!error)
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
