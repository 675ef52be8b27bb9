/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
#ifndef VMFUZZ_CONTAINMENT_CALLS_H
#define VMFUZZ_CONTAINMENT_CALLS_H

#include "containment.h"

extern const vmfuzz_u16 vmfuzz_slot_encoding[VMFUZZ_SLOT_COUNT];
extern const vmfuzz_u32 vmfuzz_broken_timer[VMFUZZ_BROKEN_TIMERS];
vmfuzz_u64 vmfuzz_field_mask(vmfuzz_u64 encoding);
vmfuzz_u32 vmfuzz_features(vmfuzz_u32 signature, vmfuzz_u64 ept_vpid, vmfuzz_u64 may_pin);
int vmfuzz_harmless_list(const struct vmfuzz_limits *l, const vmfuzz_u64 *v, const struct vmfuzz_words *w, vmfuzz_u32 list);
vmfuzz_u32 vmfuzz_refuse(const struct vmfuzz_limits *l, const vmfuzz_u64 *v);

#endif
