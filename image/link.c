// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// link.c: frames, pieces and requests on the serial line. It has no clock and never asks for anything: it answers.
#include <errno.h>

#include "coding.h"
#include "link.h"
#include "vmfuzz_uapi.h"

#define CRC_BYTES 4
#define CRC_OF_ALL 0x2144df1cu	/* the CRC-32 of bytes and their own CRC-32 */

static uint32_t crc_add(uint32_t crc, uint8_t byte)
{
	static uint32_t table[256];
	uint32_t i, c, bit;

	if (!table[1])
		for (i = 0; i < 256; i++) {
			for (c = i, bit = 0; bit < 8; bit++)
				c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
			table[i] = c;
		}
	return table[(crc ^ byte) & 0xff] ^ crc >> 8;
}

static void put_stuffed(uint8_t byte)
{
	if (byte == VMFUZZ_LINE_END || byte == VMFUZZ_LINE_ESC) {
		vmfuzz_line_put(VMFUZZ_LINE_ESC);
		byte = byte == VMFUZZ_LINE_END ? VMFUZZ_LINE_ESC_END : VMFUZZ_LINE_ESC_ESC;
	}
	vmfuzz_line_put(byte);
}

static uint32_t put_bytes(uint32_t crc, const void *bytes, size_t length)
{
	const uint8_t *at = bytes, *end = at + length;

	for (; at < end; at++) {
		crc = crc_add(crc, *at);
		put_stuffed(*at);
	}
	return crc;
}

static void send(uint32_t kind, uint32_t number, uint32_t offset, uint32_t total, const void *piece, size_t length)
{
	struct vmfuzz_line_head head = { kind, number, offset, total };
	uint32_t crc = ~0u, i;

	vmfuzz_line_put(VMFUZZ_LINE_END);
	crc = put_bytes(crc, &head, sizeof(head));
	crc = ~put_bytes(crc, piece, length);
	for (i = 0; i < CRC_BYTES; i++)
		put_stuffed((uint8_t)(crc >> 8 * i));
	vmfuzz_line_put(VMFUZZ_LINE_END);
}

/*
 * What stands before the next END: returns its length, as it came. Nothing else is done until it is all there, since a UART holds 16 bytes and
 * loses what comes while it is full.
 */
static size_t receive_raw(struct link *l)
{
	size_t n = 0;
	uint8_t byte;

	while ((byte = vmfuzz_line_get()) == VMFUZZ_LINE_END)
		continue;
	for (; byte != VMFUZZ_LINE_END; byte = vmfuzz_line_get())
		if (n < sizeof(l->frame))
			l->frame[n++] = byte;
	return n;
}

/* The next frame: returns its length without the CRC, 0 for one that is damaged. */
static size_t receive(struct link *l)
{
	size_t came = receive_raw(l), at, n = 0;
	uint32_t crc = ~0u;

	for (at = 0; at < came; at++) {
		uint8_t byte = l->frame[at];

		if (byte == VMFUZZ_LINE_ESC && at + 1 < came)
			byte = l->frame[++at] == VMFUZZ_LINE_ESC_END ? VMFUZZ_LINE_END : VMFUZZ_LINE_ESC;
		l->frame[n++] = byte;	/* never passes what is still to be read */
		crc = crc_add(crc, byte);
	}
	if (n < sizeof(struct vmfuzz_line_head) + CRC_BYTES || ~crc != CRC_OF_ALL)
		return 0;
	return n - CRC_BYTES;
}

static void send_part(struct link *l, uint32_t offset, uint32_t most)
{
	uint32_t total = (uint32_t)l->coded_answer.length, length;

	if (!l->served || offset > total)
		return;
	length = total - offset < most ? total - offset : most;
	send(VMFUZZ_LINE_PART, l->number, offset, total, l->coded_answer.bytes + offset, length);
}

static int serve_decoded(struct link *l)
{
	const struct vmfuzz_coded *head = (const void *)l->coded_request.bytes;
	int error;

	l->answer.length = 0;
	if (vmfuzz_decode(l->coded_request.bytes, l->coded_request.length, (uint64_t *)l->request.bytes, l->request.most))
		return EMSGSIZE;
	l->request.length = head->length;
	vmfuzz_serving(head, &l->request);
	error = vmfuzz_serve_request(head->code, &l->request, &l->answer);
	vmfuzz_served(error);
	return error;
}

/* The answer of a run: its structure, results, and the arena. */
static size_t encode_run(struct link *l, struct vmfuzz_coded *head)
{
	const uint64_t *answer = (const uint64_t *)l->answer.bytes;
	const struct vmfuzz_run *run = (const void *)answer;
	struct vmfuzz_part parts[4];

	head->from = sizeof(*run);
	head->to = (uint32_t)(sizeof(*run) + run->row_count * sizeof(struct vmfuzz_result));
	head->stride = sizeof(struct vmfuzz_result);
	head->kept = (uint32_t)vmfuzz_keep(&l->kept, (const void *)(run + 1), run->row_count);
	head->index = head->kept ? (uint32_t)l->kept.length : 0;
	parts[0] = (struct vmfuzz_part){ answer, head->from / 8 };
	parts[1] = (struct vmfuzz_part){ (const uint64_t *)l->kept.rows, head->kept * head->stride / 8 };
	parts[2] = (struct vmfuzz_part){ (const uint64_t *)l->kept.index, head->index / 8 };
	parts[3] = (struct vmfuzz_part){ answer + head->to / 8, (head->length - head->to) / 8 };
	if (!head->kept)
		parts[1] = (struct vmfuzz_part){ answer + head->from / 8, (head->to - head->from) / 8 };
	return vmfuzz_encode(head, parts, 4, l->coded_answer.bytes);
}

static void serve(struct link *l)
{
	const struct vmfuzz_coded *request = (const void *)l->coded_request.bytes;
	struct vmfuzz_coded head = { .code = (uint32_t)serve_decoded(l), .length = (uint32_t)l->answer.length };
	struct vmfuzz_part whole = { (const uint64_t *)l->answer.bytes, head.length / 8 };

	if (request->code == VMFUZZ_IOC_RUN && l->answer.length > sizeof(struct vmfuzz_run))
		l->coded_answer.length = encode_run(l, &head);
	else
		l->coded_answer.length = vmfuzz_encode(&head, &whole, 1, l->coded_answer.bytes);
	l->served = 1;
}

/* A piece of a request. What came before is acknowledged again; what is ahead of what we have gets told where we are. */
static void put_piece(struct link *l, const struct vmfuzz_line_head *head, size_t length)
{
	const uint8_t *piece = (const uint8_t *)(head + 1);
	struct buffer *in = &l->coded_request;
	size_t i;

	if (head->number != l->number) {
		l->number = head->number;
		l->served = 0;
		in->length = 0;
	}
	if (head->offset == in->length && head->total <= in->most && length <= head->total - in->length) {
		for (i = 0; i < length; i++)
			in->bytes[in->length + i] = piece[i];
		in->length += length;
	}
	send(VMFUZZ_LINE_GOT, l->number, (uint32_t)in->length, head->total, NULL, 0);
	if (in->length != head->total)
		return;
	if (!l->served)
		serve(l);
	send_part(l, 0, VMFUZZ_LINE_PIECE);
}

void vmfuzz_link_hello(struct link *l)
{
	send(VMFUZZ_LINE_HELLO, 0, 0, sizeof(l->hello), &l->hello, sizeof(l->hello));
}

void vmfuzz_link_serve(struct link *l)
{
	const struct vmfuzz_line_head *head = (const void *)l->frame;

	for (;;) {
		size_t length = receive(l);

		if (!length)
			send(VMFUZZ_LINE_AGAIN, l->number, 0, 0, NULL, 0);
		else if (head->kind == VMFUZZ_LINE_HELLO)
			vmfuzz_link_hello(l);
		else if (head->kind == VMFUZZ_LINE_PUT)
			put_piece(l, head, length - sizeof(*head));
		else if (head->kind == VMFUZZ_LINE_GET && head->number == l->number)
			send_part(l, head->offset, head->total);
	}
}
