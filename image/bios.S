/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * bios.S: the boot sector of a CD made without a loader's tools (src/vmfuzz/corpus/disc.py): reads the flat image, asks the BIOS for its memory map,
 * and starts the image as a multiboot loader would. 2,048 bytes at 7C00H, as El Torito has them.
 */
#define SECTORS_AT_ONCE 16
#define LOADED 0x10000
#define TARGET 0x100000
/* Of the multiboot header: the end of what is loaded, the end of what is zero behind it, where to begin. */
#define LOAD_END (TARGET + 20)
#define ZERO_END (TARGET + 24)
#define ENTRY (TARGET + 28)
#define INFORMATION 0x5000
#define MAP 0x5100
#define MAP_MOST 0x6000
#define BOOTED 0x2badb002
#define SMAP 0x534d4150

	.code16
	.text
	.globl _start
_start:
	cli
	ljmp $0, $begin
	.balign 8
	.globl place, sectors
place:	.long 0			/* of the image on the CD, in sectors of 2,048 bytes; disc.py writes it */
sectors: .long 0

begin:
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7c00, %sp
	sti
	cld
	mov %dl, drive

	mov place, %eax
	mov %eax, packet_lba
	mov sectors, %ecx
read:
	mov $SECTORS_AT_ONCE, %eax
	cmp %eax, %ecx
	jae 1f
	mov %ecx, %eax
1:	mov %ax, packet_count
	push %ecx
	push %eax
	mov $packet, %si
	mov drive, %dl
	mov $0x42, %ah
	int $0x13
	pop %eax
	pop %ecx
	jc cannot_read
	add %eax, packet_lba
	addw $(SECTORS_AT_ONCE * 2048 / 16), packet_segment
	sub %eax, %ecx
	jnz read

	mov $MAP, %di
	xor %ebx, %ebx
2:	mov $0xe820, %eax
	mov $SMAP, %edx
	mov $20, %ecx
	movl %ecx, (%di)
	add $4, %di
	int $0x15
	jc 3f
	cmp $SMAP, %eax
	jne 3f
	add $20, %di
	cmp $MAP_MOST, %di
	jae 4f
	test %ebx, %ebx
	jnz 2b
	jmp 4f
3:	sub $4, %di
4:	sub $MAP, %di
	movzwl %di, %edi
	movl $0x40, INFORMATION		/* there is a map */
	mov %edi, INFORMATION + 44
	movl $MAP, INFORMATION + 48

	mov $0x2401, %ax		/* A20 on, in both ways that there are */
	int $0x15
	in $0x92, %al
	or $2, %al
	and $0xfe, %al
	out %al, $0x92

	cli
	lgdt gdt_register
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmp $8, $protected

cannot_read:
	mov $message, %si
5:	lodsb
	test %al, %al
	jz 6f
	mov $0x0e, %ah
	mov $7, %bx
	int $0x10
	jmp 5b
6:	hlt
	jmp 6b

	.code32
protected:
	mov $0x10, %eax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $LOADED, %esi
	mov $TARGET, %edi
	mov sectors, %ecx
	shl $9, %ecx			/* 512 words a sector */
	rep movsl
	mov LOAD_END, %edi
	mov ZERO_END, %ecx
	sub %edi, %ecx
	xor %eax, %eax
	rep stosb			/* after a reset the boot before has left its things there */
	mov $BOOTED, %eax
	mov $INFORMATION, %ebx
	jmp *ENTRY

message:
	.asciz "vmfuzz: the BIOS cannot read the CD\r\n"
drive:	.byte 0
	.balign 8
packet:	.byte 16, 0
packet_count: .word 0
	.word 0
packet_segment: .word LOADED / 16
packet_lba: .quad 0
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_register:
	.word gdt_register - gdt - 1
	.long gdt
