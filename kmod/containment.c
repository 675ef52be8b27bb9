// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
// containment.c: the predicate that stands between userspace and VMLAUNCH: which candidates may run on this machine.
/*
 * A candidate is refused unless it either fails for certain or cannot do harm: no guest instruction executes, no memory but the
 * arena is written, no interrupt meant for the host is lost, and every register that the VM exit loads comes back with the value
 * it had. "For certain" means: by a check that every processor makes on this one value (a reserved bit, an address that is
 * not canonical), never by a second field of the same candidate, with one exception: RFLAGS bit 1 clear. No processor enters a
 * guest with it, and KVM's own tests rely on it. Activity states that end in a reset or a hang are not excused by it, except under
 * limits.poison, which the caller has to ask for: then it excuses what docs/bare-metal.md lists. Its failure still loads host state and
 * processes the VM-exit MSR-load list, also where a processor forgot an earlier check: nothing that these do harm with is excused.
 *
 * limits.virtual is for a machine whose reset costs nobody anything (docs/hypervisors.md): host state that the exit handler survives, and MSR lists.
 * What a processor makes of them may reset the machine, and host.c and msr_lists.c give back the rest.
 *
 * For the same reason a control word counts here also where another control does not activate it, but for the walls themselves.
 *
 * Freestanding: the module and a shared object for the test that compares it with execute/kmod/containment.py link it.
 */
#include "containment.h"
#include "containment_calls.h"

typedef vmfuzz_u16 u16;
typedef vmfuzz_u32 u32;
typedef vmfuzz_u64 u64;

#undef BIT
#define BIT(n) (1ull << (n))
#define CR4_SURVIVED 0x1fffefffull	/* bits 28:0 without LA57 */
#define S(name) (v[VMFUZZ_SLOT_##name])
#define KNOWN(name) (l->captured[VMFUZZ_SLOT_##name])

const u16 vmfuzz_slot_encoding[VMFUZZ_SLOT_COUNT] = {
	0x4000, 0x4002, 0x401e, 0x2034, 0x400c, 0x4012, 0x2044,
	0x400e, 0x2006, 0x4010, 0x2008, 0x4014, 0x200a,
	0x201a, 0x2012, 0x2014, 0x2016, 0x200e, 0x202a, 0x2024, 0x2030, 0x2040, 0x2042,
	0x2800, 0x482e, 0x4826, 0x6820, 0x6800, 0x6802,
	0x2802, 0x2804, 0x2806, 0x2808, 0x2814, 0x2818,
	0x0c00, 0x0c02, 0x0c04, 0x0c06, 0x0c08, 0x0c0a, 0x0c0c,
	0x2c00, 0x2c02, 0x2c04, 0x2c06, 0x4c00,
	0x6c00, 0x6c02, 0x6c04, 0x6c06, 0x6c08, 0x6c0a, 0x6c0c, 0x6c0e, 0x6c10, 0x6c12, 0x6c14, 0x6c16, 0x6c18, 0x6c1a, 0x6c1c,
	0x0002, 0xffff, 0xffff, 0xffff,
};

/*
 * CPUID.1:EAX, without reserved bits, of processors whose VMX-preemption timer has an erratum: those of KVM's list. The errata say that the
 * rate is wrong, not that 0 is; but a wall is nothing to try out.
 */
const u32 vmfuzz_broken_timer[VMFUZZ_BROKEN_TIMERS] = {
	0x206e6,		/* BA86 */
	0x20652,		/* AAX65, AAT59, AAU65 */
	0x20655,		/* AAU65 */
	0x106e5,		/* AAO95, AAN92, AAP86 */
	0x106a0, 0x106a1,	/* AAM126 */
	0x106a4,		/* AAJ124 */
	0x106a5,		/* AAM126, AAK139, AAJ124 */
	0x306a8,		/* Xeon E3-1220 v2 */
};

/* Control bits whose effect on entry and exit this file has thought through, by slot. */
static const u64 understood[VMFUZZ_SLOT_CONTROLS] = {
	0xe9,		/* pin: 0, 3, 5, 6, 7 */
	0xfbfb9e8c,	/* primary: all of the manual's */
	0xdfffffff,	/* secondary: 0-28, 30, 31 */
	0x5f,		/* tertiary: 0-4, 6 */
	0xfffc9204,	/* exit: 2, 9, 12, 15, 18-31 */
	0x7fee04,	/* entry: 2, 9-11, 13-22; not 23 (FRED), 24 (IA32_SPEC_CTRL): exits do not give these back */
	0,		/* secondary exit controls: none */
};

static u32 bit(u64 value, unsigned int number)
{
	return value >> number & 1;
}

/* The bits of a field, by its width (bits 14:13 of the encoding): VMWRITE ignores those that an operand has beyond them. */
u64 vmfuzz_field_mask(u64 encoding)
{
	static const u64 mask[] = { 0xffff, ~0ull, 0xffffffff, ~0ull };

	return mask[encoding >> 13 & 3];
}

/* What the rules may count on: CPUID.1:EAX, IA32_VMX_EPT_VPID_CAP (0 without), pin-based controls that may be 1. Returns enum vmfuzz_features. */
u32 vmfuzz_features(u32 signature, u64 ept_vpid, u64 may_pin)
{
	u32 found = bit(may_pin, 6) ? VMFUZZ_HAS_TIMER : 0;
	unsigned int i;

	for (i = 0; i < VMFUZZ_BROKEN_TIMERS; i++)
		if ((signature & ~0xf000c000u) == vmfuzz_broken_timer[i])
			found = 0;
	if (bit(ept_vpid, 20) && bit(ept_vpid, 26))
		found |= VMFUZZ_HAS_INVEPT;
	if (bit(ept_vpid, 32) && bit(ept_vpid, 42))
		found |= VMFUZZ_HAS_INVVPID;
	return found;
}

static int canonical(const struct vmfuzz_limits *l, u64 value)
{
	unsigned int shift = 64 - l->linear_bits;

	return (u64)((long long)(value << shift) >> shift) == value;
}

/* The control word, 0 where another control does not activate it. */
static u64 word(const u64 *v, unsigned int slot)
{
	if (slot == VMFUZZ_SLOT_SECONDARY && !bit(S(PRIMARY), 31))
		return 0;
	if (slot == VMFUZZ_SLOT_TERTIARY && !bit(S(PRIMARY), 17))
		return 0;
	if (slot == VMFUZZ_SLOT_SECONDARY_EXIT && !bit(S(EXIT), 31))
		return 0;
	return v[slot];
}

/* The row fails for certain, after the control and host checks, and the caller asked for what that excuses. */
static int poisoned(const struct vmfuzz_limits *l, const u64 *v)
{
	return l->poison && !bit(S(RFLAGS), 1);
}

static u32 refuse_controls(const struct vmfuzz_limits *l, const u64 *v)
{
	unsigned int slot;

	/* Entry to SMM and deactivation of the dual-monitor treatment: not for experiments, whatever the processor says. */
	if (S(ENTRY) & (BIT(10) | BIT(11)))
		return VMFUZZ_RULE_SMM;
	for (slot = 0; slot < VMFUZZ_SLOT_SECONDARY_EXIT; slot++)
		if (v[slot] & l->may[slot] & ~l->must[slot] & ~understood[slot])
			return VMFUZZ_RULE_UNKNOWN_CONTROL;
	if (bit(l->may[VMFUZZ_SLOT_EXIT], 31) && word(v, VMFUZZ_SLOT_SECONDARY_EXIT))
		return VMFUZZ_RULE_SECONDARY_EXIT;
	return VMFUZZ_RULE_NONE;
}

/* Bits 62:61 are linear-address masking and loaded where it exists; any other bit beyond the width fails. */
static int host_cr3_is_loaded(const struct vmfuzz_limits *l, const u64 *v)
{
	return S(HOST_CR3) != KNOWN(HOST_CR3) && !((S(HOST_CR3) & ~(3ull << 61)) >> l->physical_bits);
}

static int host_cr4_passes(const struct vmfuzz_limits *l, const u64 *v)
{
	return !(l->cr4_fixed0 & ~S(HOST_CR4)) && !(S(HOST_CR4) & ~l->cr4_fixed1);
}

static int host_rip_is_loaded(const struct vmfuzz_limits *l, const u64 *v)
{
	return S(HOST_RIP) != KNOWN(HOST_RIP) && canonical(l, S(HOST_RIP));
}

/*
 * The same where the machine may be lost: all but what takes away the exit handler's code or page tables. In 64-bit mode no MOV to CR4 turns LA57
 * off again, and FRED is another way to deliver events.
 */
static u32 refuse_host_registers_virtual(const struct vmfuzz_limits *l, const u64 *v)
{
	if (host_cr3_is_loaded(l, v))
		return VMFUZZ_RULE_HOST_CR3;
	if ((S(HOST_CR4) ^ KNOWN(HOST_CR4)) & ~CR4_SURVIVED && host_cr4_passes(l, v))
		return VMFUZZ_RULE_HOST_CR4;
	if (host_rip_is_loaded(l, v))
		return VMFUZZ_RULE_HOST_RIP;
	return VMFUZZ_RULE_NONE;
}

/* Loaded by every exit, and by every entry failure. */
static u32 refuse_host_registers(const struct vmfuzz_limits *l, const u64 *v)
{
	unsigned int i;

	if (l->virtual)
		return refuse_host_registers_virtual(l, v);
	if (S(HOST_CR0) != KNOWN(HOST_CR0) && !(l->cr0_fixed0 & ~S(HOST_CR0)) && !(S(HOST_CR0) & ~l->cr0_fixed1))
		return VMFUZZ_RULE_HOST_CR0;
	if (host_cr3_is_loaded(l, v))
		return VMFUZZ_RULE_HOST_CR3;
	if (S(HOST_CR4) != KNOWN(HOST_CR4) && host_cr4_passes(l, v))
		return VMFUZZ_RULE_HOST_CR4;
	for (i = VMFUZZ_SLOT_HOST_ES; i <= VMFUZZ_SLOT_HOST_TR; i++) {
		int fails = v[i] & 7 || (!v[i] && (i == VMFUZZ_SLOT_HOST_CS || i == VMFUZZ_SLOT_HOST_TR));

		if (v[i] != l->captured[i] && !fails)
			return VMFUZZ_RULE_HOST_SELECTOR;
	}
	for (i = VMFUZZ_SLOT_HOST_FS_BASE; i <= VMFUZZ_SLOT_HOST_IDTR_BASE; i++)
		if (v[i] != l->captured[i] && canonical(l, v[i]))
			return VMFUZZ_RULE_HOST_BASE;
	if (S(HOST_SYSENTER_CS) != KNOWN(HOST_SYSENTER_CS))
		return VMFUZZ_RULE_HOST_SYSENTER;
	for (i = VMFUZZ_SLOT_HOST_SYSENTER_ESP; i <= VMFUZZ_SLOT_HOST_SYSENTER_EIP; i++)
		if (v[i] != l->captured[i] && canonical(l, v[i]))
			return VMFUZZ_RULE_HOST_SYSENTER;
	/* No check looks at host_rsp, and an NMI right after the exit would see it. */
	if (S(HOST_RSP) != KNOWN(HOST_RSP))
		return VMFUZZ_RULE_HOST_RSP;
	if (host_rip_is_loaded(l, v))
		return VMFUZZ_RULE_HOST_RIP;
	return VMFUZZ_RULE_NONE;
}

static int bad_memory_type(u64 pat)
{
	unsigned int i;

	for (i = 0; i < 64; i += 8) {
		u64 type = pat >> i & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return 1;
	}
	return 0;
}

/*
 * Each CET value that is not the host's fails for certain, and would do nothing if it were loaded: bits 9:6 of S_CET mean nothing, and
 * without supervisor shadow stacks, with which the driver refuses to run, nothing uses the other two.
 */
static int idle_cet(const struct vmfuzz_limits *l, const u64 *v)
{
	return !((S(HOST_S_CET) ^ KNOWN(HOST_S_CET)) & ~0x3c0ull) &&
	       (S(HOST_S_CET) == KNOWN(HOST_S_CET) || S(HOST_S_CET) & 0x3c0) &&
	       (S(HOST_SSP) == KNOWN(HOST_SSP) || S(HOST_SSP) & 3) &&
	       (S(HOST_SSP_TABLE) == KNOWN(HOST_SSP_TABLE) || !canonical(l, S(HOST_SSP_TABLE)));
}

/* Those that the exit handler survives, and the driver gives back. */
static u32 refuse_plain_host_msrs(const struct vmfuzz_limits *l, const u64 *v)
{
	u64 exit = S(EXIT);

	if (bit(exit, 19) && S(HOST_PAT) != KNOWN(HOST_PAT) && !bad_memory_type(S(HOST_PAT)))
		return VMFUZZ_RULE_HOST_PAT;
	if (bit(exit, 21) && S(HOST_EFER) != KNOWN(HOST_EFER) && !(S(HOST_EFER) & ~0xd01ull) && (S(HOST_EFER) & 0x500) == 0x500)
		return VMFUZZ_RULE_HOST_EFER;
	/* Bits 63:49 are reserved on every processor, and the driver gives the MSR back. */
	if (bit(exit, 12) && S(HOST_PERF) != KNOWN(HOST_PERF) && !(poisoned(l, v) && S(HOST_PERF) >> 49))
		return VMFUZZ_RULE_HOST_PERF;
	return VMFUZZ_RULE_NONE;
}

/* Loaded by exits if a control says so. */
static u32 refuse_host_msrs(const struct vmfuzz_limits *l, const u64 *v)
{
	u64 exit = S(EXIT);
	u32 rule = l->virtual ? VMFUZZ_RULE_NONE : refuse_plain_host_msrs(l, v);

	if (rule)
		return rule;
	if (bit(exit, 28) && (S(HOST_S_CET) != KNOWN(HOST_S_CET) || S(HOST_SSP) != KNOWN(HOST_SSP) ||
			      S(HOST_SSP_TABLE) != KNOWN(HOST_SSP_TABLE)) && !(poisoned(l, v) && idle_cet(l, v)))
		return VMFUZZ_RULE_HOST_CET;
	if (bit(exit, 29) && S(HOST_PKRS) != KNOWN(HOST_PKRS) && !(S(HOST_PKRS) >> 32))
		return VMFUZZ_RULE_HOST_PKRS;
	return VMFUZZ_RULE_NONE;
}

/* What the entry loads the exit must load or clear again, or it must be what the host has already. */
static u32 refuse_leaks(const struct vmfuzz_limits *l, const u64 *v)
{
	u64 entry = S(ENTRY), exit = S(EXIT);
	int leaks = 0;

	leaks |= bit(entry, 13) && !bit(exit, 12) && S(GUEST_PERF) != KNOWN(HOST_PERF);
	leaks |= bit(entry, 14) && !bit(exit, 19) && S(GUEST_PAT) != KNOWN(HOST_PAT);
	leaks |= bit(entry, 15) && !bit(exit, 21) && S(GUEST_EFER) != KNOWN(HOST_EFER);
	leaks |= bit(entry, 22) && !bit(exit, 29) && S(GUEST_PKRS) != KNOWN(HOST_PKRS);
	leaks |= bit(entry, 16) && !bit(exit, 23);	/* IA32_BNDCFGS */
	leaks |= bit(entry, 18) && !bit(exit, 25);	/* IA32_RTIT_CTL */
	leaks |= bit(entry, 19) && !bit(exit, 27);	/* UINV */
	leaks |= bit(entry, 20) && !bit(exit, 28);	/* CET state */
	leaks |= bit(entry, 21) && !bit(exit, 26);	/* IA32_LBR_CTL */
	if (leaks)
		return VMFUZZ_RULE_LEAK;
	/* Trace output goes to the memory that the host's MSRs name: Intel PT, and branch traces (TR, BTS, BTINT). */
	if (bit(entry, 18) && bit(S(GUEST_RTIT), 0))
		return VMFUZZ_RULE_TRACE;
	if (bit(entry, 2) && S(GUEST_DEBUGCTL) & 0x1c0)
		return VMFUZZ_RULE_TRACE;
	return VMFUZZ_RULE_NONE;
}

/*
 * The list is not empty and its address does not fail for certain. Whether its end lies beyond the width does not count:
 * a processor may get the sum wrong.
 */
static int list_processed(const struct vmfuzz_limits *l, u64 count, u64 address)
{
	return count && !(address & 15) && !(address >> l->physical_bits);
}

/*
 * Where the processor may write: a page's length of the arena that is no wall, aligned or not, or nowhere since the address is too wide.
 */
static int harmless(const struct vmfuzz_limits *l, u64 address)
{
	u64 walls = (u64)VMFUZZ_WALL_PAGES * VMFUZZ_PAGE;

	return address >> l->physical_bits || address - l->arena_pa - walls <= l->arena_bytes - walls - VMFUZZ_PAGE;
}

/* An MSR that comes back with its value, should a processor load it all the same: by the exit, or by the driver. */
static int given_back(const struct vmfuzz_limits *l, const u64 *v, u32 msr)
{
	switch (msr) {
	case 0x174:	/* IA32_SYSENTER_CS, ESP, EIP */
	case 0x175:
	case 0x176:
	case 0xc0000102:	/* IA32_KERNEL_GS_BASE */
		return 1;
	case 0x277:	/* IA32_PAT */
		return bit(S(EXIT), 19) && S(HOST_PAT) == KNOWN(HOST_PAT);
	case 0xc0000080:	/* IA32_EFER */
		return bit(S(EXIT), 21) && S(HOST_EFER) == KNOWN(HOST_EFER);
	}
	return 0;
}

static u64 arena_word(const struct vmfuzz_words *w, u64 target)
{
	u64 i;

	for (i = 0; i < w->count; i++)
		if (w->targets[i] == target)
			return w->values[i];
	for (i = w->base_count; i > 0; i--)
		if (w->base[i - 1].target == target)
			return w->base[i - 1].value;
	return 0;
}

/* An MSR that every processor reads, and loads with this value: what an exit cannot store or load shuts the processor down (VMX abort). */
static int exit_takes(const struct vmfuzz_limits *l, u32 msr, u64 value)
{
	switch (msr) {
	case 0x174:	/* IA32_SYSENTER_CS, ESP, EIP */
		return !(value >> 16);
	case 0x175:
	case 0x176:
	case 0xc0000102:	/* IA32_KERNEL_GS_BASE */
		return canonical(l, value);
	case 0x277:	/* IA32_PAT */
		return !bad_memory_type(value);
	}
	return 0;
}

/* One entry of a list, by its two words. The entry to a guest may load any MSR where the machine may be lost: the driver gives it back, or gives up. */
static int entry_is_harmless(const struct vmfuzz_limits *l, const u64 *v, u32 list, u64 word, u64 value)
{
	if (list == VMFUZZ_SLOT_ENTRY_COUNT)
		return l->virtual || given_back(l, v, (u32)word);
	return !(word >> 32) && exit_takes(l, (u32)word, list == VMFUZZ_SLOT_LOAD_COUNT ? value : 0);
}

/*
 * Whether an MSR list is short, lies in the arena and not in its walls, and does only what comes back. `list`: VMFUZZ_SLOT_ENTRY_COUNT, STORE_COUNT
 * or LOAD_COUNT, behind which the slot of its address follows.
 */
int vmfuzz_harmless_list(const struct vmfuzz_limits *l, const u64 *v, const struct vmfuzz_words *w, u32 list)
{
	u64 count = v[list], address = v[list + 1], target, i;

	if (count > VMFUZZ_LIST_MOST || address & 15)
		return 0;
	for (i = 0; i < count; i++, address += 16) {
		if (address >> l->physical_bits || !harmless(l, address))
			return 0;
		target = 1ull << VMFUZZ_TARGET_ARENA_BIT | (address - l->arena_pa);
		if (!entry_is_harmless(l, v, list, arena_word(w, target), arena_word(w, target + 8)))
			return 0;
	}
	return 1;
}

static u32 refuse_memory(const struct vmfuzz_limits *l, const u64 *v)
{
	u64 pin = S(PIN), secondary = S(SECONDARY), tertiary = S(TERTIARY);
	/*
	 * Virtualized APIC accesses, x2APIC mode, APIC registers, interrupt delivery and IPIs, posted interrupts: "use TPR shadow" has to
	 * be 1 for most of them, but a processor may miss that.
	 */
	int apic = bit(S(PRIMARY), 21) || secondary & (BIT(0) | BIT(4) | BIT(8) | BIT(9)) || bit(tertiary, 4) || bit(pin, 7);
	int ok = 1;

	if (list_processed(l, S(STORE_COUNT), S(STORE_ADDRESS)) && !(l->virtual && S(STORE_LIST)))
		return VMFUZZ_RULE_MSR_STORE;
	if (list_processed(l, S(LOAD_COUNT), S(LOAD_ADDRESS)) && !(l->virtual && S(LOAD_LIST)))
		return VMFUZZ_RULE_MSR_LOAD;
	if (list_processed(l, S(ENTRY_COUNT), S(ENTRY_ADDRESS)) && !((l->virtual || poisoned(l, v)) && S(ENTRY_LIST)))
		return VMFUZZ_RULE_ENTRY_MSR_LOAD;
	/* Translations of another hypervisor's EPT or VPID would still be used: the driver has nothing to invalidate them with. */
	if ((bit(secondary, 1) && !(l->features & VMFUZZ_HAS_INVEPT)) || (bit(secondary, 5) && !(l->features & VMFUZZ_HAS_INVVPID)))
		return VMFUZZ_RULE_STALE;
	/* Any other EPT would translate the addresses of the guest's page tables to memory of the host. */
	if (bit(secondary, 1) && !(S(EPTP) >> l->physical_bits) &&
	    ((S(EPTP) ^ KNOWN(EPTP)) & ~0xfffull || !(l->walls & VMFUZZ_WALL_EPT)))
		return VMFUZZ_RULE_EPT_POINTER;
	ok &= !apic || harmless(l, S(VIRTUAL_APIC));
	ok &= !bit(pin, 7) || harmless(l, S(POSTED_DESCRIPTOR));
	ok &= !bit(secondary, 0) || harmless(l, S(APIC_ACCESS));
	ok &= !bit(secondary, 13) || harmless(l, S(EPTP_LIST));
	ok &= !bit(secondary, 17) || harmless(l, S(PML));
	ok &= !bit(secondary, 18) || harmless(l, S(VE_INFORMATION));
	ok &= !bit(secondary, 23) || harmless(l, S(SPP_TABLE));
	ok &= !bit(tertiary, 1) || harmless(l, S(HLAT));
	ok &= !bit(tertiary, 4) || harmless(l, S(PID_TABLE));
	if (!ok)
		return VMFUZZ_RULE_ADDRESS;
	/* Only read, but reading a device's register may do something. */
	if (S(LINK) != ~0ull && !harmless(l, S(LINK)))
		return VMFUZZ_RULE_LINK_POINTER;
	return VMFUZZ_RULE_NONE;
}

/* Page tables that map nothing, and no others: not those that HLAT would use without EPT, which only one check forbids; nor addresses without PE. */
static int paging_wall(const struct vmfuzz_limits *l, const u64 *v)
{
	return l->walls & VMFUZZ_WALL_PAGING && bit(S(GUEST_CR0), 31) && bit(S(GUEST_CR0), 0) && !bit(S(TERTIARY), 1) &&
	       !((S(GUEST_CR3) ^ KNOWN(GUEST_CR3)) & ~0xfffull);
}

static int ept_wall(const struct vmfuzz_limits *l, const u64 *v)
{
	return l->walls & VMFUZZ_WALL_EPT && bit(word(v, VMFUZZ_SLOT_SECONDARY), 1) && !((S(EPTP) ^ KNOWN(EPTP)) & ~0xfffull);
}

static u32 refuse_guest(const struct vmfuzz_limits *l, const u64 *v)
{
	u64 pin = S(PIN), activity = S(ACTIVITY);
	int cannot_enter = !bit(S(RFLAGS), 1);
	int timer = l->features & VMFUZZ_HAS_TIMER && bit(pin, 6) && !S(TIMER);
	int ept = ept_wall(l, v), paging = paging_wall(l, v);

	/*
	 * The timer alone is no wall: an injected event is delivered before it expires, through whatever tables the guest has.
	 * Nor does RFLAGS excuse: PDPTEs may be read, from anywhere, before the entry fails.
	 */
	if (!ept && !paging)
		return VMFUZZ_RULE_GUEST_RUNS;
	/*
	 * The entry into shutdown generates the state's special bus cycle, which resets a PC, before any exit. Wait-for-SIPI blocks NMIs
	 * and INIT: nothing but a SIPI ends it, and only the timer, if it counts there.
	 */
	if ((activity == 2 || activity == 3) && !(poisoned(l, v) && timer))
		return VMFUZZ_RULE_SLEEPS;
	if (activity == 1 && !timer)
		return VMFUZZ_RULE_SLEEPS;
	if (cannot_enter)
		return VMFUZZ_RULE_NONE;
	/* A notification takes an interrupt without an exit. The host uses no vector below 32. */
	if (bit(pin, 7) && (S(NOTIFICATION) & 0xff) >= 32)
		return VMFUZZ_RULE_INTERRUPTS;
	if (timer)
		return VMFUZZ_RULE_NONE;
	/* The guest would take, or the exit acknowledge, an interrupt or NMI that the host waits for. */
	if (!bit(pin, 0) || !bit(pin, 3) || bit(S(EXIT), 15))
		return VMFUZZ_RULE_INTERRUPTS;
	if (l->risk == VMFUZZ_RISK_SAFE && (l->features & VMFUZZ_HAS_TIMER || !(ept && paging)))
		return VMFUZZ_RULE_TIMER;
	return VMFUZZ_RULE_NONE;
}

/* The rules, for values that are no wider than their fields. */
static u32 refuse(const struct vmfuzz_limits *l, const u64 *v)
{
	u32 rule = refuse_controls(l, v);

	if (!rule)
		rule = refuse_host_registers(l, v);
	if (!rule)
		rule = refuse_host_msrs(l, v);
	if (!rule)
		rule = refuse_leaks(l, v);
	if (!rule)
		rule = refuse_memory(l, v);
	if (!rule)
		rule = refuse_guest(l, v);
	return rule;
}

/*
 * The first rule that refuses a candidate with these values of the slots, VMFUZZ_RULE_NONE when it may run. Judged is what VMWRITE makes
 * of a value.
 */
u32 vmfuzz_refuse(const struct vmfuzz_limits *l, const u64 *v)
{
	u64 written[VMFUZZ_SLOT_COUNT];
	unsigned int slot;

	for (slot = 0; slot < VMFUZZ_SLOT_COUNT; slot++)
		written[slot] = v[slot] & vmfuzz_field_mask(vmfuzz_slot_encoding[slot]);
	return refuse(l, written);
}
