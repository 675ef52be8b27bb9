"""Hypothesis strategies of conditions, and of rows of operands to evaluate them over."""

from __future__ import annotations

from hypothesis import strategies as st

from vmfuzz.model.expr import MASK64, Bits, Cond, all_of, any_of, capability, lift, operand

NAMES = ("a", "b", "c")
_EDGES = [0, 1, 2, 0xFF, 0xFFFF_FFFF, 1 << 47, 1 << 63, MASK64 - 1, MASK64]
words = st.integers(0, MASK64) | st.sampled_from(_EDGES)

leaves = st.sampled_from([operand(name, 64) for name in NAMES]) | words.map(lift) | st.sampled_from(["f", "g"]).map(capability)


def deeper(bits: st.SearchStrategy[Bits]) -> st.SearchStrategy[Bits]:
    spans = st.tuples(st.integers(0, 63), st.integers(0, 63)).map(lambda pair: (max(pair), min(pair)))
    return st.one_of(
        st.builds(lambda one, other: one & other, bits, bits),
        st.builds(lambda one, other: one | other, bits, bits),
        st.builds(lambda one, other: one + other, bits, bits),
        st.builds(lambda one, count: one >> count, bits, st.integers(0, 63)),
        st.builds(lambda one, count: one << count, bits, st.integers(0, 63)),
        st.builds(lambda one, span: one[span[0] : span[1]] if span[0] < one.width else one, bits, spans),
    )


values = st.recursive(leaves, deeper, max_leaves=6)


def atoms(bits: Bits, other: Bits, number: int) -> list[Cond]:
    wide = bits | 1 << 63  # any constant may be compared with 64 bits
    return [wide == other, wide <= other, wide >= lift(number), (wide)[number % 64], wide.one_of(number, number ^ 1)]


conditions = st.recursive(
    st.builds(atoms, values, values, words).flatmap(st.sampled_from),
    lambda inner: st.one_of(
        inner.map(lambda condition: ~condition),
        st.lists(inner, max_size=3).map(lambda parts: all_of(*parts)),
        st.lists(inner, max_size=3).map(lambda parts: any_of(*parts)),
    ),
    max_leaves=8,
)
FACT = {"f": 0x8000_0000_0000_00FF, "g": 3}
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, words)), min_size=1, max_size=5)
