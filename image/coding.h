/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* coding.h: messages to and from their coded form (struct vmfuzz_coded). */
#ifndef VMFUZZ_CODING_H
#define VMFUZZ_CODING_H

#include <stddef.h>
#include <stdint.h>

#include "line.h"

/* A request: `in` has `length` bytes, the structure first; `out` takes `most` bytes. Returns 0 when it fits together. */
int vmfuzz_decode(const uint8_t *in, size_t length, uint64_t *out, size_t most);

#define VMFUZZ_KEPT_PLACES 512

/* The results of a run as those that differ from each other, and which of these each row has (enum vmfuzz_line). */
struct vmfuzz_kept {
	struct vmfuzz_result rows[VMFUZZ_LINE_KEPT];
	uint8_t index[VMFUZZ_LINE_REQUEST / sizeof(struct vmfuzz_result) + 8] __attribute__((aligned(8)));
	size_t length;				/* of the index, a multiple of 8 */
	uint8_t places[VMFUZZ_KEPT_PLACES];	/* where a row is, by its hash: 1 + its number */
};

/* Returns how many rows are kept; 0 where there are more than VMFUZZ_LINE_KEPT. */
size_t vmfuzz_keep(struct vmfuzz_kept *k, const struct vmfuzz_result *rows, size_t count);

struct vmfuzz_part {
	const uint64_t *words;
	size_t count;
};

/* An answer: the words of all parts, one after the other. `out` takes vmfuzz_most_coded of their bytes; returns how many it took. */
size_t vmfuzz_encode(const struct vmfuzz_coded *head, const struct vmfuzz_part *parts, size_t part_count, uint8_t *out);

/* The longest coded form of so many bytes. */
static inline size_t vmfuzz_most_coded(size_t length)
{
	return sizeof(struct vmfuzz_coded) + (length / 8 + 7) / 8 + length / 8 + length;
}

#endif
