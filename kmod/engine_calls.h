/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* engine_calls.h: the engine's functions. The emulated CPU calls vmfuzz_serve; the kernel module calls the parts. */
#ifndef VMFUZZ_ENGINE_CALLS_H
#define VMFUZZ_ENGINE_CALLS_H

#include "engine.h"

struct vmfuzz_run_state {
	int launched;		/* launch state of the current VMCS */
	int status;		/* enum vmfuzz_status; anything but DONE ends the run */
	vmfuzz_u32 events;	/* enum vmfuzz_events of exits since the caller cleared it, also of exits that no row shows */
	int held;		/* whether the VMCS has what VMWRITE last wrote to the columns: */
	int entered;		/* but for what an entry since then may have changed */
	vmfuzz_u64 value[VMFUZZ_MAX_COLUMNS];
};

/*
 * Whether a column may no longer be what was last written to it. An exit saves guest state, the VM-entry control "IA-32e mode guest" and the valid
 * bit of the VM-entry interruption information; some processors save in entry failures too. Memory may be written by any of them. The kernel module
 * trusts no processor with what containment judged: it has the base's values written back after each entry, also to columns.
 */
static inline int vmfuzz_may_change(vmfuzz_u64 target, int entered)
{
	if (target >> VMFUZZ_TARGET_LIVE_BIT)
		return 1;
#ifdef __KERNEL__
	return entered;
#else
	return entered && ((target >> 10 & 3) == 2 || target == 0x4012 || target == 0x4016);
#endif
}

/* Events of the host that a VM exit consumed. Only the kernel module looks for them. */
enum vmfuzz_events {
	VMFUZZ_EVENT_NMI = 1,
	VMFUZZ_EVENT_MACHINE_CHECK = 2,
	VMFUZZ_EVENT_INTERRUPT = 4,	/* acknowledged by the exit */
};

/* Where VM exits go: the only value of host_rip that may be loaded. */
extern char vmfuzz_exit_handler[];

#ifdef VMFUZZ_EMULATED
void vmfuzz_serve(struct vmfuzz_request *r);
void vmfuzz_start(struct vmfuzz_request *r) __attribute__((noreturn));
#else
/*
 * All but vmfuzz_probe need VMX operation and interrupts off. Between vmfuzz_begin and vmfuzz_end the VMCS may be put down (VMCLEAR, its contents
 * stay in memory) and picked up again, with VMXOFF and VMXON between.
 */
void vmfuzz_probe(struct vmfuzz_request *r);
int vmfuzz_capture(struct vmfuzz_request *r);
int vmfuzz_begin(struct vmfuzz_request *r);
int vmfuzz_pick_up(struct vmfuzz_request *r, struct vmfuzz_run_state *s);
void vmfuzz_put_down(struct vmfuzz_request *r);
int vmfuzz_row(struct vmfuzz_request *r, struct vmfuzz_run_state *s, vmfuzz_u64 i);
int vmfuzz_write_field(vmfuzz_u64 encoding, vmfuzz_u64 value);
vmfuzz_u64 vmfuzz_read_field(vmfuzz_u64 encoding);
void vmfuzz_end(struct vmfuzz_request *r);
#endif

#endif
