"""Tries an answer on an emulated CPU: the values that the violated checks read, set in a VMCS that otherwise enters, must fail; the mended ones
must enter. What a dump says of addresses means nothing there, so only guest-state fields and the injected event are carried over.

The CPU model is the one whose capabilities allow most of the dump's controls, and the sentence says which it was and what was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import FIELDS, Area
from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.counted import counted
from vmfuzz.errors import VmfuzzError
from vmfuzz.explain.answer.advice import numbers_of
from vmfuzz.explain.answer.answer import Answer
from vmfuzz.model.partial import Partial
from vmfuzz.state.profiles import capabilities, emulated_names
from vmfuzz.state.vmcs import Vmcs

#: The CPU model that is taken where several fit equally.
_USUAL: Final = "corei7_skylake_x"
_EVENT: Final = frozenset({"vm_entry_interruption_info", "vm_entry_exception_error_code", "vm_entry_instruction_length"})
#: Registers that an entering VMCS needs its own of: they lead to memory. Of CR3 the faulty bits alone are carried over.
_OWN: Final = frozenset({"guest_cr3", "guest_rip", "guest_rsp", "guest_ssp", "vmcs_link_pointer"})
_LEAD_TO_MEMORY: Final = ("guest_pdpte", "guest_gdtr", "guest_idtr", "guest_ia32_sysenter", "guest_ia32_rtit")


def fitting_cpu(values: Mapping[str, Partial]) -> tuple[str, int]:
    """(the CPU model that allows most of the control words' settings, the number of control bits that it does not allow)."""

    def misfits(name: str) -> int:
        caps, count = capabilities(name), 0
        for word in CONTROL_WORDS.values():
            have = values.get(word.field)
            if have is not None and have.exact and have.value:
                must, may = caps.allowed_settings(word.key)
                count += (have.value & ~may | must & ~have.value).bit_count()
        return count

    best = min(emulated_names(), key=lambda name: (misfits(name), name != _USUAL))
    return best, misfits(best)


def verified(answer: Answer, cpu: str | None = None) -> str:
    """What an emulated CPU made of the failing and of the mended values; "" where there is nothing to try or no emulator.

    `cpu` is the emulated CPU's model, None for the one that fits the dump's controls best.
    """
    values = answer.state.values
    concerned = {name for finding in answer.violated for name in finding.check.fields}
    if not concerned or not _changes(answer, concerned):
        return ""
    best, misfits = fitting_cpu(values) if cpu is None else (cpu, 0)
    try:
        from vmfuzz.execute.bochs.single import SingleEntries

        with SingleEntries(best) as emulated:
            for names in filter(None, (_all_guest(values), concerned)):
                failing, mended = map(emulated.run, _pair(answer, emulated.known_good, names, concerned))
                if failing.kind is not Kind.EXIT and mended.kind is Kind.EXIT:
                    carried = _carried(values, names | concerned)
                    cpu_words = _cpu(emulated.name, misfits, _given_controls(values))
                    return _sentence(cpu_words, failing, len(carried), "guest_cr3" in _changes(answer, concerned))
    except (VmfuzzError, ImportError, OSError):
        return ""
    return ""


def _all_guest(values: Mapping[str, Partial]) -> set[str]:
    """The guest-state fields of the dump that mean the same in another VMCS."""
    return {name for name in values if name in FIELDS and FIELDS[name].area is Area.GUEST and not name.startswith(_LEAD_TO_MEMORY)}


def _carried(values: Mapping[str, Partial], names: Iterable[str]) -> dict[str, int]:
    return {
        name: values[name].value
        for name in sorted(names)
        if name in values
        and name in FIELDS
        and values[name].within(FIELDS[name].width).exact
        and name not in _OWN
        and (FIELDS[name].area is Area.GUEST or name in _EVENT)
    }


def _changes(answer: Answer, concerned: set[str]) -> dict[str, int]:
    """What the answer changes, where all of it can be carried over; else nothing."""
    if answer.encodings_are_the_cause:
        return _carried(answer.checked.values, concerned)
    if not answer.repairs or answer.repairs[0].partial:
        return {}
    changes = {change.field: change.new for change in answer.repairs[0].changes}
    able = all((FIELDS[name].area is Area.GUEST and name not in _OWN) or name in _EVENT or name == "guest_cr3" for name in changes)
    return changes if able else {}


def _pair(answer: Answer, base: Vmcs, names: set[str], concerned: set[str]) -> tuple[Vmcs, Vmcs]:
    """A VMCS with the failing values, and one with the mended ones."""
    carried = {name: value for name, value in _carried(answer.state.values, names | concerned).items() if name in base}
    changes = {name: value for name, value in _changes(answer, concerned).items() if name in base}
    cr3 = changes.pop("guest_cr3", None)
    failing = base.replace(**carried)
    if cr3 is not None:
        failing = failing.replace(guest_cr3=base["guest_cr3"] ^ cr3 ^ answer.state.values["guest_cr3"].value)
    return failing, base.replace(**{**carried, **changes})


def _given_controls(values: Mapping[str, Partial]) -> bool:
    return any(word.field in values and values[word.field].exact for word in CONTROL_WORDS.values())


def _cpu(name: str, misfits: int, controls: bool) -> str:
    if not controls:
        return name
    if not misfits:
        return f"{name}, which allows all controls of this dump"
    return f"{name}, the closest model; {counted(misfits, 'control bit')} {'differs' if misfits == 1 else 'differ'}"


def _sentence(cpu: str, before: Outcome, carried: int, cr3: bool) -> str:
    fields = f"{counted(carried, 'field')} of guest state and event"
    over = f"the faulty bits of CR3{f', {fields}' if carried else ''}" if cr3 else fields
    return (
        f"Tried on an emulated CPU ({cpu}): with the values above the entry fails ({numbers_of(before)}), with the change it succeeds. "
        f"The trial took from the dump: {over}. Controls, host state, RIP, RSP, {'the rest of CR3' if cr3 else 'CR3'} and other addresses are the "
        "emulated CPU's own."
    )
