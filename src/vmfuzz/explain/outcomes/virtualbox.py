"""VirtualBox's own numbers for the check that failed ("HM error")."""

from __future__ import annotations

from typing import Final

#: VirtualBox's "HM error" numbers (of VirtualBox 6 and 7): last number of each group -> what the failed check is about.
_HM_ERRORS: Final = (
    (500, "another check"), (501, "reason not found"), (503, "guest CR0: bits fixed in VMX operation"), (504, "guest CR0: PG without PE"),
    (506, "guest CR4: bits fixed in VMX operation"), (507, "guest IA32_DEBUGCTL"), (508, "IA-32e mode guest without CR0.PG"),
    (509, "IA-32e mode guest without CR4.PAE"), (510, "guest CR4.PCIDE"), (511, "guest DR7"), (512, "guest IA32_PERF_GLOBAL_CTRL"),
    (513, "guest IA32_EFER: reserved bits"), (514, "guest IA32_EFER.LMA against the VM-entry control"), (515, "guest IA32_EFER: LMA and LME"),
    (522, "guest CS access rights"), (523, "RPL of guest SS and CS"), (529, "guest SS access rights"), (535, "guest DS access rights"),
    (541, "guest ES access rights"), (547, "guest FS access rights"), (553, "guest GS access rights"),
    (556, "virtual-8086 mode: guest CS"), (559, "virtual-8086 mode: guest SS"), (562, "virtual-8086 mode: guest DS"),
    (565, "virtual-8086 mode: guest ES"), (568, "virtual-8086 mode: guest FS"), (571, "virtual-8086 mode: guest GS"),
    (575, "base of guest CS, SS, DS or ES in 64-bit mode"), (577, "guest SYSENTER ESP or EIP"), (579, "guest IA32_PAT"),
    (581, "guest GDTR or IDTR base"), (583, "guest GDTR or IDTR limit"), (584, "guest RIP"), (588, "guest RFLAGS"), (592, "guest activity state"),
    (601, "guest interruptibility state"), (605, "guest pending debug exceptions"), (606, "VMCS link pointer"),
    (608, "TI flag of guest TR or LDTR selector"), (612, "base of guest TR, FS, GS or LDTR"), (619, "guest TR access rights"), (620, "guest CS.S"),
    (621, "guest CS DPL"), (623, "guest PDPTEs"), (625, "VMCS link pointer and shadow VMCS"),
)  # fmt: skip
#: What the numbers of each group in virtual-8086 mode are about.
_V86_PARTS: Final = ("access rights must be 000000F3H", "base must be the selector * 16", "limit must be 0000FFFFH")


def hm_error(number: int) -> str:
    """What VirtualBox's "HM error" number says; the numbers are those of VirtualBox 6 and 7."""
    meaning = next((meaning for last, meaning in _HM_ERRORS if 500 <= number <= last), "")
    return f"{meaning}: the {_V86_PARTS[(number - 556) % 3]}" if meaning.startswith("virtual-8086") else meaning
