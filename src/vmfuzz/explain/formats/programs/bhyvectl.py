"""FreeBSD's bhyvectl: the number of the virtual processor stands behind each name, and the parts of a segment register are one cell."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.formats.declared import Declared

FORMAT: Final = Declared(
    program="bhyvectl",
    source="usr.sbin/bhyvectl/bhyvectl.c",
    words=("[",),
    lines=(
        "@ desc[{}] 0x{guest_@_base}/0x{guest_@_limit}/0x{guest_@_access_rights}",
        "@[{}] 0x{guest_@_base}/0x{guest_@_limit}",
        "@[{}] 0x{guest_@_selector}",
        "{name}[{}] 0x{value}",
    ),
    registers=("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr", "gdtr", "idtr"),
    sample="""\
cs desc[0]	0x0000000000000000/0xffffffff/0x0000c09b
gdtr[0]		0x000000003fa00000/0x00000047
cs[0]		0x0010
entry_ctls[0]		0x000011ff
""",
    gives={
        "guest_cs_base": 0,
        "guest_cs_limit": 0xFFFFFFFF,
        "guest_cs_access_rights": 0xC09B,
        "guest_gdtr_base": 0x3FA00000,
        "guest_gdtr_limit": 0x47,
        "guest_cs_selector": 0x10,
        "vm_entry_controls": 0x11FF,
    },
)
