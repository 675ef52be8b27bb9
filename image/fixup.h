/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* fixup.h: instructions that may fault, and where to go on then (exceptions.c), under the names that Linux has for it. */
#ifndef VMFUZZ_IMAGE_FIXUP_H
#define VMFUZZ_IMAGE_FIXUP_H

#define _ASM_EXTABLE(from, to) "	.pushsection fixups, \"a\"\n	.quad " #from ", " #to "\n	.popsection\n"
#define STACK_FRAME_NON_STANDARD(function)

#endif
