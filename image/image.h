/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* image.h: what the files of the bootable image share. */
#ifndef VMFUZZ_IMAGE_H
#define VMFUZZ_IMAGE_H

#include "linux.h"
#include "line.h"

/*
 * What is being done, in memory that a reset leaves alone: written before each row, read by the next boot. `row` counts from the chunk of
 * rows that the module copied last, which began at `from`.
 */
struct black_box {
	u64 magic, boots;
	u32 died, vector;	/* enum vmfuzz_died: of the present boot, as far as it got */
	u64 digest, rows, row_bytes, from, row;
};

extern volatile struct black_box *black_box;

static inline u8 inb(u16 port)
{
	u8 v;

	asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void outb(u16 port, u8 v)
{
	asm volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline u64 tsc(void)
{
	u32 low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

/* console.c */
void console_init(void);
bool console_has_line(void);

/* exceptions.c */
void exceptions_init(void);
/* Through the keyboard controller, the chipset, or a triple fault, whichever there is. */
void reset_machine(void) __attribute__((noreturn));

/* feature_control.c */
void vmx_tell(void);
void vmx_lock(void);

/* memory.c */
void memory_init(const u32 *multiboot);
size_t memory_left(void);

/* black_box.c */
void black_box_init(void *place);
/* What runs from here on: rows of so many bytes, under a digest. */
void black_box_begin(u64 digest, u64 rows, u64 row_bytes);
void black_box_tell(struct vmfuzz_line_hello *hello);
/* "boot 3, row 63 of request ..." */
void black_box_print(const char *when);

/* start.c */
int vmfuzz_call(unsigned long request, void *argument);

/* case.c */
bool case_is_there(void);
void case_run(const struct vmfuzz_line_hello *before);

#endif
