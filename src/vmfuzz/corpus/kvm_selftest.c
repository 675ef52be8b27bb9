// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
@HEAD@
 *
 * gcc -O2 -o @NAME@ @NAME@.c && ./@NAME@
 *
 * Needs /dev/kvm and kvm_intel with nested = 1. The guest is in VMX root operation and executes VMLAUNCH; KVM is what answers. Exit code: 0 the
 * manual allows the outcome, 1 it does not, 2 the virtual machine died, 4 skipped (there is no nested VMX, or the processor lacks the case).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct pair { uint64_t where, value; };
struct change { uint64_t where, clear, set; };	/* (old & ~clear) | set */

/* ---- the case ---- */

static const char *const allowed[] = { @ALLOWED@ };
static const char recorded[] = "@RECORDED@";

/* The state before the changes, base @BASE@. Control words get what this processor demands and lose what it lacks. */
static const struct pair base[] = {
@FIELDS@
};

/* 64-bit words of memory that are not 0, by physical address. */
static const struct pair memory[] = {
@MEMORY@
	{ 0, 0 },
};

/* What each VM entry changes in that state; the last entry is the case. */
@CHANGES@
static const struct { const struct change *change; unsigned int count; } entries[] = {
@ENTRIES@
};

/* ---- the virtual machine ---- */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define OWN_PA 0x95a000000ull		/* code, tables, regions: seen at OWN_VA */
#define OWN_VA 0xffffffff80000000ull
#define OWN_BYTES 0x2c00000ull
#define OPERANDS_PA 0x10000000ull	/* what fields of the VMCS point to */
#define OPERANDS_BYTES 0x20000ull
#define OPERANDS 0x200000		/* where the guest sees them, as an offset in its own addresses */
#define ROOT 0x20000
#define DIRECTORY 0x21000
#define GDT 0x22000
#define TSS 0x22100
#define IDT 0x22200
#define VMXON 0x23000
#define VMCS 0x24000
#define BLOCK 0x40000
#define STACK_TOP 0x40000
#define RUNS 0x50000
#define HOST_RSP 0x6c14
#define HOST_RIP 0x6c16

/* One VM entry, as the guest reads and fills it; offsets are used in the assembly. */
struct run {
	uint64_t next;		/* 0: address of the next one, 0 for the last */
	uint64_t count;		/* 8: VMWRITEs */
	uint64_t how;		/* 16: 0 a VM exit or a failed entry, 1 CF, 2 ZF, 3 neither */
	uint64_t error, reason, qualification;	/* 24, 32, 40 */
	struct pair write[COUNT(base) + 2];	/* 48 */
};

struct block { uint64_t vmxon, vmcs, first, done, operands; };	/* 0, 8, 16, 24, 32 */

extern const char guest_start[], guest_exit[], guest_end[];
__asm__(".pushsection .rodata\n"
	"guest_start:\n"
	"	mov %rdi, saved_block(%rip)\n"
	"	vmxon (%rdi)\n"
	"	jbe 9f\n"
	"	vmclear 8(%rdi)\n"
	"	jbe 9f\n"
	"	vmptrld 8(%rdi)\n"
	"	jbe 9f\n"
	/* pages that the guest has written, as a hypervisor's are: the operands' */
	"	mov 32(%rdi), %rdx\n"
	"	mov $32, %ecx\n"
	"0:	lock addq $0, (%rdx)\n"
	"	add $4096, %rdx\n"
	"	dec %ecx\n"
	"	jnz 0b\n"
	"	mov 16(%rdi), %rsi\n"
	"1:	mov %rsi, saved_run(%rip)\n"
	"	mov 8(%rsi), %rcx\n"
	"	lea 48(%rsi), %rbx\n"
	"2:	mov (%rbx), %rax\n"
	"	vmwrite 8(%rbx), %rax\n"
	"	ja 3f\n"
	"	btsq $63, (%rbx)\n"	/* refused: the field does not exist */
	"3:	add $16, %rbx\n"
	"	dec %rcx\n"
	"	jnz 2b\n"
	"	vmlaunch\n"
	"	mov $1, %eax\n"
	"	jc 4f\n"
	"	mov $2, %eax\n"
	"	jz 4f\n"
	"	mov $3, %eax\n"
	"	jmp 4f\n"
	"guest_exit:\n"
	"	xor %eax, %eax\n"
	"4:	mov saved_run(%rip), %rsi\n"
	"	mov saved_block(%rip), %rdi\n"
	"	mov %rax, 16(%rsi)\n"
	"	mov $0x4400, %eax\n"
	"	vmread %rax, 24(%rsi)\n"
	"	mov $0x4402, %eax\n"
	"	vmread %rax, 32(%rsi)\n"
	"	mov $0x6400, %eax\n"
	"	vmread %rax, 40(%rsi)\n"
	"	vmclear 8(%rdi)\n"	/* a VMCS that entered is launched: clear again for the next VMLAUNCH */
	"	vmptrld 8(%rdi)\n"
	"	mov (%rsi), %rsi\n"
	"	test %rsi, %rsi\n"
	"	jnz 1b\n"
	"	movq $1, 24(%rdi)\n"
	"9:	hlt\n"
	"	jmp 9b\n"
	".balign 8\n"
	"saved_block: .quad 0\n"
	"saved_run: .quad 0\n"
	"guest_end:\n"
	".popsection\n");

static int kvm, vm, vcpu;
static uint8_t *own;
static struct kvm_run *state;

static void __attribute__((noreturn)) skip(const char *why)
{
	printf("skipped: %s\n", why);
	exit(4);
}

static int call(int file, unsigned long code, void *argument, const char *name)
{
	int result = ioctl(file, code, argument);

	if (result < 0) {
		printf("%s: %s\n", name, strerror(errno));
		exit(2);
	}
	return result;
}

static uint64_t msr(uint32_t index)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry[1]; } one = { .head.nmsrs = 1, .entry[0].index = index };

	return ioctl(vcpu, KVM_GET_MSRS, &one.head) == 1 ? one.entry[0].data : 0;
}

static void map(unsigned int slot, uint64_t pa, uint64_t bytes, void *at)
{
	struct kvm_userspace_memory_region region = { slot, 0, pa, bytes, (uintptr_t)at };

	call(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

/* What VMX needs of CPUID and IA32_FEATURE_CONTROL; skips where it is not there. */
static void allow_vmx(void)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[256]; } cpuid = { .head.nent = 256 };
	struct { struct kvm_msrs head; struct kvm_msr_entry entry[1]; } feature = {
		.head.nmsrs = 1, .entry[0] = { .index = 0x3a, .data = 5 } };
	unsigned int i, vmx = 0;

	call(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid.head, "KVM_GET_SUPPORTED_CPUID");
	for (i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == 1)
			vmx = cpuid.entry[i].ecx >> 5 & 1;
	if (!vmx)
		skip("KVM here has no nested VMX: a processor without VMX, or kvm_intel.nested = 0");
	call(vcpu, KVM_SET_CPUID2, &cpuid.head, "KVM_SET_CPUID2");
	if (ioctl(vcpu, KVM_SET_MSRS, &feature.head) != 1)
		skip("KVM refuses IA32_FEATURE_CONTROL");
}

static void make_tables(void)
{
	uint64_t *root = (uint64_t *)(own + ROOT), *directory = (uint64_t *)(own + DIRECTORY), *gdt = (uint64_t *)(own + GDT);
	uint64_t tss = OWN_VA + TSS, offset;

	root[511] = (OWN_PA + ROOT) | 0x23;
	root[510] = (OWN_PA + DIRECTORY) | 0x23;
	for (offset = 0; offset < OWN_BYTES; offset += 0x200000)
		directory[offset / 0x200000] = (OWN_PA + offset) | 0xe3;
	directory[OPERANDS / 0x200000] = OPERANDS_PA | 0xe3;
	gdt[1] = 0x00af9b000000ffffull;
	gdt[2] = 0x00cf93000000ffffull;
	gdt[3] = 0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56;
	gdt[4] = tss >> 32;
	*(uint32_t *)(own + VMXON) = *(uint32_t *)(own + VMCS) = (uint32_t)msr(0x480) & 0x7fffffff;
}

/* A control word with what must be 1 and without what must be 0 here; any other field as it is. */
static uint64_t adjusted(struct pair field)
{
	static const uint32_t words[][2] = { { 0x4000, 0x481 }, { 0x4002, 0x482 }, { 0x400c, 0x483 }, { 0x4012, 0x484 }, { 0x401e, 0x48b } };
	uint64_t value = field.value, may;
	unsigned int i;

	for (i = 0; i < COUNT(words); i++)
		if (words[i][0] == field.where) {
			may = msr(words[i][1] != 0x48b && msr(0x480) >> 55 & 1 ? words[i][1] + 12 : words[i][1]);
			value = (value | (uint32_t)may) & may >> 32;
		}
	return value;
}

static void make_run(struct run *run, unsigned int number)
{
	const struct change *change = entries[number].change;
	unsigned int i, j;

	for (i = 0; i < COUNT(base); i++)
		run->write[i] = (struct pair){ base[i].where, adjusted(base[i]) };
	run->count = COUNT(base);
	run->write[run->count++] = (struct pair){ HOST_RSP, OWN_VA + STACK_TOP };
	run->write[run->count++] = (struct pair){ HOST_RIP, OWN_VA + (uint64_t)(guest_exit - guest_start) };
	for (i = 0; i < entries[number].count; i++)
		for (j = 0; j < run->count; j++)
			if (run->write[j].where == change[i].where)
				run->write[j].value = (run->write[j].value & ~change[i].clear) | change[i].set;
	run->next = number + 1 < COUNT(entries) ? OWN_VA + RUNS + (number + 1) * sizeof(*run) : 0;
}

static void fill_memory(uint8_t *operands)
{
	struct block *block = (struct block *)(own + BLOCK);
	unsigned int i;

	make_tables();
	memcpy(own, guest_start, (size_t)(guest_end - guest_start));
	*block = (struct block){ OWN_PA + VMXON, OWN_PA + VMCS, OWN_VA + RUNS, 0, OWN_VA + OPERANDS };
	for (i = 0; i < COUNT(entries); i++)
		make_run((struct run *)(own + RUNS) + i, i);
	for (i = 0; i < COUNT(memory); i++)
		if (memory[i].where - OPERANDS_PA < OPERANDS_BYTES)
			memcpy(operands + (memory[i].where - OPERANDS_PA), &memory[i].value, 8);
		else if (memory[i].where - OWN_PA < OWN_BYTES)
			memcpy(own + (memory[i].where - OWN_PA), &memory[i].value, 8);
}

static struct kvm_segment segment(uint16_t selector, uint64_t at, uint32_t limit, uint16_t rights)
{
	return (struct kvm_segment){ .base = at, .limit = limit, .selector = selector, .type = rights & 15, .s = rights >> 4 & 1,
		.present = rights >> 7 & 1, .l = rights >> 13 & 1, .db = rights >> 14 & 1, .g = rights >> 15 & 1 };
}

/* 64-bit mode at the first instruction of the guest. */
static void set_registers(void)
{
	struct kvm_regs r = { .rip = OWN_VA, .rsp = OWN_VA + STACK_TOP, .rdi = OWN_VA + BLOCK, .rflags = 2 };
	struct kvm_sregs s;

	call(vcpu, KVM_GET_SREGS, &s, "KVM_GET_SREGS");
	s.cr0 = 0x80010031;
	s.cr3 = OWN_PA + ROOT;
	s.cr4 = 0x2020;
	s.efer = 0x500;
	s.cs = segment(0x08, 0, 0xffffffff, 0xa09b);
	s.ss = s.ds = s.es = s.fs = s.gs = segment(0x10, 0, 0xffffffff, 0xc093);
	s.tr = segment(0x18, OWN_VA + TSS, 0x67, 0x8b);
	memset(&s.ldt, 0, sizeof(s.ldt));
	s.ldt.unusable = 1;
	s.gdt = (struct kvm_dtable){ .base = OWN_VA + GDT, .limit = 39 };
	s.idt = (struct kvm_dtable){ .base = OWN_VA + IDT, .limit = 0xfff };	/* empty: an exception is a shutdown */
	call(vcpu, KVM_SET_SREGS, &s, "KVM_SET_SREGS");
	call(vcpu, KVM_SET_REGS, &r, "KVM_SET_REGS");
}

static void make_machine(void)
{
	int bytes;
	uint8_t *operands;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		skip(errno == ENOENT ? "there is no /dev/kvm" : strerror(errno));
	vm = call(kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	own = mmap(NULL, OWN_BYTES + OPERANDS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (own == MAP_FAILED)
		skip("there is no memory for the virtual machine");
	operands = own + OWN_BYTES;
	map(0, OWN_PA, OWN_BYTES, own);
	map(1, OPERANDS_PA, OPERANDS_BYTES, operands);
	vcpu = call(vm, KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU");
	bytes = call(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
	state = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (state == MAP_FAILED)
		skip("the virtual processor's memory cannot be mapped");
	allow_vmx();
	fill_memory(operands);
	set_registers();
}

static void on_alarm(int number)
{
	(void)number;
}

/* Until the guest says that it is done; ends the program where the virtual machine died. */
static void run_guest(void)
{
	const volatile struct block *block = (const volatile struct block *)(own + BLOCK);
	struct sigaction action = { .sa_handler = on_alarm };	/* without SA_RESTART: KVM_RUN returns */
	int result;

	sigaction(SIGALRM, &action, NULL);
	alarm(20);
	/* a guest of the guest that is halted leaves with the same exit: then it goes on */
	do {
		result = ioctl(vcpu, KVM_RUN, 0);
	} while (result == 0 && state->exit_reason == KVM_EXIT_HLT && !block->done);
	if (block->done)
		return;
	if (result < 0)
		printf("here:     the virtual machine died: KVM_RUN: %s\n", errno == EINTR ? "no answer for 20 s" : strerror(errno));
	else
		printf("here:     the virtual machine died: KVM exit reason %u\n", state->exit_reason);
	exit(2);
}

static void outcome_of(const struct run *run, char *text, size_t bytes)
{
	if (run->how == 1)
		snprintf(text, bytes, "VMfailInvalid");
	else if (run->how == 2)
		snprintf(text, bytes, "VMfailValid(%u)", (unsigned int)run->error);
	else if (run->how == 3)
		snprintf(text, bytes, "VMLAUNCH did nothing");
	else if (run->reason >> 31 & 1)
		snprintf(text, bytes, "entry failure %u q%llx", (unsigned int)run->reason & 0xffff, (unsigned long long)run->qualification);
	else
		snprintf(text, bytes, "entered, exit %u", (unsigned int)run->reason & 0xffff);
}

/* A field of the case that this processor does not have; fields of the base that it lacks do not matter. */
static void require_fields(const struct run *run, unsigned int number)
{
	unsigned int i, j;

	for (i = 0; i < entries[number].count; i++)
		for (j = 0; j < run->count; j++)
			if (run->write[j].where == (entries[number].change[i].where | 1ull << 63))
				skip("this processor lacks a field of the case");
}

int main(void)
{
	const struct run *runs;
	char text[80];
	unsigned int i, as_allowed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < COUNT(allowed); i++)
		printf("expected: %s\n", allowed[i]);
	printf("recorded: %s\n", recorded);
	make_machine();
	run_guest();
	runs = (const struct run *)(own + RUNS);
	for (i = 0; i < COUNT(entries); i++) {
		require_fields(&runs[i], i);
		outcome_of(&runs[i], text, sizeof(text));
		if (i + 1 < COUNT(entries))
			printf("before:   %s\n", text);
	}
	printf("here:     %s\n", text);
	for (i = 0; i < COUNT(allowed); i++)
		as_allowed |= !strcmp(text, allowed[i]);
	return !as_allowed;
}
