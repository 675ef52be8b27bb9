// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// coding.c: rows as their difference from the row before, and of each word only the bytes that are not 0.
#include "coding.h"

static unsigned int ones(unsigned int byte)
{
	unsigned int n = 0;

	for (; byte; byte &= byte - 1)
		n++;
	return n;
}

int vmfuzz_decode(const uint8_t *in, size_t length, uint64_t *out, size_t most)
{
	const struct vmfuzz_coded *head = (const void *)in;
	const uint8_t *end = in + length, *words, *masks, *bytes;
	size_t count, groups, i, at, first, last, back;

	if (length < sizeof(*head) || head->length > most || (head->length | head->from | head->to | head->stride) % 8)
		return 1;
	count = head->length / 8;
	groups = (count + 7) / 8;
	words = in + sizeof(*head);
	if (groups > (size_t)(end - words))
		return 1;
	masks = bytes = words + groups;
	for (i = 0; i < groups; i++)
		bytes += ones(words[i]);
	if (bytes > end)
		return 1;
	back = head->stride / 8;
	first = head->from / 8 + back;
	last = back ? head->to / 8 : 0;
	for (at = 0; at < count; at++) {
		uint64_t value = 0;

		if (words[at / 8] >> at % 8 & 1) {
			unsigned int mask = *masks++, shift = 0;

			if (ones(mask) > (size_t)(end - bytes))
				return 1;
			for (; mask; mask >>= 1, shift += 8)
				if (mask & 1)
					value |= (uint64_t)*bytes++ << shift;
		}
		if (at >= first && at < last)
			value ^= out[at - back];
		out[at] = value;
	}
	return bytes != end;
}

/* The word at a place as it is coded. */
static uint64_t difference(const struct vmfuzz_coded *head, const uint64_t *in, size_t at)
{
	size_t back = head->stride / 8;

	return back && at >= head->from / 8 + back && at < head->to / 8 ? in[at] ^ in[at - back] : in[at];
}

size_t vmfuzz_encode(const struct vmfuzz_coded *head, const uint64_t *in, uint8_t *out)
{
	size_t count = head->length / 8, groups = (count + 7) / 8, at, i;
	uint8_t *words = out + sizeof(*head), *mask = words + groups, *bytes;

	*(struct vmfuzz_coded *)out = *head;
	for (i = 0; i < groups; i++)
		words[i] = 0;
	for (at = 0; at < count; at++) {
		uint64_t value = difference(head, in, at);
		unsigned int found = 0, bit = 1;

		if (!value)
			continue;
		words[at / 8] |= 1u << at % 8;
		for (; value; value >>= 8, bit <<= 1)
			if (value & 0xff)
				found |= bit;
		*mask++ = (uint8_t)found;
	}
	bytes = mask;
	for (at = 0; at < count; at++) {
		uint64_t value;

		if (!(words[at / 8] >> at % 8 & 1))
			continue;
		for (value = difference(head, in, at); value; value >>= 8)
			if (value & 0xff)
				*bytes++ = (uint8_t)value;
	}
	return (size_t)(bytes - out);
}
