/* fake_kernel.h: what the module needs of the kernel's headers, for a process. Each of them is this file in the test's build. */
#ifndef FAKE_KERNEL_H
#define FAKE_KERNEL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef int64_t s64;
typedef unsigned int gfp_t;

#define __packed __attribute__((packed))
#define static_assert(condition) _Static_assert(condition, #condition)
#define ARRAY_SIZE(array) (sizeof(array) / sizeof(*(array)))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define min_t(type, a, b) min((type)(a), (type)(b))
#define X86_CR4_VMXE 0x2000
#define __KERNEL_CS 0x10
#define GFP_KERNEL 0u
#define GFP_DMA32 0u
#define __GFP_ZERO 0u
#define __GFP_NOWARN 0u

void fake_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define pr_info_once(...) fake_log("print " __VA_ARGS__)
#define pr_err_once pr_info_once
#define pr_err_ratelimited pr_info_once
#define pr_emerg pr_info_once
#define pr_emerg_once pr_info_once
#define local_irq_save(flags) ((flags) = 0, fake_log("interrupts off\n"))
#define local_irq_restore(flags) ((void)(flags), fake_log("interrupts on\n"))
#define preempt_disable() ((void)0)
#define preempt_enable() ((void)0)
#define smp_processor_id() 0u
#define virt_to_phys(pointer) ((u64)(uintptr_t)(pointer))
#define get_order(bytes) (bytes)
#define __get_free_pages(where, bytes) ((void)(where), (unsigned long)calloc(1, bytes))
#define __get_free_page(where) __get_free_pages(where, 4096)
#define free_pages(address, bytes) ((void)(bytes), free((void *)(address)))
#define free_page(address) free((void *)(address))
#define kvzalloc(bytes, where) calloc(1, bytes)
#define kvfree free

#endif
