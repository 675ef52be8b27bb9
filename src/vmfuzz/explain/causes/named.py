"""Causes that programs name themselves: Bochs the check that failed, Xen the entry of the MSR-load area that could not be loaded."""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.dump import Dump, NamedChecks
from vmfuzz.explain.names.spoken import with_encoding
from vmfuzz.hexadecimal import as_wide, hexadecimal
from vmfuzz.model.check import Check

_SHOWN_CHECKS: Final = 3
_SHOWN_FIELDS: Final = 4


def _to_set(checks: tuple[Check, ...]) -> str:
    """What to change for these checks: which fields, and to what."""
    names = dict.fromkeys(name for check in checks for name in sorted(check.must.reads) if name in FIELDS)
    fields = [with_encoding(name) for name in names]
    if not fields:
        return "make it so before the entry"
    shown = ", ".join(fields[:_SHOWN_FIELDS]) + (f" and {len(fields) - _SHOWN_FIELDS} more" if len(fields) > _SHOWN_FIELDS else "")
    return f"read {shown} with VMREAD right before the entry, and write what the check asks for"


def _errs(said: NamedChecks) -> Mistake:
    """What a program says of a check that the values of the same text satisfy."""
    return Mistake(
        f'{said.program} says "{said.text}", but the values in this text satisfy that check.',
        f"Either {said.program} is wrong, or it looked at other values: {said.checks[0].text}",
        "look for the cause elsewhere, or read back with VMREAD what it looked at",
        False,
        line=said.line,
    )


def causes(dump: Dump, violated: frozenset[str], satisfied: frozenset[str]) -> list[Mistake]:
    """The causes that programs name, apart from checks that the values show to be violated anyway.

    `violated`, `satisfied`: ids of the checks of which the text shows that; of one that is satisfied, the program is wrong or saw other values.
    """
    found = []
    for said in dump.named:
        checks = said.checks
        if all(check.id in satisfied for check in checks):
            found.append(_errs(said))
        elif not any(check.id in violated for check in checks):
            several = f" or one of {len(checks) - _SHOWN_CHECKS} more" if len(checks) > _SHOWN_CHECKS else ""
            rules = " Or: ".join(check.text for check in checks[:_SHOWN_CHECKS])
            found.append(
                Mistake(
                    f'{said.program} says "{said.text}".',
                    f"It makes this check: {rules}{several}",
                    f"{_to_set(checks[:_SHOWN_CHECKS])} (details: `vmfuzz checks {checks[0].id}`)",
                    True,
                    line=said.line,
                )
            )
    if dump.refused_msr is not None:
        line, number, value = dump.refused_msr
        canonical = value >> 47 in (0, (1 << 17) - 1)
        why = (
            "VM entry loads an entry as WRMSR would, and WRMSR refuses this one: either the MSR, or a bit of the value that this processor reserves."
            if canonical
            else "The value is not canonical (bits 63:47 differ): as an address, which MSRs of branch records and the like hold, WRMSR refuses it."
        )
        change = "leave the entry out, or store a value there that WRMSR accepts" + (
            ""
            if canonical
            else f", such as {as_wide(value & (1 << 48) - 1 | (~((1 << 48) - 1) & (1 << 64) - 1 if value >> 47 & 1 else 0), 64)}"
        )
        found.append(
            Mistake(f"MSR {hexadecimal(number)} with the value {as_wide(value, 64)} could not be loaded.", why, change, True, line=line)
        )
    return found
