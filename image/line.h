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
	VMFUZZ_LINE_VERSION = 2,	/* change it whenever something below changes */
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
	VMFUZZ_LINE_ROW_WORDS = VMFUZZ_MAX_COLUMNS + 4,	/* of a run's row, at most: struct vmfuzz_result and the columns */
	VMFUZZ_LINE_KEPT = 0xf0,	/* results in an answer that differ from each other, at most; an index from here on: ... */
	VMFUZZ_LINE_REPEATS = 0x10,	/* ... the row before, so many times at most */
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
 * A message before it is cut into pieces: this, then words of 8 bytes in three planes: a bit for each word that is not 0; for each of those a byte
 * with a bit for each of its bytes that is not 0; those bytes. The words are those of the message, but for its rows.
 *
 * The rows of a request, from byte `from` to its end, are compared with one that has in each column what most of them have. Its words follow those
 * before the rows, then a bit for each of them that varies. Behind the planes stands for each row a bit for each varying word that differs, in whole
 * bytes, and for each of these words a byte with a bit for each of its bytes that differs, and these bytes of the difference (XOR).
 *
 * The rows of an answer, from byte `from` to `to`, are results, of which most are like one before. In their place are `kept` rows that differ from
 * each other and `index` bytes: a byte is the number of a row, or repeats the row before (enum vmfuzz_line). Where `kept` is 0, the rows are there.
 */
struct vmfuzz_coded {
	vmfuzz_u32 code;	/* enum vmfuzz_uapi; of an answer the errno */
	vmfuzz_u32 length;	/* of the message; a multiple of 8, as the others */
	vmfuzz_u32 from, to, stride;	/* stride: bytes of a row, 0 where there is none */
	vmfuzz_u32 kept, index;
	vmfuzz_u32 pad;
	vmfuzz_u64 digest;	/* chosen by vmfuzz, which finds the request by it; of an answer 0 */
};

#endif
