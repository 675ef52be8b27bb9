// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// memory.c: the largest piece of free memory, given out from its beginning; the black box lies near its end.
#include "image.h"

#define MAPPED 0x80000000ull	/* boot.S maps so much */
#define BOX_FROM_END (8ull << 20)	/* not at the end: loaders and firmware have their things there */

#define HAS_SIZES 1
#define HAS_MAP 0x40
#define AVAILABLE 1

extern char bss_end[];

static u64 heap, heap_end;

/* In words of 8 bytes, which emulators do faster than bytes. */
void *memcpy(void *to, const void *from, size_t n)
{
	void *t = to;
	size_t words = n / 8;

	asm volatile("rep movsq" : "+D"(t), "+S"(from), "+c"(words) : : "memory");
	n %= 8;
	asm volatile("rep movsb" : "+D"(t), "+S"(from), "+c"(n) : : "memory");
	return to;
}

void *memset(void *to, int byte, size_t n)
{
	void *t = to;
	size_t words = n / 8;

	asm volatile("rep stosq" : "+D"(t), "+c"(words) : "a"((u8)byte * 0x0101010101010101ull) : "memory");
	n %= 8;
	asm volatile("rep stosb" : "+D"(t), "+c"(n) : "a"(byte) : "memory");
	return to;
}

/* NULL where there is no more. */
void *take_memory(size_t bytes, size_t align)
{
	u64 at = (heap + align - 1) & -(u64)align;

	if (at + bytes > heap_end)
		return NULL;
	heap = at + bytes;
	memset((void *)at, 0, bytes);
	return (void *)at;
}

size_t memory_left(void)
{
	return heap_end - heap;
}

/* From the multiboot information; without a map what lies above 1 MiB. UEFI's memory is in pieces, and its sizes say nothing. */
void memory_init(const u32 *multiboot)
{
	u64 best = 0x100000, best_end = best, base, end;
	const u8 *at = (const u8 *)(HIGH + multiboot[12]), *stop = at + multiboot[11];

	if (multiboot[0] & HAS_SIZES)
		best_end += (u64)multiboot[2] * 1024;
	for (; multiboot[0] & HAS_MAP && at < stop; at += *(const u32 *)at + 4) {
		base = *(const u64 *)(at + 4);
		end = min(base + *(const u64 *)(at + 12), MAPPED);
		if (*(const u32 *)(at + 20) == AVAILABLE && base < end && end - base > best_end - best) {
			best = base;
			best_end = end;
		}
	}
	if (best < (u64)bss_end)
		best = (u64)bss_end;
	best = (best + 4095) & ~4095ull;
	if (best_end < best + 2 * BOX_FROM_END)
		best_end = best;
	heap = HIGH + best;
	heap_end = HIGH + best_end - (best_end > best ? BOX_FROM_END : 0);
	black_box_init((void *)heap_end);
}
