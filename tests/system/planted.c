// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// planted.c: an image in which some rows are deadly: after one in PLANTED_ONE_IN, by the sum of its values, the machine dies of a triple fault.
#include "image.h"
#include "link.h"
#include "vmfuzz.h"

void __real_vmfuzz_put_down(struct vmfuzz_request *r);
void __wrap_vmfuzz_put_down(struct vmfuzz_request *r);

static bool deadly(const struct vmfuzz_request *r)
{
	const u64 *value = (const u64 *)(r->rows_va + r->current_row * r->row_bytes + sizeof(struct vmfuzz_result));
	u32 columns = r->field_columns + r->arena_columns + r->live_columns, i;
	u64 sum = 0;

	for (i = 0; i < columns; i++)
		sum += value[i];
	return sum % PLANTED_ONE_IN == PLANTED_ONE_IN - 1;
}

/* The engine's, by the linker's --wrap: called after each row, too. */
void __wrap_vmfuzz_put_down(struct vmfuzz_request *r)
{
	struct {
		u16 limit;
		u64 base;
	} __packed none = { 0, 0 };

	if (black_box->died == VMFUZZ_DIED_ROW && deadly(r))
		asm volatile("lidt %0\n	ud2" : : "m"(none));
	__real_vmfuzz_put_down(r);
}
