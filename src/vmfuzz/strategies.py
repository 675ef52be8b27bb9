"""Hypothesis strategies for people who test a VM entry of their own (public; docs/emulator.md begins with them).

    from hypothesis import given
    import vmfuzz
    from vmfuzz import strategies
    from vmfuzz.testing import assert_allowed

    CAPABILITIES = vmfuzz.capabilities("corei7_skylake_x")

    @given(strategies.candidates(CAPABILITIES))
    def test_vm_entry(vmcs):
        assert_allowed(my_vm_entry(vmcs), vmcs, CAPABILITIES)

Every strategy starts from known-good states and edits them as campaigns do, with the same vocabulary. An example shrinks towards the known-good
state: the simplest base, the fewest operands, the fewest bits (of numbers, the smallest distance). All take, by name:

- `mode`, `features`, `event`: names, or lists of names, of the parts that a base is composed of (`MODES`, `FEATURES`, `EVENTS`); left out, all that
  the processor can have;
- `known_good`: a state that enters on your processor, where `vmfuzz.known_good(capabilities)` will not do, as its addresses may not.

They raise UnknownNameError for a name that does not exist, and UsageError where the processor has no such base. The first strategy of a processor takes
two seconds to make, since its bases are composed; the examples that follow take 2 to 6 ms each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hypothesis.strategies import SearchStrategy

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.errors import UsageError
from vmfuzz.generate.drawn import directed, from_starts, mutated, starts_of, words_of
from vmfuzz.generate.events import EVENTS as _EVENTS
from vmfuzz.generate.ground import Names, ground_of
from vmfuzz.generate.parts import FEATURES as _FEATURES
from vmfuzz.generate.parts import MODES as _MODES
from vmfuzz.state.vmcs import Vmcs

__all__ = ["EVENTS", "FEATURES", "MODES", "base", "candidates", "memory", "valid", "violating", "vmcs"]

#: Names of the parts that bases are composed of.
MODES: Final = tuple(_MODES)
FEATURES: Final = tuple(_FEATURES)
EVENTS: Final = tuple(_EVENTS)


def vmcs(
    capabilities: Capabilities,
    *,
    mode: Names = None,
    features: Names = None,
    event: Names = None,
    fields: Sequence[str] | None = None,
    known_good: Vmcs | None = None,
) -> SearchStrategy[Vmcs]:
    """Known-good states with up to four edits: bits, boundaries, copies, and relations of operands that a check reads.

    `fields`: the operands (fields, live conditions, memory operands) that edits may change; left out, all. What the manual says of such a state is open:
    `vmfuzz.predict` tells it, `vmfuzz.testing.assert_allowed` compares.
    """
    ground = ground_of(capabilities, mode, features, event, known_good, fields)
    return mutated(ground)


def valid(
    capabilities: Capabilities,
    *,
    mode: Names = None,
    features: Names = None,
    event: Names = None,
    fields: Sequence[str] | None = None,
    known_good: Vmcs | None = None,
) -> SearchStrategy[Vmcs]:
    """States that enter, for certain: known-good ones with edits that violate no check. A processor that refuses one is wrong.

    `fields`: as for `vmcs`.
    """
    ground = ground_of(capabilities, mode, features, event, known_good, fields)
    return mutated(ground, ground.enters)


def violating(
    check_id: str,
    capabilities: Capabilities,
    *,
    mode: Names = None,
    features: Names = None,
    event: Names = None,
    known_good: Vmcs | None = None,
) -> SearchStrategy[Vmcs]:
    """States in which the check is violated, and up to its stage no other where that can be: a processor that enters one lacks the check.

    `check_id`: as `vmfuzz checks` lists them, such as "guest.gs.p". Raises UnknownNameError for one that does not exist, and UsageError where it does not
    exist on the processor, or no state was found that violates it.
    """
    ground = ground_of(capabilities, mode, features, event, known_good)
    number = ground.number_of(check_id)
    starts = starts_of(ground, number)
    if not starts:
        raise UsageError(
            f"{check_id}: no state was found that violates it on {capabilities.name} (in the modes, features and events asked for)"
        )
    return from_starts(ground, number, starts)


def candidates(
    capabilities: Capabilities,
    *,
    checks: Names = None,
    mode: Names = None,
    features: Names = None,
    event: Names = None,
    known_good: Vmcs | None = None,
) -> SearchStrategy[Vmcs]:
    """States directed at the checks, as a campaign's are: on a base where one of them applies, or nearly, its operands take its boundary values.

    `checks`: their ids, or how these begin ("host", "guest.gs"); left out, all. This finds errors soonest.
    """
    ground = ground_of(capabilities, mode, features, event, known_good)
    chosen = ground.targets_named(checks)
    return directed(ground, chosen)


def memory(capabilities: Capabilities, vmcs: Vmcs) -> SearchStrategy[Mapping[int, int]]:
    """What may lie in memory for `vmcs`: its words (physical address -> 64-bit word), with edits of what VM entry reads there.

    Those are the word at the VMCS link pointer, the virtual TPR, page-directory-pointer-table entries and the VM-entry MSR-load area, as far as
    `vmcs.memory` describes them; other words of it may have bits flipped. `vmcs.with_memory(words)` gives the state with them.
    """
    ground = ground_of(capabilities)
    return words_of(ground, vmcs)


def base(name: str, capabilities: Capabilities, known_good: Vmcs | None = None) -> Vmcs:
    """The known-good state called MODE/FEATURES/EVENT, such as "pae/plain/nothing": what reports of drawn states refer to.

    Raises UnknownNameError for a name that does not exist, UsageError for a state that the processor cannot have.
    """
    ground = ground_of(capabilities, known_good=known_good)
    state = ground.generator.bases.get(name)
    if state is None:
        raise UsageError(f"base {name!r}: {capabilities.name} lacks what the base needs, or parts of the base exclude each other")
    return state
