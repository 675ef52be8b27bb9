// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// words.c: what the kernel says about itself, KVM and a request: facts, the tracepoint, the log, the count of exits.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "machine.h"
#include "machine_calls.h"

#define PARAMETERS "/sys/module/kvm_intel/parameters"
#define IGNORE_MSRS "/sys/module/kvm/parameters/ignore_msrs"
#define TRACING "/sys/kernel/tracing"
#define EVENT "events/kvm/kvm_nested_vmenter_failed/enable"
#define MOST_PATH 200
#define LINE 2048

/* ---- facts ---- */

static void __attribute__((format(printf, 2, 3))) add(struct vmfuzz_kvm_facts *facts, const char *format, ...)
{
	size_t used = strlen(facts->text);
	va_list args;

	va_start(args, format);
	vsnprintf(facts->text + used, sizeof(facts->text) - used, format, args);
	va_end(args);
}

/* The first line of a small file, without its end; empty where it cannot be read. */
static void first_line(const char *path, char *line, int bytes)
{
	FILE *file = fopen(path, "re");

	line[0] = 0;
	if (!file)
		return;
	if (!fgets(line, bytes, file))
		line[0] = 0;
	line[strcspn(line, "\n")] = 0;
	fclose(file);
}

/* Vendor and family-model-stepping, in which errata are listed. */
static void add_processor(struct vmfuzz_kvm_facts *facts)
{
	unsigned int a = 0, b = 0, c = 0, d = 0, family, model;
	char vendor[13] = "";

	__get_cpuid(0, &a, &b, &c, &d);
	memcpy(vendor, &b, 4);
	memcpy(vendor + 4, &d, 4);
	memcpy(vendor + 8, &c, 4);
	__get_cpuid(1, &a, &b, &c, &d);
	family = a >> 8 & 15;
	model = a >> 4 & 15;
	if (family == 6 || family == 15)
		model |= a >> 12 & 0xf0;
	if (family == 15)
		family += a >> 20 & 0xff;
	add(facts, "processor=%s %u-%u-%u\nvmx=%u\n", vendor, family, model, a & 15, c >> 5 & 1);
}

static void add_parameters(struct vmfuzz_kvm_facts *facts)
{
	char path[MOST_PATH], value[64];
	DIR *folder = opendir(PARAMETERS);
	struct dirent *item;

	while (folder && (item = readdir(folder))) {
		if (item->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%.100s", PARAMETERS, item->d_name);
		first_line(path, value, sizeof(value));
		if (value[0])
			add(facts, "kvm_intel.%s=%s\n", item->d_name, value);
	}
	if (folder)
		closedir(folder);
}

void vmfuzz_kvm_facts(struct vmfuzz_kvm_facts *facts)
{
	struct utsname name = { 0 };
	char value[64];
	int file;

	memset(facts, 0, sizeof(*facts));
	uname(&name);
	add(facts, "release=%s\n", name.release);
	add_processor(facts);
	file = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	add(facts, "open=%d\n", file < 0 ? errno : 0);
	if (file >= 0)
		close(file);
	add(facts, "kvm_intel=%d\n", !access(PARAMETERS, F_OK));
	add(facts, "kvm_amd=%d\n", !access("/sys/module/kvm_amd", F_OK));
	first_line("/proc/sys/kernel/panic_on_warn", value, sizeof(value));
	add(facts, "panic_on_warn=%s\n", value);
	first_line(IGNORE_MSRS, value, sizeof(value));
	add(facts, "ignore_msrs=%s\n", value);
	add_parameters(facts);
}

/* ---- the tracepoint, in an instance of its own: nobody else's trace is touched ---- */

static int trace = -2, kmsg = -2;
static char instance[MOST_PATH];

static void remove_instance(void)
{
	close(trace);
	rmdir(instance);
}

static int write_to(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC), done = -1;

	if (file >= 0) {
		done = write(file, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
		close(file);
	}
	return done;
}

/* The instances of agents that were killed. */
static void remove_old_instances(void)
{
	DIR *folder = opendir(TRACING "/instances");
	struct dirent *item;
	char path[MOST_PATH];
	int pid;

	while (folder && (item = readdir(folder))) {
		if (sscanf(item->d_name, "vmfuzz-%d", &pid) != 1)
			continue;
		snprintf(path, sizeof(path), "/proc/%d", pid);
		if (access(path, F_OK)) {
			snprintf(path, sizeof(path), "%s/instances/%.100s", TRACING, item->d_name);
			rmdir(path);
		}
	}
	if (folder)
		closedir(folder);
}

static void open_trace(void)
{
	char path[MOST_PATH + 80];

	trace = -1;
	remove_old_instances();
	snprintf(instance, sizeof(instance), "%s/instances/vmfuzz-%d", TRACING, (int)getpid());
	if (mkdir(instance, 0700) && errno != EEXIST)
		return;
	snprintf(path, sizeof(path), "%s/%s", instance, EVENT);
	if (!write_to(path, "1")) {
		snprintf(path, sizeof(path), "%s/trace_pipe", instance);
		trace = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	if (trace < 0)
		rmdir(instance);
	else
		atexit(remove_instance);
}

/* What is there into `text`. The next request's words must be its own: what does not fit is dropped, without the kernel writing it out. */
static void read_trace(char *text, size_t most)
{
	char path[MOST_PATH + 80];
	size_t used = 0;
	ssize_t n;
	int whole;

	while (trace >= 0 && used + 1 < most) {
		n = read(trace, text + used, most - 1 - used);
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	text[used] = 0;
	if (trace < 0 || used + 1 < most)
		return;
	snprintf(path, sizeof(path), "%s/trace", instance);
	whole = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (whole >= 0)
		close(whole);
}

/* ---- the kernel's log ---- */

static int tells_trouble(const char *record)
{
	static const char *const words[] = { "WARNING:", "BUG:", "Oops", "kernel BUG", "general protection", "lockup", "self-detected stall" };
	unsigned int i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strstr(record, words[i]))
			return 1;
	return 0;
}

/* New records of the log that tell of trouble, one a line, into `text`. Each read of the file is one record. */
static void read_log(char *text, size_t most)
{
	char record[LINE];
	size_t used = 0;
	ssize_t n;

	text[0] = 0;
	while (kmsg >= 0) {
		n = read(kmsg, record, sizeof(record) - 1);
		if (n < 0 && errno == EPIPE)
			continue;	/* records were overwritten before they were read */
		if (n <= 0)
			break;
		record[n] = 0;
		record[strcspn(record, "\n")] = 0;
		if (tells_trouble(record) && strchr(record, ';'))
			used += (size_t)snprintf(text + used, most - used, "%s\n", strchr(record, ';') + 1);
		if (used >= most)
			used = most - 1;
	}
}

void vmfuzz_kvm_words_before(void)
{
	static char nothing[LINE];

	if (trace == -2)
		open_trace();
	if (kmsg == -2) {
		kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (kmsg >= 0)
			lseek(kmsg, 0, SEEK_END);
	}
	read_trace(nothing, sizeof(nothing));
}

void vmfuzz_kvm_words_after(struct vmfuzz_kvm_ran *ran)
{
	read_trace(ran->trace, sizeof(ran->trace));
	read_log(ran->log, sizeof(ran->log));
}

/* ---- the count of exits ---- */

/* KVM's own statistics of a virtual CPU (Linux 5.14 and newer): a header, descriptors with names, then the values. */
#ifdef KVM_GET_STATS_FD
/* Where the value of a statistic lies, -1 where there is none of this name. */
static off_t place_of(int file, const char *name)
{
	struct { struct kvm_stats_desc head; char name[128]; } item;
	struct kvm_stats_header head;
	uint32_t i;

	if (pread(file, &head, sizeof(head), 0) != sizeof(head) || head.name_size > sizeof(item.name))
		return -1;
	for (i = 0; i < head.num_desc; i++) {
		size_t bytes = sizeof(item.head) + head.name_size;

		if (pread(file, &item, bytes, (off_t)(head.desc_offset + i * bytes)) != (ssize_t)bytes)
			return -1;
		if (!strcmp(item.name, name))
			return (off_t)head.data_offset + item.head.offset;
	}
	return -1;
}

uint64_t vmfuzz_kvm_exits(int vcpu)
{
	static off_t place = -2;	/* not looked for yet; it is the same for all virtual CPUs */
	uint64_t value = 0;
	int file = ioctl(vcpu, KVM_GET_STATS_FD, NULL);

	if (file < 0)
		return 0;
	if (place == -2)
		place = place_of(file, "exits");
	if (place < 0 || pread(file, &value, sizeof(value), place) != sizeof(value))
		value = 0;
	close(file);
	return value;
}
#else
uint64_t vmfuzz_kvm_exits(int vcpu)
{
	(void)vcpu;
	return 0;
}
#endif
