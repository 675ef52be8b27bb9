// guest.c: the program inside the test machine: serves requests through a disk, misuses the device, and loads it.
/*
 * guest mailbox DISK: the agent's frames, but through two places of a disk image that the outside reads and writes as a file.
 * guest misuse: every request with wrong sizes, versions, pointers and counts, and a bounded fuzz. Prints FAIL lines and "misuse done".
 * guest raw SEED REQUESTS RISK [bochs-2.7]: runs of raw rows: several columns, bits flipped, values wider than their fields, addresses and
 *	words of the arena, live conditions, the request itself damaged a little: what gets through is entered. "bochs-2.7" leaves out what ends
 *	that emulator with a panic. Prints FAIL where a row and the same row cut to the width of its fields do not end alike.
 * guest race REQUESTS: threads that share one file, and change the rows and the request while the module works on them.
 * guest cycles COUNT: opens, captures, runs and closes so often, to see whether anything is left behind.
 * guest stress BATCHES: captures and runs the known-good VMCS, without end for 0, to be killed.
 * guest signals MICROSECONDS: a batch that signals interrupt all the time; goes on with the row after the last one.
 * guest inherit CPU: captures here, runs in a child on another CPU.
 * guest thread CPU: captures on this CPU, runs there in another thread, whose host state differs in IA32_FS_BASE.
 * guest kvm: creates a virtual machine of KVM, says so, and keeps it until it is killed.
 * guest frames: prints what vmfuzz sends to the agent: a capture, then a run of many rows of the known-good VMCS.
 * guest agent [--kvm]: is the agent.
 */
#define _GNU_SOURCE
#define main agent_main
#include "../../kmod/agent.c"
#include "../../kmod/requests.c"
#undef main
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <stddef.h>

#define CODE_SHELL 0x100u
#define REPLY_HEAD 4096
#define REQUEST_DATA (1ull << 20)
#define REPLY_DATA (80ull << 20)
#define BLOCK 4096

struct head {
	struct vmfuzz_frame frame;
	uint64_t number;
};

static void *aligned(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static size_t blocks(size_t length)
{
	return (length + BLOCK - 1) / BLOCK * BLOCK;
}

/* In pieces: a bio of the kernel has a limit. */
static int transfer(int disk, int writing, unsigned char *bytes, size_t length, off_t at)
{
	size_t done, piece;
	ssize_t n;

	for (done = 0; done < blocks(length); done += piece) {
		piece = blocks(length) - done < (256u << 10) ? blocks(length) - done : 256u << 10;
		n = writing ? pwrite(disk, bytes + done, piece, at + (off_t)done) : pread(disk, bytes + done, piece, at + (off_t)done);
		if (n != (ssize_t)piece)
			return 0;
	}
	return 1;
}

static uint32_t run_shell(const struct buffer *in, struct buffer *out)
{
	FILE *pipe;
	char piece[4096];
	size_t n;

	in->bytes[in->length] = 0;
	out->length = 0;
	pipe = popen((char *)in->bytes, "r");
	if (!pipe)
		return (uint32_t)errno;
	while ((n = fread(piece, 1, sizeof(piece), pipe)) > 0)
		append(out, piece, n);
	return (uint32_t)WEXITSTATUS(pclose(pipe));
}

static int mailbox(const char *path)
{
	int disk = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	unsigned char *page = aligned(BLOCK);
	struct head *head = (struct head *)page;
	struct buffer in = { aligned(MOST_BYTES + BLOCK), 0, MOST_BYTES }, out = { aligned(MOST_BYTES + BLOCK), 0, MOST_BYTES };
	uint64_t number = 0;

	if (disk < 0)
		return 1;
	serves_kvm = 1;
	for (;;) {
		if (pread(disk, page, BLOCK, 0) != BLOCK)
			return 1;
		if (head->frame.magic != MAGIC || head->number == number) {
			sched_yield();
			continue;
		}
		number = head->number;
		in.length = head->frame.length;
		if (!transfer(disk, 0, in.bytes, in.length, REQUEST_DATA))
			return 1;
		if (head->frame.code == CODE_SHELL && !in.length)
			return 0;
		if (head->frame.code == 0xe600) {	/* close the devices */
			close(device);
			device = -1;
			vmfuzz_kvm_close();
			out.length = 0;
			head->frame.code = 0;
		} else if (head->frame.code == CODE_SHELL) {
			head->frame.code = run_shell(&in, &out);
		} else {
			head->frame.code = (uint32_t)serve_one(head->frame.code, &in, &out);
		}
		head->frame.length = out.length;
		if (!transfer(disk, 1, out.bytes, out.length, REPLY_DATA) || pwrite(disk, page, BLOCK, REPLY_HEAD) != BLOCK)
			return 1;
	}
}

/* ---- misuse ---- */

static int failures;

static void expect(const char *what, int got, int wanted)
{
	if (got == wanted)
		return;
	printf("FAIL %s: errno %d (%s), expected %d (%s)\n", what, got, strerror(got), wanted, strerror(wanted));
	failures++;
}

static struct vmfuzz_run good_run(void)
{
	struct vmfuzz_run run = { .size = sizeof(run), .version = VMFUZZ_UAPI_VERSION, .row_bytes = sizeof(struct vmfuzz_result) };

	return run;
}

static int try_run(struct vmfuzz_run run)
{
	return vmfuzz_call(VMFUZZ_IOC_RUN, &run);
}

static void heads(void)
{
	static const struct {
		const char *name;
		unsigned long request;
		size_t size;
	} all[] = {
		{ "info", VMFUZZ_IOC_INFO, sizeof(struct vmfuzz_info) },
		{ "capture", VMFUZZ_IOC_CAPTURE, sizeof(struct vmfuzz_capture) },
		{ "run", VMFUZZ_IOC_RUN, sizeof(struct vmfuzz_run) },
	};
	static uint32_t memory[8192];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		memory[0] = (uint32_t)all[i].size + 1;
		memory[1] = VMFUZZ_UAPI_VERSION;
		expect(all[i].name, vmfuzz_call(all[i].request, memory), EINVAL);
		memory[0] = 0;
		expect(all[i].name, vmfuzz_call(all[i].request, memory), EINVAL);
		memory[0] = (uint32_t)all[i].size;
		memory[1] = VMFUZZ_UAPI_VERSION + 1;
		expect(all[i].name, vmfuzz_call(all[i].request, memory), EINVAL);
		expect(all[i].name, vmfuzz_call(all[i].request, NULL), EFAULT);
		expect(all[i].name, vmfuzz_call(all[i].request, (void *)0xffffffff81000000ul), EFAULT);
		expect(all[i].name, vmfuzz_call(all[i].request, (void *)0x8000000000000000ul), EFAULT);
	}
	expect("no such request", vmfuzz_call(0xe604, memory), ENOTTY);
	expect("no such request", vmfuzz_call(0, memory), ENOTTY);
	expect("no such request", vmfuzz_call(~0u, memory), ENOTTY);
}

static void counts(void)
{
	struct vmfuzz_run run;

#define BAD(change) do { run = good_run(); change; expect(#change, try_run(run), EINVAL); } while (0)
	BAD(run.flags = 2);
	BAD(run.flags = ~0u);
	BAD(run.flags = VMFUZZ_FLAG_VIRTUAL);	/* the image's alone */
	BAD(run.risk = 2);
	BAD(run.pad = 1);
	BAD(run.base_count = VMFUZZ_MAX_BASE + 1);
	BAD(run.base_count = ~0ull);
	BAD(run.field_columns = VMFUZZ_MAX_COLUMNS + 1);
	BAD((run.field_columns = 0xffffffff, run.arena_columns = 1));
	BAD(run.restore_count = VMFUZZ_MAX_FIELDS + 1);
	BAD(run.row_bytes = 0);
	BAD(run.row_bytes++);
	BAD(run.row_count = VMFUZZ_MAX_ROWS + 1ull);
	BAD(run.row_count = ~0ull);
}

static void contents(void)
{
	static uint64_t targets[4];
	static struct vmfuzz_pair base[2];
	struct vmfuzz_run run;

#define TARGET(value) do { run = good_run(); run.field_columns = 1; run.row_bytes += 8; targets[0] = (value); \
	run.columns = (uintptr_t)targets; expect("column " #value, try_run(run), EINVAL); } while (0)
	TARGET(0x2001);		/* high half */
	TARGET(0x2080);		/* index 64 */
	TARGET(0x8000);
	TARGET(1ull << 63);	/* the arena is not a field */
	TARGET(1ull << 32);
	TARGET(~0ull);
#define BASE(value) do { run = good_run(); base[0].target = (value); run.base = (uintptr_t)base; run.base_count = 1; \
	expect("base " #value, try_run(run), EINVAL); } while (0)
	BASE(0x2001);
	BASE(1ull << 63 | VMFUZZ_ARENA_PAGES * VMFUZZ_PAGE);
	BASE(1ull << 63 | 4);
	BASE(1ull << 32);
	run = good_run();
	run.restore_count = 1;
	run.restore = (uintptr_t)targets;
	targets[0] = 0x6c16;
	expect("restore of a host field", try_run(run), EINVAL);
	run = good_run();
	run.field_columns = 2;
	run.row_bytes += 16;
	run.columns = (uintptr_t)targets;
	targets[0] = targets[1] = 0x6800;
	expect("two equal columns", try_run(run), EINVAL);
	run = good_run();
	run.row_count = 10;
	run.rows = 0xffffffff81000000ul;
	expect("rows in the kernel", try_run(run), EFAULT);
	run.rows = 0;
	expect("rows at 0", try_run(run), EFAULT);
	run = good_run();
	run.base_count = 1;
	expect("base at 0", try_run(run), EFAULT);
	run = good_run();
	run.arena = 8;
	expect("arena at 8", try_run(run), EFAULT);
}

/* xorshift: the same requests each time. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static void fuzz(unsigned int count)
{
	static unsigned char rows[1 << 16];
	static uint64_t targets[512];
	static struct vmfuzz_pair base[4096];
	uint64_t state = 88172645463325252ull, r;
	unsigned int i, k;

	for (i = 0; i < count; i++) {
		struct vmfuzz_run run = good_run();
		uint64_t *words = (uint64_t *)&run;

		for (k = 0; k < 512; k++)
			targets[k] = next_random(&state) % 3 ? next_random(&state) & 0x6c7e : next_random(&state);
		for (k = 0; k < 64; k++)
			base[k] = (struct vmfuzz_pair){ next_random(&state) & 0x6c7e, next_random(&state) };
		for (k = 0; k < sizeof(rows) / 8; k++)
			((uint64_t *)rows)[k] = state * (k + 1);
		run.base = (uintptr_t)base;
		run.base_count = next_random(&state) % 65;
		run.columns = (uintptr_t)targets;
		run.field_columns = next_random(&state) % 8;
		run.restore = (uintptr_t)targets;
		run.restore_count = next_random(&state) % 8;
		run.row_bytes += 8 * run.field_columns;
		run.rows = (uintptr_t)rows;
		run.row_count = next_random(&state) % 500;
		r = next_random(&state);
		if (r % 4 == 0)
			words[(r >> 8) % 16] = next_random(&state) >> (r >> 16) % 64;
		try_run(run);
	}
}

static int misuse(int with_vmx)
{
	int second;

	expect("open", vmfuzz_call(0, NULL) == ENOTTY ? 0 : errno, 0);
	second = open("/dev/vmfuzz", O_RDWR);
	expect("second open", second < 0 ? errno : 0, EBUSY);
	if (!fork()) {
		close(device);	/* the file stays open in the parent */
		expect("open in a child without rights", setuid(1000) || open("/dev/vmfuzz", O_RDWR) >= 0 ? 0 : errno, EACCES);
		fflush(stdout);
		_exit(failures);
	}
	wait(&second);
	failures += WEXITSTATUS(second);
	heads();
	counts();
	expect("run before capture", try_run(good_run()), with_vmx ? ENODATA : ENODEV);
	if (with_vmx) {
		struct vmfuzz_capture capture = { .size = sizeof(capture), .version = VMFUZZ_UAPI_VERSION };

		expect("capture", vmfuzz_call(VMFUZZ_IOC_CAPTURE, &capture), 0);
		contents();
	} else {
		struct vmfuzz_info info = { .size = sizeof(info), .version = VMFUZZ_UAPI_VERSION };
		struct vmfuzz_capture capture = { .size = sizeof(capture), .version = VMFUZZ_UAPI_VERSION };

		expect("info", vmfuzz_call(VMFUZZ_IOC_INFO, &info), ENODEV);
		expect("capture", vmfuzz_call(VMFUZZ_IOC_CAPTURE, &capture), ENODEV);
	}
	fuzz(2000);
	printf("misuse done, %d failures\n", failures);
	return failures != 0;
}

/* ---- with VMX ---- */


/* Memory with nothing of ours within a gigabyte, in either direction of any of its low bits: requests with damaged pointers write there. */
static unsigned char *reserve(size_t bytes)
{
	size_t far = 1ul << 30;
	unsigned char *p = mmap(NULL, 3 * far, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	p = (unsigned char *)(((uintptr_t)p + far - 1) & ~(far - 1));
	if (mprotect(p, (bytes + BLOCK - 1) & ~(size_t)(BLOCK - 1), PROT_READ | PROT_WRITE))
		exit(1);
	return p;
}

static struct vmfuzz_capture known = { .size = sizeof(known), .version = VMFUZZ_UAPI_VERSION };

static struct vmfuzz_run known_run(void)
{
	struct vmfuzz_run run = good_run();

	run.base = (uintptr_t)known.fields;
	run.base_count = known.field_count;
	return run;
}

/* One bit more or less in one of the request's words, one time in eight. */
static void damage(struct vmfuzz_run *run, uint64_t *state)
{
	uint64_t r = next_random(state);

	if (r % 8 == 0)
		((uint64_t *)run)[(r >> 8) % 16] ^= 1ull << ((r >> 16) % 64);
}

#define RAW_COLUMNS 14
#define RAW_ROWS 200
#define RAW_BYTES (RAW_ROWS * (sizeof(struct vmfuzz_result) + 8 * RAW_COLUMNS))
#define ENTRY_CONTROLS 0x4012
#define INTERRUPTION_INFO 0x4016
#define ACTIVITY_STATE 0x4826
#define GUEST_CR0 0x6800

static uint64_t arena_pa;
static struct {
	unsigned int requests, errors, rows, entered, failed, refused, wide, compared, differ;
} count;

/* The captured field, NULL where the processor has none. */
static const struct vmfuzz_pair *known_field(uint64_t target)
{
	unsigned int f;

	for (f = 0; f < known.field_count; f++)
		if (known.fields[f].target == target)
			return &known.fields[f];
	return NULL;
}

/* The bits that a field has. */
static uint64_t field_mask(uint64_t target)
{
	static const uint64_t mask[] = { 0xffff, ~0ull, 0xffffffff, ~0ull };

	return target < 1u << 16 ? mask[target >> 13 & 3] : ~0ull;
}

/* One of a field's values that is worth a try; one in five of a narrow field has bits that the field has not. */
static uint64_t raw_value(uint64_t target, uint64_t *state)
{
	uint64_t r = next_random(state), value = known_field(target)->value, mask = field_mask(target), i;
	unsigned int width = (unsigned int)__builtin_popcountll(mask), what = r % 100;
	const uint64_t edges[] = { 0, 1, 2, 3, 4, mask };

	if (what >= 35 && what < 70)
		for (i = 0; i <= (r >> 8) % 3; i++)
			value ^= 1ull << next_random(state) % width;
	else if (what < 80 && what >= 70)
		value = arena_pa + next_random(state) % (VMFUZZ_ARENA_PAGES * VMFUZZ_PAGE / 8) * 8;
	else if (what < 90 && what >= 80)
		value = next_random(state);
	else if (what >= 90)
		value = edges[next_random(state) % 6];
	value &= mask;
	if (~mask && (r >> 16) % 5 == 0)
		value |= next_random(state) & ~mask;
	return value;
}

/* Fields, often those that say what the others mean; then words of the arena, often of the walls; then a live condition. */
static void raw_columns(struct vmfuzz_run *run, uint64_t *targets, uint64_t *state)
{
	static const uint16_t favourites[] = { 0x4000, 0x4002, 0x401e, 0x2034, 0x400c, ENTRY_CONTROLS, INTERRUPTION_INFO, ACTIVITY_STATE, GUEST_CR0, 0x6820 };
	unsigned int wanted = 1 + next_random(state) % 8, words = next_random(state) % 5 < 2 ? 1 + next_random(state) % 3 : 0, i, n = 0;

	while (n < wanted + words) {
		uint64_t r = next_random(state), target = known.fields[(r >> 8) % known.field_count].target;

		if (r % 3 == 0)
			target = favourites[(r >> 8) % (sizeof(favourites) / sizeof(*favourites))];
		if (n >= wanted)
			target = 1ull << 63 | (r >> 8) % (r % 4 ? VMFUZZ_ARENA_PAGES * VMFUZZ_PAGE / 8 : 1024) * 8;
		for (i = 0; i < n && targets[i] != target; i++)
			;
		if (i == n && (n >= wanted || known_field(target)))
			targets[n++] = target;
	}
	run->field_columns = wanted;
	run->arena_columns = words;
	run->live_columns = next_random(state) % 8 == 0;
	targets[n] = 1ull << 32 | next_random(state) % VMFUZZ_LIVE_COUNT;
}

static uint64_t *row_value(const struct vmfuzz_run *run, const uint64_t *targets, uint64_t *values, uint64_t target)
{
	unsigned int c;

	for (c = 0; c < run->field_columns; c++)
		if (targets[c] == target)
			return values + c;
	return NULL;
}

/* Bochs 2.7 panics when an "other" event is injected, and when a guest without protection has IA32_EFER.LMA = 1. */
static void without_panic(const struct vmfuzz_run *run, const uint64_t *targets, uint64_t *values)
{
	uint64_t *info = row_value(run, targets, values, INTERRUPTION_INFO), *cr0 = row_value(run, targets, values, GUEST_CR0);

	if (info && (*info & 0x80000700) == 0x80000700)
		*info ^= 0x100;
	if (cr0)
		*cr0 |= 1;
}

static void raw_rows(const struct vmfuzz_run *run, const uint64_t *targets, unsigned char *rows, uint64_t *state, int panics)
{
	uint64_t k, c, columns = run->field_columns + run->arena_columns + run->live_columns;

	for (k = 0; k < run->row_count; k++) {
		uint64_t *values = (uint64_t *)(rows + k * run->row_bytes + sizeof(struct vmfuzz_result));

		for (c = 0; c < columns; c++)
			values[c] = targets[c] >> 63 ? next_random(state) : targets[c] >> 32 ? next_random(state) % 2 : raw_value(targets[c], state);
		if (!panics)
			without_panic(run, targets, values);
		for (c = 0; c < run->field_columns; c++)
			if (values[c] & ~field_mask(targets[c])) {
				count.wide++;
				break;
			}
	}
}

static void tally(const struct vmfuzz_run *run, const unsigned char *rows)
{
	uint64_t k;

	for (k = 0; k < run->rows_done; k++) {
		unsigned int kind = rows[k * run->row_bytes];

		count.rows++;
		count.entered += kind == VMFUZZ_KIND_EXIT;
		count.failed += kind == VMFUZZ_KIND_ENTRY_FAILURE || kind == VMFUZZ_KIND_VMFAIL_VALID || kind == VMFUZZ_KIND_VMFAIL_INVALID;
		count.refused += kind == VMFUZZ_KIND_REFUSED;
	}
}

/* The same rows, cut to the width of their fields, end in the same way. */
static void compare_cut(struct vmfuzz_run run, const uint64_t *targets, const unsigned char *rows, unsigned char *others)
{
	uint64_t k, c;

	memcpy(others, rows, run.row_count * run.row_bytes);
	for (k = 0; k < run.row_count; k++) {
		uint64_t *values = (uint64_t *)(others + k * run.row_bytes + sizeof(struct vmfuzz_result));

		for (c = 0; c < run.field_columns; c++)
			values[c] &= field_mask(targets[c]);
	}
	run.rows = (uintptr_t)others;
	run.rows_done = 0;
	if (try_run(run))
		return;
	for (k = 0; k < run.row_count; k++) {
		count.compared++;
		if (memcmp(rows + k * run.row_bytes, others + k * run.row_bytes, sizeof(struct vmfuzz_result))) {
			printf("FAIL request %u, row %llu: kind %u and %u\n", count.requests, (unsigned long long)k, rows[k * run.row_bytes],
			       others[k * run.row_bytes]);
			count.differ++;
		}
	}
}

static int raw(uint64_t seed, unsigned int requests, unsigned int risk, int panics)
{
	unsigned char *rows = reserve(RAW_BYTES), *others = reserve(RAW_BYTES);
	static struct vmfuzz_info info = { .size = sizeof(info), .version = VMFUZZ_UAPI_VERSION };
	static uint64_t targets[RAW_COLUMNS];
	uint64_t state = (seed + 1) * 0x9e3779b97f4a7c15ull, i;

	if (vmfuzz_call(VMFUZZ_IOC_INFO, &info) || vmfuzz_call(VMFUZZ_IOC_CAPTURE, &known))
		return 1;
	arena_pa = info.arena_pa;
	for (i = 0; i < 16; i++)
		next_random(&state);
	for (; count.requests < requests; count.requests++) {
		struct vmfuzz_run run = known_run();

		raw_columns(&run, targets, &state);
		run.row_bytes += 8 * (run.field_columns + run.arena_columns + run.live_columns);
		run.row_count = 1 + next_random(&state) % RAW_ROWS;
		run.risk = risk;
		run.flags = next_random(&state) % 16 == 0;
		run.columns = (uintptr_t)targets;
		run.rows = (uintptr_t)rows;
		raw_rows(&run, targets, rows, &state, panics);
		damage(&run, &state);
		if (vmfuzz_call(VMFUZZ_IOC_RUN, &run)) {
			count.errors++;
		} else if (run.row_count <= RAW_ROWS && run.rows == (uintptr_t)rows && run.row_count * run.row_bytes <= RAW_BYTES) {
			tally(&run, rows);
			if (next_random(&state) % 8 == 0 && run.rows_done == run.row_count && !run.flags)
				compare_cut(run, targets, rows, others);
		}
	}
	printf("raw done: %u requests, %u errors; %u rows, %u entered, %u failed, %u refused, %u wide; %u compared, %u differ\n", count.requests,
	       count.errors, count.rows, count.entered, count.failed, count.refused, count.wide, count.compared, count.differ);
	return count.differ != 0;
}

#define SHARED_ROWS 300
#define SHARED_BYTES (SHARED_ROWS * (sizeof(struct vmfuzz_result) + 8))
static unsigned char *shared_rows;
static struct vmfuzz_run shared_run;
static uint64_t shared_target = 0x6816;		/* guest_gdtr_base */
static volatile int stop;
static unsigned int wanted;
static unsigned int raced[3];

/* Runs the shared request, whatever it says at the moment, until enough of them ran and were refused. */
static void *racing(void *unused)
{
	unsigned int i;

	for (i = 0; i < 50 * wanted && (raced[0] < wanted || raced[1] < wanted / 10); i++) {
		int error = ioctl(device, VMFUZZ_IOC_RUN, &shared_run) ? errno : 0;

		__atomic_add_fetch(&raced[!error ? 0 : error == EINVAL || error == EFAULT || error == EXDEV ? 1 : 2], 1, __ATOMIC_RELAXED);
		sched_yield();
	}
	return unused;
}

static void *changing(void *unused)
{
	uint64_t state = 1234567, r;

	while (!stop) {
		r = next_random(&state);
		((uint64_t *)shared_rows)[(r >> 8) % (SHARED_BYTES / 8)] = next_random(&state);
		if (r % 7 == 0)
			shared_run.row_count = (r >> 32) % (SHARED_ROWS + 1);
		if (r % 11 == 0)
			shared_run.row_bytes = sizeof(struct vmfuzz_result) + 8 + (r >> 32 & 1) * 8;
		if (r % 13 == 0)
			shared_target = r >> 40 & 1 ? 0x6c16 : 0x6816;
		if (r % 17 == 0)	/* restore_count, rows, row_bytes, row_count */
			((uint64_t *)&shared_run)[(r >> 8) % 4 + 8] ^= 1ull << ((r >> 16) % 64);
		if (r % 5 == 0)
			sched_yield();
		if (r % 19 == 0) {
			shared_run = known_run();
			shared_run.field_columns = 1;
			shared_run.row_bytes += 8;
			shared_run.columns = (uintptr_t)&shared_target;
			shared_run.rows = (uintptr_t)shared_rows;
			shared_run.row_count = SHARED_ROWS;
		}
	}
	return unused;
}

_Static_assert(offsetof(struct vmfuzz_run, restore_count) == 8 * 8 && offsetof(struct vmfuzz_run, row_count) == 11 * 8, "changing()");

static int race(unsigned int requests)
{
	pthread_t threads[3];
	unsigned int i;

	if (vmfuzz_call(VMFUZZ_IOC_CAPTURE, &known))
		return 1;
	wanted = requests;
	shared_rows = reserve(SHARED_BYTES);
	shared_run = known_run();
	for (i = 0; i < 3; i++)
		if (pthread_create(&threads[i], NULL, i ? racing : changing, NULL))
			return 1;
	pthread_join(threads[1], NULL);
	pthread_join(threads[2], NULL);
	stop = 1;
	pthread_join(threads[0], NULL);
	printf("race done: %u ran, %u refused, %u other\n", raced[0], raced[1], raced[2]);
	return raced[2] != 0;
}

static int cycles(unsigned int count)
{
	static struct vmfuzz_result rows[10];
	unsigned int i;

	for (i = 0; i < count; i++) {
		struct vmfuzz_run run;

		if (vmfuzz_call(VMFUZZ_IOC_CAPTURE, &known))
			return 1;
		run = known_run();
		run.rows = (uintptr_t)rows;
		run.row_count = 10;
		if (try_run(run) || rows[9].kind != VMFUZZ_KIND_EXIT)
			return 1;
		close(device);
		device = -1;
	}
	printf("cycles done\n");
	return 0;
}

/* A file may be inherited, but it belongs to the CPU of its capture. */
static int inherit(int cpu)
{
	cpu_set_t set;
	int status;

	if (vmfuzz_call(VMFUZZ_IOC_CAPTURE, &known))
		return 1;
	if (!fork()) {
		struct vmfuzz_run run = known_run();
		static struct vmfuzz_result row;

		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			_exit(1);
		run.rows = (uintptr_t)&row;
		run.row_count = 1;
		expect("run in a child on another CPU", try_run(run), EXDEV);
		expect("capture in a child on another CPU", vmfuzz_call(VMFUZZ_IOC_CAPTURE, &known), 0);
		expect("run in the child then", try_run(run), 0);
		fflush(stdout);
		_exit(failures);
	}
	wait(&status);
	printf("inherit done, %d failures\n", WEXITSTATUS(status));
	return status != 0;
}

static struct vmfuzz_result row_of_thread;
static int error_of_thread;

static void *runs_one_row(void *unused)
{
	struct vmfuzz_run run = known_run();

	run.rows = (uintptr_t)&row_of_thread;
	run.row_count = 1;
	error_of_thread = try_run(run);
	return unused;
}

/* The exit must bring back the state of the thread that runs, not of the one that captured. */
static int other_thread(int cpu)
{
	pthread_t thread;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) || vmfuzz_call(VMFUZZ_IOC_CAPTURE, &known))
		return 1;
	if (pthread_create(&thread, NULL, runs_one_row, NULL))
		return 1;
	pthread_join(thread, NULL);
	expect("run in another thread", error_of_thread, 0);
	expect("its row", row_of_thread.kind, VMFUZZ_KIND_EXIT);
	printf("thread done, %d failures\n", failures);
	return failures != 0;
}

#define MANY_ROWS 5000	/* a batch that takes about a second in Bochs: long enough to be killed in its middle */

static int frames(void)
{
	struct vmfuzz_frame frame = { MAGIC, VMFUZZ_IOC_CAPTURE, sizeof(known) };
	static struct vmfuzz_result rows[MANY_ROWS];
	struct vmfuzz_run run;

	if (vmfuzz_call(VMFUZZ_IOC_CAPTURE, &known) || !write_all(1, &frame, sizeof(frame)) || !write_all(1, &known, sizeof(known)))
		return 1;
	run = known_run();
	run.row_count = MANY_ROWS;
	frame = (struct vmfuzz_frame){ MAGIC, VMFUZZ_IOC_RUN, sizeof(run) + run.base_count * sizeof(struct vmfuzz_pair) + sizeof(rows) };
	return !(write_all(1, &frame, sizeof(frame)) && write_all(1, &run, sizeof(run)) &&
		 write_all(1, known.fields, run.base_count * sizeof(struct vmfuzz_pair)) && write_all(1, rows, sizeof(rows)));
}

static int kvm(void)
{
	int file = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (file < 0 || ioctl(file, 0xae01, 0) < 0) {	/* KVM_CREATE_VM */
		printf("kvm: %s\n", strerror(errno));
		return 1;
	}
	printf("kvm runs\n");
	fflush(stdout);
	for (;;)
		pause();
}

/* Runs rows of the known-good VMCS for ever, or `batches` times; prints a line once it really runs. */
static int stress(unsigned int batches)
{
	static struct vmfuzz_capture capture = { .size = sizeof(capture), .version = VMFUZZ_UAPI_VERSION };
	static struct vmfuzz_result rows[MANY_ROWS];
	struct vmfuzz_run run;
	unsigned int i, entered = 0;

	for (i = 0; i < batches || !batches; i++) {
		int error = vmfuzz_call(VMFUZZ_IOC_CAPTURE, &capture);

		run = good_run();
		run.base = (uintptr_t)capture.fields;
		run.base_count = capture.field_count;
		run.rows = (uintptr_t)rows;
		run.row_count = MANY_ROWS;
		if (!error)
			error = vmfuzz_call(VMFUZZ_IOC_RUN, &run);
		if (error) {
			printf("stress: errno %d (%s)\n", error, strerror(error));
			return 1;
		}
		entered += rows[0].kind == VMFUZZ_KIND_EXIT && rows[MANY_ROWS - 1].kind == VMFUZZ_KIND_EXIT;
		if (!i) {
			printf("stress runs, kind %d reason %u status %llu\n", rows[0].kind, rows[0].exit_reason, run.status);
			fflush(stdout);
		}
	}
	printf("stress: %u of %u batches entered\n", entered, batches);
	return 0;
}

static void nothing(int number)
{
	(void)number;
}

static int signals(unsigned int microseconds)
{
	static struct vmfuzz_result rows[MANY_ROWS];
	struct itimerval interval = { { 0, (suseconds_t)microseconds }, { 0, (suseconds_t)microseconds } };
	struct sigaction action = { .sa_handler = nothing };
	unsigned int i, done = 0, interrupted = 0, entered = 0;
	int error;

	if (vmfuzz_call(VMFUZZ_IOC_CAPTURE, &known))
		return 1;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &interval, NULL);
	while (done < MANY_ROWS) {
		struct vmfuzz_run run = known_run();

		run.rows = (uintptr_t)(rows + done);
		run.row_count = MANY_ROWS - done;
		error = vmfuzz_call(VMFUZZ_IOC_RUN, &run);
		done += (unsigned int)run.rows_done;
		if (error && error != EINTR)
			return 1;
		interrupted += error == EINTR;
	}
	for (i = 0; i < MANY_ROWS; i++)
		entered += rows[i].kind == VMFUZZ_KIND_EXIT;
	printf("signals done: %u interrupted, %u of %u entered\n", interrupted, entered, MANY_ROWS);
	return entered != MANY_ROWS;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "mailbox"))
		return mailbox(argv[2]);
	if (argc > 2 && !strcmp(argv[1], "misuse"))
		return misuse(!strcmp(argv[2], "vmx"));
	if (argc > 2 && !strcmp(argv[1], "stress"))
		return stress((unsigned int)atoi(argv[2]));
	if (argc > 4 && !strcmp(argv[1], "raw"))
		return raw(strtoull(argv[2], NULL, 0), (unsigned int)atoi(argv[3]), (unsigned int)atoi(argv[4]), argc == 5);
	if (argc > 2 && !strcmp(argv[1], "race"))
		return race((unsigned int)atoi(argv[2]));
	if (argc > 2 && !strcmp(argv[1], "signals"))
		return signals((unsigned int)atoi(argv[2]));
	if (argc > 2 && !strcmp(argv[1], "cycles"))
		return cycles((unsigned int)atoi(argv[2]));
	if (argc > 2 && !strcmp(argv[1], "inherit"))
		return inherit(atoi(argv[2]));
	if (argc > 2 && !strcmp(argv[1], "thread"))
		return other_thread(atoi(argv[2]));
	if (argc > 1 && !strcmp(argv[1], "kvm"))
		return kvm();
	if (argc > 1 && !strcmp(argv[1], "frames"))
		return frames();
	if (argc > 1 && !strcmp(argv[1], "agent"))
		return agent_main(argc - 1, argv + 1);
	fprintf(stderr, "guest mailbox DISK | misuse vmx|none | raw SEED REQUESTS RISK [bochs-2.7] | race REQUESTS | cycles COUNT | stress BATCHES | signals MICROSECONDS | inherit CPU | kvm | frames | agent [--kvm]\n");
	return 2;
}
