// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// black_box.c: notes the row that is about to run where the next boot finds it.
#include "image.h"
#include "link.h"
#include "vmfuzz.h"

#define BLACK_BOX_MAGIC 0x786f6276a5c3ull

volatile struct black_box *black_box;

static u32 died_before, vector_before;

/* Of the boot before this one, if memory lasted. A machine that was reset while a row ran had no time for a word. */
void black_box_init(void *place)
{
	volatile struct black_box *b = place;

	if (b->magic != BLACK_BOX_MAGIC)
		memset(place, 0, sizeof(*b));
	died_before = b->died;
	vector_before = b->vector;
	b->magic = BLACK_BOX_MAGIC;
	b->boots++;
	black_box = b;
}

static u64 row_of(const volatile struct black_box *b)
{
	return b->row_bytes ? (b->from - b->rows) / b->row_bytes + b->row : 0;
}

/* How the boot before this one ended; from then on the box is the present boot's. */
void black_box_tell(struct vmfuzz_line_hello *hello)
{
	hello->boots = black_box->boots;
	hello->died = died_before;
	hello->vector = vector_before;
	hello->digest = black_box->digest;
	hello->row = row_of(black_box);
	if (died_before >= VMFUZZ_DIED_ROW)
		black_box_print("before the reset");
	black_box->died = VMFUZZ_DIED_IDLE;
	black_box->vector = 0;
}

void black_box_print(const char *when)
{
	printk("%s: row %llu of request %llXH ran\n", when, row_of(black_box), black_box->digest);
}

/* Rows of a run come to the module in chunks. */
unsigned long copy_from_user(void *to, const void *from, unsigned long n)
{
	black_box->from = (u64)from;
	memcpy(to, from, n);
	return 0;
}

void black_box_begin(u64 digest, u64 rows, u64 row_bytes)
{
	black_box->digest = digest;
	black_box->rows = rows;
	black_box->row_bytes = row_bytes;
}

void vmfuzz_serving(const struct vmfuzz_coded *request, const struct buffer *in)
{
	const struct vmfuzz_run *run = (const void *)in->bytes;

	if (request->code == VMFUZZ_IOC_RUN && in->length >= sizeof(*run))
		black_box_begin(request->digest, (u64)in->bytes + in->length - run->row_bytes * run->row_count, run->row_bytes);
	else
		black_box_begin(request->digest, 0, 0);
}

void vmfuzz_served(int error)
{
	if (error == EIO && black_box->row_bytes) {
		/* Host state did not come back: whatever runs from here on proves nothing. */
		black_box->died = VMFUZZ_DIED_HOST_STATE;
		black_box_print("\ngave up");
		reset_machine();
	}
	black_box->died = VMFUZZ_DIED_IDLE;
}

/* The engine's vmfuzz_row, by the linker's --wrap. */
int __real_vmfuzz_row(struct vmfuzz_request *r, struct vmfuzz_run_state *s, vmfuzz_u64 i);
int __wrap_vmfuzz_row(struct vmfuzz_request *r, struct vmfuzz_run_state *s, vmfuzz_u64 i)
{
	black_box->row = i;
	black_box->died = VMFUZZ_DIED_ROW;
	return __real_vmfuzz_row(r, s, i);
}
