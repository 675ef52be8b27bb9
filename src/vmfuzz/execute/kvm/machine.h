/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* machine.h: a KVM virtual machine around the engine, as it is asked for from elsewhere. Read by gcc and by cffi, after engine.h.
 *
 * Its memory is the one that enum vmfuzz_emulated lays out. A request carries parts of it there, and parts of it back.
 */
#ifndef VMFUZZ_KVM_MACHINE_H
#define VMFUZZ_KVM_MACHINE_H

#include "engine.h"

enum vmfuzz_kvm {
	VMFUZZ_KVM_FACTS = 0x4b00,	/* codes of the agent's frames */
	VMFUZZ_KVM_OPEN = 0x4b01,
	VMFUZZ_KVM_RUN = 0x4b02,
	VMFUZZ_KVM_PARTS = 8,
	VMFUZZ_KVM_MSRS = 32,
	VMFUZZ_KVM_TEXT = 16384,
};

/* What is known before anything is opened: lines "name=value". Answer to FACTS. */
struct vmfuzz_kvm_facts {
	char text[4096];
};

/* Payload of OPEN; the engine's image follows. The answer is empty, or the reason why KVM cannot be used. */
struct vmfuzz_kvm_open {
	vmfuzz_u32 abi;
	vmfuzz_u32 hang_seconds;	/* so long without a new row: the virtual processor hangs */
	vmfuzz_u32 msr_count;
	vmfuzz_u32 image_bytes;
	struct vmfuzz_pair msrs[VMFUZZ_KVM_MSRS];	/* capability MSRs that the virtual processor gets in place of KVM's */
};

struct vmfuzz_kvm_part {
	vmfuzz_u64 offset, bytes;
};

/* Payload of RUN; the bytes of parts 0 .. in-1 follow, in order. */
struct vmfuzz_kvm_run {
	vmfuzz_u32 in, out;
	struct vmfuzz_kvm_part part[VMFUZZ_KVM_PARTS];
};

/* Answer to RUN; the bytes of the parts that were asked for follow, in order. */
struct vmfuzz_kvm_ran {
	vmfuzz_u32 died;	/* not 0: the virtual machine is gone, messages->fatal says how, current_row at which row */
	vmfuzz_u32 pad;
	vmfuzz_u64 exits;	/* VM exits that the processor took below KVM, 0 where KVM does not count */
	char trace[VMFUZZ_KVM_TEXT];	/* tracepoint kvm_nested_vmenter_failed, where it may be read */
	char log[VMFUZZ_KVM_TEXT];	/* new warnings and worse of the kernel's log, where it may be read */
};

#endif
