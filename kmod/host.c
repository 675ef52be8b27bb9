// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// host.c: the host's registers: what they are before a row, what came back otherwise after it, and its repair.
#include <linux/build_bug.h>
#include <linux/kernel.h>

#include "slice.h"

#define DR7_AFTER_EXIT 0x400

/* An MSR and its name, and what CPUID says where it exists: one of the bits in register `reg` (0 EAX ...) of a leaf; leaf 0: always there. */
struct msr_place {
	u32 msr, leaf, reg, bits;
	const char *name;
	u32 field;	/* the host-state field that an exit loads it from */
};

/* MSRs that an exit loads, or that must not have changed whatever happened. Nothing changes them between the rows of a slice. */
static const struct msr_place kept[] = {
	{ IA32_SYSENTER_CS, 0, 0, 0, "IA32_SYSENTER_CS", 0x4c00 },
	{ IA32_SYSENTER_ESP, 0, 0, 0, "IA32_SYSENTER_ESP", 0x6c10 },
	{ IA32_SYSENTER_EIP, 0, 0, 0, "IA32_SYSENTER_EIP", 0x6c12 },
	{ IA32_PAT, 0, 0, 0, "IA32_PAT", 0x2c00 },
	{ IA32_EFER, 0, 0, 0, "IA32_EFER", 0x2c02 },
	{ IA32_FS_BASE, 0, 0, 0, "IA32_FS_BASE", 0x6c06 },
	{ IA32_GS_BASE, 0, 0, 0, "IA32_GS_BASE", 0x6c08 },
	{ IA32_KERNEL_GS_BASE, 0, 0, 0, "IA32_KERNEL_GS_BASE", 0 },
	{ IA32_PKRS, 7, 2, 1u << 31, "IA32_PKRS", 0x2c06 },
	{ IA32_S_CET, 7, 3, 1u << 20, "IA32_S_CET", 0x6c18 },
};

/* MSRs that exits change, always or by a control, and that an interrupt's handler may write (perf does): given back after each row. */
static const struct msr_place cleared[] = {
	{ IA32_DEBUGCTL, 0, 0, 0, "IA32_DEBUGCTL", 0 },
	{ IA32_RTIT_CTL, 7, 1, 1u << 25, "IA32_RTIT_CTL", 0 },
	{ IA32_BNDCFGS, 7, 1, 1u << 14, "IA32_BNDCFGS", 0 },
	{ IA32_LBR_CTL, 7, 3, 1u << 19, "IA32_LBR_CTL", 0 },
	{ IA32_UINTR_MISC, 7, 3, 1u << 5, "IA32_UINTR_MISC", 0 },
	/* Version 2 or later. Some processors clear bits 34:32 in an exit that loads it (AAK155, AAP115, AAT100, BC86, AAY89, BD102, BA97). */
	{ IA32_PERF_GLOBAL_CTRL, 0xa, 0, 0xfe, "IA32_PERF_GLOBAL_CTRL", 0x2c04 },
};

static_assert(ARRAY_SIZE(kept) == KEPT_MSRS && ARRAY_SIZE(cleared) == CLEARED_MSRS);

static bool exists(const struct msr_place *p)
{
	return !p->leaf || (leaf(0, 0) >= p->leaf && leaf(p->leaf, p->reg) & p->bits);
}

/* Which of the MSRs this processor has. */
void vmfuzz_host_places(struct slice *s)
{
	unsigned int i;

	for (i = 0; i < KEPT_MSRS; i++)
		s->keeps[i] = exists(&kept[i]);
	for (i = 0; i < CLEARED_MSRS; i++)
		s->clears[i] = exists(&cleared[i]);
}

void vmfuzz_note_difference(struct slice *s, const char *what, u64 came, u64 instead)
{
	if (s->wrong < ARRAY_SIZE(s->difference))
		s->difference[s->wrong] = (struct difference){ what, 0, came, instead };
	s->wrong++;
}

void vmfuzz_note_msr(struct slice *s, u32 msr, u64 came, u64 instead)
{
	vmfuzz_note_difference(s, "MSR", came, instead);
	if (s->wrong <= ARRAY_SIZE(s->difference))
		s->difference[s->wrong - 1].msr = msr;
}

/* What the row did not set, or may not. */
static void note_unless_set(struct slice *s, u32 field, const char *what, u64 came, u64 instead)
{
	if (vmfuzz_row_sets(s, field))
		s->excused = true;
	else
		vmfuzz_note_difference(s, what, came, instead);
}

/* What does not change between the rows of a slice. */
void vmfuzz_host_save(struct slice *s)
{
	struct host *h = &s->host;
	unsigned int i;

	gdt_read(&h->gdt);
	idt_read(&h->idt);
	h->tr = tr_read();
	for (i = 0; i < DATA_SEGMENTS; i++)
		h->segment[i] = segment_read(i);
	h->cr0 = cr0_read();
	for (i = 0; i < KEPT_MSRS; i++)
		if (s->keeps[i])
			h->msr[i] = msr_read(kept[i].msr);
}

void vmfuzz_registers_save(struct slice *s)
{
	struct registers *r = &s->registers;
	unsigned int i;

	r->cr3 = cr3_read();
	r->cr4 = cr4_read();
	r->dr6 = dr6_read();
	r->dr7 = dr7_read();
	r->ldtr = ldtr_read();
	for (i = 0; i < CLEARED_MSRS; i++)
		if (s->clears[i])
			r->msr[i] = msr_read(cleared[i].msr);
}

/* What containment makes impossible, but for what limits.virtual lets a row set: a register that the exit loaded with another value than the host's. */
static void repair_registers(struct slice *s)
{
	const struct host *h = &s->host;
	const struct registers *before = &s->registers;
	u64 cr4 = before->cr4 | X86_CR4_VMXE;

	if (cr3_read() != before->cr3) {
		vmfuzz_note_difference(s, "CR3", cr3_read(), before->cr3);
		cr3_write(before->cr3);
	}
	if (cr0_read() != h->cr0) {
		note_unless_set(s, 0x6c00, "CR0", cr0_read(), h->cr0);
		cr0_write(h->cr0);
	}
	if (cr4_read() != cr4) {
		note_unless_set(s, 0x6c04, "CR4", cr4_read(), cr4);
		cr4_write(cr4);
	}
}

/* The same for segments and descriptor tables, whose limits an exit changes rightly. */
static void repair_segments(struct slice *s)
{
	static const char *const name[] = { "ES", "SS", "DS", "FS", "GS" };
	static const u16 field[] = { 0x0c00, 0x0c04, 0x0c06, 0x0c08, 0x0c0a };
	const struct host *h = &s->host;
	struct table_register gdt, idt;
	unsigned int i;

	gdt_read(&gdt);
	idt_read(&idt);
	gdt_write(&h->gdt);
	idt_write(&h->idt);
	if (gdt.base != h->gdt.base)
		note_unless_set(s, 0x6c0c, "GDTR", gdt.base, h->gdt.base);
	if (idt.base != h->idt.base)
		note_unless_set(s, 0x6c0e, "IDTR", idt.base, h->idt.base);
	for (i = 0; i < DATA_SEGMENTS; i++) {
		u16 came = segment_read(i);

		if (came == h->segment[i])
			continue;
		segment_write(i, h->segment[i]);
		/* Rows with MOV SS leave SS null. */
		if (i != SS || came)
			note_unless_set(s, field[i], name[i], came, h->segment[i]);
	}
	if (vmfuzz_row_sets(s, 0x0c02))
		cs_reload();
	if (tr_read() != h->tr) {
		note_unless_set(s, 0x0c0c, "TR", tr_read(), h->tr);
		tr_reload();
	} else if (vmfuzz_row_sets(s, 0x6c0a)) {
		tr_reload();
	}
}

static void repair_msrs(struct slice *s)
{
	unsigned int i;

	for (i = 0; i < KEPT_MSRS; i++) {
		u64 came = s->keeps[i] ? msr_read(kept[i].msr) : 0;

		if (!s->keeps[i] || came == s->host.msr[i])
			continue;
		msr_write(kept[i].msr, s->host.msr[i]);
		note_unless_set(s, kept[i].field, kept[i].name, came, s->host.msr[i]);
	}
}

/*
 * Right after a row that left through the exit handler, interrupts off, before anything else of the kernel runs. First what should never
 * be necessary; FS and GS get their bases back after their selectors. Then what every exit and entry failure changes whatever its fields
 * say: the limits of GDTR and IDTR become FFFFH, LDTR unusable, DR7 400H; a debug exception that the guest would have taken leaves its
 * bits in DR6.
 */
void vmfuzz_host_repair(struct slice *s, const struct vmfuzz_result *out)
{
	const struct registers *before = &s->registers;

	s->excused = false;
	repair_registers(s);
	repair_segments(s);
	vmfuzz_msr_lists_restore(s, out);
	repair_msrs(s);
	/* What the row set has to be gone now. */
	if (s->excused) {
		s->machine = NULL;
		repair_registers(s);
		repair_segments(s);
		repair_msrs(s);
		cr3_write(before->cr3);	/* of translations that were made under other bits of CR0, CR4, IA32_PAT, IA32_EFER nothing stays */
	}
	if (before->ldtr)
		ldtr_write(before->ldtr);
	if (dr6_read() != before->dr6)
		dr6_write(before->dr6);
	if (before->dr7 != DR7_AFTER_EXIT)
		dr7_write(before->dr7);
}

/* After VMXOFF, in whose absence some processors refuse a write of IA32_RTIT_CTL. */
void vmfuzz_registers_restore(const struct slice *s)
{
	unsigned int i;

	for (i = 0; i < CLEARED_MSRS; i++)
		if (s->clears[i] && msr_read(cleared[i].msr) != s->registers.msr[i])
			msr_write(cleared[i].msr, s->registers.msr[i]);
}
