/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* line.h: what goes over the serial line between vmfuzz and the bootable image. Read by gcc and by Python (cffi): plain enumerations, structures. */
/*
 * A frame is END, bytes, END; in it ESC ESC_END stands for END and ESC ESC_ESC for ESC. The bytes are struct vmfuzz_line_head, a piece of a
 * message, and the CRC-32 of both. What stands between frames and is no frame is text: the firmware's, the loader's, the image's own.
 *
 * vmfuzz asks and the image answers; only vmfuzz has a clock. A message goes in pieces, each of which is acknowledged before the next
 * one comes, so that no UART has to hold back a sender:
 *
 * HELLO	who is there: answered by HELLO with struct vmfuzz_line_hello, which the image sends by itself after it booted, too
 * PUT		a piece of a request: answered by GOT, whose offset is that of the next piece. After the last one the request is served
 *		and the first piece of the answer follows by itself. A piece that comes again is acknowledged again and not served again
 * GET		from an offset of the answer on, `total` bytes at most: answered by PART
 * AGAIN	from the image: a frame came that is damaged
 *
 * vmfuzz sends one END more after each frame. The image reads it when it waits for the next frame; until then it lies in the UART. An emulator that
 * asks the host for the next byte whenever the UART has none (Bochs: every 87 instructions, a system call each) asks nobody while the image works.
 */
#ifndef VMFUZZ_LINE_H
#define VMFUZZ_LINE_H

#include "engine.h"

enum vmfuzz_line {
	VMFUZZ_LINE_VERSION = 1,	/* change it whenever something below changes */
	VMFUZZ_LINE_END = 0xc0,
	VMFUZZ_LINE_ESC = 0xdb,
	VMFUZZ_LINE_ESC_END = 0xdc,
	VMFUZZ_LINE_ESC_ESC = 0xdd,
	VMFUZZ_LINE_HELLO = 1,
	VMFUZZ_LINE_PUT = 2,
	VMFUZZ_LINE_GET = 3,
	VMFUZZ_LINE_GOT = 4,
	VMFUZZ_LINE_PART = 5,
	VMFUZZ_LINE_AGAIN = 6,
	VMFUZZ_LINE_PIECE = 4096,	/* bytes of a message in a frame, at most */
	VMFUZZ_LINE_REQUEST = 2097152,	/* bytes of a request, before it is coded, at most */
	VMFUZZ_LINE_BAUD = 115200,	/* 8 data bits, no parity, one stop bit, no flow control */
};

struct vmfuzz_line_head {
	vmfuzz_u32 kind;
	vmfuzz_u32 number;	/* of the request, chosen by vmfuzz: another one each time */
	vmfuzz_u32 offset, total;	/* of the piece in the coded message, whose length is `total` */
};

/* What the image knows of itself, and of the row that was running when the machine was reset, if its memory lasted. */
struct vmfuzz_line_hello {
	vmfuzz_u32 version, uapi_version;
	vmfuzz_u64 boot;	/* another one after each boot */
	vmfuzz_u64 boots;	/* since the machine's memory was lost */
	vmfuzz_u32 died;	/* enum vmfuzz_died: how the boot before this one ended */
	vmfuzz_u32 vector;	/* of the exception, where it was one */
	vmfuzz_u64 digest;	/* of the request that ran then: struct vmfuzz_coded */
	vmfuzz_u64 row;		/* and its row */
};

enum vmfuzz_died {
	VMFUZZ_DIED_UNKNOWN = 0,	/* memory was lost, or this is the first boot */
	VMFUZZ_DIED_IDLE = 1,		/* reset while no row ran */
	VMFUZZ_DIED_ROW = 2,		/* reset while a row ran, without a word: a triple fault, or somebody's reset of a machine that hung */
	VMFUZZ_DIED_EXCEPTION = 3,	/* the image reset the machine after an exception that it could not survive */
	VMFUZZ_DIED_HOST_STATE = 4,	/* the image reset the machine because host state did not come back after the row */
};

/*
 * A message before it is cut into pieces: this, then `length` bytes, coded. They are words of 8 bytes; those from byte `from` + `stride` to `to`
 * hold the difference (XOR) from the word `stride` bytes before, which is nothing where a row is like the one before. Three planes follow: a bit for
 * each word that is not 0; for each of those a byte with a bit for each of its bytes that is not 0; those bytes.
 */
struct vmfuzz_coded {
	vmfuzz_u32 code;	/* enum vmfuzz_uapi; of an answer the errno */
	vmfuzz_u32 length;	/* a multiple of 8, as the others */
	vmfuzz_u32 from, to, stride;
	vmfuzz_u32 pad;
	vmfuzz_u64 digest;	/* chosen by vmfuzz, which finds the request by it; of an answer 0 */
};

#endif
