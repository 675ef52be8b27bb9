// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// host_image.c: the image's side of the line (image/link.c) as a process: the line is standard input and output, requests are the tests'.
/*
 * host_image [BOOT DIED DIGEST ROW]: what it says of itself. Requests: ECHO sends back each byte plus 1, and its length as errno; DIE starts the
 * process anew, as if the machine had been reset in row 5; HANG never answers; TALK writes text to the line and then does as ECHO.
 * VMFUZZ_IOC_RUN answers with the results that stand in its rows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coding.h"
#include "link.h"
#include "vmfuzz_uapi.h"

enum { ECHO = 1, DIE = 2, HANG = 3, TALK = 4 };
enum { ROW = 5 };

static const char *program;
static unsigned long long boot = 1, digest;

uint8_t vmfuzz_line_get(void)
{
	int byte = getchar();

	if (byte == EOF)
		exit(0);
	return (uint8_t)byte;
}

/* Flushed after each frame, which nobody sends half of. */
void vmfuzz_line_put(uint8_t byte)
{
	putchar(byte);
	if (byte == VMFUZZ_LINE_END)
		fflush(stdout);
}

void vmfuzz_serving(const struct vmfuzz_coded *request, const struct buffer *in)
{
	(void)in;
	digest = request->digest;
}

void vmfuzz_served(int error)
{
	(void)error;
}

static void die(void)
{
	char said[4][32];

	snprintf(said[0], sizeof(said[0]), "%llu", boot + 1);
	snprintf(said[1], sizeof(said[1]), "%d", VMFUZZ_DIED_ROW);
	snprintf(said[2], sizeof(said[2]), "%llu", digest);
	snprintf(said[3], sizeof(said[3]), "%d", ROW);
	execl(program, program, said[0], said[1], said[2], said[3], (char *)NULL);
	abort();
}

/* The results that stand in the rows, and 16 bytes for the arena. */
static int run(const struct buffer *in, struct buffer *out)
{
	const struct vmfuzz_run *head = (const void *)in->bytes;
	const unsigned char *rows = in->bytes + in->length - head->row_count * head->row_bytes;
	size_t i;

	memcpy(out->bytes, head, sizeof(*head));
	out->length = sizeof(*head);
	for (i = 0; i < head->row_count; i++, out->length += sizeof(struct vmfuzz_result))
		memcpy(out->bytes + out->length, rows + i * head->row_bytes, sizeof(struct vmfuzz_result));
	for (i = 1; i <= 16; i++)
		out->bytes[out->length++] = (uint8_t)i;
	return 0;
}

int vmfuzz_serve_request(uint32_t code, const struct buffer *in, struct buffer *out)
{
	size_t i;

	if (code == VMFUZZ_IOC_RUN)
		return run(in, out);
	if (code == DIE)
		die();
	if (code == HANG)
		pause();
	if (code == TALK)
		printf("text of the image\r\n");
	for (i = 0; i < in->length; i++)
		out->bytes[i] = (uint8_t)(in->bytes[i] + 1);
	out->length = in->length;
	return (int)in->length;
}

static struct buffer buffer(size_t bytes)
{
	return (struct buffer){ calloc(1, bytes), 0, bytes };
}

int main(int argc, char **argv)
{
	static struct link l;

	program = argv[0];
	l.request = buffer(VMFUZZ_LINE_REQUEST);
	l.answer = buffer(VMFUZZ_LINE_REQUEST);
	l.coded_request = buffer(vmfuzz_most_coded(VMFUZZ_LINE_REQUEST));
	l.coded_answer = buffer(vmfuzz_most_coded(VMFUZZ_LINE_REQUEST));
	l.hello.version = VMFUZZ_LINE_VERSION;
	if (argc == 5) {
		boot = strtoull(argv[1], NULL, 0);
		l.hello.died = (uint32_t)strtoul(argv[2], NULL, 0);
		l.hello.digest = strtoull(argv[3], NULL, 0);
		l.hello.row = strtoull(argv[4], NULL, 0);
	}
	l.hello.boot = l.hello.boots = boot;
	printf("\r\nfirmware says nothing of interest\r\n");
	vmfuzz_link_hello(&l);
	vmfuzz_link_serve(&l);
}
