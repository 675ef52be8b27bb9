/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* boot.S: from a multiboot loader (32-bit protected mode) to 64-bit code in the upper half, and the exception stubs. */
#define MAGIC 0x1badb002
#define FLAGS 0x00010003	/* memory size wanted; load addresses are below, so that a flat image will do */
#define HIGH 0xffffffff80000000

	.section .boot, "ax"
	.code32
header:
	.long MAGIC, FLAGS, -(MAGIC + FLAGS)
	.long header, header, load_end, bss_end, start32

	.globl start32
start32:
	cli
	cld
	mov $(stack_top - HIGH), %esp
	mov %ebx, %ebp			/* multiboot information */
	mov $0x80000000, %eax
	cpuid
	cmp $0x80000001, %eax
	jb no_long_mode
	mov $0x80000001, %eax
	cpuid
	bt $29, %edx
	jnc no_long_mode

	/* 2 GiB in 2 MiB pages, at 0 (until the jump) and at HIGH; all supervisor, accessed, dirty. */
	mov $(directories - HIGH), %edi
	mov $0xe3, %eax
	mov $1024, %ecx
1:	mov %eax, (%edi)
	movl $0, 4(%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	movl $(directories - HIGH + 0x23), pointers - HIGH
	movl $(directories - HIGH + 0x23), pointers - HIGH + 510 * 8
	movl $(directories - HIGH + 0x1023), pointers - HIGH + 511 * 8
	movl $(pointers - HIGH + 0x23), root - HIGH
	movl $(pointers - HIGH + 0x23), root - HIGH + 511 * 8

	mov $0x20, %eax			/* PAE */
	mov %eax, %cr4
	mov $(root - HIGH), %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	xor %edx, %edx
	mov $0x100, %eax		/* LME */
	wrmsr
	mov $0x80010031, %eax		/* PG, WP, NE, ET, PE */
	mov %eax, %cr0
	lgdt low_gdt_register
	ljmp $8, $start64

no_long_mode:
	mov $0xb8000, %edi
	mov $message, %esi
	mov $0x4f, %ah
2:	lodsb
	stosw
	test %al, %al
	jnz 2b
3:	hlt
	jmp 3b
message:
	.asciz "vmfuzz: this processor has no 64-bit mode"
	.balign 8
low_gdt_register:
	.word 0x27
	.long gdt - HIGH

	.code64
start64:
	movabs $start_high, %rax
	jmp *%rax

	.text
start_high:
	mov $stack_top, %rsp
	xor %eax, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	lldt %ax
	mov $0x10, %eax
	mov %eax, %ss
	mov %ebp, %edi
	call image_main
4:	hlt
	jmp 4b

/* Vector n at stubs + 16 * n. */
	.balign 16
	.globl stubs
stubs:
	.set n, 0
	.rept 256
	.balign 16
	.if !(n == 8 || (n >= 10 && n <= 14) || n == 17 || n == 21 || n == 29 || n == 30)
	push $0
	.endif
	push $n
	jmp common
	.set n, n + 1
	.endr

common:
	push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi
	push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15
	cld
	mov %rsp, %rdi
	call exception
	pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8
	pop %rdi; pop %rsi; pop %rbp; pop %rbx; pop %rdx; pop %rcx; pop %rax
	add $16, %rsp
	iretq

	.data
	.balign 16
	.globl gdt
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0	/* 64-bit code, data, task state (image.c) */

	.section .bss
	.balign 4096
	.globl root
root:	.skip 4096
pointers: .skip 4096
directories: .skip 2 * 4096
	.skip 65536
stack_top:
