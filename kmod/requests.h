/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* requests.h: the bytes of a request that came over a line, served by the module: for the agent on Linux and for the bootable image. */
#ifndef VMFUZZ_REQUESTS_H
#define VMFUZZ_REQUESTS_H

#include <stddef.h>
#include <stdint.h>

struct buffer {
	unsigned char *bytes;
	size_t length, most;
};

/* The module's ioctl, wherever it is: returns an errno, 0 when it worked. */
int vmfuzz_call(unsigned long request, void *argument);

/*
 * Serve one request. Requests carry an ioctl's structure; VMFUZZ_IOC_RUN appends what its pointers name: base, columns, restore, rows. The answer has
 * the structure; after a run also the results, without the rows' values, and the words of the arena that are not 0 as pairs (offset, value)
 * behind their number. `in` is written to. Returns the ioctl's errno; EMSGSIZE for a request that is shorter or longer than it says, or whose
 * answer does not fit.
 */
int vmfuzz_serve_request(uint32_t code, const struct buffer *in, struct buffer *out);

#endif
