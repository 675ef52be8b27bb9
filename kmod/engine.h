/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* engine.h: the wire format between the VM-entry engine and its callers. The only description of it.
 *
 * Read by gcc (engine, kernel module, emulator platform) and by Python (cffi), so: fixed-width members, enumerations for
 * constants, no preprocessor lines that matter. Addresses named _va are dereferenced by the engine; _pa are physical.
 */
#ifndef VMFUZZ_ENGINE_H
#define VMFUZZ_ENGINE_H

typedef unsigned char vmfuzz_u8;
typedef unsigned short vmfuzz_u16;
typedef unsigned int vmfuzz_u32;
typedef unsigned long long vmfuzz_u64;

enum vmfuzz_constants {
	VMFUZZ_ABI = 2,		/* change it whenever a structure below changes */
	VMFUZZ_MAX_MSRS = 64,
	VMFUZZ_MAX_CPUID = 32,
	VMFUZZ_MAX_FIELDS = 512,
	VMFUZZ_MAX_COLUMNS = 256,
	VMFUZZ_ARENA_PAGES = 32,
	VMFUZZ_PAGE = 4096,
};

/* What a column or a pair is written to: an encoding (< 10000H), a live condition or a word of the arena. */
enum vmfuzz_target {
	VMFUZZ_TARGET_LIVE_BIT = 32,	/* 1 << 32 | enum vmfuzz_live */
	VMFUZZ_TARGET_ARENA_BIT = 63,	/* 1 << 63 | byte offset in the arena, a multiple of 8 */
};

enum vmfuzz_live {
	VMFUZZ_LIVE_INSTRUCTION = 0,	/* 0 VMLAUNCH, 1 VMRESUME */
	VMFUZZ_LIVE_LAUNCHED = 1,	/* launch state of the VMCS: 0 clear, 1 launched */
	VMFUZZ_LIVE_NO_CURRENT_VMCS = 2,
	VMFUZZ_LIVE_MOV_SS = 3,		/* MOV SS executes right before the entry */
	VMFUZZ_LIVE_SHADOW_VMCS = 4,	/* the current VMCS is a shadow VMCS; its launch state is then clear */
	VMFUZZ_LIVE_COUNT = 5,
};

enum vmfuzz_command {
	VMFUZZ_COMMAND_PROBE = 1,
	VMFUZZ_COMMAND_CAPTURE = 2,
	VMFUZZ_COMMAND_RUN = 3,
};

enum vmfuzz_status {
	VMFUZZ_STATUS_IDLE = 0,
	VMFUZZ_STATUS_BUSY = 1,
	VMFUZZ_STATUS_DONE = 2,
	VMFUZZ_STATUS_BAD_REQUEST = 3,	/* detail: nothing */
	VMFUZZ_STATUS_NO_VMX = 4,	/* detail: IA32_FEATURE_CONTROL */
	VMFUZZ_STATUS_VMXON_FAILED = 5,
	VMFUZZ_STATUS_VMPTRLD_FAILED = 6,
	VMFUZZ_STATUS_BASE_FAILED = 7,	/* detail: encoding of the base field that VMWRITE refused */
	VMFUZZ_STATUS_BASE_NOT_LAUNCHED = 8,	/* a launched VMCS was wanted, but the base does not enter; detail: kind */
};

enum vmfuzz_flags {
	VMFUZZ_FLAG_PARANOID = 1,	/* compare all base fields after every row, stop at the first row that drifts */
	VMFUZZ_FLAG_POISON = 4,		/* for the module: containment's limits.poison */
	VMFUZZ_FLAG_LA57 = 2,		/* rows may turn the host's CR4.LA57 on or off: undo it after each */
	VMFUZZ_FLAG_PLATFORM = 8,	/* emulated: the platform writes rows and looks at entries where the engine executes PAUSE */
	VMFUZZ_FLAG_X2APIC = 16,	/* for whoever makes the engine's processor: its local APIC is in x2APIC mode */
	VMFUZZ_FLAG_VIRTUAL = 32,	/* for the image: containment's limits.virtual */
};

/* How a row ended: the numbers of vmfuzz.arch.outcomes.Kind. */
enum vmfuzz_kind {
	VMFUZZ_KIND_NOT_RUN = 0,
	VMFUZZ_KIND_EXIT = 1,
	VMFUZZ_KIND_VMFAIL_INVALID = 2,
	VMFUZZ_KIND_VMFAIL_VALID = 3,
	VMFUZZ_KIND_ENTRY_FAILURE = 4,
	VMFUZZ_KIND_VMWRITE_FAILED = 5,
	VMFUZZ_KIND_REFUSED = 6,
	VMFUZZ_KIND_EXECUTOR_CRASHED = 7,
};

struct vmfuzz_pair {
	vmfuzz_u64 target;
	vmfuzz_u64 value;
};

struct vmfuzz_result {
	vmfuzz_u8 kind;
	vmfuzz_u8 panicked;	/* filled by the platform: the message says that the emulator is broken */
	vmfuzz_u16 message;	/* filled by the platform: 1 + index of the emulator's message, 0 none */
	vmfuzz_u32 number;	/* VM-instruction error (kinds 3, 5), else 0 */
	vmfuzz_u32 exit_reason;	/* all 32 bits (kinds 1, 4) */
	vmfuzz_u32 entry_interruption_info;	/* field 4016H after the entry (kinds 1, 4) */
	vmfuzz_u32 encoding;	/* field that VMWRITE refused (kind 5) */
	vmfuzz_u32 entered;	/* emulated, for the platform: 1 + what vmfuzz_enter returned; 0 in all results */
	vmfuzz_u64 qualification;	/* kinds 1, 4 */
};

struct vmfuzz_cpuid {
	vmfuzz_u32 leaf, subleaf, eax, ebx, ecx, edx;
};

/*
 * One request. The caller fills everything up to the first output; `current_row` is the row being run, so that whoever
 * finds the machine or the emulator dead knows the culprit.
 */
struct vmfuzz_request {
	vmfuzz_u32 abi;
	vmfuzz_u32 command;
	vmfuzz_u32 flags;
	vmfuzz_u32 pad;		/* for whoever runs the engine: the module's processor; what it asks the emulator's platform */
	vmfuzz_u64 vmxon_va, vmxon_pa;
	vmfuzz_u64 vmcs_va, vmcs_pa;
	vmfuzz_u64 arena_va, arena_pa;
	/* RUN: columns are ordered: VMCS fields, then arena words, then live conditions. */
	vmfuzz_u64 base_va, base_count;		/* struct vmfuzz_pair, VMCS fields and arena words */
	vmfuzz_u64 field_columns, arena_columns, live_columns;
	vmfuzz_u64 restore_count;
	vmfuzz_u64 rows_va;			/* records of row_bytes: struct vmfuzz_result, then u64 [column] */
	vmfuzz_u64 row_bytes;
	vmfuzz_u64 first_row, row_count;	/* rows first_row .. row_count-1 are run */
	/* outputs */
	vmfuzz_u64 status;
	vmfuzz_u64 detail;
	vmfuzz_u64 current_row;
	vmfuzz_u64 drift_row;			/* PARANOID: the row after which fields had drifted */
	vmfuzz_u64 drift_count;
	vmfuzz_u64 field_count;			/* CAPTURE */
	vmfuzz_u64 msr_count, cpuid_count;	/* PROBE */
	vmfuzz_u64 cr0, cr3, cr4;
	/* more inputs of RUN, here so that what the row loop touches is close together */
	struct vmfuzz_pair columns[VMFUZZ_MAX_COLUMNS];	/* target and the base's value */
	struct vmfuzz_pair restore[VMFUZZ_MAX_FIELDS];	/* written after each row that entered */
	/* more outputs */
	vmfuzz_u32 drift[VMFUZZ_MAX_FIELDS];
	struct vmfuzz_pair fields[VMFUZZ_MAX_FIELDS];
	struct vmfuzz_pair msrs[VMFUZZ_MAX_MSRS];
	struct vmfuzz_cpuid cpuid[VMFUZZ_MAX_CPUID];
};

/* Where things are in the emulated platform: one region of physical memory, seen at one window of linear addresses. */
enum vmfuzz_emulated {
	VMFUZZ_EMU_IMAGE = 0x0,		/* the engine's code and data */
	VMFUZZ_EMU_TABLES = 0x20000,	/* root page table, page directory, GDT, TSS, VMXON region, VMCS */
	/*
	 * One page for all that the row loop touches besides its row, because Bochs walks the page tables again
	 * for every page after every entry and exit: vmfuzz_saved_rsp, the stack's upper end, the request's beginning.
	 */
	VMFUZZ_EMU_HOT = 0x40000,	/* also in engine.ld */
	VMFUZZ_EMU_STACK_TOP = 0x40400,
	VMFUZZ_EMU_REQUEST = 0x40400,
	VMFUZZ_EMU_LISTS = 0x50000,	/* base pairs */
	VMFUZZ_EMU_MESSAGES = 0x70000,	/* emulator's messages: see struct vmfuzz_messages */
	VMFUZZ_EMU_PAGE_TABLES = 0x100000,
	VMFUZZ_EMU_ARENA = 0x200000,	/* mapped at a physical address of its own */
	VMFUZZ_EMU_ROWS = 0x400000,
	VMFUZZ_EMU_ROWS_BYTES = 0x2800000,
	VMFUZZ_EMU_BYTES = 0x2c00000,
	VMFUZZ_EMU_MAX_MESSAGES = 1024,
	VMFUZZ_EMU_MESSAGE_BYTES = 64000,
	VMFUZZ_EMU_OWN_ROWS = 64,	/* of so many rows one is written and looked at by the engine's own instructions */
};

/* The emulator's messages, numbered in order of appearance; texts are NUL-terminated one after the other. */
struct vmfuzz_messages {
	vmfuzz_u32 count;
	vmfuzz_u32 used;		/* bytes of text */
	char fatal[512];		/* why the worker gave up, if it did */
	char text[VMFUZZ_EMU_MESSAGE_BYTES];
};

#endif
