// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// machine.c: the virtual machine around the engine on Linux KVM. Part of the agent, here and on other machines.
/*
 * The counterpart of platform.c of bochs: the same memory layout, the same engine, but the processor is a virtual CPU of KVM with
 * nested VMX. Everything goes through /dev/kvm. There is no interrupt controller in the kernel, so the HLT with which the engine
 * ends a request comes back as KVM_EXIT_HLT; whatever else ends KVM_RUN is an outcome of the row that was being run.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "harness.h"
#include "machine.h"
#include "machine_calls.h"

/* Below 4 GiB and outside our memory: KVM's own page, which only processors without unrestricted guest use. */
#define KVM_TSS 0xfffbd000ull

#define MSR_FEATURE_CONTROL 0x3a
#define FEATURE_CONTROL_VMX 5		/* locked, VMX outside SMX */
#define MOST_CPUID 256

static uint8_t *ram;
static struct vmfuzz_request *request;
static struct vmfuzz_messages *messages;
static uint8_t image[VMFUZZ_EMU_TABLES];
static struct vmfuzz_kvm_open opened;
static struct vmfuzz_kvm_ran *ran;

static struct {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	size_t run_bytes;
} machine = { -1, -1, -1, NULL, 0 };

/* Says why a request or the machine is at its end. Always -1. */
static int __attribute__((format(printf, 1, 2))) fatal(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(messages->fatal, sizeof(messages->fatal), format, args);
	va_end(args);
	return -1;
}

static int call(int fd, unsigned long code, void *argument, const char *name)
{
	int result = ioctl(fd, code, argument);

	return result < 0 ? fatal("%s: %s", name, strerror(errno)) : result;
}

/* ---- the virtual machine ---- */

/* What a candidate may have damaged: the engine's image and the tables. */
static void build_harness(void)
{
	memset(ram, 0, VMFUZZ_EMU_HOT);
	memcpy(ram, image, opened.image_bytes);
	harness_tables(ram);
}

static int map_memory(unsigned int slot, uint64_t pa, uint64_t bytes, uint8_t *at)
{
	struct kvm_userspace_memory_region region = { slot, 0, pa, bytes, (uintptr_t)at };

	return call(machine.vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

/* Whatever KVM supports. 1 when that includes VMX, 0 without (the engine then answers STATUS_NO_VMX), -1 when it fails. */
static int set_cpuid(void)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[MOST_CPUID]; } cpuid;
	unsigned int i, vmx = 0;

	cpuid.head.nent = MOST_CPUID;
	if (call(machine.kvm, KVM_GET_SUPPORTED_CPUID, &cpuid.head, "KVM_GET_SUPPORTED_CPUID") < 0)
		return -1;
	for (i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entry[i].function == 1)
			vmx = cpuid.entry[i].ecx >> 5 & 1;
	return call(machine.vcpu, KVM_SET_CPUID2, &cpuid.head, "KVM_SET_CPUID2") < 0 ? -1 : (int)vmx;
}

static int set_msr(uint32_t index, uint64_t value)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry[1]; } one = {
		.head.nmsrs = 1, .entry[0] = { .index = index, .data = value } };

	if (call(machine.vcpu, KVM_SET_MSRS, &one.head, "KVM_SET_MSRS") != 1)
		return fatal("KVM refuses MSR %XH = %llXH", index, (unsigned long long)value);
	return 0;
}

/* The capability MSRs first: KVM takes them only until IA32_FEATURE_CONTROL allows VMX. */
static int set_msrs(void)
{
	unsigned int i;

	for (i = 0; i < opened.msr_count; i++)
		if (set_msr((uint32_t)opened.msrs[i].target, opened.msrs[i].value) < 0)
			return -1;
	return set_msr(MSR_FEATURE_CONTROL, FEATURE_CONTROL_VMX);
}

static struct kvm_segment segment(uint16_t selector, uint64_t base, uint32_t limit, uint16_t attributes)
{
	return (struct kvm_segment){ .base = base, .limit = limit, .selector = selector, .type = attributes & 15,
		.s = attributes >> 4 & 1, .dpl = attributes >> 5 & 3, .present = attributes >> 7 & 1,
		.l = attributes >> 13 & 1, .db = attributes >> 14 & 1, .g = attributes >> 15 & 1 };
}

static int set_registers(void)
{
	struct kvm_regs r = { .rip = WINDOW_VA + VMFUZZ_EMU_IMAGE, .rsp = WINDOW_VA + VMFUZZ_EMU_STACK_TOP - 8,	/* as after a call */
		.rdi = WINDOW_VA + VMFUZZ_EMU_REQUEST, .rflags = 2 };
	struct kvm_sregs s;

	if (call(machine.vcpu, KVM_GET_SREGS, &s, "KVM_GET_SREGS") < 0)
		return -1;
	s.cr0 = 0x80010031;	/* PG, WP, NE, ET, PE */
	s.cr3 = HARNESS_PA + TABLE_ROOT;
	s.cr4 = 0x20;		/* PAE */
	s.efer = 0x500;		/* LMA, LME */
	if (request->flags & VMFUZZ_FLAG_X2APIC)
		s.apic_base |= APIC_BASE_X2APIC;
	s.cs = segment(0x08, 0, 0xffffffff, 0xa09b);
	s.ss = s.ds = s.es = s.fs = s.gs = segment(0x10, 0, 0xffffffff, 0xc093);
	s.tr = segment(0x18, WINDOW_VA + TABLE_TSS, 0x67, 0x8b);
	memset(&s.ldt, 0, sizeof(s.ldt));
	s.ldt.unusable = 1;
	s.gdt = (struct kvm_dtable){ .base = WINDOW_VA + TABLE_GDT, .limit = 5 * 8 - 1 };
	s.idt = (struct kvm_dtable){ .base = WINDOW_VA + TABLE_TSS + 0x100, .limit = 0xfff };	/* empty: an exception is a shutdown */
	if (call(machine.vcpu, KVM_SET_SREGS, &s, "KVM_SET_SREGS") < 0)
		return -1;
	return call(machine.vcpu, KVM_SET_REGS, &r, "KVM_SET_REGS");
}

static void end_machine(void)
{
	if (machine.run)
		munmap(machine.run, machine.run_bytes);
	if (machine.vcpu >= 0)
		close(machine.vcpu);
	if (machine.vm >= 0)
		close(machine.vm);
	machine.vcpu = machine.vm = -1;
	machine.run = NULL;
}

/* A new virtual machine: nothing that a family left in registers, MSRs or KVM's nested state reaches the next. */
static int new_machine(void)
{
	int bytes, vmx;

	end_machine();
	machine.vm = call(machine.kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
	if (machine.vm < 0)
		return -1;
	/* Processors of other vendors do not have it and do not need it. */
	ioctl(machine.vm, KVM_SET_TSS_ADDR, KVM_TSS);
	if (map_memory(0, HARNESS_PA, VMFUZZ_EMU_BYTES, ram) < 0 || map_memory(1, ARENA_PA, ARENA_BYTES, ram + VMFUZZ_EMU_ARENA) < 0)
		return -1;
	machine.vcpu = call(machine.vm, KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU");
	bytes = call(machine.kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
	if (machine.vcpu < 0 || bytes < 0)
		return -1;
	machine.run_bytes = (size_t)bytes;
	machine.run = mmap(NULL, machine.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, machine.vcpu, 0);
	if (machine.run == MAP_FAILED) {
		machine.run = NULL;
		return fatal("mmap of the virtual CPU: %s", strerror(errno));
	}
	vmx = set_cpuid();
	return vmx < 0 || (vmx && set_msrs() < 0) || set_registers() < 0 ? -1 : 0;
}

/* ---- running ---- */

/* How KVM_RUN ended, as far as that is not the engine's own end; the row is in current_row. */
static int unexpected_exit(void)
{
	const struct kvm_run *run = machine.run;
	char text[300];
	unsigned int i;
	int n;

	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		return fatal("KVM_EXIT_SHUTDOWN: triple fault or VMX abort");
	case KVM_EXIT_FAIL_ENTRY:
		return fatal("KVM_EXIT_FAIL_ENTRY: the processor below refuses KVM's own VMCS, reason %#llx",
			     (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_INTERNAL_ERROR:
		n = snprintf(text, sizeof(text), "KVM_EXIT_INTERNAL_ERROR, suberror %u", run->internal.suberror);
		for (i = 0; i < run->internal.ndata && i < 6; i++)
			n += snprintf(text + n, sizeof(text) - (size_t)n, ", %#llx", (unsigned long long)run->internal.data[i]);
		return fatal("%s", text);
	case KVM_EXIT_MMIO:
		return fatal("KVM_EXIT_MMIO: %s of %u bytes at %#llx", run->mmio.is_write ? "write" : "read", run->mmio.len,
			     (unsigned long long)run->mmio.phys_addr);
	default:
		return fatal("KVM_EXIT %u", run->exit_reason);
	}
}

/* Gets KVM_RUN to return, and counts. */
static volatile sig_atomic_t ticks;

static void on_tick(int number)
{
	(void)number;
	ticks++;
}

static void tick(int on)
{
	struct itimerval every = { { on, 0 }, { on, 0 } };
	struct sigaction action = { .sa_handler = on_tick };	/* without SA_RESTART */

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

/* Until the engine is done: 0, or -1 with messages->fatal filled. */
static int run_engine(void)
{
	uint64_t row = ~0ull;
	sig_atomic_t since = ticks;	/* the last time that a new row was seen */

	for (;;) {
		if (request->current_row != row) {
			row = request->current_row;
			since = ticks;
		}
		if (ticks - since > (sig_atomic_t)opened.hang_seconds)
			return fatal("no progress for %u s: the virtual processor hangs", opened.hang_seconds);
		if (ioctl(machine.vcpu, KVM_RUN, 0) < 0) {
			if (errno != EINTR && errno != EAGAIN)
				return fatal("KVM_RUN: %s", strerror(errno));
		} else if (machine.run->exit_reason != KVM_EXIT_HLT) {
			return unexpected_exit();
		} else if (request->status != VMFUZZ_STATUS_BUSY) {
			return 0;
		}
		/* else: a guest was entered in activity state HLT; only the engine's own HLT, after its work, ends the run */
	}
}

static int run_request(void)
{
	int result;

	messages->fatal[0] = 0;
	if (request->flags & VMFUZZ_FLAG_VIRTUAL)
		return fatal("VMFUZZ_FLAG_VIRTUAL: only the bootable image may lose its machine");
	build_harness();
	harness_request(request);
	request->current_row = ~0ull;
	if (new_machine() < 0)
		return -1;
	tick(1);
	result = run_engine();
	tick(0);
	ran->exits = vmfuzz_kvm_exits(machine.vcpu);
	end_machine();
	return result;
}

/* ---- requests from elsewhere ---- */

/* Copy parts between memory and a payload. Returns the bytes, -1 where a part does not fit. */
static int64_t copy_parts(const struct vmfuzz_kvm_part *part, unsigned int count, uint8_t *bytes, size_t most, int in)
{
	size_t at = 0;

	for (; count--; part++) {
		if (part->offset > VMFUZZ_EMU_BYTES || part->bytes > VMFUZZ_EMU_BYTES - part->offset || part->bytes > most - at)
			return -1;
		if (in)
			memcpy(ram + part->offset, bytes + at, part->bytes);
		else
			memcpy(bytes + at, ram + part->offset, part->bytes);
		at += part->bytes;
	}
	return (int64_t)at;
}

int vmfuzz_kvm_run(const uint8_t *in, size_t length, uint8_t *out, size_t most, size_t *answered)
{
	struct vmfuzz_kvm_run run;
	int64_t got;

	if (machine.kvm < 0 || length < sizeof(run) || most < sizeof(*ran))
		return EMSGSIZE;
	memcpy(&run, in, sizeof(run));
	if (run.in > VMFUZZ_KVM_PARTS || run.out > VMFUZZ_KVM_PARTS - run.in)
		return EMSGSIZE;
	if (copy_parts(run.part, run.in, (uint8_t *)in + sizeof(run), length - sizeof(run), 1) != (int64_t)(length - sizeof(run)))
		return EMSGSIZE;
	ran = (struct vmfuzz_kvm_ran *)out;
	memset(ran, 0, sizeof(*ran));
	vmfuzz_kvm_words_before();
	ran->died = run_request() < 0;
	vmfuzz_kvm_words_after(ran);
	got = copy_parts(run.part + run.in, run.out, out + sizeof(*ran), most - sizeof(*ran), 0);
	if (got < 0)
		return EMSGSIZE;
	*answered = sizeof(*ran) + (size_t)got;
	return 0;
}

int vmfuzz_kvm_open(const uint8_t *in, size_t length)
{
	int version;

	if (length < sizeof(opened))
		return EMSGSIZE;
	memcpy(&opened, in, sizeof(opened));
	if (opened.abi != VMFUZZ_ABI)
		return EPROTO;
	if (opened.msr_count > VMFUZZ_KVM_MSRS || opened.image_bytes > sizeof(image) || opened.image_bytes != length - sizeof(opened))
		return EMSGSIZE;
	memcpy(image, in + sizeof(opened), opened.image_bytes);
	if (!ram) {
		ram = mmap(NULL, VMFUZZ_EMU_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (ram == MAP_FAILED) {
			ram = NULL;
			return ENOMEM;
		}
		request = (struct vmfuzz_request *)(ram + VMFUZZ_EMU_REQUEST);
		messages = (struct vmfuzz_messages *)(ram + VMFUZZ_EMU_MESSAGES);
	}
	if (machine.kvm < 0)
		machine.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (machine.kvm < 0)
		return errno;
	version = ioctl(machine.kvm, KVM_GET_API_VERSION, 0);
	return version == KVM_API_VERSION ? 0 : ENOTSUP;
}

void vmfuzz_kvm_close(void)
{
	end_machine();
	close(machine.kvm);
	machine.kvm = -1;
}
