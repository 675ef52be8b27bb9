"""ACRN's guest registers, printed where an assertion or an exception stops the hypervisor: what it keeps of them, not the VMCS."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.formats.declared import Declared

FORMAT: Final = Declared(
    program="ACRN",
    source="hypervisor/debug/dump.c",
    words=("RFLAGS=0x", "CR2=0x"),
    lines=(
        "= RIP=0x{guest_rip} RSP=0x{guest_rsp} RFLAGS=0x{guest_rflags}",
        "= CR0=0x{+CR0} CR2=0x{+CR2} CR3=0x{+CR3}",
    ),
    sample="""\
=	RIP=0x00000000000fff53  RSP=0x0000000000007c00 RFLAGS=0x0000000000010002
=	CR0=0x0000000000000030  CR2=0x0000000000000000  CR3=0x0000000000000000
""",
    gives={"guest_rip": 0xFFF53, "guest_rsp": 0x7C00, "guest_rflags": 0x10002},
    view="ACRN shows the registers that it keeps of its guest, not the VMCS",
)
