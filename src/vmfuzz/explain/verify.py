"""Tries an answer on an emulated CPU: the values that the violated checks read, set in a VMCS that otherwise enters, must fail; the mended ones
must enter. What a dump says of addresses means nothing there, so only guest-state fields and the injected event are carried over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vmfuzz.arch.fields import FIELDS, Area
from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.errors import VmfuzzError
from vmfuzz.explain.answer import Answer
from vmfuzz.explain.judge import Finding
from vmfuzz.model.partial import Partial

_EVENT: Final = frozenset({"vm_entry_interruption_info", "vm_entry_exception_error_code", "vm_entry_instruction_length"})
#: Registers that an entering VMCS needs its own of: they lead to memory.
_OWN: Final = frozenset({"guest_cr3", "guest_rip", "guest_rsp", "vmcs_link_pointer"})


def verified(answer: Answer, cpu: str | None = None) -> str:
    """One sentence on what an emulated CPU made of the failing and of the mended values; "" where there is nothing to try or no emulator.

    `cpu` is the emulated CPU's model, None for the default one.
    """
    failing = _carried(answer.state.values, answer.violated)
    mended = _mended(answer, failing)
    if not failing or not mended or failing == mended:
        return ""
    try:
        from vmfuzz.execute.base import open_executor

        with open_executor("auto", cpu) as executor:
            base = executor.known_good()
            before, after = list(executor.run([base.replace(**failing), base.replace(**mended)]))
            return _sentence(executor.name, before, after)
    except (VmfuzzError, ImportError, OSError):
        return ""


def _carried(values: Mapping[str, Partial], findings: list[Finding]) -> dict[str, int]:
    names = {name for finding in findings for name in finding.check.fields}
    return {
        name: values[name].value
        for name in sorted(names)
        if name in values
        and name in FIELDS
        and values[name].exact
        and name not in _OWN
        and (FIELDS[name].area is Area.GUEST or name in _EVENT)
    }


def _mended(answer: Answer, failing: Mapping[str, int]) -> dict[str, int]:
    if answer.encodings_are_the_cause:
        return {name: answer.judged.values[name].value for name in failing if name in answer.judged.values}
    if not answer.repairs:
        return {}
    changes = {change.field: change.new for change in answer.repairs[0].changes}
    return {**failing, **changes} if set(changes) <= set(failing) else {}


def _sentence(name: str, before: Outcome, after: Outcome) -> str:
    if before.kind is Kind.EXIT or after.kind is not Kind.EXIT:
        return ""
    return f"Tried on an emulated CPU ({name}): with the values above the entry fails ({before.short()}), with the change it succeeds."
