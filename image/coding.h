/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* coding.h: messages to and from their coded form (struct vmfuzz_coded). */
#ifndef VMFUZZ_CODING_H
#define VMFUZZ_CODING_H

#include <stddef.h>
#include <stdint.h>

#include "line.h"

/* `in` has `length` bytes, the structure first; `out` takes `most` bytes. Returns 0 when it fits together. */
int vmfuzz_decode(const uint8_t *in, size_t length, uint64_t *out, size_t most);

/* `head` says how many bytes `in` has and which of them are rows. `out` takes vmfuzz_most_coded(head->length) bytes; returns how many it took. */
size_t vmfuzz_encode(const struct vmfuzz_coded *head, const uint64_t *in, uint8_t *out);

/* The longest coded form of so many bytes. */
static inline size_t vmfuzz_most_coded(size_t length)
{
	return sizeof(struct vmfuzz_coded) + (length / 8 + 7) / 8 + length / 8 + length;
}

#endif
