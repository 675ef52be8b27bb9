"""Hexadecimal numbers as people read them: as the SDM writes them, 481EH.

Terminal, pages and documents have this form, so that a person finds the number in the manual as it stands. Data (JSON, the corpus, the
protocols), source code and what another program printed keep 0x481e. Input may have either form.
"""

from __future__ import annotations


def hexadecimal(value: int, digits: int = 0) -> str:
    """A number with an H, and with zeros before it up to `digits` digits. Without `digits`, a number below 10 has no H: 9, AH, FFH."""
    return f"{value:0{digits}X}H" if digits or abs(value) > 9 else str(value)


def encoded(encoding: int) -> str:
    """The encoding of a VMCS field: 481EH, 0802H."""
    return hexadecimal(encoding, 4)


def as_wide(value: int, bits: int) -> str:
    """A value with all the digits of its `bits` bits: 00000000000000C1H for an EPTP."""
    return hexadecimal(value, max(1, (bits + 3) // 4))
