/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* case.h: one case in the image, put there by `vmfuzz export --image`. Read by gcc and by Python (cffi): plain enumerations, structures. */
/*
 * The last VMFUZZ_CASE_BYTES of the flat image are a struct vmfuzz_case and what its offsets name, or zeros: then the image waits on its line.
 * Values are what differs from the machine's own known-good VMCS, so that a case of one processor runs on another: its host state, its addresses.
 */
#ifndef VMFUZZ_CASE_H
#define VMFUZZ_CASE_H

#include "engine.h"

enum vmfuzz_case_constants {
	VMFUZZ_CASE_BYTES = 16384,
	VMFUZZ_CASE_MAGIC = 0x65736163,	/* "case" */
	VMFUZZ_CASE_VERSION = 1,	/* change it whenever something below changes */
	VMFUZZ_CASE_ANY = 0xffffffff,	/* number of an outcome: any */
};

/* What the bits of a value are taken from. */
enum vmfuzz_case_from {
	VMFUZZ_CASE_FROM_NOTHING = 0,
	VMFUZZ_CASE_FROM_CAPTURED = 1,	/* the field in the known-good VMCS */
	VMFUZZ_CASE_FROM_ARENA = 2,	/* the arena's physical address, to which `set` is added */
	VMFUZZ_CASE_FROM_REVISION = 3,	/* the VMCS revision identifier */
};

struct vmfuzz_case_value {
	vmfuzz_u64 target;		/* enum vmfuzz_target, or a field's encoding */
	vmfuzz_u64 clear, set;		/* from & ~clear | set */
	vmfuzz_u64 needs_1, needs_0;	/* bits of a control word that must be allowed to be 1, to be 0: else the processor lacks the case */
	vmfuzz_u32 from, pad;
};

struct vmfuzz_case_outcome {
	vmfuzz_u32 kind, number;	/* enum vmfuzz_kind; VM-instruction error or basic exit reason */
	vmfuzz_u32 any_qualification, pad;
	vmfuzz_u64 qualification;	/* of a failed entry */
};

/* What an outcome is called. */
struct vmfuzz_case_word {
	vmfuzz_u32 kind, number, text;
};

/* Offsets count from the beginning of this structure. Texts end with a zero. */
struct vmfuzz_case {
	vmfuzz_u32 magic, version;
	vmfuzz_u64 digest;		/* of the case, for the black box */
	vmfuzz_u32 base, base_count;	/* struct vmfuzz_case_value [] */
	vmfuzz_u32 rows, row_count;	/* struct vmfuzz_case_value [row][column]: VM entries in order, the case last */
	vmfuzz_u32 field_columns, arena_columns, live_columns;
	vmfuzz_u32 restore, restore_count;	/* u64 []: targets, as struct vmfuzz_run has them */
	vmfuzz_u32 outcomes, outcome_count;	/* struct vmfuzz_case_outcome []: what the manual allows */
	vmfuzz_u32 words, word_count;	/* struct vmfuzz_case_word [] */
	vmfuzz_u32 text;		/* what the case is, and what is expected */
	vmfuzz_u32 uncontained;		/* 1: the case runs although containment would refuse it */
};

#endif
