// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// console.c: the first serial port, byte by byte, and text on it and on the screen.
#include "image.h"
#include "link.h"

#define COM1 0x3f8
#define COLUMNS 80
#define ROWS 25
#define UART_FIFO 16
#define PAUSES 8

static bool has_line;

bool console_has_line(void)
{
	return has_line;
}

/* The scratch register tells whether there is a port. */
void console_init(void)
{
	outb(COM1 + 1, 0);	/* no interrupts */
	outb(COM1 + 3, 0x80);
	outb(COM1 + 0, 115200 / VMFUZZ_LINE_BAUD);
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3);	/* 8 data bits, no parity, 1 stop bit */
	outb(COM1 + 2, 7);	/* FIFOs on and empty */
	outb(COM1 + 4, 0xb);	/* DTR, RTS, OUT2 */
	outb(COM1 + 7, 0x5a);
	has_line = inb(COM1 + 7) == 0x5a;
}

/* Between two looks at the port, which are an exit each in a virtual machine. Far less than the time of a byte, of which the FIFO holds 16. */
static void wait_a_little(void)
{
	unsigned int n;

	for (n = 0; n < PAUSES; n++)
		asm volatile("pause");
}

/* As many bytes as the FIFO takes at once, so that a hypervisor has one exit less for each. */
void vmfuzz_line_put(u8 byte)
{
	static unsigned int room;

	if (!has_line)
		return;
	if (!room) {
		while (!(inb(COM1 + 5) & 0x20))
			wait_a_little();
		room = UART_FIFO;
	}
	outb(COM1, byte);
	room--;
}

u8 vmfuzz_line_get(void)
{
	while (!(inb(COM1 + 5) & 1))
		wait_a_little();
	return inb(COM1);
}

/* The text screen of a PC; where firmware left none (UEFI), writes to its memory go nowhere. */
static void put_on_screen(char c)
{
	static unsigned int at;
	volatile u16 *screen = (void *)(HIGH + 0xb8000);
	unsigned int i;

	if (c == '\n')
		at += COLUMNS - at % COLUMNS;
	if (at >= COLUMNS * ROWS) {
		for (i = 0; i < COLUMNS * ROWS; i++)
			screen[i] = i < COLUMNS * (ROWS - 1) ? screen[i + COLUMNS] : 0x0720;
		at = COLUMNS * (ROWS - 1);
	}
	if (c != '\n')
		screen[at++] = 0x0f00 | (u8)c;
}

static void put_text(char c)
{
	put_on_screen(c);
	if (c == '\n')
		vmfuzz_line_put('\r');
	vmfuzz_line_put((u8)c);
}

static void put_number(u64 value, unsigned int base)
{
	char digits[24];
	unsigned int n = 0;

	do
		digits[n++] = "0123456789ABCDEF"[value % base];
	while (value /= base);
	while (n)
		put_text(digits[--n]);
}

/* %s, and %d %u %X with any number of l. */
void printk(const char *format, ...)
{
	__builtin_va_list args;
	const char *text;
	int longs;

	__builtin_va_start(args, format);
	for (; *format; format++) {
		if (*format != '%') {
			put_text(*format);
			continue;
		}
		for (longs = 0, format++; *format == 'l'; format++)
			longs++;
		if (*format == 's')
			for (text = __builtin_va_arg(args, const char *); *text; text++)
				put_text(*text);
		else
			put_number(longs ? __builtin_va_arg(args, u64) : __builtin_va_arg(args, u32), *format == 'X' ? 16 : 10);
	}
	__builtin_va_end(args);
}
