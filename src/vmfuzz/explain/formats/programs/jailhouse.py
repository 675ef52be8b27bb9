"""Jailhouse's crash dump: some of its numbers are hexadecimal without a mark, and EFER.LMA is what the VM-entry control says."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.formats.declared import Declared

FORMAT: Final = Declared(
    program="Jailhouse",
    source="hypervisor/arch/x86/vcpu.c",
    words=("AR-BYTES:", " FLAGS: "),
    lines=(
        "RIP: 0x{guest_rip} RSP: 0x{guest_rsp} FLAGS: {guest_rflags}",
        "CS: {guest_cs_selector} BASE: 0x{guest_cs_base} AR-BYTES: {guest_cs_access_rights} EFER.LMA {vm_entry_controls.9}",
    ),
    sample="""\
RIP: 0xffffffff8104ac5b RSP: 0xffffc90000107e98 FLAGS: 246
CS: 10 BASE: 0x0000000000000000 AR-BYTES: a09b EFER.LMA 1
""",
    gives={
        "guest_rip": 0xFFFFFFFF8104AC5B,
        "guest_rsp": 0xFFFFC90000107E98,
        "guest_rflags": 0x246,
        "guest_cs_selector": 0x10,
        "guest_cs_base": 0,
        "guest_cs_access_rights": 0xA09B,
        "vm_entry_controls": 1 << 9,
    },
)
