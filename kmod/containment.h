/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* containment.h: which candidates the kernel module runs. Read by gcc and by cffi: plain enumerations and structures. */
#ifndef VMFUZZ_CONTAINMENT_H
#define VMFUZZ_CONTAINMENT_H

#include "engine.h"

/* Why a candidate is refused. Numbers are part of the interface: append only. */
enum vmfuzz_rule {
	VMFUZZ_RULE_NONE = 0,
	VMFUZZ_RULE_SMM = 1,
	VMFUZZ_RULE_UNKNOWN_CONTROL = 2,
	VMFUZZ_RULE_HOST_CR0 = 3,
	VMFUZZ_RULE_HOST_CR3 = 4,
	VMFUZZ_RULE_HOST_CR4 = 5,
	VMFUZZ_RULE_HOST_SELECTOR = 6,
	VMFUZZ_RULE_HOST_BASE = 7,
	VMFUZZ_RULE_HOST_SYSENTER = 8,
	VMFUZZ_RULE_HOST_RSP = 9,
	VMFUZZ_RULE_HOST_RIP = 10,
	VMFUZZ_RULE_HOST_PAT = 11,
	VMFUZZ_RULE_HOST_EFER = 12,
	VMFUZZ_RULE_HOST_PERF = 13,
	VMFUZZ_RULE_HOST_CET = 14,
	VMFUZZ_RULE_HOST_PKRS = 15,
	VMFUZZ_RULE_SECONDARY_EXIT = 16,
	VMFUZZ_RULE_LEAK = 17,
	VMFUZZ_RULE_TRACE = 18,
	VMFUZZ_RULE_MSR_STORE = 19,
	VMFUZZ_RULE_MSR_LOAD = 20,
	VMFUZZ_RULE_ENTRY_MSR_LOAD = 21,
	VMFUZZ_RULE_GUEST_RUNS = 22,
	VMFUZZ_RULE_EPT_POINTER = 23,
	VMFUZZ_RULE_ADDRESS = 24,
	VMFUZZ_RULE_LINK_POINTER = 25,
	VMFUZZ_RULE_SLEEPS = 26,
	VMFUZZ_RULE_INTERRUPTS = 27,
	VMFUZZ_RULE_TIMER = 28,
	VMFUZZ_RULE_STALE = 29,
	VMFUZZ_RULE_COUNT = 30,
};

enum vmfuzz_risk {
	VMFUZZ_RISK_SAFE = 0,	/* what may enter has the preemption timer at 0 besides a wall; where no timer works, both walls */
	VMFUZZ_RISK_BOLD = 1,	/* one wall is enough */
};

/* What the rules may count on. */
enum vmfuzz_features {
	VMFUZZ_HAS_TIMER = 1,	/* a VMX-preemption timer without an erratum */
	VMFUZZ_HAS_INVEPT = 2,	/* INVEPT of all contexts, with which the driver begins each row */
	VMFUZZ_HAS_INVVPID = 4,	/* INVVPID of all contexts, the same */
	VMFUZZ_BROKEN_TIMERS = 9,	/* so many processors are known to have one with an erratum */
};

/* Walls: pages of the arena that hold nothing, so that an address translated through them faults. */
enum vmfuzz_walls {
	VMFUZZ_WALL_PAGING = 1,	/* page 0, the known-good guest_cr3 */
	VMFUZZ_WALL_EPT = 2,	/* page 1, the known-good EPTP */
	VMFUZZ_WALL_PAGES = 2,	/* so many pages of the arena are walls */
};

/* Fields that the rules read; their encodings are in vmfuzz_slot_encoding. */
enum vmfuzz_slot {
	VMFUZZ_SLOT_PIN = 0,
	VMFUZZ_SLOT_PRIMARY = 1,
	VMFUZZ_SLOT_SECONDARY = 2,
	VMFUZZ_SLOT_TERTIARY = 3,
	VMFUZZ_SLOT_EXIT = 4,
	VMFUZZ_SLOT_ENTRY = 5,
	VMFUZZ_SLOT_SECONDARY_EXIT = 6,
	VMFUZZ_SLOT_STORE_COUNT = 7,
	VMFUZZ_SLOT_STORE_ADDRESS = 8,
	VMFUZZ_SLOT_LOAD_COUNT = 9,
	VMFUZZ_SLOT_LOAD_ADDRESS = 10,
	VMFUZZ_SLOT_ENTRY_COUNT = 11,
	VMFUZZ_SLOT_ENTRY_ADDRESS = 12,
	VMFUZZ_SLOT_EPTP = 13,
	VMFUZZ_SLOT_VIRTUAL_APIC = 14,
	VMFUZZ_SLOT_APIC_ACCESS = 15,
	VMFUZZ_SLOT_POSTED_DESCRIPTOR = 16,
	VMFUZZ_SLOT_PML = 17,
	VMFUZZ_SLOT_VE_INFORMATION = 18,
	VMFUZZ_SLOT_EPTP_LIST = 19,
	VMFUZZ_SLOT_SPP_TABLE = 20,
	VMFUZZ_SLOT_HLAT = 21,
	VMFUZZ_SLOT_PID_TABLE = 22,
	VMFUZZ_SLOT_LINK = 23,
	VMFUZZ_SLOT_TIMER = 24,
	VMFUZZ_SLOT_ACTIVITY = 25,
	VMFUZZ_SLOT_RFLAGS = 26,
	VMFUZZ_SLOT_GUEST_CR0 = 27,
	VMFUZZ_SLOT_GUEST_CR3 = 28,
	VMFUZZ_SLOT_GUEST_DEBUGCTL = 29,
	VMFUZZ_SLOT_GUEST_PAT = 30,
	VMFUZZ_SLOT_GUEST_EFER = 31,
	VMFUZZ_SLOT_GUEST_PERF = 32,
	VMFUZZ_SLOT_GUEST_RTIT = 33,
	VMFUZZ_SLOT_GUEST_PKRS = 34,
	VMFUZZ_SLOT_HOST_ES = 35,	/* seven selectors, CS, SS, DS, FS, GS, TR following */
	VMFUZZ_SLOT_HOST_CS = 36,
	VMFUZZ_SLOT_HOST_TR = 41,
	VMFUZZ_SLOT_HOST_PAT = 42,
	VMFUZZ_SLOT_HOST_EFER = 43,
	VMFUZZ_SLOT_HOST_PERF = 44,
	VMFUZZ_SLOT_HOST_PKRS = 45,
	VMFUZZ_SLOT_HOST_SYSENTER_CS = 46,
	VMFUZZ_SLOT_HOST_CR0 = 47,
	VMFUZZ_SLOT_HOST_CR3 = 48,
	VMFUZZ_SLOT_HOST_CR4 = 49,
	VMFUZZ_SLOT_HOST_FS_BASE = 50,	/* GS, TR, GDTR, IDTR following */
	VMFUZZ_SLOT_HOST_IDTR_BASE = 54,
	VMFUZZ_SLOT_HOST_SYSENTER_ESP = 55,
	VMFUZZ_SLOT_HOST_SYSENTER_EIP = 56,
	VMFUZZ_SLOT_HOST_RSP = 57,
	VMFUZZ_SLOT_HOST_RIP = 58,
	VMFUZZ_SLOT_HOST_S_CET = 59,
	VMFUZZ_SLOT_HOST_SSP = 60,
	VMFUZZ_SLOT_HOST_SSP_TABLE = 61,
	VMFUZZ_SLOT_NOTIFICATION = 62,
	VMFUZZ_SLOT_FIELDS = 63,	/* so many slots are fields */
	VMFUZZ_SLOT_ENTRY_LIST = 63,	/* no field, as the next two: what vmfuzz_harmless_list says of the row */
	VMFUZZ_SLOT_STORE_LIST = 64,
	VMFUZZ_SLOT_LOAD_LIST = 65,
	VMFUZZ_SLOT_COUNT = 66,
	VMFUZZ_SLOT_CONTROLS = 7,	/* so many control words, from slot 0 on */
};

/* The words of the arena that a row finds: those of the base, the last of a target counts, and the row's columns. */
struct vmfuzz_words {
	const struct vmfuzz_pair *base;
	const vmfuzz_u64 *targets, *values;	/* [count] */
	vmfuzz_u64 base_count, count;
};

enum vmfuzz_list {
	VMFUZZ_LIST_MOST = 8,	/* entries of an MSR list that may be processed, at most */
};

/* What the rules know about the processor and the request. */
struct vmfuzz_limits {
	vmfuzz_u32 risk;
	vmfuzz_u32 walls;		/* enum vmfuzz_walls: those that the request's memory words leave alone */
	vmfuzz_u32 physical_bits;
	vmfuzz_u32 linear_bits;
	vmfuzz_u32 features;		/* enum vmfuzz_features */
	vmfuzz_u32 poison;		/* 1: what RFLAGS bit 1 = 0 excuses besides; only on a processor that was seen to refuse it */
	/*
	 * 1: the machine is a virtual one that nobody else uses, and may be reset: MSR lists and host state run besides, and the driver gives back
	 * what they change. Only for the bootable image, and only at risk BOLD.
	 */
	vmfuzz_u32 virtual;
	vmfuzz_u64 arena_pa;
	vmfuzz_u64 arena_bytes;
	vmfuzz_u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
	vmfuzz_u64 must[VMFUZZ_SLOT_CONTROLS];	/* control bits that must be 1 */
	vmfuzz_u64 may[VMFUZZ_SLOT_CONTROLS];	/* control bits that may be 1 */
	vmfuzz_u64 captured[VMFUZZ_SLOT_COUNT];	/* the known-good VMCS */
};

#endif
