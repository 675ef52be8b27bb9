"""SDM Vol. 3C, "Checks on Host Segment and Descriptor-Table Registers": all fail with VMfailValid, error 8."""

from vmfuzz.arch.controls import Exit
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.operands import canonical, enabled, has, vmcs

host_segments = Section("Checks on Host Segment and Descriptor-Table Registers", Fails.HOST)

for segment in ("cs", "ss", "ds", "es", "fs", "gs", "tr"):
    host_segments.check(
        f"host.sel.{segment}.rpl-ti",
        f"The RPL (bits 1:0) and TI flag (bit 2) of the host {segment.upper()} selector must be 0.",
        must=getattr(vmcs, f"host_{segment}_selector")[2:0] == 0,
    )
for segment in ("cs", "tr"):
    host_segments.check(
        f"host.sel.{segment}.null",
        f"The host {segment.upper()} selector must not be 0000H.",
        must=getattr(vmcs, f"host_{segment}_selector") != 0,
    )
host_segments.check(
    "host.sel.ss.null",
    'If "host address-space size" is 0, the host SS selector must not be 0000H.',
    when=~enabled(Exit.HOST_ADDRESS_SPACE_SIZE),
    must=vmcs.host_ss_selector != 0,
)
for base in ("fs", "gs", "tr", "gdtr", "idtr"):
    host_segments.check(
        f"host.base.{base}",
        f"The host {base.upper()} base must be canonical.",
        requires=has("intel64"),
        must=canonical(getattr(vmcs, f"host_{base}_base")),
    )
