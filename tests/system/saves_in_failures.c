// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// saves_in_failures.c: a processor that saves guest RFLAGS as 0 when a VM entry fails, so that no entry after it succeeds.
// The engine, built with -Dvmfuzz_enter=wrong_enter, enters through it.
#include "engine.h"

#define FIELD_GUEST_RFLAGS 0x6820ull
#define FIELD_EXIT_REASON 0x4402ull

vmfuzz_u64 right_enter(vmfuzz_u64 resume, vmfuzz_u64 mov_ss) __asm__("vmfuzz_enter");
vmfuzz_u64 wrong_enter(vmfuzz_u64 resume, vmfuzz_u64 mov_ss);

vmfuzz_u64 wrong_enter(vmfuzz_u64 resume, vmfuzz_u64 mov_ss)
{
	vmfuzz_u64 how = right_enter(resume, mov_ss), reason = 0;

	if (how == 0) {
		asm volatile("vmread %1, %0" : "=r"(reason) : "r"(FIELD_EXIT_REASON) : "cc");
		if (reason >> 31 & 1)
			asm volatile("vmwrite %1, %0" : : "r"(FIELD_GUEST_RFLAGS), "r"(0ull) : "cc");
	}
	return how;
}
