"""The checks that the SDM states three times, once for each MSR area: VM-exit store, VM-exit load, VM-entry load."""

from vmfuzz.model.check import Section
from vmfuzz.model.expr import Bits
from vmfuzz.model.operands import aligned, within_physical_width

MINUS_1 = (1 << 64) - 1  # sums are modulo 2^64


def check_msr_area(section: Section, id: str, title: str, count: Bits, address: Bits) -> None:
    """Declare the checks on one MSR area: alignment, width of its address, width of its last byte."""
    nonzero = count != 0
    premise = f"If the {title} count is not 0,"
    section.check(
        f"{id}.align",
        f"{premise} bits 3:0 of the {title} address must be 0.",
        when=nonzero,
        must=aligned(address, 4),
    )
    section.check(
        f"{id}.width",
        f"{premise} the {title} address must not set bits beyond the physical-address width.",
        when=nonzero,
        must=within_physical_width(address),
    )
    section.check(
        f"{id}.last",
        f"{premise} the address of the area's last byte (address + 16 * count - 1) must not set bits beyond the physical-address width.",
        when=nonzero,
        must=within_physical_width(address + (count << 4) + MINUS_1),
    )
