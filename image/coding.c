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

/* The next word that is not 0: its mask says which of its bytes stand at *bytes. */
static uint64_t take_word(unsigned int mask, const uint8_t **bytes)
{
	uint64_t value = 0;
	unsigned int shift;

	for (shift = 0; mask; mask >>= 1, shift += 8)
		if (mask & 1)
			value |= (uint64_t)*(*bytes)++ << shift;
	return value;
}

/* Which words are differences from the word `back` words before: `rows` of them from `first` on. */
struct differences {
	size_t first, rows, back;
};

static struct differences differences_of(const struct vmfuzz_coded *head)
{
	size_t back = head->stride / 8, first = head->from / 8 + back, end = head->to / 8;

	return (struct differences){ first, back && end > first ? end - first : 0, back };
}

int vmfuzz_decode(const uint8_t *in, size_t length, uint64_t *out, size_t most)
{
	const struct vmfuzz_coded *head = (const void *)in;
	const uint8_t *end = in + length, *words, *masks, *bytes, *mask;
	size_t count, groups, given = 0, i, at, group_end;
	struct differences d;

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
	for (mask = masks; mask < bytes; mask++)
		given += ones(*mask);
	if (given != (size_t)(end - bytes) || (count % 8 && words[groups - 1] >> count % 8))
		return 1;
	d = differences_of(head);
	for (at = 0; at < count; words++) {
		unsigned int present = *words;

		group_end = count - at < 8 ? count : at + 8;
		for (; at < group_end; at++, present >>= 1) {
			uint64_t value = present & 1 ? take_word(*masks++, &bytes) : 0;

			out[at] = at - d.first < d.rows ? value ^ out[at - d.back] : value;
		}
	}
	return 0;
}

/* The bytes of a word that are not 0, to *bytes; returns which of its bytes these are. */
static unsigned int put_word(uint64_t value, uint8_t **bytes)
{
	unsigned int found = 0, bit = 1;

	for (; value; value >>= 8, bit <<= 1)
		if (value & 0xff) {
			found |= bit;
			*(*bytes)++ = (uint8_t)value;
		}
	return found;
}

/* In one pass: the bytes go where they would stand if no word were 0, and then down to the end of the masks. */
size_t vmfuzz_encode(const struct vmfuzz_coded *head, const uint64_t *in, uint8_t *out)
{
	size_t count = head->length / 8, groups = (count + 7) / 8, at, group_end;
	uint8_t *words = out + sizeof(*head), *mask = words + groups, *begin = mask + count, *bytes = begin;
	struct differences d = differences_of(head);

	*(struct vmfuzz_coded *)out = *head;
	for (at = 0; at < count; words++) {
		unsigned int bit = 1;

		*words = 0;
		group_end = count - at < 8 ? count : at + 8;
		for (; at < group_end; at++, bit <<= 1) {
			uint64_t value = at - d.first < d.rows ? in[at] ^ in[at - d.back] : in[at];

			if (!value)
				continue;
			*words |= bit;
			*mask++ = (uint8_t)put_word(value, &bytes);
		}
	}
	for (; begin < bytes; begin++)
		*mask++ = *begin;
	return (size_t)(mask - out);
}
