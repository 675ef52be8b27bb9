"""What a processor may be where its CPUID leaves or MSRs are not all known: the one that has everything, and the one that has nothing more.

Every fact that checks read grows or shrinks with what a processor has. So a check whose truth is the same for both is the same for every
processor in between, and one whose truth differs rests on what is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from vmfuzz.arch.capabilities import IA32_PERF_CAPABILITIES, IA32_TME_ACTIVATE, OTHER_MSRS, Capabilities, Leaf, Registers
from vmfuzz.arch.controls import Entry
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.registers import CR4

_ALL: Final[Registers] = (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
_NONE: Final[Registers] = (0, 0, 0, 0)
#: Every leaf that facts rest on -> its registers on a processor that has everything, and on one that has nothing.
_LEAVES: Final[Mapping[Leaf, tuple[Registers, Registers]]] = MappingProxyType(
    {
        (1, 0): (_ALL, _NONE),
        (7, 0): (_ALL, _NONE),
        (7, 1): (_ALL, _NONE),
        (7, 2): (_ALL, _NONE),
        # version 5, 32 general and 16 fixed counters
        (0xA, 0): ((5 | 32 << 8, 0xFFFFFFFF, 0xFFFF, 16), _NONE),
        (0xD, 1): (_ALL, _NONE),
        (0x14, 0): (_ALL, _NONE),
        (0x14, 1): ((4, 0xFFFFFFFF, 0, 0), _NONE),  # four address ranges
        (0x1C, 0): (_ALL, _NONE),
        # subleaf 1 exists and has precedence over leaf 0AH, whatever it says
        (0x23, 0): ((2, 0, 0, 0), (2, 0, 0, 0)),
        (0x23, 1): ((0xFFFFFFFF, 0xFFFF, 0, 0), _NONE),
        (0x80000001, 0): (_ALL, _NONE),
        (0x80000008, 0): ((57 << 8 | 52, 0, 0, 0), (48 << 8 | 36, 0, 0, 0)),
    }
)
_MOST_KEY_BITS: Final = 15
_LEAST_WIDTH: Final = 36
#: Features that IA32_VMX_CR4_FIXED1 tells of where CPUID does not: a bit of CR4 that may be 1 is there for its feature.
_CR4_BITS: Final[Mapping[str, CR4]] = MappingProxyType(
    {"pcid": CR4.PCIDE, "la57": CR4.LA57, "pks": CR4.PKS, "uintr": CR4.UINTR, "lam": CR4.LAM_SUP, "fred": CR4.FRED}
)


def completions(capabilities: Capabilities) -> tuple[Capabilities, Capabilities]:
    """(the processor if it has everything of which nothing is known, the same if it has nothing of that).

    Both are `capabilities` itself where everything is known that facts rest on (SDM Vol. 2A "CPUID"; Vol. 4 for IA32_PERF_CAPABILITIES and
    IA32_TME_ACTIVATE).
    """
    leaves = [leaf for leaf in _LEAVES if not capabilities.knows_leaf(*leaf)]
    msrs = [number for number in OTHER_MSRS if not capabilities.knows_msr(number)]
    if not leaves and not msrs:
        return capabilities, capabilities
    most, least = (_filled(capabilities, leaves, has_all) for has_all in (True, False))
    # key bits make addresses narrower; where not even the width is known, its least value stands for that too
    width = capabilities.physical_address_width if capabilities.knows_leaf(0x80000008) else _LEAST_WIDTH
    key_bits = min(_MOST_KEY_BITS, max(0, width - _LEAST_WIDTH))
    fill = {IA32_PERF_CAPABILITIES: (1 << 15, 0), IA32_TME_ACTIVATE: (0, 3 | key_bits << 32)}
    most, least = (
        replace(each, msrs={**each.msrs, **{number: fill[number][side] for number in msrs}}) for side, each in enumerate((most, least))
    )
    return most, least


def unknown_features(capabilities: Capabilities) -> tuple[str, ...]:
    """The names of FEATURES of which neither CPUID nor an MSR tells whether the processor has them."""
    most, least = completions(capabilities)
    return tuple(name for name in FEATURES if most.has(name) != least.has(name))


def _filled(capabilities: Capabilities, unknown: Sequence[Leaf], has_all: bool) -> Capabilities:
    """The capabilities with something in the place of the leaves that are not known."""
    leaves = {leaf: list(registers[not has_all]) for leaf, registers in _LEAVES.items() if leaf in unknown}
    for feature, present in _told_by_msrs(capabilities).items():
        leaf, subleaf, register, bit = FEATURES[feature]
        if (leaf, subleaf) in leaves:
            bits = leaves[leaf, subleaf]
            bits[register] = bits[register] & ~(1 << bit) | present << bit
            if feature == "la57" and (0x80000008, 0) in leaves:
                widths = leaves[0x80000008, 0]
                widths[0] = widths[0] & 0xFF | (57 if present else 48) << 8
    made = {leaf: (bits[0], bits[1], bits[2], bits[3]) for leaf, bits in leaves.items()}
    return replace(capabilities, cpuid={**capabilities.cpuid, **made})


def _told_by_msrs(capabilities: Capabilities) -> dict[str, bool]:
    """The features that the capability MSRs of VMX tell of (SDM Appendix A.8; a processor that may run an IA-32e mode guest has Intel 64)."""
    told = {name: bool(capabilities.cr4_fixed[1] >> bit & 1) for name, bit in _CR4_BITS.items()}
    if not capabilities.cr4_fixed[1] >> CR4.CET & 1:
        told |= {"cet_ss": False, "cet_ibt": False}
    if capabilities.may_be_1(Entry.IA32E_MODE_GUEST):
        told["intel64"] = True
    return {**told, "vmx": True}
