// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// exceptions.c: descriptor tables, and what becomes of exceptions, NMIs and machine checks.
#include "image.h"
#include "link.h"

#define NMI 2
#define DOUBLE_FAULT 8
#define MACHINE_CHECK 18
#define CODE_SELECTOR 8ull
#define TSS_SELECTOR 0x18
#define TSS_BUSY (2ull << 40)
#define INTERRUPT_GATE (0x8eull << 40)

#define CR4_MCE 0x40
#define IA32_MCG_CAP 0x179
#define IA32_MCG_STATUS 0x17a
#define IA32_MC0_CTL 0x400
#define IA32_MC0_STATUS 0x401
#define RESTART_VALID 1
#define IN_PROGRESS 4
#define BANK_VALID (1ull << 63)

#define MOST_NMIS_SHOWN 4

struct frame_on_stack {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax, vector, error, rip, cs, rflags, rsp, ss;
};

struct fixup {
	u64 from, to;
};

extern char stubs[];
extern const struct fixup fixup_table[], fixup_table_end[];	/* not by the name of the section, which is that of one file */
extern u64 gdt[], root[];
void exception(struct frame_on_stack *f);

/* Stacks of their own for events that may come at any time (IST). */
enum { STACK_NMI, STACK_FATAL, STACK_OTHER, STACKS };

static struct {
	u64 low, high;
} idt[256];
static u32 tss[26];
static u8 stack[STACKS][16384] __attribute__((aligned(16)));

void reset_machine(void)
{
	struct table_register {
		u16 limit;
		u64 base;
	} __packed none = { 0, 0 };
	u64 until = tsc() + 2000000;	/* for the last bytes to leave */

	while (tsc() < until)
		asm volatile("pause");
	outb(0x64, 0xfe);
	outb(0xcf9, 6);
	asm volatile("lidt %0\n	ud2" : : "m"(none));
	for (;;)
		asm volatile("hlt");
}

/* Reads as 0 where it does not exist, and is not written. */
static u64 msr_read(u32 msr)
{
	u32 low = 0, high = 0;

	asm volatile("1: rdmsr\n2:\n" _ASM_EXTABLE(1b, 2b) : "+a"(low), "+d"(high) : "c"(msr));
	return (u64)high << 32 | low;
}

static void msr_write(u32 msr, u64 value)
{
	asm volatile("1: wrmsr\n2:\n" _ASM_EXTABLE(1b, 2b) : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)));
}

/* Say what the banks hold and empty them. Returns whether the interrupted code may go on. */
static bool survives_machine_check(void)
{
	u64 global = msr_read(IA32_MCG_STATUS);
	u32 bank, banks = (u32)msr_read(IA32_MCG_CAP) & 0xff;

	printk("\nmachine check: IA32_MCG_STATUS %llXH\n", global);
	for (bank = 0; bank < banks; bank++) {
		u64 status = msr_read(IA32_MC0_STATUS + 4 * bank);

		if (!(status & BANK_VALID))
			continue;
		printk("machine check: bank %u, IA32_MC%u_STATUS %llXH\n", bank, bank, status);
		msr_write(IA32_MC0_STATUS + 4 * bank, 0);
	}
	msr_write(IA32_MCG_STATUS, 0);
	return global & RESTART_VALID || !(global & IN_PROGRESS);
}

static bool fixed_up(struct frame_on_stack *f)
{
	const struct fixup *x;

	for (x = fixup_table; x < fixup_table_end; x++)
		if (x->from == f->rip) {
			f->rip = x->to;
			return true;
		}
	return false;
}

void exception(struct frame_on_stack *f)
{
	static unsigned int nmis;
	u64 cr2;

	if (f->vector == NMI) {
		if (nmis++ < MOST_NMIS_SHOWN)
			printk("\nNMI at %llXH: the image does not know its cause and goes on\n", f->rip);
		return;
	}
	if (f->vector == MACHINE_CHECK && survives_machine_check())
		return;
	if (f->vector != MACHINE_CHECK && fixed_up(f))
		return;
	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	vmfuzz_line_put(VMFUZZ_LINE_END);
	printk("\nexception %llu, error code %llXH, at %llXH:%llXH,\nRSP %llXH, RFLAGS %llXH, CR2 %llXH\n", f->vector, f->error, f->cs, f->rip, f->rsp,
	       f->rflags, cr2);
	if (black_box->died == VMFUZZ_DIED_ROW) {
		black_box_print("died");
		black_box->died = VMFUZZ_DIED_EXCEPTION;
	}
	black_box->vector = (u32)f->vector;
	reset_machine();
}

void force_reload_TR(void)
{
	gdt[TSS_SELECTOR / 8] &= ~TSS_BUSY;
	asm volatile("ltr %w0" : : "r"(TSS_SELECTOR) : "memory");
}

static void set_gate(unsigned int vector)
{
	u64 at = (u64)stubs + 16 * vector;
	u64 ist = vector == NMI ? STACK_NMI : vector == DOUBLE_FAULT || vector == MACHINE_CHECK ? STACK_FATAL : STACK_OTHER;

	idt[vector].low = (at & 0xffff) | CODE_SELECTOR << 16 | (ist + 1) << 32 | INTERRUPT_GATE | (at >> 16 & 0xffff) << 48;
	idt[vector].high = at >> 32;
}

/* Errors of the machine come as machine checks instead of shutting it down. */
static void machine_checks_on(void)
{
	u32 r[4], bank, banks;

	asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(1), "c"(0));
	if (!(r[3] >> 7 & 1))
		return;
	banks = r[3] >> 14 & 1 ? (u32)msr_read(IA32_MCG_CAP) & 0xff : 0;
	for (bank = 0; bank < banks; bank++)
		msr_write(IA32_MC0_CTL + 4 * bank, ~0ull);
	asm volatile("mov %0, %%cr4" : : "r"(__read_cr4() | CR4_MCE));
}

void exceptions_init(void)
{
	struct {
		u16 limit;
		u64 base;
	} __packed g = { 39, (u64)gdt }, i = { sizeof(idt) - 1, (u64)idt };
	u64 base = (u64)tss, end;
	unsigned int n;

	for (n = 0; n < STACKS; n++) {
		end = (u64)stack[n] + sizeof(stack[0]);
		tss[9 + 2 * n] = (u32)end;	/* IST n + 1 */
		tss[10 + 2 * n] = end >> 32;
	}
	tss[25] = sizeof(tss) << 16;	/* no I/O permission bitmap */
	gdt[3] = (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	gdt[4] = base >> 32;
	for (n = 0; n < 256; n++)
		set_gate(n);
	asm volatile("lgdt %0" : : "m"(g));
	asm volatile("lidt %0" : : "m"(i));
	asm volatile("ltr %w0" : : "r"(TSS_SELECTOR));
	root[0] = 0;		/* nothing is mapped in the lower half from here on */
	asm volatile("mov %0, %%cr3" : : "r"(__read_cr3()) : "memory");
	machine_checks_on();
}
