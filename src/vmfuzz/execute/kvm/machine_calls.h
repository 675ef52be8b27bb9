/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* machine_calls.h: what machine.c and words.c offer to the agent and to one another. Each returns an errno, 0 when it worked. */
#ifndef VMFUZZ_KVM_MACHINE_CALLS_H
#define VMFUZZ_KVM_MACHINE_CALLS_H

#include <stddef.h>
#include <stdint.h>

#include "machine.h"

/* The frames OPEN and RUN of machine.h. */
int vmfuzz_kvm_open(const uint8_t *in, size_t length);
int vmfuzz_kvm_run(const uint8_t *in, size_t length, uint8_t *out, size_t most, size_t *answered);
/* Give /dev/kvm back, so that KVM's module can be unloaded. */
void vmfuzz_kvm_close(void);

/* The frame FACTS: the kernel, the processor, KVM's module and its parameters, and whether /dev/kvm can be opened. */
void vmfuzz_kvm_facts(struct vmfuzz_kvm_facts *facts);

/* What the kernel says about a request besides its outcome, as far as this process may read it. */
void vmfuzz_kvm_words_before(void);
void vmfuzz_kvm_words_after(struct vmfuzz_kvm_ran *ran);
uint64_t vmfuzz_kvm_exits(int vcpu);

#endif
