// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// start.c: from boot.S to serving, or to the one case that an exported image carries: says what this is, what is missing, and how to connect.
#include "coding.h"
#include "image.h"
#include "link.h"
#include "vmfuzz.h"

#define ANSWER_BYTES (VMFUZZ_LINE_REQUEST + (1u << 20))
#define LEAST_MEMORY (32ull << 20)

extern const struct miscdevice *const vmfuzz_misc_device;
void image_main(u32 multiboot);

static struct file file;
static struct link link;

/* The module's ioctl. */
int vmfuzz_call(unsigned long request, void *argument)
{
	return (int)-vmfuzz_misc_device->fops->unlocked_ioctl(&file, (unsigned int)request, (unsigned long)argument);
}

static struct buffer buffer(size_t bytes)
{
	return (struct buffer){ take_memory(bytes, 64), 0, bytes };
}

static bool take_buffers(void)
{
	link.request = buffer(VMFUZZ_LINE_REQUEST);
	link.coded_request = buffer(vmfuzz_most_coded(VMFUZZ_LINE_REQUEST));
	link.answer = buffer(ANSWER_BYTES);
	link.coded_answer = buffer(vmfuzz_most_coded(ANSWER_BYTES));
	return link.request.bytes && link.coded_request.bytes && link.answer.bytes && link.coded_answer.bytes &&
	       !vmfuzz_misc_device->fops->open(NULL, &file);
}

void image_main(u32 multiboot)
{
	console_init();
	vmfuzz_line_put(VMFUZZ_LINE_END);	/* ends whatever the machine was sending when it was reset */
	exceptions_init();
	memory_init((const u32 *)(HIGH + multiboot));
	printk("\nvmfuzz: %s", case_is_there() ? "this image executes one VM entry (Intel VMX) and says what was expected.\n"
					   : "this image executes VM entries (Intel VMX) that vmfuzz on another\nmachine sends over a serial line.\n");
	vmx_tell();
	if (memory_left() < LEAST_MEMORY || !take_buffers()) {
		printk("Too little memory in one piece: %llu MiB. Give the machine 128 MiB or more.\n", (u64)memory_left() >> 20);
		return;
	}
	link.hello.version = VMFUZZ_LINE_VERSION;
	link.hello.uapi_version = VMFUZZ_UAPI_VERSION;
	black_box_tell(&link.hello);
	link.hello.boot = tsc() ^ link.hello.boots << 56;
	if (case_is_there()) {
		vmx_lock();
		case_run(&link.hello);
		return;
	}
	if (!console_has_line()) {
		printk("No serial port at 3F8H: give the machine one, and boot again.\n");
		return;
	}
	printk("Connect to the first serial port (3F8H, %u baud, 8N1):\n  vmfuzz run --executor serial:WHERE\n", VMFUZZ_LINE_BAUD);
	vmx_lock();
	vmfuzz_link_hello(&link);
	vmfuzz_link_serve(&link);
}
