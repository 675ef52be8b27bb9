/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* vmfuzz_uapi.h: the requests of /dev/vmfuzz. Read by gcc (module, agent) and by cffi: plain enumerations and structures. */
#ifndef VMFUZZ_UAPI_H
#define VMFUZZ_UAPI_H

#include "engine.h"

enum vmfuzz_uapi {
	VMFUZZ_UAPI_VERSION = 1,	/* change it whenever a structure below changes */
	/* _IO(0xe6, n), a type that nobody has; the size is checked by the structure's first member instead of the number */
	VMFUZZ_IOC_INFO = 0xe601,
	VMFUZZ_IOC_CAPTURE = 0xe602,
	VMFUZZ_IOC_RUN = 0xe603,
	VMFUZZ_MAX_BASE = 4096,		/* pairs */
	VMFUZZ_MAX_ROWS = 1048576,	/* a request */
};

/*
 * Each request begins with its size and version, which the caller sets. Errors of all requests:
 *
 * EINVAL		size, version, flag, count or target that does not exist; the log names it
 * EFAULT		a pointer that cannot be read or written
 * ENOTTY		no such request
 * ENODEV		the processor has no VMX, or the kernel was told not to use it
 * EACCES		the firmware disabled VMX (IA32_FEATURE_CONTROL)
 * EADDRINUSE		another program, such as kvm_intel, is in VMX operation on this CPU
 * EPROTONOSUPPORT	the kernel uses what this module cannot give back: FRED, supervisor shadow stacks, Intel PT, PEBS, BTS
 * EXDEV		the caller moved to another CPU than that of VMFUZZ_IOC_CAPTURE; capture again
 * ENODATA		VMFUZZ_IOC_RUN before VMFUZZ_IOC_CAPTURE
 * EOPNOTSUPP		VMFUZZ_FLAG_POISON on a CPU that has not refused the canary since the capture: a run whose base is the captured VMCS and
 *			whose only row changes guest RFLAGS alone, to the captured value with bit 1 clear
 * EINTR		a signal; rows_done says how far it went
 * EIO			VMXON failed, or host state did not come back: the device is dead until the module is loaded again
 * open: EPERM without CAP_SYS_ADMIN or in a kernel locked down for confidentiality, EBUSY while another file is open
 */

struct vmfuzz_info {
	vmfuzz_u32 size, version;
	/* outputs */
	vmfuzz_u32 engine_abi, cpu;
	vmfuzz_u32 msr_count, cpuid_count;
	vmfuzz_u64 arena_pa, arena_bytes;
	vmfuzz_u64 vmcs_pa;
	vmfuzz_u64 cr0, cr4;
	struct vmfuzz_pair msrs[VMFUZZ_MAX_MSRS];
	struct vmfuzz_cpuid cpuid[VMFUZZ_MAX_CPUID];
};

struct vmfuzz_capture {
	vmfuzz_u32 size, version;
	/* outputs */
	vmfuzz_u32 cpu, field_count;
	struct vmfuzz_pair fields[VMFUZZ_MAX_FIELDS];
};

struct vmfuzz_run {
	vmfuzz_u32 size, version;
	vmfuzz_u32 flags;		/* VMFUZZ_FLAG_PARANOID, VMFUZZ_FLAG_POISON; VMFUZZ_FLAG_VIRTUAL, which only the bootable image takes */
	vmfuzz_u32 risk;		/* enum vmfuzz_risk */
	vmfuzz_u64 base, base_count;	/* struct vmfuzz_pair [] */
	vmfuzz_u64 columns;		/* u64 []: targets, fields, then arena words, then live conditions */
	vmfuzz_u32 field_columns, arena_columns, live_columns, pad;
	vmfuzz_u64 restore, restore_count;	/* u64 []: targets written back to the base's values after a row that entered */
	vmfuzz_u64 rows, row_bytes, row_count;	/* records of struct vmfuzz_result, then u64 [column]; results are written */
	vmfuzz_u64 arena;		/* the arena as the last row left it is copied here, 0: nowhere */
	/* outputs */
	vmfuzz_u64 rows_done;
	vmfuzz_u64 status, detail;	/* enum vmfuzz_status */
	vmfuzz_u64 drift_row, drift_count;
	vmfuzz_u32 drift[VMFUZZ_MAX_FIELDS];
};

#endif
