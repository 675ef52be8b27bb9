// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// main.c: the device /dev/vmfuzz: requests are copied, checked, and only then executed.
#include <linux/atomic.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vmfuzz.h"

/* The bootable image says so (image/linux.h): nobody works on that machine. */
#ifndef VMFUZZ_MAY_BE_LOST
#define VMFUZZ_MAY_BE_LOST false
#endif

#define CHUNK_BYTES (256 * 1024)
#define FIELD_BITS 0x6c7eu	/* of an encoding: width, area, index below 64; never the high half of a 64-bit field */
#define ENCODINGS 0x8000
#define GUEST_RFLAGS 0x6820
#define INVALID_GUEST_STATE 0x80000021u	/* exit reason: VM-entry failure 33 */

/* One request to run, copied from userspace and checked. */
struct job {
	struct vmfuzz_run run;
	struct vmfuzz_pair *base;
	u64 *targets;
	u64 *restore;
	u8 *rows;
	u64 base_slots[VMFUZZ_SLOT_COUNT];
	int slot_of_column[VMFUZZ_MAX_COLUMNS];
	u32 columns;
	u32 base_rule;		/* rule that refuses the base itself, which live conditions may enter */
};

struct session {
	struct mutex lock;	/* one request at a time, also from threads that share the file */
	struct vmfuzz_machine machine;
	struct job job;
	bool refuses_poison;	/* since the capture the processor was seen to refuse the canary */
	s16 field_index[ENCODINGS / 2];	/* place of an encoding in machine.fields, -1: the field does not exist */
};

static atomic_t opened = ATOMIC_INIT(0);
static bool broken;		/* outlives a session: only loading the module again clears it */

/* A wrong request is the caller's to debug: each is logged, as far as the log is not flooded. */
static int invalid(const char *what)
{
	pr_info_ratelimited("vmfuzz: request refused: %s\n", what);
	return -EINVAL;
}

/* Other errors say it once. */
#define once(error, what) ({ pr_info_once("vmfuzz: " what "\n"); -(error); })

/* ---- targets ---- */

static bool is_arena(u64 target)
{
	return target >> VMFUZZ_TARGET_ARENA_BIT;
}

static bool good_field(u64 target)
{
	return !(target & ~(u64)FIELD_BITS);
}

static bool good_arena(u64 target)
{
	u64 offset = target & ~(1ull << VMFUZZ_TARGET_ARENA_BIT);

	return is_arena(target) && offset < VMFUZZ_ARENA_BYTES && !(offset & 7);
}

static bool good_live(u64 target)
{
	return target >> VMFUZZ_TARGET_LIVE_BIT == 1 && (u32)target < VMFUZZ_LIVE_COUNT;
}

static int field_index(const struct session *s, u64 target)
{
	return good_field(target) ? s->field_index[target >> 1] : -1;
}

static void note_wall(struct vmfuzz_limits *l, u64 target)
{
	u64 page = (target & ~(1ull << VMFUZZ_TARGET_ARENA_BIT)) / VMFUZZ_PAGE;

	if (page == 0)
		l->walls &= ~VMFUZZ_WALL_PAGING;
	else if (page == 1)
		l->walls &= ~VMFUZZ_WALL_EPT;
}

/* ---- preparing a run ---- */

static int check_counts(const struct vmfuzz_run *run)
{
	u64 columns = (u64)run->field_columns + run->arena_columns + run->live_columns;

	if (run->flags & ~(u32)(VMFUZZ_FLAG_PARANOID | VMFUZZ_FLAG_POISON | VMFUZZ_FLAG_VIRTUAL))
		return invalid("flags");
	if (run->flags & VMFUZZ_FLAG_VIRTUAL && !VMFUZZ_MAY_BE_LOST)
		return invalid("flag VMFUZZ_FLAG_VIRTUAL: only the bootable image may lose its machine");
	if (run->risk != VMFUZZ_RISK_SAFE && run->risk != VMFUZZ_RISK_BOLD)
		return invalid("risk");
	if (run->pad)
		return invalid("pad is not 0");
	if (run->base_count > VMFUZZ_MAX_BASE)
		return invalid("base_count");
	if (columns > VMFUZZ_MAX_COLUMNS)
		return invalid("columns");
	if (run->restore_count > VMFUZZ_MAX_FIELDS)
		return invalid("restore_count");
	if (run->row_bytes != sizeof(struct vmfuzz_result) + 8 * columns)
		return invalid("row_bytes");
	if (run->row_count > VMFUZZ_MAX_ROWS)
		return invalid("row_count");
	return 0;
}

static int copy_array(void *to, u64 from, u64 count, size_t size)
{
	return copy_from_user(to, u64_to_user_ptr(from), count * size) ? -EFAULT : 0;
}

/*
 * The base as the engine gets it: every field of the processor, those that the caller left out as 0, so that nothing of an
 * earlier VMCS remains; then words of the arena.
 */
static int prepare_base(struct session *s)
{
	struct vmfuzz_machine *m = &s->machine;
	struct vmfuzz_request *r = m->request;
	struct job *j = &s->job;
	struct vmfuzz_pair *given = j->base + VMFUZZ_MAX_FIELDS, *pair;
	u64 i, n;
	int error = copy_array(given, j->run.base, j->run.base_count, sizeof(*given));

	if (error)
		return error;
	n = m->field_count;
	for (i = 0; i < n; i++) {
		j->base[i].target = m->fields[i].target;
		j->base[i].value = 0;
	}
	for (pair = given; pair < given + j->run.base_count; pair++) {
		int index = field_index(s, pair->target);

		if (index >= 0) {
			j->base[index].value = pair->value & vmfuzz_field_mask(pair->target);
		} else if (good_arena(pair->target)) {
			note_wall(&m->limits, pair->target);
			j->base[n++] = *pair;	/* moves towards lower addresses: n never passes `pair` */
		} else if (good_field(pair->target)) {
			j->run.status = VMFUZZ_STATUS_BASE_FAILED;
			j->run.detail = pair->target;
			return 1;
		} else {
			return invalid("target in the base");
		}
	}
	r->base_va = (u64)j->base;
	r->base_count = n;
	return 0;
}

static u64 base_value(const struct session *s, u64 target)
{
	const struct vmfuzz_request *r = s->machine.request;
	const struct vmfuzz_pair *base = s->job.base;
	int index = field_index(s, target);
	u64 i, value = 0;

	if (index >= 0)
		return base[index].value;
	for (i = s->machine.field_count; i < r->base_count; i++)
		if (base[i].target == target)
			value = base[i].value;	/* the last one counts, as for the engine */
	return value;
}

static int slot_of(u64 target)
{
	int i;

	for (i = 0; i < VMFUZZ_SLOT_COUNT; i++)
		if (vmfuzz_slot_encoding[i] == target)
			return i;
	return -1;
}

static int prepare_columns(struct session *s)
{
	struct vmfuzz_machine *m = &s->machine;
	struct vmfuzz_request *r = m->request;
	struct job *j = &s->job;
	u32 i, k, fields = j->run.field_columns, words = fields + j->run.arena_columns;
	int error;

	j->columns = words + j->run.live_columns;
	error = copy_array(j->targets, j->run.columns, j->columns, sizeof(u64));
	if (error)
		return error;
	for (k = 0; k < m->host_count; k++)
		m->host[k].column = -1;
	for (i = 0; i < j->columns; i++) {
		u64 target = j->targets[i];

		if (!(i < fields ? good_field(target) : i < words ? good_arena(target) : good_live(target)))
			return invalid("target of a column");
		for (k = 0; k < i; k++)
			if (j->targets[k] == target)
				return invalid("two columns have one target");
		if (is_arena(target))
			note_wall(&m->limits, target);
		r->columns[i].target = target;
		r->columns[i].value = base_value(s, target);
		j->slot_of_column[i] = i < fields && field_index(s, target) >= 0 ? slot_of(target) : -1;
		for (k = 0; i < fields && k < m->host_count; k++)
			if (m->host[k].encoding == target)
				m->host[k].column = i;
	}
	r->field_columns = fields;
	r->arena_columns = j->run.arena_columns;
	r->live_columns = j->run.live_columns;
	return 0;
}

static int add_restore(struct session *s, u64 target)
{
	struct vmfuzz_request *r = s->machine.request;
	u64 i;

	for (i = 0; i < r->restore_count; i++)
		if (r->restore[i].target == target)
			return 0;
	if (r->restore_count == VMFUZZ_MAX_FIELDS)
		return invalid("too many targets to restore");
	r->restore[i].target = target;
	r->restore[i].value = base_value(s, target);
	r->restore_count++;
	return 0;
}

/*
 * First what containment reads: exits save into guest fields, and the next row must be the one that was judged. Values are
 * the base's and never userspace's.
 */
static int prepare_restore(struct session *s)
{
	struct job *j = &s->job;
	u64 i;
	int error = copy_array(j->restore, j->run.restore, j->run.restore_count, sizeof(u64));

	if (error)
		return error;
	s->machine.request->restore_count = 0;
	for (i = 0; !error && i < VMFUZZ_SLOT_COUNT; i++)
		if ((vmfuzz_slot_encoding[i] >> 10 & 3) != 3 && field_index(s, vmfuzz_slot_encoding[i]) >= 0)
			error = add_restore(s, vmfuzz_slot_encoding[i]);
	for (i = 0; !error && i < j->run.restore_count; i++) {
		u64 target = j->restore[i];

		if (!good_arena(target) && (field_index(s, target) < 0 || (target >> 10 & 1)))
			return invalid("target to restore");
		error = add_restore(s, target);
	}
	return error;
}

/* Where the fields of MSR lists come from, in the order of their slots. */
static void prepare_lists(struct session *s)
{
	struct vmfuzz_machine *m = &s->machine;
	unsigned int i, slot;
	u32 c;

	for (i = 0; i < VMFUZZ_LIST_FIELDS; i++) {
		slot = VMFUZZ_SLOT_STORE_COUNT + i;
		m->list_field[i].base = base_value(s, vmfuzz_slot_encoding[slot]);
		m->list_field[i].column = -1;
		for (c = 0; c < s->job.run.field_columns; c++)
			if (s->job.slot_of_column[c] == (int)slot)
				m->list_field[i].column = c;
	}
}

static void prepare_host(struct session *s)
{
	struct vmfuzz_machine *m = &s->machine;
	struct vmfuzz_host_field *f;

	for (f = m->host; f < m->host + m->host_count; f++)
		f->substitute = base_value(s, f->encoding) == f->captured;
}

/* Of a row, or of the base (`value` NULL): whether its MSR lists may be processed, where something excuses that. */
static void judge_lists(const struct session *s, u64 *v, const u64 *value)
{
	const struct vmfuzz_limits *l = &s->machine.limits;
	const struct vmfuzz_request *r = s->machine.request;
	const struct job *j = &s->job;
	u32 fields = j->run.field_columns, known = s->machine.field_count;
	const struct vmfuzz_words words = {
		.base = j->base + known, .base_count = r->base_count - known,
		.targets = j->targets + fields, .values = value ? value + fields : NULL, .count = value ? j->run.arena_columns : 0,
	};

	if (l->poison || l->virtual)
		v[VMFUZZ_SLOT_ENTRY_LIST] = vmfuzz_harmless_list(l, v, &words, VMFUZZ_SLOT_ENTRY_COUNT);
	if (!l->virtual)
		return;
	v[VMFUZZ_SLOT_STORE_LIST] = vmfuzz_harmless_list(l, v, &words, VMFUZZ_SLOT_STORE_COUNT);
	v[VMFUZZ_SLOT_LOAD_LIST] = vmfuzz_harmless_list(l, v, &words, VMFUZZ_SLOT_LOAD_COUNT);
}

static int prepare(struct session *s)
{
	struct vmfuzz_machine *m = &s->machine;
	struct vmfuzz_request *r = m->request;
	struct job *j = &s->job;
	u32 i;
	int error;

	m->limits.risk = j->run.risk;
	m->limits.poison = !!(j->run.flags & VMFUZZ_FLAG_POISON);
	m->limits.virtual = j->run.flags & VMFUZZ_FLAG_VIRTUAL && j->run.risk == VMFUZZ_RISK_BOLD;
	m->limits.walls = VMFUZZ_WALL_PAGING | VMFUZZ_WALL_EPT;
	error = prepare_base(s);
	if (error)
		return error;
	error = prepare_columns(s);
	if (error)
		return error;
	error = prepare_restore(s);
	if (error)
		return error;
	prepare_host(s);
	prepare_lists(s);
	for (i = 0; i < VMFUZZ_SLOT_COUNT; i++)
		j->base_slots[i] = base_value(s, vmfuzz_slot_encoding[i]);
	judge_lists(s, j->base_slots, NULL);
	j->base_rule = r->live_columns ? vmfuzz_refuse(&m->limits, j->base_slots) : VMFUZZ_RULE_NONE;
	r->flags = j->run.flags & VMFUZZ_FLAG_PARANOID;
	r->rows_va = (u64)j->rows;
	r->row_bytes = j->run.row_bytes;
	r->status = VMFUZZ_STATUS_DONE;
	r->detail = 0;
	r->drift_count = 0;
	r->drift_row = 0;
	m->begun = false;
	return 0;
}

/* ---- running ---- */

/* Judge the rows of a chunk, cut to the width of their fields; what is refused never reaches the engine. */
static void contain(struct session *s, u64 count)
{
	const struct job *j = &s->job;
	u64 v[VMFUZZ_SLOT_COUNT], i;
	u32 c;

	for (i = 0; i < count; i++) {
		struct vmfuzz_result *out = (struct vmfuzz_result *)(j->rows + i * j->run.row_bytes);
		u64 *value = (u64 *)(out + 1);
		u32 rule = j->base_rule;

		memset(out, 0, sizeof(*out));
		memcpy(v, j->base_slots, sizeof(v));
		for (c = 0; c < j->run.field_columns; c++) {
			value[c] &= vmfuzz_field_mask(j->targets[c]);
			if (j->slot_of_column[c] >= 0)
				v[j->slot_of_column[c]] = value[c];
		}
		judge_lists(s, v, value);
		if (!rule)
			rule = vmfuzz_refuse(&s->machine.limits, v);
		if (rule) {
			out->kind = VMFUZZ_KIND_REFUSED;
			out->number = rule;
		}
	}
}

static int run_chunk(struct session *s, u64 first, u64 count)
{
	struct vmfuzz_machine *m = &s->machine;
	struct vmfuzz_request *r = m->request;
	struct job *j = &s->job;
	void __user *user = u64_to_user_ptr(j->run.rows + first * j->run.row_bytes);
	u64 next = 0, i;
	int error = 0;

	if (copy_from_user(j->rows, user, count * j->run.row_bytes))
		return -EFAULT;
	contain(s, count);
	r->row_count = count;
	while (next < count && !error && r->status == VMFUZZ_STATUS_DONE && !r->drift_count) {
		error = vmfuzz_machine_slice(m, &next, count);
		cond_resched();
		if (!error && signal_pending(current))
			error = -EINTR;
	}
	/* Rows hold the host's own values by now where the captured ones stood: only results go back. */
	for (i = 0; i < next; i++) {
		u64 at = i * j->run.row_bytes;

		if (copy_to_user((u8 __user *)user + at, j->rows + at, sizeof(struct vmfuzz_result)))
			return -EFAULT;
	}
	j->run.rows_done += next;
	if (r->drift_count)
		r->drift_row += first;	/* PARANOID: the engine counts from the chunk's first row */
	return error;
}

/* Whether the request is the canary: the captured VMCS, and one row that clears bit 1 of guest RFLAGS. */
static bool is_canary(const struct session *s)
{
	const struct vmfuzz_machine *m = &s->machine;
	const struct job *j = &s->job;
	int rflags = field_index(s, GUEST_RFLAGS);
	u32 i;

	if (j->run.row_count != 1 || j->run.field_columns != 1 || j->columns != 1 || j->targets[0] != GUEST_RFLAGS)
		return false;
	if (m->request->base_count != m->field_count || rflags < 0)
		return false;
	for (i = 0; i < m->field_count; i++)
		if (j->base[i].value != m->fields[i].value)
			return false;
	return true;
}

/* After a run: what the processor did with the canary counts until the next capture. */
static void note_canary(struct session *s)
{
	const struct vmfuzz_result *out = (const struct vmfuzz_result *)s->job.rows;
	u64 rflags = s->machine.fields[field_index(s, GUEST_RFLAGS)].value, value = *(const u64 *)(out + 1);

	if (s->job.run.rows_done == 1 && value == (rflags & ~2ull))
		s->refuses_poison = out->kind == VMFUZZ_KIND_ENTRY_FAILURE && out->exit_reason == INVALID_GUEST_STATE;
}

static int run_rows(struct session *s)
{
	struct vmfuzz_request *r = s->machine.request;
	struct job *j = &s->job;
	u64 per_chunk = CHUNK_BYTES / j->run.row_bytes, first = 0, count;
	int error = 0, ended;

	while (first < j->run.row_count && !error && r->status == VMFUZZ_STATUS_DONE && !r->drift_count) {
		count = min(per_chunk, j->run.row_count - first);
		error = run_chunk(s, first, count);
		first += count;
	}
	if ((error && error != -EINTR) || r->drift_count || !s->machine.begun || r->status != VMFUZZ_STATUS_DONE)
		return error;
	/* Also of rows before a signal, after which the caller goes on with another request. */
	ended = vmfuzz_machine_finish(&s->machine);
	r->drift_row = j->run.rows_done;
	return ended ? ended : error;
}

static void take_over_outputs(struct session *s)
{
	const struct vmfuzz_request *r = s->machine.request;
	struct vmfuzz_run *run = &s->job.run;

	run->status = r->status;
	run->detail = r->detail;
	run->drift_row = r->drift_row;
	run->drift_count = r->drift_count;
	memcpy(run->drift, r->drift, sizeof(run->drift));
}

static int check_head(u32 size, u32 version, size_t expected)
{
	if (size != expected)
		return invalid("size");
	if (version != VMFUZZ_UAPI_VERSION)
		return invalid("version: this is not the vmfuzz that the module was built with");
	return 0;
}

static long do_run(struct session *s, void __user *argument)
{
	struct vmfuzz_machine *m = &s->machine;
	struct vmfuzz_run *run = &s->job.run;
	int error;

	if (copy_from_user(run, argument, sizeof(*run)))
		return -EFAULT;
	error = check_head(run->size, run->version, sizeof(*run));
	if (!error)
		error = check_counts(run);
	if (error)
		return error;
	if (!m->captured) {
		error = vmfuzz_machine_probe(m);
		return error ? error : once(ENODATA, "run before capture");
	}
	if (run->flags & VMFUZZ_FLAG_POISON && !s->refuses_poison)
		return once(EOPNOTSUPP, "poison, but this processor has not been seen to refuse RFLAGS bit 1 = 0 yet");
	run->rows_done = 0;
	/* As for writes to MSRs: who reads an oops has to know. */
	add_taint(TAINT_CPU_OUT_OF_SPEC, LOCKDEP_STILL_OK);
	error = prepare(s);
	if (error < 0)
		return error;
	if (!error) {
		error = run_rows(s);
		if (is_canary(s))
			note_canary(s);
		take_over_outputs(s);
	} else {
		error = 0;	/* the status says it */
	}
	if (run->arena && copy_to_user(u64_to_user_ptr(run->arena), m->arena, VMFUZZ_ARENA_BYTES))
		return -EFAULT;
	if (copy_to_user(argument, run, sizeof(*run)))
		return -EFAULT;
	return error;
}

static long do_info(struct session *s, struct vmfuzz_info __user *argument)
{
	struct vmfuzz_request *r = s->machine.request;
	struct vmfuzz_info *info;
	u32 head[2];
	int error;

	if (copy_from_user(head, argument, sizeof(head)))
		return -EFAULT;
	error = check_head(head[0], head[1], sizeof(*info));
	if (!error)
		error = vmfuzz_machine_probe(&s->machine);
	if (error)
		return error;
	info = kvzalloc(sizeof(*info), GFP_KERNEL);
	if (!info)
		return -ENOMEM;
	info->size = sizeof(*info);
	info->version = VMFUZZ_UAPI_VERSION;
	info->engine_abi = VMFUZZ_ABI;
	info->cpu = r->pad;
	info->msr_count = r->msr_count;
	info->cpuid_count = r->cpuid_count;
	info->arena_pa = r->arena_pa;
	info->arena_bytes = VMFUZZ_ARENA_BYTES;
	info->vmcs_pa = r->vmcs_pa;
	info->cr0 = r->cr0;
	info->cr4 = r->cr4;
	memcpy(info->msrs, r->msrs, sizeof(info->msrs));
	memcpy(info->cpuid, r->cpuid, sizeof(info->cpuid));
	error = copy_to_user(argument, info, sizeof(*info)) ? -EFAULT : 0;
	kvfree(info);
	return error;
}

static long do_capture(struct session *s, struct vmfuzz_capture __user *argument)
{
	struct vmfuzz_machine *m = &s->machine;
	u32 head[2], i;
	u32 facts[2];
	int error;

	if (copy_from_user(head, argument, sizeof(head)))
		return -EFAULT;
	error = check_head(head[0], head[1], sizeof(*argument));
	if (!error)
		error = vmfuzz_machine_capture(m);
	if (error)
		return error;
	s->refuses_poison = false;
	memset(s->field_index, 0xff, sizeof(s->field_index));
	for (i = 0; i < m->field_count; i++)
		s->field_index[m->fields[i].target >> 1] = i;
	facts[0] = m->cpu;
	facts[1] = m->field_count;
	if (copy_to_user(&argument->cpu, facts, sizeof(facts)) ||
	    copy_to_user(argument->fields, m->fields, sizeof(m->fields)))
		return -EFAULT;
	return 0;
}

static long vmfuzz_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct session *s = file->private_data;
	long result;

	if (mutex_lock_interruptible(&s->lock))
		return -EINTR;
	switch (command) {
	case VMFUZZ_IOC_INFO:
		result = do_info(s, (void __user *)argument);
		break;
	case VMFUZZ_IOC_CAPTURE:
		result = do_capture(s, (void __user *)argument);
		break;
	case VMFUZZ_IOC_RUN:
		result = do_run(s, (void __user *)argument);
		break;
	default:
		result = once(ENOTTY, "no such request");
	}
	if (result == -EFAULT)
		pr_info_once("vmfuzz: a pointer of a request cannot be read or written\n");
	if (s->machine.broken)
		broken = true;
	mutex_unlock(&s->lock);
	return result;
}

/* ---- the device ---- */

static void session_free(struct session *s)
{
	vmfuzz_machine_free(&s->machine);
	kvfree(s->job.base);
	kvfree(s->job.targets);
	kvfree(s->job.restore);
	kvfree(s->job.rows);
	kvfree(s);
}

static struct session *session_new(void)
{
	struct session *s = kvzalloc(sizeof(*s), GFP_KERNEL);
	struct job *j;

	if (!s)
		return NULL;
	j = &s->job;
	mutex_init(&s->lock);
	s->machine.broken = broken;
	j->base = kvcalloc(VMFUZZ_MAX_FIELDS + VMFUZZ_MAX_BASE, sizeof(*j->base), GFP_KERNEL);
	j->targets = kvcalloc(VMFUZZ_MAX_COLUMNS, sizeof(u64), GFP_KERNEL);
	j->restore = kvcalloc(VMFUZZ_MAX_FIELDS, sizeof(u64), GFP_KERNEL);
	j->rows = kvzalloc(CHUNK_BYTES, GFP_KERNEL);
	if (vmfuzz_machine_init(&s->machine) || !j->base || !j->targets || !j->restore || !j->rows) {
		session_free(s);
		return NULL;
	}
	return s;
}

static int vmfuzz_open(struct inode *inode, struct file *file)
{
	struct session *s;

	if (!capable(CAP_SYS_ADMIN))
		return once(EPERM, "only CAP_SYS_ADMIN may open the device");
	/* Whoever has the file learns addresses of the kernel. */
	if (security_locked_down(LOCKDOWN_KCORE))
		return once(EPERM, "this kernel is locked down (confidentiality)");
	if (atomic_cmpxchg(&opened, 0, 1))
		return once(EBUSY, "the device is open already; it serves one program at a time");
	s = session_new();
	if (!s) {
		atomic_set(&opened, 0);
		return once(ENOMEM, "no memory for pages below 4 GiB");
	}
	file->private_data = s;
	return 0;
}

/* No request is under way, and VMX operation ended with the last slice. */
static int vmfuzz_release(struct inode *inode, struct file *file)
{
	session_free(file->private_data);
	atomic_set(&opened, 0);
	return 0;
}

static const struct file_operations vmfuzz_file = {
	.owner = THIS_MODULE,
	.open = vmfuzz_open,
	.release = vmfuzz_release,
	.unlocked_ioctl = vmfuzz_ioctl,
};

static struct miscdevice vmfuzz_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vmfuzz",
	.fops = &vmfuzz_file,
	.mode = 0600,
};

module_misc_device(vmfuzz_device);

MODULE_AUTHOR("The vmfuzz developers");
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Executes VM entries with VMCSs from userspace, as far as containment allows");
