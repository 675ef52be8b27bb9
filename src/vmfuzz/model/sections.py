"""The SDM sections that checks cite, by title: section numbers change between editions, titles hardly do.

`NUMBERS` maps a title to its number in two editions of Vol. 3C: 2016 (chapter 26) and June 2026 (order number 326019-092US, chapter
29). None: the edition does not have the section.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

EDITIONS: Final = ("2016", "2026")

NUMBERS: Final = MappingProxyType(
    {
        "Basic VM-Entry Checks": ("26.1", "29.1"),
        "VM-Execution Control Fields": ("26.2.1.1", "29.2.1.1"),
        "VM-Exit Control Fields": ("26.2.1.2", "29.2.1.2"),
        "VM-Entry Control Fields": ("26.2.1.3", "29.2.1.3"),
        "Checks on Host Control Registers, MSRs, and SSP": ("26.2.2", "29.2.2"),
        "Checks on Host Segment and Descriptor-Table Registers": ("26.2.3", "29.2.3"),
        "Checks Related to Address-Space Size": ("26.2.4", "29.2.4"),
        "Checks on Guest Control Registers, Debug Registers, and MSRs": ("26.3.1.1", "29.3.1.1"),
        "Checks on Guest Segment Registers": ("26.3.1.2", "29.3.1.2"),
        "Checks on Guest Descriptor-Table Registers": ("26.3.1.3", "29.3.1.3"),
        "Checks on Guest RIP, RFLAGS, and SSP": ("26.3.1.4", "29.3.1.4"),
        "Checks on Guest Non-Register State": ("26.3.1.5", "29.3.1.5"),
        "Checks on Guest Page-Directory-Pointer-Table Entries": ("26.3.1.6", "29.3.1.6"),
        "Loading MSRs": ("26.4", "29.4"),
    }
)

#: Title of a section -> a name of it that fits a column.
SHORT_NAMES: Final = MappingProxyType(
    dict(
        zip(
            NUMBERS,
            (
                "basic",
                "execution controls",
                "exit controls",
                "entry controls",
                "host registers",
                "host segments",
                "address space",
                "guest registers",
                "guest segments",
                "guest GDTR, IDTR",
                "guest RIP, RFLAGS",
                "guest non-register",
                "guest PDPTEs",
                "loading MSRs",
            ),
            strict=True,
        )
    )
)


@dataclass(frozen=True)
class Citation:
    """A section, cited by title."""

    title: str

    def __post_init__(self) -> None:
        if self.title not in NUMBERS:
            raise KeyError(self.title)

    @property
    def number(self) -> str:
        """The number in the newest edition of the table."""
        return NUMBERS[self.title][-1]

    def __str__(self) -> str:
        old, new = NUMBERS[self.title]
        return f'SDM Vol. 3C, "{self.title}" ({new} in the June 2026 edition, {old} in 2016)'
