/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * slice.h: what the files that hold the processor share. A slice is as many rows as run with preemption off, but interrupts on between them.
 */
#ifndef VMFUZZ_SLICE_H
#define VMFUZZ_SLICE_H

#include "processor.h"
#include "vmfuzz.h"

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

#define KEPT_MSRS 10	/* of host.c's tables */
#define CLEARED_MSRS 6
#define DEBUGCTL_PLACE 0	/* in registers.msr */

struct host {
	struct table_register gdt, idt;
	u64 cr0;
	u16 segment[DATA_SEGMENTS], tr;
	u64 msr[KEPT_MSRS];
};

/* What a row may change and no host field brings back, or an interrupt between two rows. */
struct registers {
	u64 cr3, cr4;
	u64 dr6, dr7;
	u16 ldtr;
	u64 msr[CLEARED_MSRS];
};

/* Something that came back with another value. */
struct difference {
	const char *what;
	u32 msr;		/* its number, where `what` is no more than that it is one */
	u64 came, instead;
};

/* An MSR that the lists of the present row name. */
struct listed {
	u32 msr, number;	/* of the entry, from 1 on */
	bool there;		/* it can be read */
	u64 before;
};

#define MOST_LISTED (4 * VMFUZZ_LIST_MOST + 1)	/* the entry's and the exit's list, of the row and of the base, and one more */

/* The state of one slice. Nothing is printed before its end, when the host is repaired. */
struct slice {
	bool keeps[KEPT_MSRS];
	bool clears[CLEARED_MSRS];
	bool trace, pebs, machine_checks;	/* the processor has Intel PT, PEBS, IA32_MCG_STATUS */
	struct host host;
	struct registers registers;	/* of the present row */
	bool refreshed;		/* the VMCS holds the processor's values */
	bool exited;		/* the present row */
	/* of the present row, where limits.virtual allows it more than other rows: */
	const struct vmfuzz_machine *machine;	/* NULL: it does not */
	const u64 *value;	/* its columns */
	bool excused;		/* it changed something that it may */
	unsigned int listed;
	struct listed list[MOST_LISTED];
	u32 events;		/* enum vmfuzz_events of all rows */
	unsigned int wrong;	/* differences found in what came back */
	struct difference difference[4];	/* the first of them */
	u64 stack[32];		/* host_rsp points at its end: the engine leaves it at once, only an NMI without IST would use it */
};

static inline u32 leaf7(unsigned int reg)
{
	return leaf(0, 0) >= 7 ? leaf(7, reg) : 0;
}

static inline bool has_cet(void)
{
	return leaf7(2) >> 7 & 1 || leaf7(3) >> 20 & 1;
}

/* host.c */
void vmfuzz_host_places(struct slice *s);
void vmfuzz_note_difference(struct slice *s, const char *what, u64 came, u64 instead);
void vmfuzz_note_msr(struct slice *s, u32 msr, u64 came, u64 instead);
void vmfuzz_host_save(struct slice *s);
void vmfuzz_registers_save(struct slice *s);
void vmfuzz_host_repair(struct slice *s, const struct vmfuzz_result *out);
void vmfuzz_registers_restore(const struct slice *s);

/* ready.c: errnos */
int vmfuzz_check_processor(void);
int vmfuzz_check_state(void);
int vmfuzz_check_row(const struct slice *s);

/* host_fields.c */
void vmfuzz_host_refresh(struct vmfuzz_machine *m, struct slice *s);
void vmfuzz_host_columns(const struct vmfuzz_machine *m, u64 *value);
bool vmfuzz_row_sets(const struct slice *s, u32 encoding);
void vmfuzz_take_capture(struct vmfuzz_machine *m, const struct slice *s);

/* msr_lists.c */
void vmfuzz_msr_lists_save(const struct vmfuzz_machine *m, struct slice *s, const u64 *value);
void vmfuzz_msr_lists_restore(struct slice *s, const struct vmfuzz_result *out);

/* machine.c */
int vmfuzz_probe_here(struct vmfuzz_machine *m);
void vmfuzz_set_limits(struct vmfuzz_machine *m);

#endif
