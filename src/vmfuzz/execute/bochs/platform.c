/* platform.c: the machine around the Bochs CPU of bochscpu-python, and the loop that serves requests in the worker.
 *
 * bochscpu leaves the platform (memory, timers, logging) to its embedder through exported functions. This library is loaded
 * with RTLD_GLOBAL before bochscpu, so its definitions win. Memory is one mapping shared with the parent process; everything
 * outside reads as all ones and swallows writes, like a bus with nothing on it. Functions named _ZN... are C++ symbols of
 * Bochs. Bochs is built with static member functions: only functions of other classes than BX_CPU_C have a `this`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine_calls.h"
#include "harness.h"

/* Access to memory, in Bochs' numbers. */
#define BOCHS_EXECUTE 2

/* ---- bochscpu's C interface, as far as it is used ---- */

struct segment {
	bool present;
	uint16_t selector;
	uint64_t base;
	uint32_t limit;
	uint16_t attributes;
};

struct table_register {
	uint64_t base;
	uint16_t limit;
};

struct cpu_state {
	uint64_t seed, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags;
	struct segment es, cs, ss, ds, fs, gs, ldtr, tr;
	struct table_register gdtr, idtr;
	uint32_t cr0;
	uint64_t cr2, cr3;
	uint32_t cr4;
	uint64_t cr8, dr0, dr1, dr2, dr3;
	uint32_t dr6, dr7, xcr0;
	struct { uint64_t q[8]; } zmm[32];
	uint16_t fpcw, fpsw, fptw, fpop;
	struct { uint64_t fraction; uint16_t exponent; } fpst[8];
	uint32_t mxcsr, mxcsr_mask;
	uint64_t tsc;
	uint32_t efer;
	uint64_t kernel_gs_base, apic_base, pat, sysenter_cs, sysenter_eip, sysenter_esp, star, lstar, cstar, sfmask, tsc_aux;
};

struct hooks {
	void *context, *reset;
	void (*hlt)(void *context, uint32_t cpu);
	void *rest[64];
};

static struct {
	void *(*cpu_new)(uint32_t);
	void (*cpu_delete)(void *);
	void (*cpu_state)(void *, struct cpu_state *);
	void (*cpu_set_state)(void *, const struct cpu_state *);
	void (*cpu_run)(void *, struct hooks **);
	void (*cpu_stop)(void *);
	uint64_t (*cpu_rip)(void *);
	void (*real_tlb_flush)(void);
	uint64_t (*real_translate_linear)(void *entry, uint64_t laddr, unsigned int user, unsigned int rw);
	uint32_t (*real_field_offset)(const void *map, uint32_t encoding);
	void (*wakeup_monitor)(void);
	void (*real_countdown_event)(void);
	void (*real_flush_icaches)(void);
	void (*real_pause)(void *instruction);
	void (*vmwrite)(unsigned int encoding, uint64_t value);
	void (*vmwrite32)(unsigned int encoding, uint32_t value);
	uint64_t (*vmread)(unsigned int encoding);
	uint64_t (*real_vmread64)(unsigned int encoding);
	uint32_t (*real_vmread32)(unsigned int encoding);
	uint16_t (*real_vmread16)(unsigned int encoding);
	uint8_t *bx_cpu, *bx_pc_system;
} bochs;

static uint8_t *ram;
static struct vmfuzz_request *request;
static struct vmfuzz_messages *messages;
static void *cpu;
static unsigned int last_vector;
static uint64_t last_rip;

/* The emulator cannot go on: leave the reason where the parent finds it, and end this process. */
static void __attribute__((noreturn, format(printf, 1, 0))) give_up(const char *format, va_list args)
{
	vsnprintf(messages->fatal, sizeof(messages->fatal), format, args);
	_exit(70);
}

static void __attribute__((noreturn, format(printf, 1, 2))) fatal(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	give_up(format, args);
}

/* ---- memory ---- */

static inline uint8_t *host_address(uint64_t pa)
{
	pa &= 0xfffffffffffffull;
	if (pa - HARNESS_PA < VMFUZZ_EMU_BYTES)
		return ram + (pa - HARNESS_PA);
	if (pa - ARENA_PA < ARENA_BYTES)
		return ram + VMFUZZ_EMU_ARENA + (pa - ARENA_PA);
	return NULL;
}

/* What an instruction is fetched from where there is no memory: Bochs would read through the null pointer. */
static uint8_t nothing[VMFUZZ_PAGE];

void *mem_guest_to_host(uint32_t id, uint64_t pa, uint32_t access)
{
	uint8_t *at = host_address(pa);

	if (at || access != BOCHS_EXECUTE)
		return at;
	memset(nothing, 0xff, sizeof(nothing));
	return nothing;
}

void mem_read_phy(uint32_t id, uint64_t pa, uint32_t size, void *to)
{
	const uint8_t *from = host_address(pa);

	if (from && size == 8)
		memcpy(to, from, 8);	/* page-table entries: by far the most */
	else if (from)
		memcpy(to, from, size);
	else
		memset(to, 0xff, size);
}

void mem_write_phy(uint32_t id, uint64_t pa, uint32_t size, const void *from)
{
	uint8_t *to = host_address(pa);

	if (to)
		memcpy(to, from, size);
}

/* What a triple fault prints the instruction from. A static member function: it has no `this`. */
bool _ZN8BX_MEM_C13dbg_fetch_memEP8BX_CPU_CmjPh(void *c, uint64_t pa, unsigned int n, uint8_t *to)
{
	mem_read_phy(0, pa, n, to);
	return true;
}

/* ---- timers, A20 gate, reset ---- */

bool _ZN14bx_pc_system_c14get_enable_a20Ev(void *this) { return true; }
void _ZN14bx_pc_system_c20activate_timer_ticksEjmb(void *this, unsigned int i, uint64_t n, bool c) { }
void _ZN14bx_pc_system_c16deactivate_timerEj(void *this, unsigned int i) { }
void _ZN14bx_pc_system_c6invlpgEm(void *this, uint64_t a) { }

static void __attribute__((noreturn)) lost(const char *how)
{
	fatal("the emulated processor %s (a candidate loaded host state that the harness does not survive); last exception: "
	      "vector %u at RIP %#llx", how, last_vector, (unsigned long long)last_rip);
}

int _ZN14bx_pc_system_c5ResetEj(void *this, unsigned int type) { lost("reset itself"); }
/* A triple fault outside the guest, or a VMX abort. */
void _ZN8BX_CPU_C8shutdownEv(void) { lost("shut down"); }

/* ---- what Bochs says ---- */

static const char *known_format[VMFUZZ_EMU_MAX_MESSAGES];

static struct vmfuzz_result *current_result(void)
{
	return (struct vmfuzz_result *)(ram + VMFUZZ_EMU_ROWS + request->current_row * request->row_bytes);
}

/* Number (from 1) of a message, 0 when the table is full. Formats are string constants, so the pointer identifies them. */
static unsigned int message_number(const char *format)
{
	unsigned int i, length;

	for (i = 0; i < messages->count; i++)
		if (known_format[i] == format)
			return i + 1;
	length = strlen(format) + 1;
	if (i == VMFUZZ_EMU_MAX_MESSAGES || messages->used + length > VMFUZZ_EMU_MESSAGE_BYTES)
		return 0;
	known_format[i] = format;
	memcpy(messages->text + messages->used, format, length);
	messages->used += length;
	messages->count++;
	return i + 1;
}

/* Bochs names the check that failed here. The first message about VMX is kept, or else the first of any kind. */
void _ZN12logfunctions5errorEPKcz(void *this, const char *format, ...)
{
	struct vmfuzz_result *result;

	if (request->command != VMFUZZ_COMMAND_RUN || request->status != VMFUZZ_STATUS_BUSY)
		return;
	result = current_result();
	if (result->panicked)
		return;
	if (!result->message || (format[0] == 'V' && format[1] == 'M' && known_format[result->message - 1][0] != 'V'))
		result->message = message_number(format);
}

void _ZN12logfunctions4infoEPKcz(void *this, const char *format, ...) { }
void _ZN12logfunctions6ldebugEPKcz(void *this, const char *format, ...) { }

/*
 * Bochs found itself in a state that it thinks impossible. As in bochscpu itself it goes on, which for VM entries and exits
 * means that the outcome is what the candidate asked for; the row is marked, because this is a defect of Bochs.
 */
void _ZN12logfunctions5panicEPKcz(void *this, const char *format, ...)
{
	struct vmfuzz_result *result;

	if (request->command != VMFUZZ_COMMAND_RUN || request->status != VMFUZZ_STATUS_BUSY)
		return;		/* such as: the newest models are beyond the declared range of "cpu.model" */
	result = current_result();
	result->message = message_number(format);
	result->panicked = 1;
}

void _ZN12logfunctions6fatal1EPKcz(void *this, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	give_up(format, args);
}

/* bochscpu calls Rust hooks at every instruction and memory access; nobody listens, and they are a fifth of the run time. */
void bx_instr_before_execution(unsigned int id, void *i) { }
void bx_instr_after_execution(unsigned int id, void *i) { }
void bx_instr_lin_access(unsigned int id, uint64_t l, uint64_t p, unsigned int n, unsigned int m, unsigned int rw) { }
void bx_instr_phy_access(unsigned int id, uint64_t p, unsigned int n, unsigned int m, unsigned int rw) { }
void bx_instr_opcode(unsigned int id, void *i, void *o, unsigned int n, bool is32, bool is64) { }
void bx_instr_cnear_branch_taken(unsigned int id, uint64_t from, uint64_t to) { }
void bx_instr_cnear_branch_not_taken(unsigned int id, uint64_t from) { }
void bx_instr_ucnear_branch(unsigned int id, unsigned int what, uint64_t from, uint64_t to) { }
void bx_instr_tlb_cntrl(unsigned int id, unsigned int what, uint64_t value) { }
void bx_instr_vmexit(unsigned int id, uint32_t reason, uint64_t qualification) { }

void bx_instr_exception(unsigned int id, unsigned int vector, unsigned int code)
{
	last_vector = vector;
	last_rip = bochs.cpu_rip(cpu);
}

/* ---- the wheel was built for glibc 2.38 ---- */

unsigned long long __isoc23_strtoull(const char *s, char **end, int base) { return strtoull(s, end, base); }

int __isoc23_sscanf(const char *s, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsscanf(s, format, args);
	va_end(args);
	return n;
}

/* ---- TLB flushes ---- */

/*
 * Bochs flushes its TLBs at every VM entry and exit by writing all 3072 entries: half of the run time here, where a handful
 * are in use. Entries are only ever filled by translate_linear, so the ones to invalidate are those that it was given since
 * the last flush. Everything else that the flush does is repeated at the offsets that the flush of the one pinned build
 * uses; any other build is recognised by its code and keeps its own flush.
 */
#define FILLED_MAX 512
#define OFFSET_EIP_WINDOW 0x90a8
#define OFFSET_ESP_WINDOW 0x90c8
#define OFFSET_DTLB_SPLIT 0x19100
#define OFFSET_ITLB_SPLIT 0x21120
#define OFFSET_TRACE_STAMP 0x1821164

struct tlb_entry {
	uint64_t lpf, ppf, host;
	uint32_t access, rest;
};

static struct tlb_entry *filled[FILLED_MAX];
static unsigned int filled_count;
static bool own_flush;

uint64_t _ZN8BX_CPU_C16translate_linearEP12bx_TLB_entrymjj(struct tlb_entry *entry, uint64_t laddr, unsigned int user,
							 unsigned int rw)
{
	if (filled_count < FILLED_MAX && (!filled_count || filled[filled_count - 1] != entry))
		filled[filled_count++] = entry;
	return bochs.real_translate_linear(entry, laddr, user, rw);
}

void _ZN8BX_CPU_C9TLB_flushEv(void)
{
	uint8_t *c = bochs.bx_cpu;
	uint32_t *stamp = (uint32_t *)(c + OFFSET_TRACE_STAMP);
	unsigned int i, n = filled_count;

	filled_count = 0;
	/* A wrapping stamp means more work (the instruction cache is flushed): leave it to the original. */
	if (!own_flush || n == FILLED_MAX || *stamp >= 0xfffffff0u) {
		bochs.real_tlb_flush();
		return;
	}
	*(uint32_t *)(c + OFFSET_EIP_WINDOW) = 0;
	*(uint32_t *)(c + OFFSET_ESP_WINDOW) = 0;
	for (i = 0; i < n; i++) {
		filled[i]->lpf = ~0ull;
		filled[i]->access = 0;
	}
	c[OFFSET_DTLB_SPLIT] = 0;
	c[OFFSET_ITLB_SPLIT] = 0;
	bochs.wakeup_monitor();
	++*stamp;
}

/* The instructions of TLB_flush that name the offsets above; calls and RIP-relative operands are not compared. */
static bool flush_is_known(void)
{
	static const struct { uint16_t at; uint8_t length; uint8_t code[12]; } part[] = {
		{ 0x0c, 7, { 0x48, 0x8d, 0x83, 0x00, 0x91, 0x00, 0x00 } },
		{ 0x13, 7, { 0x48, 0x8d, 0x93, 0x00, 0x91, 0x01, 0x00 } },
		{ 0x1a, 10, { 0xc7, 0x83, 0xa8, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00 } },
		{ 0x24, 10, { 0xc7, 0x83, 0xc8, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00 } },
		{ 0x30, 7, { 0x48, 0xc7, 0x00, 0xff, 0xff, 0xff, 0xff } },
		{ 0x37, 11, { 0x48, 0x83, 0xc0, 0x20, 0xc7, 0x40, 0xf8, 0x00, 0x00, 0x00, 0x00 } },
		{ 0x47, 7, { 0xc6, 0x83, 0x00, 0x91, 0x01, 0x00, 0x00 } },
		{ 0x77, 7, { 0xc6, 0x83, 0x20, 0x11, 0x02, 0x00, 0x00 } },
		{ 0x83, 6, { 0x8b, 0x83, 0x64, 0x11, 0x82, 0x01 } },
		{ 0x89, 9, { 0x83, 0xc0, 0x01, 0x89, 0x83, 0x64, 0x11, 0x82, 0x01 } },
	};
	const uint8_t *code = (const uint8_t *)(uintptr_t)bochs.real_tlb_flush;
	unsigned int i;

	for (i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		if (memcmp(code + part[i].at, part[i].code, part[i].length))
			return false;
	return true;
}

/* ---- VMCS field offsets ---- */

/*
 * Bochs computes where a field lies in the VMCS at each of the 200 or so accesses of an entry and exit: a twelfth of the run
 * time. The answer depends on nothing but the encoding, so it is remembered (plus 1; 0: not asked yet).
 */
#define FIELDS_END 0x8000

static uint32_t known_offset[FIELDS_END];

uint32_t _ZNK12VMCS_Mapping17vmcs_field_offsetEj(const void *map, uint32_t encoding)
{
	if (encoding >= FIELDS_END)
		return bochs.real_field_offset(map, encoding);
	if (!known_offset[encoding])
		known_offset[encoding] = bochs.real_field_offset(map, encoding) + 1;
	return known_offset[encoding] - 1;
}

/* Where the current VMCS lies in this process, 0 where Bochs does not know. */
#define OFFSET_VMCS_HOST 0x8db8

static bool own_vmread;

/* The place of a field in this process, or NULL where Bochs' own function shall read it. */
static inline const void *field_at(uint32_t encoding)
{
	uint64_t vmcs = *(uint64_t *)(bochs.bx_cpu + OFFSET_VMCS_HOST);
	uint32_t offset = encoding < FIELDS_END ? known_offset[encoding] : 0;

	return own_vmread && vmcs && offset && offset <= VMFUZZ_PAGE ? (const void *)(uintptr_t)(vmcs | (offset - 1)) : NULL;
}

uint64_t _ZN8BX_CPU_C8VMread64Ej(uint32_t encoding)
{
	const uint64_t *field = field_at(encoding);

	return field ? *field : bochs.real_vmread64(encoding);
}

uint32_t _ZN8BX_CPU_C8VMread32Ej(uint32_t encoding)
{
	const uint32_t *field = field_at(encoding);

	return field ? *field : bochs.real_vmread32(encoding);
}

uint16_t _ZN8BX_CPU_C8VMread16Ej(uint32_t encoding)
{
	const uint16_t *field = field_at(encoding);

	return field ? *field : bochs.real_vmread16(encoding);
}

/* What the three functions read: the field's offset, at most FFFH, in the page at OFFSET_VMCS_HOST; bochscpu's hook of it is empty here. */
static bool vmread_is_known(void)
{
	static const struct { uint8_t at, length, code[12]; } part[] = {
		{ 0x23, 6, { 0x81, 0xfb, 0xff, 0x0f, 0x00, 0x00 } },			/* cmp $0xfff, %ebx */
		{ 0x32, 7, { 0x48, 0x8b, 0x85, 0xb8, 0x8d, 0x00, 0x00 } },		/* mov OFFSET_VMCS_HOST(%rbp), %rax */
		{ 0x39, 6, { 0x48, 0x01, 0xdf, 0x48, 0x85, 0xc0 } },
		{ 0x58, 11, { 0x48, 0x09, 0xc3, 0x48, 0x89, 0xfe, 0x45, 0x31, 0xc0, 0x31, 0xc9 } },	/* or %rax, %rbx ... */
	};
	const uintptr_t function[] = { (uintptr_t)bochs.real_vmread64, (uintptr_t)bochs.real_vmread32, (uintptr_t)bochs.real_vmread16 };
	unsigned int i, j;

	for (i = 0; i < sizeof(function) / sizeof(function[0]); i++)
		for (j = 0; j < sizeof(part) / sizeof(part[0]); j++)
			if (memcmp((const uint8_t *)function[i] + part[j].at, part[j].code, part[j].length))
				return false;
	return true;
}

/* ---- time ---- */

#define OFFSET_COUNTDOWN 0x1638

static bool own_countdown;

/*
 * bochscpu has no devices that wait for a time, but its timer runs out at every instruction and asks to be called at the next one again. No
 * timer is ever armed here, so the next call may be far away.
 */
void _ZN14bx_pc_system_c14countdownEventEv(void)
{
	bochs.real_countdown_event();
	if (own_countdown)
		*(uint32_t *)(bochs.bx_pc_system + OFFSET_COUNTDOWN) = 0x7fffffff;
}

/* The instruction that sets the countdown: movl $1, OFFSET_COUNTDOWN(%rax). */
static bool countdown_is_known(void)
{
	static const uint8_t code[] = { 0xc7, 0x80, 0x38, 0x16, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0xc3 };

	return !memcmp((const uint8_t *)(uintptr_t)bochs.real_countdown_event + 0xb, code, sizeof(code));
}

/* ---- instruction cache ---- */

#define OFFSET_ASYNC_EVENT 0x9080

static bool own_icache_flush, making_cpu, cpu_was_made;

/*
 * A new CPU flushes the cache of decoded instructions, which writes megabytes, several times. The code of the engine is the same for every CPU of
 * this worker, and what the emulated program writes to code is noticed otherwise; so only the first CPU flushes it.
 */
void _Z12flushICachesv(void)
{
	if (own_icache_flush && making_cpu && cpu_was_made)
		*(uint32_t *)(bochs.bx_cpu + OFFSET_ASYNC_EVENT) |= 0x80000000u;	/* stop the trace that runs, as the flush does */
	else
		bochs.real_flush_icaches();
}

/* The instruction that stops the trace: orl $0x80000000, OFFSET_ASYNC_EVENT(%rcx). */
static bool icache_flush_is_known(void)
{
	static const uint8_t code[] = { 0x81, 0x89, 0x80, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80 };

	return !memcmp((const uint8_t *)(uintptr_t)bochs.real_flush_icaches + 0x3e, code, sizeof(code));
}

/* ---- rows without the engine's instructions ---- */

/* Launch state, as Bochs' own VMCLEAR writes it. */
#define FIELD_LAUNCH_STATE 0xfffffffeu
#define LAUNCH_STATE_CLEAR 0

static struct vmfuzz_result *row_at(uint64_t row)
{
	return (struct vmfuzz_result *)(ram + VMFUZZ_EMU_ROWS + row * request->row_bytes);
}

static void put(uint64_t target, uint64_t value)
{
	if (target >> VMFUZZ_TARGET_ARENA_BIT)
		*(uint64_t *)(ram + VMFUZZ_EMU_ARENA + (target & (ARENA_BYTES - 8))) = value;
	else
		bochs.vmwrite((unsigned int)target, value);
}

/* What the engine's record() and what follows it in run_row() do. */
static void look_at_entry(struct vmfuzz_result *out)
{
	uint32_t how = out->entered - 1, i;

	out->entered = 0;
	if (how == 2) {
		out->number = (uint32_t)bochs.vmread(0x4400);
		out->kind = VMFUZZ_KIND_VMFAIL_VALID;
	} else if (how) {
		out->kind = how == 1 ? VMFUZZ_KIND_VMFAIL_INVALID : VMFUZZ_KIND_EXECUTOR_CRASHED;
	} else {
		out->exit_reason = (uint32_t)bochs.vmread(0x4402);
		out->qualification = bochs.vmread(0x6400);
		out->entry_interruption_info = (uint32_t)bochs.vmread(0x4016);
		out->kind = out->exit_reason >> 31 ? VMFUZZ_KIND_ENTRY_FAILURE : VMFUZZ_KIND_EXIT;
	}
	if (out->kind != VMFUZZ_KIND_EXIT)
		return;
	bochs.vmwrite32(FIELD_LAUNCH_STATE, LAUNCH_STATE_CLEAR);
	for (i = 0; i < request->restore_count; i++)
		put(request->restore[i].target, request->restore[i].value);
}

/* As the engine's write_row(): what the row before has left in the VMCS is not written again. There is one, which the engine wrote if not this. */
static void write_row(struct vmfuzz_result *out)
{
	const struct vmfuzz_result *before = (const struct vmfuzz_result *)((const uint8_t *)out - request->row_bytes);
	const uint64_t *value = (const uint64_t *)(out + 1), *had = (const uint64_t *)(before + 1);
	bool entered = before->kind == VMFUZZ_KIND_EXIT || before->kind == VMFUZZ_KIND_ENTRY_FAILURE;
	uint64_t i, n = request->field_columns + request->arena_columns;

	for (i = 0; i < n; i++)
		if (value[i] != had[i] || vmfuzz_may_change(request->columns[i].target, entered))
			put(request->columns[i].target, value[i]);
}

/* The engine asks by PAUSE: see ask_platform() there. A guest executes nothing, and has no business with the request. */
void _ZN8BX_CPU_C5PAUSEEP15bxInstruction_c(void *instruction)
{
	uint32_t what = request->pad;

	if (request->flags & VMFUZZ_FLAG_PLATFORM && what) {
		request->pad = 0;
		if (what & 2)
			look_at_entry(row_at(request->current_row - (what & 1)));
		if (what & 1)
			write_row(row_at(request->current_row));
	}
	bochs.real_pause(instruction);
}

/* ---- the emulated machine ---- */

static void on_hlt(void *context, uint32_t id)
{
	/* A guest may be entered in activity state HLT; only the engine's own HLT, after its work, ends the run. */
	if (request->status != VMFUZZ_STATUS_BUSY)
		bochs.cpu_stop(cpu);
}

/*
 * Pages have 4 KiB where the model has LA57: an exit that turns LA57 on leaves Bochs with the wrong offset mask for large pages (it does
 * not update its linear-address width).
 */
static void build_tables(bool small_pages)
{
	uint64_t *directory = (uint64_t *)(ram + TABLE_DIRECTORY), *table = (uint64_t *)(ram + VMFUZZ_EMU_PAGE_TABLES), offset;

	harness_tables(ram);
	if (!small_pages)
		return;
	for (offset = 0; offset < VMFUZZ_EMU_BYTES; offset += VMFUZZ_PAGE)
		table[offset / VMFUZZ_PAGE] = (HARNESS_PA + offset) | 0x63;	/* and dirty */
	for (offset = 0; offset < ARENA_BYTES; offset += VMFUZZ_PAGE)
		table[(VMFUZZ_EMU_ARENA + offset) / VMFUZZ_PAGE] = (ARENA_PA + offset) | 0x63;
	for (offset = 0; offset < VMFUZZ_EMU_BYTES; offset += PAGE_LARGE)
		directory[offset / PAGE_LARGE] = (HARNESS_PA + VMFUZZ_EMU_PAGE_TABLES + offset / 512) | 0x23;
}

static void set_segment(struct segment *s, uint16_t selector, uint64_t base, uint32_t limit, uint16_t attributes)
{
	s->present = true;
	s->selector = selector;
	s->base = base;
	s->limit = limit;
	s->attributes = attributes;
}

static void set_initial_state(void)
{
	struct cpu_state s;

	memset(&s, 0, sizeof(s));
	bochs.cpu_state(cpu, &s);
	s.cr0 = 0x80010031;	/* PG, WP, NE, ET, PE */
	s.cr3 = HARNESS_PA + TABLE_ROOT;
	s.cr4 = 0x20;		/* PAE */
	s.efer = 0x500;		/* LMA, LME */
	s.rip = WINDOW_VA + VMFUZZ_EMU_IMAGE;
	s.rsp = WINDOW_VA + VMFUZZ_EMU_STACK_TOP - 8;	/* as after a call */
	s.rdi = WINDOW_VA + VMFUZZ_EMU_REQUEST;
	s.rflags = 2;
	s.mxcsr = 0x1f80;
	s.pat = 0x0007040600070406ull;
	if (request->flags & VMFUZZ_FLAG_X2APIC)
		s.apic_base |= APIC_BASE_X2APIC;
	set_segment(&s.cs, 0x08, 0, 0xffffffff, 0xa09b);
	set_segment(&s.ss, 0x10, 0, 0xffffffff, 0xc093);
	set_segment(&s.ds, 0x10, 0, 0xffffffff, 0xc093);
	set_segment(&s.es, 0x10, 0, 0xffffffff, 0xc093);
	set_segment(&s.fs, 0x10, 0, 0xffffffff, 0xc093);
	set_segment(&s.gs, 0x10, 0, 0xffffffff, 0xc093);
	set_segment(&s.tr, 0x18, WINDOW_VA + TABLE_TSS, 0x67, 0x8b);
	s.ldtr.present = false;
	s.gdtr.base = WINDOW_VA + TABLE_GDT;
	s.gdtr.limit = 5 * 8 - 1;
	s.idtr.base = WINDOW_VA + TABLE_TSS + 0x100;	/* empty: an exception in the engine becomes a reset, see above */
	s.idtr.limit = 0xfff;
	bochs.cpu_set_state(cpu, &s);
}

/* A new CPU for every request: nothing that a family left in registers or MSRs reaches the next. */
static void run_request(void)
{
	static struct hooks hooks = { .hlt = on_hlt };
	struct hooks *list[2] = { &hooks, NULL };

	if (cpu)
		bochs.cpu_delete(cpu);
	making_cpu = true;
	cpu = bochs.cpu_new(0);
	making_cpu = false;
	cpu_was_made = true;
	set_initial_state();
	harness_request(request);
	request->pad = 0;
	if (request->command == VMFUZZ_COMMAND_RUN && request->flags & VMFUZZ_FLAG_PLATFORM)
		memset(ram + VMFUZZ_EMU_ARENA, 0, ARENA_BYTES);	/* which takes the engine 16,384 steps */
	bochs.cpu_run(cpu, list);
}

static void *need(void *library, const char *name)
{
	void *symbol = dlsym(library, name);

	if (!symbol)
		fatal("this build of bochscpu has no symbol %s; vmfuzz needs the version that its pyproject.toml pins", name);
	return symbol;
}

static void bind(void *library, int model)
{
	void *(*get_param)(const char *) = need(library, "sim_get_param_enum");
	void (*set_param)(void *, long) = need(library, "_ZN15bx_param_enum_c3setEl");

	bochs.cpu_new = need(library, "bochscpu_cpu_new");
	bochs.cpu_delete = need(library, "bochscpu_cpu_delete");
	bochs.cpu_state = need(library, "bochscpu_cpu_state");
	bochs.cpu_set_state = need(library, "bochscpu_cpu_set_state");
	bochs.cpu_run = need(library, "bochscpu_cpu_run");
	bochs.cpu_stop = need(library, "bochscpu_cpu_stop");
	bochs.cpu_rip = need(library, "bochscpu_cpu_rip");
	bochs.real_tlb_flush = need(library, "_ZN8BX_CPU_C9TLB_flushEv");
	bochs.real_translate_linear = need(library, "_ZN8BX_CPU_C16translate_linearEP12bx_TLB_entrymjj");
	bochs.real_field_offset = need(library, "_ZNK12VMCS_Mapping17vmcs_field_offsetEj");
	bochs.wakeup_monitor = need(library, "_ZN8BX_CPU_C14wakeup_monitorEv");
	bochs.bx_cpu = need(library, "bx_cpu");
	bochs.real_countdown_event = need(library, "_ZN14bx_pc_system_c14countdownEventEv");
	bochs.real_flush_icaches = need(library, "_Z12flushICachesv");
	bochs.real_pause = need(library, "_ZN8BX_CPU_C5PAUSEEP15bxInstruction_c");
	bochs.vmwrite = need(library, "_ZN8BX_CPU_C7vmwriteEjm");
	bochs.vmwrite32 = need(library, "_ZN8BX_CPU_C9VMwrite32Ejj");
	bochs.vmread = need(library, "_ZN8BX_CPU_C6vmreadEj");
	bochs.real_vmread64 = need(library, "_ZN8BX_CPU_C8VMread64Ej");
	bochs.real_vmread32 = need(library, "_ZN8BX_CPU_C8VMread32Ej");
	bochs.real_vmread16 = need(library, "_ZN8BX_CPU_C8VMread16Ej");
	bochs.bx_pc_system = need(library, "bx_pc_system");
	own_flush = flush_is_known();
	own_countdown = countdown_is_known();
	own_icache_flush = icache_flush_is_known();
	own_vmread = vmread_is_known();
	set_param(get_param("cpu.model"), model);
}

/*
 * Serve until the command pipe closes: each byte read is one request in the shared mapping, answered with the same byte.
 * `plain` keeps Bochs' own flushes and timer (for tests), `small_pages` see build_tables. Returns 0; does not return when the emulator gives up.
 */
int vmfuzz_serve_bochs(void *library, int memory_fd, int command_fd, int reply_fd, int model, int plain, int small_pages,
		       int parent)
{
	char command;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return 1;
	ram = mmap(NULL, VMFUZZ_EMU_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
	if (ram == MAP_FAILED)
		return 2;
	request = (struct vmfuzz_request *)(ram + VMFUZZ_EMU_REQUEST);
	messages = (struct vmfuzz_messages *)(ram + VMFUZZ_EMU_MESSAGES);
	memset(messages, 0, sizeof(*messages));
	bind(library, model);
	if (plain)
		own_flush = own_countdown = own_icache_flush = own_vmread = false;
	build_tables(small_pages);
	while (read(command_fd, &command, 1) == 1) {
		run_request();
		if (write(reply_fd, &command, 1) != 1)
			break;
	}
	return 0;
}
