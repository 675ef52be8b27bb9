"""What is not known of a processor: which leaves and MSRs are known not to exist, and the two processors that it may be."""

from __future__ import annotations

import pytest

from vmfuzz.arch.capabilities import FACT_MSRS, IA32_PERF_CAPABILITIES, IA32_TME_ACTIVATE, Capabilities, Registers
from vmfuzz.arch.completions import completions, unknown_features
from vmfuzz.state.profiles import capabilities, profile_names

PDCM, TME = 1 << 15, 1 << 13


def made_up(cpuid: dict[tuple[int, int], Registers] | None = None, **msrs: int) -> Capabilities:
    """Capabilities whose required MSRs are 0 but for those given as `msr_480=...`."""
    given = {int(name.removeprefix("msr_"), 16): value for name, value in msrs.items()}
    return Capabilities("made up", {**dict.fromkeys(range(0x480, 0x48B), 0), **given}, cpuid or {})


def with_leaf(caps: Capabilities, leaf: tuple[int, int], registers: Registers) -> Capabilities:
    return Capabilities(caps.name, caps.msrs, {**caps.cpuid, leaf: registers})


@pytest.mark.parametrize("name", profile_names())
def test_everything_is_known_of_a_processor_that_was_probed(name: str) -> None:
    caps = capabilities(name)
    assert completions(caps) == (caps, caps)
    assert unknown_features(caps) == ()
    assert set(caps.msrs) <= set(FACT_MSRS)


@pytest.mark.parametrize(
    ("cpuid", "leaf", "known"),
    [
        ({}, (0xA, 0), False),
        ({(0xA, 0): (0, 0, 0, 0)}, (0xA, 0), True),
        ({(0, 0): (0x9, 0, 0, 0)}, (0xA, 0), True),  # beyond the greatest leaf
        ({(0, 0): (0xA, 0, 0, 0)}, (0xA, 0), False),
        ({(0, 0): (0xA, 0, 0, 0)}, (0x80000008, 0), False),
        ({(0x80000000, 0): (0x80000007, 0, 0, 0)}, (0x80000008, 0), True),
        ({(0, 0): (7, 0, 0, 0)}, (7, 2), False),
        ({(7, 0): (1, 0, 0, 0)}, (7, 2), True),  # beyond the greatest subleaf
        ({(7, 0): (2, 0, 0, 0)}, (7, 2), False),
        ({(0x23, 0): (0b01, 0, 0, 0)}, (0x23, 1), True),  # not in the bitmap of subleaves
        ({(0x23, 0): (0b10, 0, 0, 0)}, (0x23, 1), False),
    ],
)
def test_a_leaf_is_known_if_it_was_read_or_cannot_exist(
    cpuid: dict[tuple[int, int], Registers], leaf: tuple[int, int], known: bool
) -> None:
    assert made_up(cpuid).knows_leaf(*leaf) is known


@pytest.mark.parametrize(
    ("cpuid", "msrs", "number", "known"),
    [
        ({}, {}, IA32_PERF_CAPABILITIES, False),
        ({}, {"msr_345": 0}, IA32_PERF_CAPABILITIES, True),
        ({(1, 0): (0, 0, 0, 0)}, {}, IA32_PERF_CAPABILITIES, True),
        ({(1, 0): (0, 0, PDCM, 0)}, {}, IA32_PERF_CAPABILITIES, False),
        ({(7, 0): (0, 0, 0, 0)}, {}, IA32_TME_ACTIVATE, True),
        ({(7, 0): (0, 0, TME, 0)}, {}, IA32_TME_ACTIVATE, False),
    ],
)
def test_an_msr_is_known_if_it_was_read_or_cannot_exist(
    cpuid: dict[tuple[int, int], Registers], msrs: dict[str, int], number: int, known: bool
) -> None:
    assert made_up(cpuid, **msrs).knows_msr(number) is known


def test_what_is_not_known_is_there_for_the_one_and_not_for_the_other() -> None:
    known = {(0, 0): (0x16, 0, 0, 0), (0x80000000, 0): (0x80000008, 0, 0, 0), (0x80000008, 0): (48 << 8 | 39, 0, 0, 0)}
    most, least = completions(made_up(known))
    assert (most.has("rtm"), least.has("rtm")) == (True, False)
    assert most.cpuid[0x80000008, 0] == least.cpuid[0x80000008, 0] == (48 << 8 | 39, 0, 0, 0)
    assert (0x1C, 0) not in most.cpuid  # beyond the greatest leaf
    assert most.msr(IA32_PERF_CAPABILITIES) >> 15 & 1 > least.msr(IA32_PERF_CAPABILITIES) >> 15 & 1
    assert (most.key_identifier_bits, least.key_identifier_bits) == (0, 3)  # never so many that fewer than 36 address bits remain


def test_the_fixed_bits_of_cr4_tell_of_features_where_cpuid_does_not() -> None:
    no_cet = made_up(msr_489=1 << 17 | 1 << 12, msr_484=1 << (32 + 9))
    for each in completions(no_cet):
        assert [each.has(name) for name in ("pcid", "la57", "intel64", "fred", "cet_ss")] == [True, True, True, False, False]
        assert each.linear_address_width == 57
    assert {"cet_ss", "cet_ibt"} <= set(unknown_features(made_up(msr_489=1 << 23)))
    assert "pcid" not in unknown_features(with_leaf(no_cet, (1, 0), (0, 0, 0, 0)))
    assert not completions(with_leaf(no_cet, (1, 0), (0, 0, 0, 0)))[0].has("pcid")  # CPUID has the last word


@pytest.mark.parametrize(
    ("activate", "bits"),
    [(0, 0), (3 | 6 << 32, 6), (1 | 6 << 32, 6), (2 | 6 << 32, 0), (3 | 0xF << 32 | 1 << 36, 15), (3 | 4 << 36, 4)],
    ids=hex,
)
def test_key_bits_count_where_the_msr_is_locked(activate: int, bits: int) -> None:
    assert made_up(msr_982=activate).key_identifier_bits == bits
