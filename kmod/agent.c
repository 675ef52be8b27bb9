// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// agent.c: gives /dev/vmfuzz, or with --kvm /dev/kvm, to an executor elsewhere: frames on standard input, answers on standard output.
/*
 * Meant to be built statically and started through ssh or a serial line by vmfuzz itself. A frame is struct vmfuzz_frame and
 * `length` bytes, those of requests.h; an answer has the ioctl's errno in `code`. With --kvm, requests are those of
 * src/vmfuzz/execute/kvm/machine.h, and FACTS tells whoever asks that this agent is such a one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "machine_calls.h"
#include "requests.h"
#include "vmfuzz_uapi.h"

#define MAGIC 0x7a667676u
#define MOST_BYTES (64u << 20)

struct vmfuzz_frame {
	uint32_t magic;
	uint32_t code;
	uint64_t length;
};

static int device = -1;
static int serves_kvm;

/* The module serves one CPU a file. Stay on the last that we may use: the kernel misses the first one most. */
static void pin(void)
{
	cpu_set_t set;
	int cpu = CPU_SETSIZE - 1;

	if (sched_getaffinity(0, sizeof(set), &set))
		return;
	while (cpu && !CPU_ISSET(cpu, &set))
		cpu--;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

int vmfuzz_call(unsigned long request, void *argument)
{
	if (device < 0)
		pin();
	if (device < 0)
		device = open("/dev/vmfuzz", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return errno == EACCES ? EPERM : errno;	/* EACCES of a request says that the firmware disabled VMX */
	return ioctl(device, request, argument) ? errno : 0;
}

/* One of the requests of machine.h. */
static int serve_kvm(uint32_t code, const struct buffer *in, struct buffer *out)
{
	if (code == VMFUZZ_KVM_OPEN)
		return vmfuzz_kvm_open(in->bytes, in->length);
	if (code == VMFUZZ_KVM_RUN)
		return vmfuzz_kvm_run(in->bytes, in->length, out->bytes, MOST_BYTES, &out->length);
	vmfuzz_kvm_facts((struct vmfuzz_kvm_facts *)out->bytes);
	out->length = sizeof(struct vmfuzz_kvm_facts);
	return 0;
}

/* Serve one request; `in` may be written to. Returns an errno. */
static int serve_one(uint32_t code, const struct buffer *in, struct buffer *out)
{
	out->length = 0;
	if (serves_kvm && code >= VMFUZZ_KVM_FACTS && code <= VMFUZZ_KVM_RUN)
		return serve_kvm(code, in, out);
	return vmfuzz_serve_request(code, in, out);
}

static void allocate(struct buffer *b)
{
	b->bytes = malloc(MOST_BYTES);
	b->length = 0;
	b->most = MOST_BYTES;
	if (!b->bytes) {
		fprintf(stderr, "vmfuzz-agent: no memory\n");
		exit(1);
	}
}

static int read_all(int fd, void *to, size_t length)
{
	while (length) {
		ssize_t n = read(fd, to, length);

		if (n <= 0)
			return 0;
		to = (char *)to + n;
		length -= (size_t)n;
	}
	return 1;
}

static int write_all(int fd, const void *from, size_t length)
{
	while (length) {
		ssize_t n = write(fd, from, length);

		if (n <= 0)
			return 0;
		from = (const char *)from + n;
		length -= (size_t)n;
	}
	return 1;
}

int main(int argc, char **argv)
{
	struct buffer in, out;
	struct vmfuzz_frame frame;

	serves_kvm = argc == 2 && !strcmp(argv[1], "--kvm");
	if (argc > 1 && !serves_kvm) {
		fprintf(stderr, "usage: vmfuzz-agent [--kvm]\n");
		return 2;
	}
	allocate(&in);
	allocate(&out);
	while (read_all(0, &frame, sizeof(frame))) {
		if (frame.magic != MAGIC || frame.length > MOST_BYTES) {
			fprintf(stderr, "vmfuzz-agent: not a vmfuzz frame; start it from vmfuzz\n");
			return 1;
		}
		in.length = frame.length;
		if (!read_all(0, in.bytes, in.length))
			return 1;
		frame.code = (uint32_t)serve_one(frame.code, &in, &out);
		frame.length = out.length;
		if (!write_all(1, &frame, sizeof(frame)) || !write_all(1, out.bytes, out.length))
			return 1;
	}
	return 0;
}
