"""Fields that are one decision of the program's author: the mode of the guest, its privilege level, paging, blocking by STI, an event.

The search of search.py changes as few bits as it can, which may turn off what the author wants ("load IA32_EFER") and leave the contradiction.
Where a violated check is about one of these decisions, its alternatives are offered instead: all the bits that go together, the smallest change first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from vmfuzz.arch.controls import Entry, Exit, Secondary
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.registers import AR, CR0, CR4, EFER, EVENT, INTERRUPTIBILITY, INTERRUPTION_INFO, RFLAGS
from vmfuzz.explain.judgement.judge import FAILING, CheckedState, Verdict, judge, usual
from vmfuzz.explain.judgement.processor import Knowledge
from vmfuzz.explain.repair.search import Change, Repair, find_repairs
from vmfuzz.model.checks.event_injection import CONTROL_PROTECTION, ERROR_CODE_VECTORS, REAL_MODE, TYPE, VECTOR
from vmfuzz.model.expr import TRUE, Cond, all_of, any_of
from vmfuzz.model.operands import vmcs
from vmfuzz.model.partial import Partial


@dataclass(frozen=True)
class Alternative:
    """One side of a decision: what for, and (field, bits, their value) of all that goes together; `given`: what the text has to show already."""

    title: str
    settings: tuple[tuple[str, int, int], ...]
    given: Cond = TRUE


@dataclass(frozen=True)
class Decision:
    """The beginnings of the ids of the checks that are about it, and its alternatives."""

    checks: tuple[str, ...]
    alternatives: tuple[Alternative, ...]


def _bit(number: int) -> int:
    return 1 << number


_LONG: Final = _bit(EFER.LME) | _bit(EFER.LMA)
_IA32E: Final = _bit(Entry.IA32E_MODE_GUEST)
_HAS_IA32E: Final = vmcs.vm_entry_controls[Entry.IA32E_MODE_GUEST]
_64_BIT_HOST: Final = _bit(Exit.HOST_ADDRESS_SPACE_SIZE)
_PAGED: Final = _bit(CR0.PE) | _bit(CR0.PG)
#: Where the access rights have the DPL.
_DPL_AT: Final = 5


def _privilege(level: int, title: str) -> Alternative:
    """CPL: RPL and DPL of CS and SS."""
    rights = tuple((f"guest_{register}_access_rights", 3 << _DPL_AT, level << _DPL_AT) for register in ("cs", "ss"))
    return Alternative(title, (*rights, *((f"guest_{register}_selector", 3, level) for register in ("cs", "ss"))))


_64_BIT_GUEST: Final = Alternative(
    "for a 64-bit guest",
    (
        ("guest_cr0", _PAGED, _PAGED),
        ("guest_cr4", _bit(CR4.PAE), _bit(CR4.PAE)),
        ("guest_ia32_efer", _LONG, _LONG),
        ("vm_entry_controls", _IA32E, _IA32E),
    ),
)
_32_BIT_GUEST: Final = Alternative("for a 32-bit guest", (("guest_ia32_efer", _LONG, 0), ("vm_entry_controls", _IA32E, 0)))
_BEFORE_PAGING: Final = Alternative(
    "for a guest that turns on paging and IA-32e mode itself",
    (("guest_ia32_efer", _bit(EFER.LMA), 0), ("vm_entry_controls", _IA32E, 0)),
    given=~vmcs.guest_cr0[CR0.PG],
)
_REAL_MODE: Final = Alternative(
    "for a guest in real mode or without paging",
    (
        ("guest_cr0", _bit(CR0.NE), _bit(CR0.NE)),
        ("secondary_processor_based_controls", _bit(Secondary.UNRESTRICTED_GUEST), _bit(Secondary.UNRESTRICTED_GUEST)),
    ),
)

# Type, S and P of a segment: of code that was accessed, conforming or not; of a busy TSS of 32 or 64 bits
_CODE: Final = 0x9 | _bit(AR.S) | _bit(AR.P)
_BUSY_TSS: Final = ("guest_tr_access_rights", 0xF | _bit(AR.S) | _bit(AR.P), 0xB | _bit(AR.P))

# The event that is injected
_INFO: Final = "vm_entry_interruption_info"
_LENGTH: Final = "vm_entry_instruction_length"
_DELIVERS: Final = _bit(INTERRUPTION_INFO.DELIVER_ERROR_CODE)
_TYPE_AT: Final = 8
_TYPE: Final = 7 << _TYPE_AT
_RESERVED: Final = 0x7FFFD000
_MOST_BYTES: Final = 15


def _event(title: str, type: EVENT, given: Cond, *, vector: int | None = None, error_code: bool = False) -> Alternative:
    """An event of a type that does not come from an instruction; `vector` where there is only one."""
    bits, value = _TYPE | _DELIVERS | _RESERVED, type << _TYPE_AT | error_code * _DELIVERS
    if type is not EVENT.HARDWARE_EXCEPTION:
        bits |= _bit(INTERRUPTION_INFO.NESTED_EXCEPTION)
    if vector is not None:
        bits, value = bits | 0xFF, value | vector
    high = (("vm_entry_exception_error_code", 0xFFFF0000, 0),) if error_code else ()
    return Alternative(title, ((_INFO, bits, value), *high), given)


def _instruction(title: str, type: EVENT, length: int, given: Cond) -> tuple[Alternative, ...]:
    """An event that comes from an instruction of so many bytes; a length that an instruction can have stays."""
    event = _event(title, type, given)
    fits = all_of(vmcs.vm_entry_instruction_length >= 1, vmcs.vm_entry_instruction_length <= _MOST_BYTES)
    return (
        replace(event, given=all_of(given, fits)),
        replace(event, settings=(*event.settings, (_LENGTH, 0xFFFFFFFF, length)), given=all_of(given, ~fits)),
    )


_WITH_ERROR_CODE: Final = VECTOR.one_of(*ERROR_CODE_VECTORS)
_INT3, _INTO, _NMI = 3, 4, 2
_EVENTS: Final = (
    _event("for an NMI", EVENT.NMI, any_of(VECTOR == _NMI, TYPE == EVENT.NMI), vector=_NMI),
    _event(
        "for an exception with an error code",
        EVENT.HARDWARE_EXCEPTION,
        any_of(_WITH_ERROR_CODE, VECTOR == CONTROL_PROTECTION),
        error_code=True,
    ),
    _event(
        "for an exception without an error code",
        EVENT.HARDWARE_EXCEPTION,
        all_of(VECTOR <= 31, ~VECTOR.one_of(_NMI, _INT3, _INTO), any_of(REAL_MODE, ~_WITH_ERROR_CODE)),
    ),
    _event(
        "for an external interrupt",
        EVENT.EXTERNAL_INTERRUPT,
        all_of(any_of(VECTOR >= 32, REAL_MODE), TYPE != EVENT.SOFTWARE_INTERRUPT),
    ),
    *_instruction("for INT n", EVENT.SOFTWARE_INTERRUPT, 2, any_of(VECTOR >= 32, TYPE == EVENT.SOFTWARE_INTERRUPT)),
    *_instruction("for INT3 or INTO", EVENT.SOFTWARE_EXCEPTION, 1, VECTOR.one_of(_INT3, _INTO)),
    *_instruction("for INT1", EVENT.PRIVILEGED_SOFTWARE_EXCEPTION, 1, all_of(VECTOR == 1, TYPE == EVENT.PRIVILEGED_SOFTWARE_EXCEPTION)),
    _event("for a pending MTF VM exit", EVENT.OTHER_EVENT, TYPE == EVENT.OTHER_EVENT, vector=0),
)

DECISIONS: Final = (
    Decision(("guest.efer.lma", "guest.efer.lme", "guest.ia32e."), (_64_BIT_GUEST, _32_BIT_GUEST, _BEFORE_PAGING)),
    Decision(
        ("guest.cr0.pg-pe",),
        (
            Alternative("for a guest with paging", (("guest_cr0", _PAGED, _PAGED),)),
            Alternative(
                "for a guest without paging",
                (("guest_cr0", _bit(CR0.PG), 0), ("guest_ia32_efer", _bit(EFER.LMA), 0), ("vm_entry_controls", _IA32E, 0)),
            ),
        ),
    ),
    Decision(
        ("guest.cr0.fixed.ones",),
        (
            Alternative("for a guest with paging", (("guest_cr0", _PAGED | _bit(CR0.NE), _PAGED | _bit(CR0.NE)),)),
            _REAL_MODE,
        ),
    ),
    Decision(
        ("guest.cs.db-l",),
        (
            Alternative("for 64-bit code", (("guest_cs_access_rights", _bit(AR.DB), 0),)),
            Alternative("for 32-bit code", (("guest_cs_access_rights", _bit(AR.L), 0),)),
        ),
    ),
    Decision(
        ("guest.cs.type",),
        (
            Alternative(
                "for code in protected or compatibility mode",
                (("guest_cs_access_rights", _CODE, _CODE),),
                given=all_of(vmcs.guest_cr0[CR0.PE], ~vmcs.guest_cs_access_rights[AR.L]),
            ),
            Alternative(
                "for 64-bit code",
                (("guest_cs_access_rights", _CODE | _bit(AR.L) | _bit(AR.DB), _CODE | _bit(AR.L)),),
                given=_HAS_IA32E,
            ),
            replace(_REAL_MODE, given=~vmcs.guest_cr0[CR0.PE]),
        ),
    ),
    Decision(
        ("guest.rip.high",),
        (
            Alternative(
                "for 64-bit code",
                (
                    ("guest_cs_access_rights", _bit(AR.L) | _bit(AR.DB), _bit(AR.L)),
                    ("vm_entry_controls", _IA32E, _IA32E),
                    ("guest_ia32_efer", _LONG, _LONG),
                ),
                given=any_of(_HAS_IA32E, vmcs.guest_cs_access_rights[AR.L], vmcs.guest_ia32_efer[EFER.LMA]),
            ),
        ),
    ),
    Decision(
        ("guest.tr.type.",),
        (
            Alternative("for a guest in IA-32e mode", (_BUSY_TSS,), given=_HAS_IA32E),
            Alternative("for a guest outside IA-32e mode", (_BUSY_TSS,), given=~_HAS_IA32E),
            replace(_32_BIT_GUEST, given=all_of(_HAS_IA32E, ~vmcs.guest_cs_access_rights[AR.L])),
        ),
    ),
    Decision(
        ("guest.intr.sti-if",),
        (
            Alternative(
                "for a guest that has interrupts off", (("guest_interruptibility_state", _bit(INTERRUPTIBILITY.BLOCKING_BY_STI), 0),)
            ),
            Alternative("for a guest that has just turned interrupts on", (("guest_rflags", _bit(RFLAGS.IF), _bit(RFLAGS.IF)),)),
        ),
    ),
    Decision(("ctl.inject.",), _EVENTS),
    Decision(
        ("guest.ss.sel.rpl", "guest.ss.dpl.", "guest.cs.dpl."),
        (_privilege(0, "for code of privilege level 0 (a kernel)"), _privilege(3, "for code of privilege level 3 (a program)")),
    ),
    Decision(
        ("host.as.", "host.efer.lma", "host.efer.lme"),
        (
            Alternative(
                "for a 64-bit host",
                (
                    ("vm_exit_controls", _64_BIT_HOST, _64_BIT_HOST),
                    ("host_ia32_efer", _LONG, _LONG),
                    ("host_cr4", _bit(CR4.PAE), _bit(CR4.PAE)),
                ),
            ),
        ),
    ),
)
_MOST: Final = 2


def decided(checked: CheckedState, knowledge: Knowledge, ignore: frozenset[str]) -> list[Repair]:
    """The alternatives of the decisions that the violated checks are about, the smallest first; [] where none is concerned or none works.

    `ignore`: ids of checks that need not pass (the reported outcome proves that they did).
    """
    failing = _failing(checked, ignore)
    shown = usual(checked.values, knowledge)
    found: list[Repair] = []
    for decision in DECISIONS:
        own = {id for id in failing if id.startswith(decision.checks)}
        if own:
            possible = [each for each in decision.alternatives if shown.judge(each.given).truth is True]
            found += filter(None, (_repair(each, own, checked, knowledge, ignore) for each in possible))
    alike: dict[tuple[Change, ...], list[Repair]] = {}
    for repair in found:
        alike.setdefault(repair.changes, []).append(repair)
    # a change that several alternatives share decides nothing
    distinct = [replace(same[0], title=same[0].title if len({one.title for one in same}) == 1 else "") for same in alike.values()]
    return sorted(distinct, key=_size)[:_MOST]


def _size(repair: Repair) -> tuple[int, int]:
    return len(repair.changes), sum((change.new ^ (change.old or 0)).bit_count() for change in repair.changes)


def _failing(checked: CheckedState, ignore: frozenset[str]) -> set[str]:
    return {finding.check.id for finding in checked.of(*FAILING)} - ignore


def _repair(alternative: Alternative, own: set[str], checked: CheckedState, knowledge: Knowledge, ignore: frozenset[str]) -> Repair | None:
    """What an alternative changes, with what else is wrong corrected too; None if it does not help, or changes nothing that the text shows."""
    changes = {change.field: change for change in _changes(alternative.settings, checked.values)}
    if not changes:
        return None
    after = judge(None, knowledge, {**checked.values, **{name: Partial(change.new) for name, change in changes.items()}})
    left = _failing(after, ignore)
    if left & own or left - _failing(checked, ignore):
        return None
    undecided = sum(finding.verdict is Verdict.UNKNOWN for finding in checked.findings)
    if not left:
        return Repair(tuple(changes.values()), undecided, title=alternative.title)
    rest = find_repairs(after, knowledge, ignore, most=1)
    if not rest or any(change.field in changes for change in rest[0].changes):
        return None
    return replace(rest[0], changes=(*changes.values(), *rest[0].changes), title=alternative.title)


def _changes(settings: Iterable[tuple[str, int, int]], values: Mapping[str, Partial]) -> list[Change]:
    """The settings that the text's values do not have yet; of a field that it does not show, none."""
    found = []
    for name, bits, wanted in settings:
        have = values.get(name)
        if have is not None and have.within(FIELDS[name].width).exact and have.value & bits != wanted:
            found.append(Change(name, have.value, have.value & ~bits | wanted))
    return found
