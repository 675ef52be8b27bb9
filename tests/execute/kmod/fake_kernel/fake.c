/* fake.c: the module on the imagined processor of processor.h: a test sets registers, says what an exit does to them, runs rows, reads the log. */
#include <stdarg.h>
#include <stdio.h>

#include "processor.h"
#include "vmfuzz.h"

#define PLACES 128

struct place {
	int what;
	u64 number, value;
};

static struct place registers[PLACES], changes[PLACES];
static unsigned int used, changed, failing;
static char text[1 << 16];
static size_t length;
static struct vmfuzz_machine machine;
static int kind;
static u32 events, reason;
static u64 qualification, stuck;
static unsigned int leaves;
char vmfuzz_exit_handler[1];

void fake_log(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	length += (size_t)vsnprintf(text + length, sizeof(text) - length, format, arguments);
	va_end(arguments);
	if (length >= sizeof(text))
		abort();
}

static struct place *place(int what, u64 number)
{
	unsigned int i;

	for (i = 0; i < used; i++)
		if (registers[i].what == what && registers[i].number == number)
			return &registers[i];
	if (used == PLACES)
		abort();
	registers[used] = (struct place){ what, number, 0 };
	return &registers[used++];
}

bool fake_has(int what, u64 number)
{
	unsigned int i;

	for (i = 0; i < used; i++)
		if (registers[i].what == what && registers[i].number == number)
			return true;
	return false;
}

u64 fake_get(int what, u64 number)
{
	return place(what, number)->value;
}

void fake_set(int what, u64 number, u64 value)
{
	if (what == FAKE_MSR && number == stuck && stuck)
		return;
	place(what, number)->value = value;
}

u32 fake_leaf(u64 number)
{
	leaves++;
	return (u32)fake_get(FAKE_LEAF, number);
}

void fake_table(int what, struct table_register *to)
{
	to->base = fake_get(what, 0);
	to->limit = (u16)fake_get(what, 1);
}

void fake_set_table(int what, const struct table_register *from)
{
	fake_set(what, 0, from->base);
	fake_set(what, 1, from->limit);
}

int fake_vmx(const char *instruction)
{
	fake_log("%s\n", instruction);
	return failing && !strcmp(instruction, "invept");
}

/* ---- for the test ---- */

const char *fake_text(void)
{
	return text;
}

/* What the exit of each row does to a register. */
void fake_exit_sets(int what, u64 number, u64 value)
{
	changes[changed++] = (struct place){ what, number, value };
}

void fake_outcome(int row_kind, u32 row_events)
{
	kind = row_kind;
	events = row_events;
	reason = 0;
}

/* Each row fails to load an entry of its VM-entry MSR-load list. */
void fake_fails_loading(u64 number)
{
	kind = VMFUZZ_KIND_ENTRY_FAILURE;
	reason = 0x80000022;
	qualification = number;
}

/* From the row on an MSR keeps the value that the exit gives it. */
void fake_sticks(u64 msr)
{
	stuck = msr;
}

/* After the capture: the machine may be lost. */
void fake_virtual(void)
{
	machine.limits.virtual = 1;
}

/* The rows have another value in a host-state field than the host. */
void fake_rows_set(u32 encoding)
{
	machine.host[machine.host_count++] = (struct vmfuzz_host_field){ .encoding = encoding, .column = -1 };
}

/* The rows' VM-entry MSR-load list gets one more entry. */
void fake_rows_list(u32 msr)
{
	struct vmfuzz_list_field *count = &machine.list_field[VMFUZZ_LIST_ENTRY];
	u64 *word = (u64 *)machine.arena + VMFUZZ_WALL_PAGES * VMFUZZ_PAGE / 8 + 2 * count->base;

	word[0] = msr;
	count->base++;
	count->column = count[1].column = -1;
	count[1].base = machine.request->arena_pa + VMFUZZ_WALL_PAGES * VMFUZZ_PAGE;
}

/* How many times CPUID was executed since the rows began. */
unsigned int fake_leaves(void)
{
	return leaves;
}

void fake_failing_invept(void)
{
	failing = 1;
}

void fake_reset(void)
{
	vmfuzz_machine_free(&machine);
	memset(&machine, 0, sizeof(machine));
	used = changed = failing = 0;
	stuck = 0;
	length = 0;
	text[0] = 0;
	fake_outcome(VMFUZZ_KIND_EXIT, 0);
	if (vmfuzz_machine_init(&machine))
		abort();
}

int fake_capture(void)
{
	return vmfuzz_machine_capture(&machine);
}

/* So many rows, all in one slice; returns an errno. */
int fake_rows(unsigned int count)
{
	static struct vmfuzz_result rows[64];
	u64 next = 0;

	memset(rows, 0, sizeof(rows));
	length = 0;
	leaves = 0;
	text[0] = 0;
	machine.request->rows_va = (u64)(uintptr_t)rows;
	machine.request->row_bytes = sizeof(*rows);
	machine.request->drift_count = 0;
	machine.begun = false;
	return -vmfuzz_machine_slice(&machine, &next, count);
}

/* ---- the engine's parts ---- */

void vmfuzz_probe(struct vmfuzz_request *r)
{
	unsigned int i;

	r->msr_count = 0;
	for (i = 0; i < used; i++)
		if (registers[i].what == FAKE_MSR && r->msr_count < VMFUZZ_MAX_MSRS)
			r->msrs[r->msr_count++] = (struct vmfuzz_pair){ registers[i].number, registers[i].value };
}

int vmfuzz_capture(struct vmfuzz_request *r)
{
	r->field_count = 0;
	return VMFUZZ_STATUS_DONE;
}

int vmfuzz_begin(struct vmfuzz_request *r)
{
	(void)r;
	return VMFUZZ_STATUS_DONE;
}

int vmfuzz_pick_up(struct vmfuzz_request *r, struct vmfuzz_run_state *s)
{
	(void)r;
	s->status = VMFUZZ_STATUS_DONE;
	return 0;
}

void vmfuzz_put_down(struct vmfuzz_request *r)
{
	(void)r;
}

/* What every exit does, and what the test wants. */
int vmfuzz_row(struct vmfuzz_request *r, struct vmfuzz_run_state *s, u64 i)
{
	struct vmfuzz_result *out = (struct vmfuzz_result *)(uintptr_t)(r->rows_va + i * r->row_bytes);
	unsigned int k;

	fake_log("row\n");
	out->kind = (u8)kind;
	out->exit_reason = reason;
	out->qualification = qualification;
	s->events |= events;
	if (kind != VMFUZZ_KIND_EXIT && kind != VMFUZZ_KIND_ENTRY_FAILURE)
		return 0;
	fake_set(FAKE_GDT, 1, 0xffff);
	fake_set(FAKE_IDT, 1, 0xffff);
	fake_set(FAKE_LDTR, 0, 0);
	fake_set(FAKE_DR, 7, 0x400);
	fake_set(FAKE_LIMIT, 0, 0x67);
	for (k = 0; k < changed; k++)
		place(changes[k].what, changes[k].number)->value = changes[k].value;
	return 0;
}

int vmfuzz_write_field(u64 encoding, u64 value)
{
	(void)encoding;
	(void)value;
	return 0;
}

u64 vmfuzz_read_field(u64 encoding)
{
	(void)encoding;
	return 0;
}

void vmfuzz_end(struct vmfuzz_request *r)
{
	(void)r;
}
