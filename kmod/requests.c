// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// requests.c: takes a request's bytes apart, calls the module, puts the answer's bytes together.
#include <errno.h>
#include <string.h>

#include "requests.h"
#include "vmfuzz_uapi.h"

#define ARENA_WORDS (VMFUZZ_ARENA_PAGES * VMFUZZ_PAGE / 8)

static uint64_t arena[ARENA_WORDS];	/* as the last row of a run left it */

static void append(struct buffer *b, const void *bytes, size_t length)
{
	memcpy(b->bytes + b->length, bytes, length);
	b->length += length;
}

/* Pointers into the request; 0 if it is shorter or longer than its counts say. */
static int place(struct vmfuzz_run *run, const struct buffer *in)
{
	uint64_t columns = (uint64_t)run->field_columns + run->arena_columns + run->live_columns, at = sizeof(*run);
	uint64_t most = in->most;

	if (columns > most || run->base_count > most || run->restore_count > most || run->row_bytes > most || run->row_count > most)
		return 0;
	run->base = (uintptr_t)in->bytes + at;
	at += run->base_count * sizeof(struct vmfuzz_pair);
	run->columns = (uintptr_t)in->bytes + at;
	at += columns * 8;
	run->restore = (uintptr_t)in->bytes + at;
	at += run->restore_count * 8;
	run->rows = (uintptr_t)in->bytes + at;
	at += run->row_count * run->row_bytes;
	run->arena = (uintptr_t)arena;
	return at == in->length;
}

static void append_arena(struct buffer *out)
{
	size_t count_at = out->length;
	uint64_t i, count = 0;

	append(out, &count, sizeof(count));
	for (i = 0; i < ARENA_WORDS; i++)
		if (arena[i]) {
			struct vmfuzz_pair pair = { i * 8, arena[i] };

			append(out, &pair, sizeof(pair));
			count++;
		}
	memcpy(out->bytes + count_at, &count, sizeof(count));
}

static int serve_run(const struct buffer *in, struct buffer *out)
{
	struct vmfuzz_run *run = (struct vmfuzz_run *)in->bytes;
	uint64_t i, longest;
	int error;

	if (in->length < sizeof(*run) || !place(run, in))
		return EMSGSIZE;
	longest = sizeof(*run) + run->row_count * sizeof(struct vmfuzz_result) + 8 + sizeof(struct vmfuzz_pair) * ARENA_WORDS;
	if (longest > out->most)
		return EMSGSIZE;
	error = vmfuzz_call(VMFUZZ_IOC_RUN, run);
	append(out, run, sizeof(*run));
	if (error && error != EINTR && error != EXDEV)
		return error;
	for (i = 0; i < run->row_count; i++)
		append(out, (void *)(uintptr_t)(run->rows + i * run->row_bytes), sizeof(struct vmfuzz_result));
	append_arena(out);
	return error;
}

int vmfuzz_serve_request(uint32_t code, const struct buffer *in, struct buffer *out)
{
	size_t expected = code == VMFUZZ_IOC_INFO ? sizeof(struct vmfuzz_info) : sizeof(struct vmfuzz_capture);
	int error;

	out->length = 0;
	if (code == VMFUZZ_IOC_RUN)
		return serve_run(in, out);
	if (code != VMFUZZ_IOC_INFO && code != VMFUZZ_IOC_CAPTURE)
		return ENOTTY;
	if (in->length != expected || expected > out->most)
		return EMSGSIZE;
	error = vmfuzz_call(code, in->bytes);
	append(out, in->bytes, expected);
	return error;
}
