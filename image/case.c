// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// case.c: runs the one case that an exported image carries (case.h) and says what was expected and what happened.
#include "case.h"
#include "containment_calls.h"
#include "image.h"
#include "link.h"
#include "processor.h"
#include "vmfuzz.h"
#include "vmfuzz_uapi.h"

#define ENTRY_INTERRUPTION_INFO 0x4016
#define IS_READ_ONLY(encoding) (((encoding) >> 10 & 3) == 1)

extern const u8 case_area[];	/* image.ld */

static struct vmfuzz_info info = { .size = sizeof(info), .version = VMFUZZ_UAPI_VERSION };
static struct vmfuzz_capture captured = { .size = sizeof(captured), .version = VMFUZZ_UAPI_VERSION };
static struct vmfuzz_pair base[VMFUZZ_MAX_BASE];
static u64 targets[VMFUZZ_MAX_COLUMNS];

static const struct vmfuzz_case *the_case(void)
{
	return (const void *)case_area;
}

/* Whatever an offset of the case names. */
static const void *at(u32 offset)
{
	return case_area + offset;
}

bool case_is_there(void)
{
	return the_case()->magic == VMFUZZ_CASE_MAGIC && the_case()->version == VMFUZZ_CASE_VERSION;
}

/* The module's vmfuzz_refuse, by the linker's --wrap. */
u32 __real_vmfuzz_refuse(const struct vmfuzz_limits *l, const u64 *v);
u32 __wrap_vmfuzz_refuse(const struct vmfuzz_limits *l, const u64 *v);
u32 __wrap_vmfuzz_refuse(const struct vmfuzz_limits *l, const u64 *v)
{
	return case_is_there() && the_case()->uncontained ? VMFUZZ_RULE_NONE : __real_vmfuzz_refuse(l, v);
}

static u64 value_of(const struct vmfuzz_pair *pairs, u64 count, u64 target)
{
	u64 i;

	for (i = 0; i < count; i++)
		if (pairs[i].target == target)
			return pairs[i].value;
	return 0;
}

static u64 value_here(const struct vmfuzz_case_value *v)
{
	switch (v->from) {
	case VMFUZZ_CASE_FROM_CAPTURED:
		return (value_of(captured.fields, captured.field_count, v->target) & ~v->clear) | v->set;
	case VMFUZZ_CASE_FROM_ARENA:
		return info.arena_pa + v->set;
	case VMFUZZ_CASE_FROM_REVISION:
		return (value_of(info.msrs, info.msr_count, 0x480) & 0x7fffffff) | v->set;
	default:
		return v->set;
	}
}

/* Control bits that are 1 in `must` have to be 1 here, those that are 0 in `may` have to be 0. */
static void allowed_settings(u64 encoding, u64 *must, u64 *may)
{
	static const struct {
		u32 encoding, msr, exact;
	} words[] = { { 0x4000, 0x481, 0x48d }, { 0x4002, 0x482, 0x48e }, { 0x400c, 0x483, 0x48f }, { 0x4012, 0x484, 0x490 }, { 0x401e, 0x48b, 0x48b } };
	bool exact = value_of(info.msrs, info.msr_count, 0x480) >> 55 & 1;
	unsigned int i;
	u64 msr;

	*must = 0;
	*may = encoding == 0x2034 ? value_of(info.msrs, info.msr_count, 0x492)
				  : encoding == 0x2044 ? value_of(info.msrs, info.msr_count, 0x493) : ~0ull;
	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].encoding == encoding) {
			msr = value_of(info.msrs, info.msr_count, exact ? words[i].exact : words[i].msr);
			*must = (u32)msr;
			*may = msr >> 32;
		}
}

/* Whether this processor can have a value of the case; says what it lacks. */
static bool can_have(const struct vmfuzz_case_value *v)
{
	u64 must, may;

	allowed_settings(v->target, &must, &may);
	if (!(v->needs_1 & ~may) && !(v->needs_0 & must))
		return true;
	printk("not run:  this processor lacks a control of the case: in field %llXH, bits %llXH\n          to be 1, bits %llXH to be 0\n",
	       v->target, v->needs_1 & ~may, v->needs_0 & must);
	return false;
}

#define IS_FIELD(target) ((target) <= 0xffff)

/*
 * The machine's known-good VMCS with what the case's base changes in it; what a field has that this processor lacks is nothing here. Returns its
 * length, 0 where the processor lacks a control of it.
 */
static u64 make_base(const struct vmfuzz_case *c)
{
	const struct vmfuzz_case_value *v = at(c->base), *end = v + c->base_count;
	u64 count = 0, i;

	for (i = 0; i < captured.field_count; i++)
		if (!IS_READ_ONLY(captured.fields[i].target))
			base[count++] = captured.fields[i];
	for (; v < end; v++) {
		if (!can_have(v))
			return 0;
		for (i = 0; i < count && base[i].target != v->target; i++)
			continue;
		if (i == count && IS_FIELD(v->target))
			continue;
		base[i] = (struct vmfuzz_pair){ v->target, value_here(v) };
		count = i == count ? count + 1 : count;
	}
	return count;
}

/* Rows as struct vmfuzz_run wants them; NULL where the processor lacks one. */
static u8 *make_rows(const struct vmfuzz_case *c, u32 columns, u64 row_bytes)
{
	const struct vmfuzz_case_value *v = at(c->rows);
	u8 *rows = take_memory(c->row_count * row_bytes, 64);
	u32 row, column;

	for (row = 0; rows && row < c->row_count; row++)
		for (column = 0; column < columns; column++, v++) {
			if (!can_have(v))
				return NULL;
			targets[column] = v->target;
			((u64 *)(rows + row * row_bytes + sizeof(struct vmfuzz_result)))[column] = value_here(v);
		}
	return rows;
}

static const char *word_of(const struct vmfuzz_case *c, u32 kind, u32 number)
{
	const struct vmfuzz_case_word *w = at(c->words), *end = w + c->word_count;

	for (; w < end; w++)
		if (w->kind == kind && w->number == number)
			return at(w->text);
	return "it has no name in this image";
}

/* The error number, or the basic exit reason. */
static u32 number_of(const struct vmfuzz_result *r)
{
	return r->kind == VMFUZZ_KIND_EXIT || r->kind == VMFUZZ_KIND_ENTRY_FAILURE ? r->exit_reason & 0xffff : r->number;
}

static void print_outcome(const struct vmfuzz_case *c, const char *what, const struct vmfuzz_result *r)
{
	const char *word = word_of(c, r->kind, number_of(r));

	switch (r->kind) {
	case VMFUZZ_KIND_EXIT:
		printk("%s VM entry succeeds, then exit reason %u (%s), qualification %llXH\n", what, number_of(r), word, r->qualification);
		break;
	case VMFUZZ_KIND_ENTRY_FAILURE:
		printk("%s %s (exit reason %XH, qualification %llu)\n", what, word, r->exit_reason, r->qualification);
		break;
	case VMFUZZ_KIND_VMFAIL_VALID:
		printk("%s VMfailValid(%u): %s\n", what, r->number, word);
		break;
	case VMFUZZ_KIND_VMWRITE_FAILED:
		printk("%s VMWRITE of field %XH failed with error %u (%s)\n", what, r->encoding, r->number, word);
		break;
	default:
		printk("%s %s\n", what, word);
	}
}

/* What the VM-entry interruption-information field has to hold after the last row: a VM exit clears bit 31, a failed entry changes nothing. */
static bool interruption_info_is_right(const struct vmfuzz_run *run, const struct vmfuzz_result *r)
{
	u64 i, written = value_of(base, run->base_count, ENTRY_INTERRUPTION_INFO);
	const u64 *values = (const u64 *)(r + 1);

	for (i = 0; i < run->field_columns; i++)
		if (targets[i] == ENTRY_INTERRUPTION_INFO)
			written = values[i];
	if (r->kind == VMFUZZ_KIND_EXIT && r->entry_interruption_info >> 31) {
		printk("          and bit 31 of the VM-entry interruption-information field is still 1\n");
		return false;
	}
	if (r->kind == VMFUZZ_KIND_ENTRY_FAILURE && r->entry_interruption_info != (u32)written) {
		printk("          and the VM-entry interruption-information field is %XH, no longer %llXH\n", r->entry_interruption_info, written);
		return false;
	}
	return true;
}

static bool is_allowed(const struct vmfuzz_case *c, const struct vmfuzz_result *r)
{
	const struct vmfuzz_case_outcome *o = at(c->outcomes), *end = o + c->outcome_count;

	for (; o < end; o++)
		if (o->kind == r->kind && (o->number == VMFUZZ_CASE_ANY || o->number == number_of(r)) &&
		    (r->kind != VMFUZZ_KIND_ENTRY_FAILURE || o->any_qualification || o->qualification == r->qualification))
			return true;
	return false;
}

static void print_verdict(bool allowed)
{
	printk("\n%s\n", allowed ? "This is what the manual demands." : "This is NOT what the manual demands.");
}

static void print_results(const struct vmfuzz_case *c, const struct vmfuzz_run *run)
{
	const struct vmfuzz_result *r = NULL;
	u64 row;

	for (row = 0; row < c->row_count; row++) {
		r = (const void *)(run->rows + row * run->row_bytes);
		print_outcome(c, row + 1 < c->row_count ? "before:  " : "actual:  ", r);
	}
	if (r->kind == VMFUZZ_KIND_REFUSED)
		printk("\nThe case did not run here. Export it with --uncontained, for emulators and virtual\nmachines that nobody needs.\n");
	else if (r->kind == VMFUZZ_KIND_VMWRITE_FAILED || r->kind == VMFUZZ_KIND_NOT_RUN)
		printk("\nThe case did not run here.\n");
	else
		print_verdict(interruption_info_is_right(run, r) && is_allowed(c, r));
}

static void run_here(const struct vmfuzz_case *c)
{
	u32 columns = c->field_columns + c->arena_columns + c->live_columns;
	struct vmfuzz_run run = {
		.size = sizeof(run), .version = VMFUZZ_UAPI_VERSION, .risk = VMFUZZ_RISK_BOLD,
		.base = (u64)base, .columns = (u64)targets, .restore = (u64)at(c->restore), .restore_count = c->restore_count,
		.field_columns = c->field_columns, .arena_columns = c->arena_columns, .live_columns = c->live_columns,
		.row_bytes = sizeof(struct vmfuzz_result) + columns * sizeof(u64), .row_count = c->row_count,
	};
	int error;

	run.base_count = make_base(c);
	run.rows = run.base_count ? (u64)make_rows(c, columns, run.row_bytes) : 0;
	if (!run.rows)
		return;
	black_box_begin(c->digest, run.rows, run.row_bytes);
	error = vmfuzz_call(VMFUZZ_IOC_RUN, &run);
	vmfuzz_served(error);
	if (error || run.status != VMFUZZ_STATUS_DONE)
		printk("not run:  error %u, engine's status %llu (%llXH)\n", (u32)error, run.status, run.detail);
	else
		print_results(c, &run);
}

/* Of the boot before this one: a case that took the machine down is not run again. */
static bool took_the_machine_down(const struct vmfuzz_case *c, const struct vmfuzz_line_hello *before)
{
	if (before->died < VMFUZZ_DIED_ROW || before->digest != c->digest)
		return false;
	if (before->died == VMFUZZ_DIED_EXCEPTION)
		printk("actual:   exception %u in the host, behind which the image reset the machine\n", before->vector);
	else if (before->died == VMFUZZ_DIED_HOST_STATE)
		printk("actual:   host state did not come back, so that the image reset the machine\n");
	else
		printk("actual:   the machine was reset while the case ran: by a triple fault, or by\n          somebody because it hung\n");
	print_verdict(false);
	return true;
}

void case_run(const struct vmfuzz_line_hello *before)
{
	const struct vmfuzz_case *c = the_case();

	printk("\n%s", (const char *)at(c->text));
	if (took_the_machine_down(c, before))
		return;
	if (vmfuzz_call(VMFUZZ_IOC_INFO, &info) || vmfuzz_call(VMFUZZ_IOC_CAPTURE, &captured))
		printk("not run:  the image cannot use VMX here; it says above why\n");
	else
		run_here(c);
}
