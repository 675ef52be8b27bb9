/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* link.h: the image's side of the line (line.h). What it stands on, below, is a UART in the image and a socket in the tests. */
#ifndef VMFUZZ_LINK_H
#define VMFUZZ_LINK_H

#include <stddef.h>
#include <stdint.h>

#include "coding.h"
#include "requests.h"

struct link {
	struct vmfuzz_line_hello hello;
	struct buffer request, answer;		/* as requests.h has them; 8-byte aligned */
	struct buffer coded_request, coded_answer;
	struct vmfuzz_kept kept __attribute__((aligned(8)));
	uint32_t number, served;	/* of the request that comes in, and whether it was served */
	/* as it comes, each of its bytes perhaps as two */
	uint8_t frame[2 * (VMFUZZ_LINE_PIECE + 64)] __attribute__((aligned(8)));
};

/* A byte of the line: waits for it. */
uint8_t vmfuzz_line_get(void);
void vmfuzz_line_put(uint8_t byte);

/* Called before and after a request is served, for whoever notes what is being done. */
void vmfuzz_serving(const struct vmfuzz_coded *request, const struct buffer *in);
void vmfuzz_served(int error);

/* Say who is here, then serve for ever. */
void vmfuzz_link_hello(struct link *l);
void vmfuzz_link_serve(struct link *l) __attribute__((noreturn));

#endif
