// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// host_state.c: an image that compares the machine's state with that before its first row, after each slice of rows; what differs it prints, and resets.
// With PLANTED_AFTER it leaves an MSR changed after so many slices of its first boot, to show that the comparison sees it.
#include "image.h"
#include "processor.h"
#include "vmfuzz.h"

#ifndef PLANTED_AFTER
#define PLANTED_AFTER 0
#endif
#define DIFFERS 255	/* in the black box, in place of an exception's vector */
#define MSRS 0x2000u	/* from 0 on, and as many from C0000000H on */
#define SECOND 0xc0000000u
#define TABLE_WORDS (4 * 512)	/* root and what boot.S has behind it */
#define CR4_OSXSAVE (1ull << 18)
#define IA32_LSTAR 0xc0000082u

enum {
	CR0, CR3, CR4, CR8, DR0, DR1, DR2, DR3, DR6, DR7, CS_SEGMENT, SS_SEGMENT, DS_SEGMENT, ES_SEGMENT, FS_SEGMENT, GS_SEGMENT, TASK, LOCAL, CS_RIGHTS,
	SS_RIGHTS, TR_RIGHTS, GDT_BASE, GDT_LIMIT, IDT_BASE, IDT_LIMIT, TR_LIMIT, XCR0, GDT_WORDS, IDT_WORDS, TSS_WORDS, PAGE_TABLES, REGISTERS
};

static const char *const name[REGISTERS] = {
	"CR0", "CR3", "CR4", "CR8", "DR0", "DR1", "DR2", "DR3", "DR6", "DR7", "CS", "SS", "DS", "ES", "FS", "GS", "TR", "LDTR", "rights of CS",
	"rights of SS", "rights of TR", "GDTR", "limit of GDTR", "IDTR", "limit of IDTR", "limit of TR", "XCR0", "GDT", "IDT", "TSS", "page tables",
};

struct state {
	u64 registers[REGISTERS];
	u64 msr[2 * MSRS];
	u8 there[2 * MSRS];
};

extern u64 gdt[], root[];

static struct state at_boot, now;
static u8 moves[2 * MSRS];	/* MSRs that change by themselves */
static bool known;

int __real_vmfuzz_machine_slice(struct vmfuzz_machine *m, u64 *next, u64 end);
int __wrap_vmfuzz_machine_slice(struct vmfuzz_machine *m, u64 *next, u64 end);

static u64 sum_of(const void *from, u64 words)
{
	const u64 *at = from, *end = at + words;
	u64 sum = 0;

	for (; at < end; at++)
		sum = (sum << 7 | sum >> 57) + *at;
	return sum;
}

#define READ(what) ({ u64 v_; asm volatile("mov %%" what ", %0" : "=r"(v_)); v_; })
#define SELECTOR(what) ({ u32 v_; asm volatile("mov %%" what ", %0" : "=r"(v_)); (u64)(v_ & 0xffff); })
#define RIGHTS(selector) ({ u64 v_ = 0; asm volatile("lar %1, %0" : "+r"(v_) : "r"((u64)(selector)) : "cc"); v_; })
#define SEGMENT_LIMIT(selector) ({ u64 v_ = 0; asm volatile("lsl %1, %0" : "+r"(v_) : "r"((u64)(selector)) : "cc"); v_; })

static u64 xcr0(void)
{
	u64 cr4 = cr4_read();
	u32 low, high;

	if (!(leaf(1, 2) >> 26 & 1))
		return 0;
	cr4_write(cr4 | CR4_OSXSAVE);
	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	cr4_write(cr4);
	return (u64)high << 32 | low;
}

static void look_at_tables(u64 *r)
{
	struct table_register gdtr, idtr;
	u64 tss;

	gdt_read(&gdtr);
	idt_read(&idtr);
	tss = gdt[3] >> 16 & 0xffffff;
	tss |= (gdt[3] >> 56 & 0xff) << 24 | gdt[4] << 32;
	r[GDT_BASE] = gdtr.base;
	r[GDT_LIMIT] = gdtr.limit;
	r[IDT_BASE] = idtr.base;
	r[IDT_LIMIT] = idtr.limit;
	r[GDT_WORDS] = sum_of((void *)gdtr.base, ((u64)gdtr.limit + 1) / 8);
	r[IDT_WORDS] = sum_of((void *)idtr.base, ((u64)idtr.limit + 1) / 8);
	r[TSS_WORDS] = sum_of((void *)tss, 104 / 8);
	r[PAGE_TABLES] = sum_of(root, TABLE_WORDS);
}

static void look(struct state *s)
{
	u64 *r = s->registers;
	u32 i;

	r[CR0] = cr0_read();
	r[CR3] = cr3_read();
	r[CR4] = cr4_read();
	r[CR8] = READ("cr8");
	r[DR0] = READ("dr0");
	r[DR1] = READ("dr1");
	r[DR2] = READ("dr2");
	r[DR3] = READ("dr3");
	r[DR6] = dr6_read();
	r[DR7] = dr7_read();
	r[CS_SEGMENT] = SELECTOR("cs");
	r[SS_SEGMENT] = SELECTOR("ss");
	r[DS_SEGMENT] = SELECTOR("ds");
	r[ES_SEGMENT] = SELECTOR("es");
	r[FS_SEGMENT] = SELECTOR("fs");
	r[GS_SEGMENT] = SELECTOR("gs");
	r[TASK] = tr_read();
	r[LOCAL] = ldtr_read();
	r[CS_RIGHTS] = RIGHTS(r[CS_SEGMENT]);
	r[SS_RIGHTS] = RIGHTS(r[SS_SEGMENT]);
	r[TR_RIGHTS] = RIGHTS(r[TASK]);
	r[TR_LIMIT] = SEGMENT_LIMIT(r[TASK]);
	r[XCR0] = xcr0();
	look_at_tables(r);
	for (i = 0; i < 2 * MSRS; i++)
		s->there[i] = msr_try_read(i < MSRS ? i : SECOND + i - MSRS, &s->msr[i]);
	/* TR's base and limit, which no instruction reads: the exception's stack comes from there. */
	asm volatile("1: ud2\n2:\n" _ASM_EXTABLE(1b, 2b));
}

static unsigned int differences(bool say)
{
	unsigned int i, found = 0;

	for (i = 0; i < REGISTERS; i++)
		if (now.registers[i] != at_boot.registers[i]) {
			found++;
			if (say)
				printk("\nparanoid: %s: %llXH at boot, %llXH now\n", name[i], at_boot.registers[i], now.registers[i]);
		}
	for (i = 0; i < 2 * MSRS; i++)
		if (!moves[i] && (now.there[i] != at_boot.there[i] || now.msr[i] != at_boot.msr[i])) {
			found++;
			if (say)
				printk("\nparanoid: MSR %XH: %llXH at boot, %llXH now\n", i < MSRS ? i : SECOND + i - MSRS, at_boot.msr[i], now.msr[i]);
		}
	return found;
}

static void begin(void)
{
	unsigned int i, read = 0, moving = 0;

	look(&at_boot);
	look(&now);
	for (i = 0; i < 2 * MSRS; i++) {
		moves[i] = now.msr[i] != at_boot.msr[i];
		moving += moves[i];
		read += at_boot.there[i];
	}
	known = true;
	printk("\nparanoid: %u MSRs can be read, %u of them change by themselves; %u registers\n", read, moving, (u32)REGISTERS);
}

/* The module's, by the linker's --wrap. */
int __wrap_vmfuzz_machine_slice(struct vmfuzz_machine *m, u64 *next, u64 end)
{
	static unsigned int slices;
	int error;

	if (!known)
		begin();
	error = __real_vmfuzz_machine_slice(m, next, end);
	if (PLANTED_AFTER && black_box->boots == 1 && ++slices == PLANTED_AFTER)
		msr_write(IA32_LSTAR, msr_read(IA32_LSTAR) ^ 1);
	look(&now);
	if (error || !differences(true))
		return error;
	black_box->vector = DIFFERS;
	m->broken = true;
	return -EIO;
}
