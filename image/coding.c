// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// coding.c: messages to and from their coded form: what is the same in all rows once, and of each word only the bytes that are not 0.
#include <string.h>

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

/* `count` words in three planes; returns where these end, NULL where they do not fit together. */
static const uint8_t *take_words(const uint8_t *words, const uint8_t *end, uint64_t *out, size_t count)
{
	const uint8_t *masks, *bytes, *mask;
	size_t groups = (count + 7) / 8, given = 0, i, at, group_end;

	if (groups > (size_t)(end - words))
		return NULL;
	masks = bytes = words + groups;
	for (i = 0; i < groups; i++)
		bytes += ones(words[i]);
	if (bytes > end || (count % 8 && words[groups - 1] >> count % 8))
		return NULL;
	for (mask = masks; mask < bytes; mask++)
		given += ones(*mask);
	if (given > (size_t)(end - bytes))
		return NULL;
	for (at = 0; at < count; words++) {
		unsigned int present = *words;

		group_end = count - at < 8 ? count : at + 8;
		for (; at < group_end; at++, present >>= 1)
			out[at] = present & 1 ? take_word(*masks++, &bytes) : 0;
	}
	return bytes;
}

/* The row that the others are compared with, and which of its words differ in any of them. */
struct reference {
	uint64_t words[VMFUZZ_LINE_ROW_WORDS];
	uint16_t varying[VMFUZZ_LINE_ROW_WORDS];
	size_t length, count;
};

/* `found`: its words, then a bit for each that says whether it varies. */
static void take_reference(struct reference *r, const uint64_t *found, size_t length)
{
	size_t i;

	r->length = length;
	r->count = 0;
	memcpy(r->words, found, length * sizeof(*found));
	for (i = 0; i < length; i++)
		if (found[length + i / 64] >> i % 64 & 1)
			r->varying[r->count++] = (uint16_t)i;
}

/* A row: a bit for each varying word that differs; of each of these a byte with a bit for each byte that does, and those. NULL: it does not fit. */
static const uint8_t *take_row(const struct reference *r, const uint8_t *in, const uint8_t *end, uint64_t *out)
{
	const uint8_t *differs = in;
	size_t group, k;

	if ((size_t)(end - in) < (r->count + 7) / 8)
		return NULL;
	in += (r->count + 7) / 8;
	memcpy(out, r->words, r->length * sizeof(*out));
	for (group = 0; group < r->count; group += 8) {
		unsigned int left = *differs++;

		for (; left; left &= left - 1) {
			k = group + (unsigned int)__builtin_ctz(left);
			if (k >= r->count || in == end || (end - in <= 8 && ones(*in) >= (size_t)(end - in)))
				return NULL;
			in++;
			out[r->varying[k]] ^= take_word(in[-1], &in);
		}
	}
	return in;
}

int vmfuzz_decode(const uint8_t *in, size_t length, uint64_t *out, size_t most)
{
	static struct reference reference;
	const struct vmfuzz_coded *head = (const void *)in;
	const uint8_t *end = in + length, *at;
	size_t row_words, rows_at, count, left;

	if (length < sizeof(*head) || head->length > most || head->from > head->length || (head->length | head->from | head->stride) % 8)
		return 1;
	row_words = head->stride / 8;
	rows_at = head->stride ? head->from / 8 : head->length / 8;
	left = head->length / 8 - rows_at;
	count = rows_at + row_words + (row_words + 63) / 64;
	if (row_words > VMFUZZ_LINE_ROW_WORDS || count * 8 > most || (row_words && left % row_words))
		return 1;
	at = take_words(in + sizeof(*head), end, out, count);
	take_reference(&reference, out + rows_at, row_words);
	for (out += rows_at; at && left; left -= row_words, out += row_words)
		at = take_row(&reference, at, end, out);
	return at != end;
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

static size_t hash_of(const struct vmfuzz_result *row)
{
	const uint64_t *w = (const void *)row;

	return (size_t)((w[0] ^ w[1] * 3 ^ w[2] * 5 ^ w[3] * 7) * 0x9e3779b97f4a7c15ull >> 55);
}

static int same(const struct vmfuzz_result *a, const struct vmfuzz_result *b)
{
	const uint64_t *v = (const void *)a, *w = (const void *)b;

	return !((v[0] ^ w[0]) | (v[1] ^ w[1]) | (v[2] ^ w[2]) | (v[3] ^ w[3]));
}

_Static_assert(sizeof(struct vmfuzz_result) == 32, "hash_of and same look at four words");

size_t vmfuzz_keep(struct vmfuzz_kept *k, const struct vmfuzz_result *rows, size_t count)
{
	size_t i, repeated = 0, at, kept = 0;

	memset(k->places, 0, sizeof(k->places));
	k->length = 0;
	for (i = 0; i <= count; i++) {
		if (i && i < count && repeated < VMFUZZ_LINE_REPEATS && same(&rows[i], &rows[i - 1])) {
			repeated++;
			continue;
		}
		if (repeated)
			k->index[k->length++] = (uint8_t)(VMFUZZ_LINE_KEPT + repeated - 1);
		repeated = 0;
		if (i == count)
			break;
		for (at = hash_of(&rows[i]); k->places[at] && !same(&rows[i], &k->rows[k->places[at] - 1]); at = (at + 1) % VMFUZZ_KEPT_PLACES)
			continue;
		if (!k->places[at]) {
			if (kept == VMFUZZ_LINE_KEPT)
				return 0;
			k->rows[kept++] = rows[i];
			k->places[at] = (uint8_t)kept;
		}
		k->index[k->length++] = (uint8_t)(k->places[at] - 1);
	}
	while (k->length % 8)
		k->index[k->length++] = 0;
	return kept;
}

/* In one pass: the bytes go where they would stand if no word were 0, and then down to the end of the masks. */
size_t vmfuzz_encode(const struct vmfuzz_coded *head, const struct vmfuzz_part *parts, size_t part_count, uint8_t *out)
{
	size_t count = 0, i, at;
	uint8_t *words = out + sizeof(*head), *mask, *begin, *bytes;
	unsigned int bit = 0x80;

	for (i = 0; i < part_count; i++)
		count += parts[i].count;
	mask = words + (count + 7) / 8;
	begin = bytes = mask + count;
	*(struct vmfuzz_coded *)out = *head;
	for (i = 0, words--; i < part_count; i++)
		for (at = 0; at < parts[i].count; at++) {
			uint64_t value = parts[i].words[at];

			bit <<= 1;
			if (bit > 0x80) {
				bit = 1;
				*++words = 0;
			}
			if (!value)
				continue;
			*words |= (uint8_t)bit;
			*mask++ = (uint8_t)put_word(value, &bytes);
		}
	for (; begin < bytes; begin++)
		*mask++ = *begin;
	return (size_t)(mask - out);
}
