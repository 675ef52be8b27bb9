// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// host_fields.c: the VMCS's host-state fields: which values the exit has to load.
#include <linux/smp.h>
#include <linux/string.h>

#include "slice.h"

static u64 table_ssp(void)
{
	return leaf7(2) >> 7 & 1 ? msr_read(IA32_INTERRUPT_SSP_TABLE) : 0;
}

static u64 tr_base(const struct host *h)
{
	const u32 *d = (const u32 *)(h->gdt.base + (h->tr & ~7u));

	return d[0] >> 16 | (u64)(d[1] & 0xff) << 16 | (u64)(d[1] & 0xff000000) | (u64)d[2] << 32;
}

/* What the processor must get back. Fields exist only where their MSR does. */
static u64 host_actual(u32 encoding, const struct slice *s)
{
	const struct host *h = &s->host;

	switch (encoding) {
	case 0x0c00:
		return h->segment[ES];
	case 0x0c02:
		return __KERNEL_CS;
	case 0x0c04:
		return h->segment[SS];
	case 0x0c06:
		return h->segment[DS];
	case 0x0c08:
		return h->segment[FS];
	case 0x0c0a:
		return h->segment[GS];
	case 0x0c0c:
		return h->tr;
	case 0x2c00:
		return msr_read(IA32_PAT);
	case 0x2c02:
		return msr_read(IA32_EFER);
	case 0x2c04:
		return msr_read(IA32_PERF_GLOBAL_CTRL);
	case 0x2c06:
		return msr_read(IA32_PKRS);
	case 0x4c00:
		return (u32)msr_read(IA32_SYSENTER_CS);
	case 0x6c00:
		return cr0_read();
	case 0x6c02:
		return cr3_read();
	case 0x6c04:
		return cr4_read();
	case 0x6c06:
		return msr_read(IA32_FS_BASE);
	case 0x6c08:
		return msr_read(IA32_GS_BASE);
	case 0x6c0a:
		return tr_base(h);
	case 0x6c0c:
		return h->gdt.base;
	case 0x6c0e:
		return h->idt.base;
	case 0x6c10:
		return msr_read(IA32_SYSENTER_ESP);
	case 0x6c12:
		return msr_read(IA32_SYSENTER_EIP);
	case 0x6c14:
		return (u64)&s->stack[ARRAY_SIZE(s->stack)] & ~15ull;
	case 0x6c16:
		return (u64)vmfuzz_exit_handler;
	case 0x6c18:
		return has_cet() ? msr_read(IA32_S_CET) : 0;
	case 0x6c1c:
		return table_ssp();
	default:
		return 0;	/* SSP: supervisor shadow stacks are off; FRED and IA32_SPEC_CTRL: never loaded */
	}
}

/* Fields that an interrupt between two rows may change. */
static bool changes_between_rows(u32 encoding)
{
	return encoding == 0x6c02 || encoding == 0x6c04 || encoding == 0x2c04;
}

/* The processor's values into the fields that hold the captured ones: all of them before the first row of a slice. */
void vmfuzz_host_refresh(struct vmfuzz_machine *m, struct slice *s)
{
	struct vmfuzz_request *r = m->request;
	struct vmfuzz_host_field *f;
	u64 value;

	for (f = m->host; f < m->host + m->host_count; f++) {
		if (s->refreshed && !changes_between_rows(f->encoding))
			continue;
		value = host_actual(f->encoding, s);
		if (s->refreshed && value == f->actual)
			continue;
		f->actual = value;
		if (!f->substitute)
			continue;
		if (f->column >= 0)
			r->columns[f->column].value = value;
		else
			vmfuzz_write_field(f->encoding, value);
	}
	s->refreshed = true;
}

void vmfuzz_host_columns(const struct vmfuzz_machine *m, u64 *value)
{
	const struct vmfuzz_host_field *f;

	for (f = m->host; f < m->host + m->host_count; f++)
		if (f->column >= 0 && value[f->column] == f->captured)
			value[f->column] = f->actual;
}

/*
 * Whether the present row, or with live conditions the base before it, has another value in this host-state field than the host, and may have it:
 * where limits.virtual allows that.
 */
bool vmfuzz_row_sets(const struct slice *s, u32 encoding)
{
	const struct vmfuzz_machine *m = s->machine;
	const struct vmfuzz_host_field *f;

	for (f = m ? m->host : NULL; m && f < m->host + m->host_count; f++) {
		if (f->encoding != encoding)
			continue;
		if (f->column < 0)
			return !f->substitute;
		return s->value[f->column] != f->actual || (m->request->live_columns && m->request->columns[f->column].value != f->actual);
	}
	return false;
}

static void set_captured(struct vmfuzz_machine *m, u32 encoding, u64 value)
{
	u32 i;

	for (i = 0; i < m->field_count; i++)
		if (m->fields[i].target == encoding)
			m->fields[i].value = value;
}

/* What the engine captured, with host fields as the driver will give them back and not as the engine reads them. */
void vmfuzz_take_capture(struct vmfuzz_machine *m, const struct slice *s)
{
	u32 i;

	m->field_count = m->request->field_count;
	memcpy(m->fields, m->request->fields, sizeof(m->fields));
	m->host_count = 0;
	for (i = 0; i < m->field_count; i++) {
		struct vmfuzz_host_field *f = &m->host[m->host_count];

		if ((m->fields[i].target >> 10 & 3) != 3)
			continue;
		f->encoding = m->fields[i].target;
		f->captured = f->actual = host_actual(f->encoding, s);
		f->column = -1;
		f->substitute = false;
		set_captured(m, f->encoding, f->captured);
		m->host_count++;
	}
	m->cpu = smp_processor_id();
	m->captured = true;
}
