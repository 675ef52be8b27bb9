// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// machine.c: what a session holds: memory, the facts of its processor, and from them the limits of containment.
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>

#include "slice.h"

/* With preemption off: all facts are of one CPU. */
int vmfuzz_probe_here(struct vmfuzz_machine *m)
{
	int error = vmfuzz_check_processor();

	if (error)
		return error;
	m->request->pad = smp_processor_id();
	vmfuzz_probe(m->request);
	return 0;
}

int vmfuzz_machine_probe(struct vmfuzz_machine *m)
{
	int error;

	preempt_disable();
	error = vmfuzz_probe_here(m);
	preempt_enable();
	return error;
}

static u64 probed(const struct vmfuzz_request *r, u32 msr)
{
	u64 i;

	for (i = 0; i < r->msr_count; i++)
		if (r->msrs[i].target == msr)
			return r->msrs[i].value;
	return 0;
}

void vmfuzz_set_limits(struct vmfuzz_machine *m)
{
	static const u16 msrs[] = { 0x481, 0x482, 0x48b, 0, 0x483, 0x484, 0 };
	struct vmfuzz_limits *l = &m->limits;
	struct vmfuzz_request *r = m->request;
	bool exact = probed(r, IA32_VMX_BASIC) >> 55 & 1;
	u32 i, j, widths = leaf(0x80000008, 0);

	memset(l, 0, sizeof(*l));
	l->physical_bits = widths & 0xff;
	l->linear_bits = widths >> 8 & 0xff;
	l->arena_pa = virt_to_phys(m->arena);
	l->arena_bytes = VMFUZZ_ARENA_BYTES;
	l->cr0_fixed0 = probed(r, 0x486);
	l->cr0_fixed1 = probed(r, 0x487);
	l->cr4_fixed0 = probed(r, 0x488);
	l->cr4_fixed1 = probed(r, 0x489);
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		u64 value = msrs[i] ? probed(r, exact && msrs[i] != 0x48b ? msrs[i] + 12 : msrs[i]) : 0;

		l->must[i] = msrs[i] == 0x48b ? 0 : (u32)value;
		l->may[i] = value >> 32;
	}
	l->features = vmfuzz_features(leaf(1, 0), probed(r, IA32_VMX_EPT_VPID_CAP), l->may[VMFUZZ_SLOT_PIN]);
	/* The words of 64 bits: the MSR is a mask of what may be 1. */
	l->may[VMFUZZ_SLOT_TERTIARY] = probed(r, 0x492);
	l->may[VMFUZZ_SLOT_SECONDARY_EXIT] = probed(r, 0x493);
	for (i = 0; i < VMFUZZ_SLOT_COUNT; i++)
		for (j = 0; j < m->field_count; j++)
			if (m->fields[j].target == vmfuzz_slot_encoding[i])
				l->captured[i] = m->fields[j].value;
}

int vmfuzz_machine_init(struct vmfuzz_machine *m)
{
	/* Below 4 GiB: some processors want VMX structures there (IA32_VMX_BASIC[48]). The caller says so when there are none. */
	gfp_t where = GFP_KERNEL | GFP_DMA32 | __GFP_ZERO | __GFP_NOWARN;

	m->arena = (void *)__get_free_pages(where, get_order(VMFUZZ_ARENA_BYTES));
	m->vmxon_region = (u64 *)__get_free_page(where);
	m->vmcs_region = (void *)__get_free_page(where);
	m->request = kvzalloc(sizeof(*m->request), GFP_KERNEL);
	if (!m->arena || !m->vmxon_region || !m->vmcs_region || !m->request)
		return -ENOMEM;
	m->request->abi = VMFUZZ_ABI;
	m->request->arena_va = (u64)m->arena;
	m->request->arena_pa = virt_to_phys(m->arena);
	m->request->vmcs_va = (u64)m->vmcs_region;
	m->request->vmcs_pa = virt_to_phys(m->vmcs_region);
	return 0;
}

void vmfuzz_machine_free(struct vmfuzz_machine *m)
{
	free_pages((unsigned long)m->arena, get_order(VMFUZZ_ARENA_BYTES));
	free_page((unsigned long)m->vmxon_region);
	free_page((unsigned long)m->vmcs_region);
	kvfree(m->request);
}
