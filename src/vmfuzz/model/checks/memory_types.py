"""The rule for IA32_PAT that the SDM states for the host and for the guest."""

from vmfuzz.model.expr import Bits, Cond, all_of


def valid_pat(value: Bits) -> Cond:
    """Each of the 8 bytes is 0 (UC), 1 (WC), 4 (WT), 5 (WP), 6 (WB) or 7 (UC-)."""
    return all_of(*(value[8 * byte + 7 : 8 * byte].one_of(0, 1, 4, 5, 6, 7) for byte in range(8)))
