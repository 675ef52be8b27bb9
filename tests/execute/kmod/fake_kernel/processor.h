/* processor.h: an imagined processor in the place of kmod/processor.h: registers are memory, what is done to them is logged. */
#ifndef VMFUZZ_PROCESSOR_H
#define VMFUZZ_PROCESSOR_H

#include "fake_kernel.h"

struct table_register {
	u16 limit;
	u64 base;
} __packed;

enum data_segment { ES, SS, DS, FS, GS, DATA_SEGMENTS };

/* Places of registers: what fake_get and its kin call them. FAKE_LIMIT: that of TR, which no instruction reads. */
enum fake_register { FAKE_MSR, FAKE_CR, FAKE_DR, FAKE_SEGMENT, FAKE_TR, FAKE_LDTR, FAKE_LIMIT, FAKE_LEAF, FAKE_GDT, FAKE_IDT, FAKE_CS };

u64 fake_get(int what, u64 number);
void fake_set(int what, u64 number, u64 value);
u32 fake_leaf(u64 number);
int fake_vmx(const char *instruction);
void fake_table(int what, struct table_register *to);
void fake_set_table(int what, const struct table_register *from);

/* Whether a test gave it a value. */
bool fake_has(int what, u64 number);

static inline bool fake_try_read(u64 msr, u64 *value)
{
	*value = fake_has(FAKE_MSR, msr) ? fake_get(FAKE_MSR, msr) : 0;
	return fake_has(FAKE_MSR, msr);
}

static inline void fake_write(int what, u64 number, u64 value, const char *name)
{
	fake_log("%s%llx = %llx\n", name, number, value);
	fake_set(what, number, value);
}

#define msr_read(msr) fake_get(FAKE_MSR, msr)
#define msr_try_read(msr, value) fake_try_read(msr, value)
#define msr_write(msr, value) fake_write(FAKE_MSR, msr, value, "msr ")
#define leaf(number, reg) fake_leaf((u64)(number) << 8 | (reg))
#define cr0_read() fake_get(FAKE_CR, 0)
#define cr0_write(value) fake_write(FAKE_CR, 0, value, "cr")
#define cr3_read() fake_get(FAKE_CR, 3)
#define cr3_write(value) fake_write(FAKE_CR, 3, value, "cr")
#define cr4_read() fake_get(FAKE_CR, 4)
#define cr4_write(value) fake_write(FAKE_CR, 4, value, "cr")
#define dr6_read() fake_get(FAKE_DR, 6)
#define dr6_write(value) fake_write(FAKE_DR, 6, value, "dr")
#define dr7_read() fake_get(FAKE_DR, 7)
#define dr7_write(value) fake_write(FAKE_DR, 7, value, "dr")
#define gdt_read(to) fake_table(FAKE_GDT, to)
#define gdt_write(from) fake_set_table(FAKE_GDT, from)
#define idt_read(to) fake_table(FAKE_IDT, to)
#define idt_write(from) fake_set_table(FAKE_IDT, from)
#define tr_read() ((u16)fake_get(FAKE_TR, 0))
#define tr_reload() (fake_set(FAKE_TR, 0, 0x40), fake_set(FAKE_LIMIT, 0, 0x206f))
#define ldtr_read() ((u16)fake_get(FAKE_LDTR, 0))
#define ldtr_write(selector) fake_write(FAKE_LDTR, 0, selector, "ldtr ")
#define segment_read(number) ((u16)fake_get(FAKE_SEGMENT, number))
#define segment_write(number, value) fake_write(FAKE_SEGMENT, number, value, "segment ")
#define cs_reload() fake_write(FAKE_CS, 0, __KERNEL_CS, "cs ")
#define vmxon(pa) ((void)(pa), fake_vmx("vmxon"))
#define vmxoff() ((void)fake_vmx("vmxoff"))
#define invept_all() fake_vmx("invept")
#define invvpid_all() fake_vmx("invvpid")
#define raise_nmi() fake_log("int 2\n")
#define raise_machine_check() (fake_log("int 18\n"), fake_set(FAKE_MSR, 0x17a, 0))
#define open_nmis() ((void)0)
#define kernel_has_vmx() (!fake_get(FAKE_LEAF, 0xffff00))
#define xen_pv() (fake_get(FAKE_LEAF, 0xffff01) != 0)

#endif
