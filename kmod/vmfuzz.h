/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* vmfuzz.h: what main.c (the device) asks of machine.c and vmx.c (the processor). */
#ifndef VMFUZZ_H
#define VMFUZZ_H

#include <linux/types.h>

#include "containment.h"
#include "containment_calls.h"
#include "engine.h"
#include "engine_calls.h"
#include "vmfuzz_uapi.h"

#define VMFUZZ_ARENA_BYTES (VMFUZZ_ARENA_PAGES * VMFUZZ_PAGE)
#define VMFUZZ_HOST_FIELDS 256	/* all encodings: four widths of 64; without its place a field would never be substituted */

/*
 * A host-state field. Userspace knows the value of the capture; what the processor has to get back may be another by now
 * (CR3 changes with every address-space identifier), so the first stands for the second.
 */
struct vmfuzz_host_field {
	u32 encoding;
	int column;		/* of the present run, -1: none */
	bool substitute;	/* the base has the captured value */
	u64 captured, actual;
};

/* A field that an MSR list is in: of the present run, its column (-1: none) and the base's value. */
struct vmfuzz_list_field {
	int column;
	u64 base;
};

/* Count, then address, of each list: in the order of the slots from VMFUZZ_SLOT_STORE_COUNT on. */
enum vmfuzz_list_fields { VMFUZZ_LIST_STORE = 0, VMFUZZ_LIST_LOAD = 2, VMFUZZ_LIST_ENTRY = 4, VMFUZZ_LIST_FIELDS = 6 };

struct vmfuzz_machine {
	struct vmfuzz_request *request;
	struct vmfuzz_run_state run;
	void *arena;
	u64 *vmxon_region;
	void *vmcs_region;
	bool captured;
	bool broken;		/* host state did not come back */
	bool begun;		/* of the present run: the VMCS holds the base */
	unsigned int cpu;	/* the capture's */
	u32 field_count;
	struct vmfuzz_pair fields[VMFUZZ_MAX_FIELDS];
	unsigned int host_count;
	struct vmfuzz_host_field host[VMFUZZ_HOST_FIELDS];
	struct vmfuzz_list_field list_field[VMFUZZ_LIST_FIELDS];
	struct vmfuzz_limits limits;
};

int vmfuzz_machine_init(struct vmfuzz_machine *m);
void vmfuzz_machine_free(struct vmfuzz_machine *m);
int vmfuzz_machine_probe(struct vmfuzz_machine *m);
int vmfuzz_machine_capture(struct vmfuzz_machine *m);
/* Rows *next .. end-1 of the request as far as one slice goes; those whose result is REFUSED are left alone. */
int vmfuzz_machine_slice(struct vmfuzz_machine *m, u64 *next, u64 end);
/* After the last row: find drift. */
int vmfuzz_machine_finish(struct vmfuzz_machine *m);

#endif
