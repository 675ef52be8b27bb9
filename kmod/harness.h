/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * harness.h: what stands around the engine where it runs in a machine of its own, an emulated CPU (bochs/platform.c) or a virtual machine
 * of KVM (kvm/machine.c): where its memory lies, its tables, and the addresses in a request.
 */
#ifndef VMFUZZ_HARNESS_H
#define VMFUZZ_HARNESS_H

#include <stdint.h>

#include "engine.h"

/* Physical addresses below 2^36 (the narrowest model), both more than one bit from each other and from zero. Containment's rules know these. */
#define HARNESS_PA 0x95a000000ull
#define ARENA_PA 0x10000000ull
#define WINDOW_VA 0xffffffff80000000ull
#define ARENA_BYTES (VMFUZZ_ARENA_PAGES * VMFUZZ_PAGE)
#define PAGE_LARGE 0x200000ull

/* IA32_APIC_BASE of a processor whose local APIC is in x2APIC mode (VMFUZZ_FLAG_X2APIC): enabled, and in that mode. */
#define APIC_BASE_X2APIC 0xc00ull

#define TABLE_ROOT (VMFUZZ_EMU_TABLES + 0x0)
#define TABLE_DIRECTORY (VMFUZZ_EMU_TABLES + 0x1000)
#define TABLE_GDT (VMFUZZ_EMU_TABLES + 0x2000)
#define TABLE_TSS (VMFUZZ_EMU_TABLES + 0x2100)
#define REGION_VMXON (VMFUZZ_EMU_TABLES + 0x3000)
#define REGION_VMCS (VMFUZZ_EMU_TABLES + 0x4000)

/*
 * root[511] is the root itself and root[510] a page directory, all supervisor: the window's addresses walk root, root,
 * directory with 4-level paging and root, root, root, directory with 5-level paging. So the engine survives an exit that
 * turns CR4.LA57, SMEP, SMAP or LASS on. Pages have 2 MiB, which makes walks short.
 */
static inline void harness_tables(uint8_t *ram)
{
	uint64_t *root = (uint64_t *)(ram + TABLE_ROOT), *directory = (uint64_t *)(ram + TABLE_DIRECTORY);
	uint64_t *gdt = (uint64_t *)(ram + TABLE_GDT), tss = WINDOW_VA + TABLE_TSS, offset;

	root[511] = (HARNESS_PA + TABLE_ROOT) | 0x23;	/* present, writable, accessed */
	root[510] = (HARNESS_PA + TABLE_DIRECTORY) | 0x23;
	for (offset = 0; offset < VMFUZZ_EMU_BYTES; offset += PAGE_LARGE)
		directory[offset / PAGE_LARGE] = (HARNESS_PA + offset) | 0xe3;	/* large, dirty */
	directory[VMFUZZ_EMU_ARENA / PAGE_LARGE] = ARENA_PA | 0xe3;
	gdt[1] = 0x00af9b000000ffffull;		/* 64-bit code */
	gdt[2] = 0x00cf93000000ffffull;		/* data */
	gdt[3] = 0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56;	/* busy TSS */
	gdt[4] = tss >> 32;
}

/* The part of a request that is the same in each. */
static inline void harness_request(struct vmfuzz_request *request)
{
	request->abi = VMFUZZ_ABI;
	request->vmxon_va = WINDOW_VA + REGION_VMXON;
	request->vmxon_pa = HARNESS_PA + REGION_VMXON;
	request->vmcs_va = WINDOW_VA + REGION_VMCS;
	request->vmcs_pa = HARNESS_PA + REGION_VMCS;
	request->arena_va = WINDOW_VA + VMFUZZ_EMU_ARENA;
	request->arena_pa = ARENA_PA;
	request->rows_va = WINDOW_VA + VMFUZZ_EMU_ROWS;
	request->status = VMFUZZ_STATUS_IDLE;
}

#endif
