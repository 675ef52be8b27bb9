/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * linux.h: of Linux' kernel interface what kmod/main.c, kmod/vmx.c and kmod/engine.c use, for one processor without interrupts and without
 * users. The build makes each of the kernel's headers, and the few of the C library's that requests.c and link.c name, a line that includes this one.
 */
#ifndef VMFUZZ_IMAGE_LINUX_H
#define VMFUZZ_IMAGE_LINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fixup.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef int16_t s16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef int gfp_t;
typedef struct {
	int counter;
} atomic_t;
struct mutex {
	int unused;
};
struct inode {
	int unused;
};
struct file {
	void *private_data;
};
struct file_operations {
	void *owner;
	int (*open)(struct inode *, struct file *);
	int (*release)(struct inode *, struct file *);
	long (*unlocked_ioctl)(struct file *, unsigned int, unsigned long);
};
struct miscdevice {
	int minor;
	const char *name;
	const struct file_operations *fops;
	int mode;
};

/* Numbers of Linux, which the other side of the line knows (src/vmfuzz/execute/kmod/device.py). */
enum {
	EPERM = 1, EINTR = 4, EIO = 5, ENOMEM = 12, EACCES = 13, EFAULT = 14, EBUSY = 16, EXDEV = 18, ENODEV = 19, EINVAL = 22, ENOTTY = 25,
	ENODATA = 61, EMSGSIZE = 90, EPROTONOSUPPORT = 93, EOPNOTSUPP = 95, EADDRINUSE = 98,
};

enum {
	__KERNEL_CS = 8, X86_CR4_VMXE = 0x2000, CAP_SYS_ADMIN = 0, LOCKDOWN_KCORE = 0, MISC_DYNAMIC_MINOR = 0,
	X86_FEATURE_XENPV = 0, X86_FEATURE_VMX = 1,
	GFP_KERNEL = 0, GFP_DMA32 = 0, __GFP_ZERO = 0, __GFP_NOWARN = 0,
};

#define VMFUZZ_MAY_BE_LOST true	/* for kmod/main.c: a machine that runs the image does nothing else */
#define HIGH 0xffffffff80000000ull	/* where the first 2 GiB of memory are mapped (boot.S) */
#define __user
#define static_assert(...) _Static_assert(__VA_ARGS__, "")
#define __packed __attribute__((packed))
#define THIS_MODULE NULL
#define MODULE_LICENSE(text)
#define MODULE_DESCRIPTION(text)
#define MODULE_AUTHOR(text)
#define module_misc_device(device) const struct miscdevice *const vmfuzz_misc_device = &(device)
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define min_t(type, a, b) min((type)(a), (type)(b))
#define ATOMIC_INIT(n) { n }
#define atomic_set(a, n) ((a)->counter = (n))
#define u64_to_user_ptr(n) ((void *)(uintptr_t)(n))

/* The kernel's log: the screen, and text between frames on the serial line. */
void printk(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define pr_info_ratelimited printk
#define pr_err_ratelimited printk
#define pr_emerg printk
#define say_once(...) do { static bool said; if (!said) { said = true; printk(__VA_ARGS__); } } while (0)
#define pr_info_once say_once
#define pr_err_once say_once
#define pr_emerg_once say_once
#define add_taint(...) ((void)0)

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
unsigned long copy_from_user(void *to, const void *from, unsigned long n);

static inline unsigned long copy_to_user(void *to, const void *from, unsigned long n)
{
	memcpy(to, from, n);
	return 0;
}

/* Memory is taken piece by piece, zeroed, and never given back: one session lives as long as the image. */
void *take_memory(size_t bytes, size_t align);
#define kvzalloc(n, flags) take_memory(n, 64)
#define kvcalloc(n, size, flags) take_memory((size_t)(n) * (size), 64)
#define kvfree(p) ((void)(p))
#define get_order(n) (n)
#define __get_free_pages(flags, bytes) ((void)(flags), (unsigned long)take_memory(bytes, 4096))
#define __get_free_page(flags) __get_free_pages(flags, 4096)
#define free_pages(p, order) ((void)(p))
#define free_page(p) ((void)(p))
#define virt_to_phys(p) ((u64)(p) - HIGH)

static inline int atomic_cmpxchg(atomic_t *a, int old, int new)
{
	int was = a->counter;

	if (was == old)
		a->counter = new;
	return was;
}

#define mutex_init(m) ((void)(m))
#define mutex_lock_interruptible(m) ((void)(m), 0)
#define mutex_unlock(m) ((void)(m))
#define capable(what) true
#define security_locked_down(what) false
#define boot_cpu_has(feature) ((feature) == X86_FEATURE_VMX)
#define signal_pending(task) false
#define cond_resched() ((void)0)
#define preempt_disable() ((void)0)
#define preempt_enable() ((void)0)
#define smp_processor_id() 0u
/* Interrupts are never on: nothing here waits for one. */
#define local_irq_save(flags) ((flags) = 0)
#define local_irq_restore(flags) ((void)(flags))

#define savesegment(name, into) asm volatile("mov %%" #name ", %k0" : "=r"(into))

static inline unsigned long read_cr0(void)
{
	unsigned long v;

	asm volatile("mov %%cr0, %0" : "=r"(v));
	return v;
}

static inline unsigned long __read_cr3(void)
{
	unsigned long v;

	asm volatile("mov %%cr3, %0" : "=r"(v));
	return v;
}

static inline unsigned long __read_cr4(void)
{
	unsigned long v;

	asm volatile("mov %%cr4, %0" : "=r"(v));
	return v;
}

void force_reload_TR(void);

static inline void iret_to_self(void)
{
	u64 scratch;

	asm volatile("mov %%ss, %k0\n	push %0\n	push %%rsp\n	addq $8, (%%rsp)\n	pushfq\n	mov %%cs, %k0\n	push %0\n"
		     "	push $1f\n	iretq\n1:\n" : "=&r"(scratch) : : "cc", "memory");
}

#endif
