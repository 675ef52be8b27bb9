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
    """Known-good states with up to four edits: bits, boundary values, copies, and relations of operands that a check reads.

    `fields`: the operands (fields, live conditions, memory operands) that edits may change; left out, all. Such a state may enter or fail:
    `vmfuzz.predict` says which, `vmfuzz.testing.assert_allowed` compares.

    >>> @given(strategies.vmcs(capabilities, mode="64-bit", features="plain", event="nothing", fields=["vpid"]))
    ... def only_the_vpid_changes(vmcs):
    ...     assert set(strategies.base("64-bit/plain/nothing", capabilities).differences(vmcs)) <= {"vpid"}
    >>> only_the_vpid_changes()
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
    """States that certainly enter: known-good ones with edits that violate no check. A processor that refuses one is wrong.

    `fields`: as for `vmcs`.

    >>> @given(strategies.valid(capabilities, mode="pae", event="nothing"))
    ... def every_state_enters(vmcs):
    ...     assert vmfuzz.predict(vmcs, capabilities).enters
    >>> every_state_enters()
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
    """States that violate one check and, where possible, no other check of its stage or an earlier one. A processor that enters lacks the check.

    `check_id`: as `vmfuzz checks` lists them, such as "guest.gs.p". Raises UnknownNameError if there is no such check, and UsageError if the
    processor does not have it, or if no state was found that violates it.

    >>> @given(strategies.violating("guest.gs.p", capabilities))
    ... def every_state_fails(vmcs):
    ...     prediction = vmfuzz.predict(vmcs, capabilities)
    ...     assert not prediction.enters
    ...     assert "guest.gs.p" in [violation.check.id for violation in prediction.violations]
    >>> every_state_fails()
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
    """States aimed at checks, as in a campaign: on a base where a check applies, or nearly applies, its operands take its boundary values.

    This strategy finds errors soonest. `checks`: ids, or the beginnings of ids ("host", "guest.gs"); left out, all.

    >>> @given(strategies.candidates(capabilities, checks="host"))
    ... def the_model_follows_the_manual(vmcs):
    ...     with vmfuzz.open_executor("model", cpu="corei7_skylake_x") as executor:
    ...         assert_allowed(executor.run([vmcs])[0], vmcs, capabilities)
    >>> the_model_follows_the_manual()
    """
    ground = ground_of(capabilities, mode, features, event, known_good)
    chosen = ground.targets_named(checks)
    return directed(ground, chosen)


def memory(capabilities: Capabilities, vmcs: Vmcs) -> SearchStrategy[Mapping[int, int]]:
    """Memory for `vmcs`: its words (physical address -> 64-bit word), with edits of what VM entry reads there.

    VM entry reads the word at the VMCS link pointer, the virtual TPR, page-directory-pointer-table entries, and the VM-entry MSR-load area. What
    `vmcs.memory` has of these is edited; its other words may have bits flipped. `vmcs.with_memory(words)` gives the state with the memory.

    >>> with_list = strategies.base("64-bit/msr-load-1/nothing", capabilities)
    >>> @given(strategies.memory(capabilities, with_list))
    ... def it_has_the_words_of_the_state(words):
    ...     assert words.keys() >= with_list.memory.keys()
    >>> it_has_the_words_of_the_state()
    """
    ground = ground_of(capabilities)
    return words_of(ground, vmcs)


def base(name: str, capabilities: Capabilities, known_good: Vmcs | None = None) -> Vmcs:
    """The known-good state named MODE/FEATURES/EVENT, such as "pae/plain/nothing": reports of drawn states refer to it.

    Raises UnknownNameError for a name that does not exist, UsageError for a state that the processor cannot have.

    >>> vmfuzz.predict(strategies.base("pae/plain/nothing", capabilities), capabilities).enters
    True
    """
    ground = ground_of(capabilities, known_good=known_good)
    state = ground.generator.bases.get(name)
    if state is None:
        raise UsageError(f"base {name!r}: {capabilities.name} lacks what the base needs, or parts of the base exclude each other")
    return state
