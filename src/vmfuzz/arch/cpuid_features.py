"""The CPUID features that checks ask for, and where CPUID reports them (SDM Vol. 2A "CPUID")."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_EAX, _EBX, _ECX, _EDX = range(4)

#: Name -> (leaf, subleaf, register, bit).
FEATURES: Final[Mapping[str, tuple[int, int, int, int]]] = MappingProxyType(
    {
        "vmx": (1, 0, _ECX, 5),
        "pdcm": (1, 0, _ECX, 15),
        "pcid": (1, 0, _ECX, 17),
        "x2apic": (1, 0, _ECX, 21),
        "tsc_deadline": (1, 0, _ECX, 24),
        "apic": (1, 0, _EDX, 9),
        "mtrr": (1, 0, _EDX, 12),
        "ds": (1, 0, _EDX, 21),
        "tsc_adjust": (7, 0, _EBX, 1),
        "sgx": (7, 0, _EBX, 2),
        "hle": (7, 0, _EBX, 4),
        "rtm": (7, 0, _EBX, 11),
        "mpx": (7, 0, _EBX, 14),
        "pt": (7, 0, _EBX, 25),
        "waitpkg": (7, 0, _ECX, 5),
        "cet_ss": (7, 0, _ECX, 7),
        "tme": (7, 0, _ECX, 13),
        "la57": (7, 0, _ECX, 16),
        "rdpid": (7, 0, _ECX, 22),
        "bus_lock_debug": (7, 0, _ECX, 24),
        "enqcmd": (7, 0, _ECX, 29),
        "pks": (7, 0, _ECX, 31),
        "uintr": (7, 0, _EDX, 5),
        "arch_lbr": (7, 0, _EDX, 19),
        "cet_ibt": (7, 0, _EDX, 20),
        "spec_ctrl": (7, 0, _EDX, 26),
        "stibp": (7, 0, _EDX, 27),
        "flush_l1d": (7, 0, _EDX, 28),
        "ssbd": (7, 0, _EDX, 31),
        "fred": (7, 1, _EAX, 17),
        "lam": (7, 1, _EAX, 26),
        "xsaves": (0xD, 1, _EAX, 3),
        "syscall": (0x80000001, 0, _EDX, 11),
        "nx": (0x80000001, 0, _EDX, 20),
        "gbpages": (0x80000001, 0, _EDX, 26),
        "rdtscp": (0x80000001, 0, _EDX, 27),
        "intel64": (0x80000001, 0, _EDX, 29),
    }
)
