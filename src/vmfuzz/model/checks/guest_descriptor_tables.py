"""SDM Vol. 3C, "Checks on Guest Descriptor-Table Registers": entry failure 33, qualification 0."""

from vmfuzz.model.check import Fails, Section
from vmfuzz.model.operands import canonical, has, vmcs

descriptor_tables = Section("Checks on Guest Descriptor-Table Registers", Fails.GUEST)

for table in ("gdtr", "idtr"):
    descriptor_tables.check(
        f"guest.{table}.base",
        f"The guest {table.upper()} base must be canonical.",
        requires=has("intel64"),
        must=canonical(getattr(vmcs, f"guest_{table}_base")),
    )
for table in ("gdtr", "idtr"):
    descriptor_tables.check(
        f"guest.{table}.limit",
        f"Bits 31:16 of the guest {table.upper()} limit must be 0.",
        must=getattr(vmcs, f"guest_{table}_limit")[31:16] == 0,
    )
