// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// msr_lists.c: the MSRs that a row's lists load: what they are before it, and their return after it. Only where the machine may be lost (limits.virtual).
#include "slice.h"

#define IA32_TIME_STAMP_COUNTER 0x10
#define IA32_APIC_BASE 0x1b
#define IA32_TSC_ADJUST 0x3b
#define IA32_PRED_CMD 0x49
#define IA32_MPERF 0xe7
#define IA32_APERF 0xe8
#define IA32_FLUSH_CMD 0x10b
#define APIC_MODE 0xc00	/* enabled, in x2APIC mode */
#define EXIT_REASON_MSR_LOADING 34

/* A counter: it is given back as far as that can be, and never reads as it did. */
static bool counts(u32 msr)
{
	return msr == IA32_TIME_STAMP_COUNTER || msr == IA32_MPERF || msr == IA32_APERF;
}

/* A command, which leaves nothing to give back, and cannot be read. */
static bool is_command(u32 msr)
{
	return msr == IA32_PRED_CMD || msr == IA32_FLUSH_CMD;
}

static void save_msr(struct slice *s, u32 msr, u32 number)
{
	struct listed *e;

	for (e = s->list; e < s->list + s->listed; e++)
		if (e->msr == msr)
			return;
	e->msr = msr;
	e->number = number;
	e->there = msr_try_read(msr, &e->before);
	s->listed++;
}

/* A word of the arena as the row finds it; `value` NULL: as the base does. */
static u64 word_at(const struct vmfuzz_machine *m, const u64 *value, u64 offset)
{
	const struct vmfuzz_request *r = m->request;
	u64 i;

	for (i = r->field_columns; i < r->field_columns + r->arena_columns; i++)
		if (r->columns[i].target == (1ull << VMFUZZ_TARGET_ARENA_BIT | offset))
			return value ? value[i] : r->columns[i].value;
	return *(const u64 *)(m->arena + offset);
}

static u64 field_of(const struct vmfuzz_list_field *f, const u64 *value)
{
	return f->column >= 0 && value ? value[f->column] : f->base;
}

/* What memory holds counts, and not what containment judged: a processor may have written there since. */
static void save_list(const struct vmfuzz_machine *m, struct slice *s, const u64 *value, unsigned int list)
{
	u64 count = field_of(&m->list_field[list], value), offset = field_of(&m->list_field[list + 1], value) - m->request->arena_pa, i;

	for (i = 0; i < count && i < VMFUZZ_LIST_MOST; i++, offset += 16) {
		if (offset > VMFUZZ_ARENA_BYTES - 16 || offset & 15)
			return;
		save_msr(s, (u32)word_at(m, value, offset), list == VMFUZZ_LIST_ENTRY ? (u32)i + 1 : 1);
	}
}

/* Before a row. With live conditions the base may be entered before it. */
void vmfuzz_msr_lists_save(const struct vmfuzz_machine *m, struct slice *s, const u64 *value)
{
	unsigned int list;

	s->listed = 0;
	if (!m->limits.virtual)
		return;
	for (list = VMFUZZ_LIST_LOAD; list <= VMFUZZ_LIST_ENTRY; list += 2) {
		save_list(m, s, value, list);
		if (m->request->live_columns)
			save_list(m, s, NULL, list);
	}
	/* Whoever writes the time-stamp counter changes this too, and whoever gives this back gives back that. */
	if (s->listed)
		save_msr(s, IA32_TSC_ADJUST, 1);
}

static bool is_there(const struct slice *s, u32 msr)
{
	unsigned int i;

	for (i = 0; i < s->listed; i++)
		if (s->list[i].msr == msr)
			return s->list[i].there;
	return false;
}

static void give_back(struct slice *s, const struct listed *e, bool loaded)
{
	u64 came = msr_read(e->msr);

	if (came == e->before || (e->msr == IA32_TIME_STAMP_COUNTER && is_there(s, IA32_TSC_ADJUST)))
		return;
	if (e->msr == IA32_APIC_BASE && (came ^ e->before) & APIC_MODE)
		msr_write(e->msr, e->before & ~(u64)APIC_MODE);	/* the only way out of x2APIC mode */
	msr_write(e->msr, e->before);
	if (loaded && !counts(e->msr) && msr_read(e->msr) != e->before)
		vmfuzz_note_msr(s, e->msr, msr_read(e->msr), e->before);
}

/*
 * After a row that left through the exit handler, whose IDTR is the host's again. A failed loading says which entry failed: those before it were
 * loaded. What was loaded and does not come back is told as a difference.
 */
void vmfuzz_msr_lists_restore(struct slice *s, const struct vmfuzz_result *out)
{
	bool failed_loading = out->kind == VMFUZZ_KIND_ENTRY_FAILURE && (out->exit_reason & 0xffff) == EXIT_REASON_MSR_LOADING;
	const struct listed *e;

	for (e = s->list; e < s->list + s->listed; e++) {
		bool loaded = out->kind == VMFUZZ_KIND_EXIT || (failed_loading && out->qualification > e->number);

		if (e->there)
			give_back(s, e, loaded);
		else if (loaded && !is_command(e->msr) && e->msr != IA32_TSC_ADJUST)
			vmfuzz_note_msr(s, e->msr, 0, 0);
	}
}
