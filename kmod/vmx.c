// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// vmx.c: VMX operation, taken for one row at a time.
/*
 * A row runs between VMXON and VMXOFF with interrupts off. So nothing else of the kernel ever meets VMX operation: no interrupt
 * handler, no KVM, no tracing that starts; and close, kill, unload, CPU hotplug and suspend have nothing to undo. A slice is as many
 * rows as run with preemption off, but interrupts on between them.
 */
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/minmax.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/smp.h>
#include <linux/string.h>

#include "slice.h"

#define ROWS_PER_SLICE 64
#define MACHINE_CHECK_IN_PROGRESS 4
#define PEBS_UNAVAILABLE_BIT 12

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

	vmfuzz_registers_save(s);
	error = vmfuzz_check_row(s);
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
		vmfuzz_note_difference(s, "VMXOFF failed, restart the machine: CR4", cr4_read(), s->registers.cr4);
	vmfuzz_registers_restore(s);
}

static int slice_start(struct vmfuzz_machine *m, struct slice *s)
{
	int error;

	memset(s, 0, sizeof(*s));
	vmfuzz_host_places(s);
	s->trace = leaf7(1) >> 25 & 1;
	s->pebs = leaf(1, 3) >> 21 & 1 && !(msr_read(IA32_MISC_ENABLE) >> PEBS_UNAVAILABLE_BIT & 1);
	s->machine_checks = leaf(1, 3) >> 14 & 1;
	preempt_disable();
	error = m->broken ? -EIO : vmfuzz_check_state();
	if (!error && m->captured && smp_processor_id() != m->cpu) {
		pr_info_once("vmfuzz: the caller moved to another CPU; pin it to one\n");
		error = -EXDEV;
	}
	if (error)
		preempt_enable();
	else
		vmfuzz_host_save(s);
	return error;
}

/* What was found since the slice began, once each kind. With everything repaired, interrupts and preemption on. */
static void report(const struct slice *s)
{
	unsigned int i;

	for (i = 0; i < min_t(unsigned int, s->wrong, ARRAY_SIZE(s->difference)); i++) {
		const struct difference *d = &s->difference[i];

		if (d->msr)
			pr_err_ratelimited("vmfuzz: %s %XH was loaded and cannot be given back: %llXH instead of %llXH\n", d->what, d->msr, d->came,
					   d->instead);
		else
			pr_err_ratelimited("vmfuzz: %s came back as %llXH instead of %llXH\n", d->what, d->came, d->instead);
	}
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

	s->value = (const u64 *)(out + 1);
	s->machine = m->limits.virtual ? m : NULL;
	vmfuzz_host_columns(m, (u64 *)(out + 1));
	vmfuzz_msr_lists_save(m, s, s->value);
	vmfuzz_row(r, &m->run, i);
	/* With live conditions the base may have been entered before the row. */
	s->exited = out->kind == VMFUZZ_KIND_EXIT || out->kind == VMFUZZ_KIND_ENTRY_FAILURE || r->live_columns;
	if (s->exited)
		vmfuzz_host_repair(s, out);
}

/* What is done in VMX operation; the state of the VMCS is in memory before and after. */
enum task { BEGIN, ROW, FINISH, CAPTURE };

static int in_vmx(struct vmfuzz_machine *m, struct slice *s, enum task task, u64 row)
{
	struct vmfuzz_request *r = m->request;

	if (task == CAPTURE) {
		int status = vmfuzz_capture(r);

		if (status == VMFUZZ_STATUS_DONE)
			vmfuzz_take_capture(m, s);
		return status;
	}
	if (task == BEGIN) {
		m->run.status = vmfuzz_begin(r);
		m->run.launched = m->run.held = 0;
		m->begun = m->run.status == VMFUZZ_STATUS_DONE;
	} else if (vmfuzz_pick_up(r, &m->run)) {
		m->run.status = VMFUZZ_STATUS_VMPTRLD_FAILED;
		return m->run.status;
	}
	vmfuzz_host_refresh(m, s);
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

int vmfuzz_machine_capture(struct vmfuzz_machine *m)
{
	struct slice s;
	int status, error, ended;

	m->captured = false;
	error = slice_start(m, &s);
	if (error)
		return error;
	error = vmfuzz_probe_here(m);
	if (!error)
		error = with_vmx(m, &s, CAPTURE, 0, &status);
	ended = slice_end(m, &s);
	if (ended || error)
		return ended ? ended : error;
	if (!m->captured)
		return -EIO;
	vmfuzz_set_limits(m);
	return 0;
}
