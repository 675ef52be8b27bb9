"""SDM Vol. 3C, "Checks on Guest Segment Registers": entry failure 33, qualification 0."""

from vmfuzz.arch.controls import Entry, Secondary
from vmfuzz.arch.registers import AR, CR0, CR4, INTERRUPTIBILITY, RFLAGS
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.expr import TRUE, Bits, Cond, all_of, any_of
from vmfuzz.model.operands import canonical, enabled, has, vmcs

guest_segments = Section("Checks on Guest Segment Registers", Fails.GUEST)

INTEL64 = has("intel64")
UNRESTRICTED = enabled(Secondary.UNRESTRICTED_GUEST)
GUEST_64 = enabled(Entry.IA32E_MODE_GUEST)
VIRTUAL_8086 = vmcs.guest_rflags[RFLAGS.VM]

SIX = ("cs", "ss", "ds", "es", "fs", "gs")
DATA_SEGMENTS = ("ds", "es", "fs", "gs")


def selector(segment: str) -> Bits:
    """The segment's selector; bits 1:0 are the RPL, bit 2 is TI."""
    return getattr(vmcs, f"guest_{segment}_selector")  # type: ignore[no-any-return]


def base(segment: str) -> Bits:
    """The segment's base address."""
    return getattr(vmcs, f"guest_{segment}_base")  # type: ignore[no-any-return]


def limit(segment: str) -> Bits:
    """The segment's limit."""
    return getattr(vmcs, f"guest_{segment}_limit")  # type: ignore[no-any-return]


def rights(segment: str) -> Bits:
    """The segment's access rights."""
    return getattr(vmcs, f"guest_{segment}_access_rights")  # type: ignore[no-any-return]


def type_of(segment: str) -> Bits:
    """The segment's type, bits 3:0 of its access rights."""
    return rights(segment)[3:0]


def dpl(segment: str) -> Bits:
    """The segment's DPL, bits 6:5 of its access rights."""
    return rights(segment)[6:5]


def rpl(segment: str) -> Bits:
    """The RPL of the segment's selector."""
    return selector(segment)[1:0]


def usable(segment: str) -> Cond:
    """The segment's unusable bit is 0."""
    return ~rights(segment)[AR.UNUSABLE]


# Selectors

guest_segments.check(
    "guest.tr.sel.ti",
    "The TI flag (bit 2) of the guest TR selector must be 0.",
    must=selector("tr")[2:2] == 0,
)
guest_segments.check(
    "guest.ldtr.sel.ti",
    "If guest LDTR is usable, the TI flag (bit 2) of its selector must be 0.",
    when=usable("ldtr"),
    must=selector("ldtr")[2:2] == 0,
)
guest_segments.check(
    "guest.ss.sel.rpl",
    'If the guest will not be virtual-8086 and "unrestricted guest" is 0, the RPL of SS must equal the RPL of CS.',
    when=all_of(~VIRTUAL_8086, ~UNRESTRICTED),
    must=rpl("ss") == rpl("cs"),
)

# Base addresses

for segment in SIX:
    guest_segments.check(
        f"guest.v86.base.{segment}",
        f"If the guest will be virtual-8086, the {segment.upper()} base must be the {segment.upper()} selector multiplied by 16.",
        when=VIRTUAL_8086,
        must=base(segment) == selector(segment) << 4,
    )
for segment in ("tr", "fs", "gs"):
    guest_segments.check(
        f"guest.{segment}.base",
        f"The guest {segment.upper()} base must be canonical, whether or not the register is usable.",
        requires=INTEL64,
        must=canonical(base(segment)),
    )
guest_segments.check(
    "guest.ldtr.base",
    "If guest LDTR is usable, its base must be canonical.",
    requires=INTEL64,
    when=usable("ldtr"),
    must=canonical(base("ldtr")),
)
guest_segments.check(
    "guest.cs.base",
    "Bits 63:32 of the guest CS base must be 0.",
    requires=INTEL64,
    must=base("cs")[63:32] == 0,
)
for segment in ("ss", "ds", "es"):
    guest_segments.check(
        f"guest.{segment}.base",
        f"If guest {segment.upper()} is usable, bits 63:32 of its base must be 0.",
        requires=INTEL64,
        when=usable(segment),
        must=base(segment)[63:32] == 0,
    )

# Virtual-8086 guests: limits and access rights have one value each

for segment in SIX:
    guest_segments.check(
        f"guest.v86.limit.{segment}",
        f"If the guest will be virtual-8086, the {segment.upper()} limit must be 0000FFFFH.",
        when=VIRTUAL_8086,
        must=limit(segment) == 0xFFFF,
    )
for segment in SIX:
    guest_segments.check(
        f"guest.v86.ar.{segment}",
        f"If the guest will be virtual-8086, the {segment.upper()} access rights must be 000000F3H.",
        when=VIRTUAL_8086,
        must=rights(segment) == 0xF3,
    )

# Access rights of guests that will not be virtual-8086: type, S, DPL, P, reserved bits, D/B, G


def counts(segment: str) -> Cond:
    """The rules on access rights apply to the segment: never in virtual-8086 mode; to CS always, to the others if usable."""
    return all_of(~VIRTUAL_8086, TRUE if segment == "cs" else usable(segment))


def premise(segment: str) -> str:
    """`counts` in words."""
    if segment == "cs":
        return "If the guest will not be virtual-8086,"
    return f"If the guest will not be virtual-8086 and {segment.upper()} is usable,"


guest_segments.check(
    "guest.cs.type",
    'If the guest will not be virtual-8086, the CS type must be 9, 11, 13 or 15 (accessed code), or 3 if "unrestricted guest" is 1.',
    when=~VIRTUAL_8086,
    must=any_of(type_of("cs").one_of(9, 11, 13, 15), all_of(UNRESTRICTED, type_of("cs") == 3)),
)
guest_segments.check(
    "guest.ss.type",
    f"{premise('ss')} its type must be 3 or 7 (read/write accessed data).",
    when=counts("ss"),
    must=type_of("ss").one_of(3, 7),
)
for segment in DATA_SEGMENTS:
    guest_segments.check(
        f"guest.{segment}.type.accessed",
        f"{premise(segment)} bit 0 of its type (accessed) must be 1.",
        when=counts(segment),
        must=rights(segment)[AR.ACCESSED],
    )
    guest_segments.check(
        f"guest.{segment}.type.readable",
        f"{premise(segment)} if bit 3 of its type (code segment) is 1, bit 1 (readable) must be 1.",
        when=all_of(counts(segment), rights(segment)[3]),
        must=rights(segment)[1],
    )
for segment in SIX:
    guest_segments.check(
        f"guest.{segment}.s",
        f"{premise(segment)} the S bit (bit 4) of the {segment.upper()} access rights must be 1.",
        when=counts(segment),
        must=rights(segment)[AR.S],
    )
guest_segments.check(
    "guest.cs.dpl.data",
    "If the guest will not be virtual-8086 and the CS type is 3, the CS DPL must be 0.",
    when=all_of(~VIRTUAL_8086, type_of("cs") == 3),
    must=dpl("cs") == 0,
)
guest_segments.check(
    "guest.cs.dpl.nonconf",
    "If the guest will not be virtual-8086 and the CS type is 9 or 11 (non-conforming code), the CS DPL must equal the SS DPL.",
    when=all_of(~VIRTUAL_8086, type_of("cs").one_of(9, 11)),
    must=dpl("cs") == dpl("ss"),
)
guest_segments.check(
    "guest.cs.dpl.conf",
    "If the guest will not be virtual-8086 and the CS type is 13 or 15 (conforming code), the CS DPL must not be greater than the SS DPL.",
    when=all_of(~VIRTUAL_8086, type_of("cs").one_of(13, 15)),
    must=dpl("cs") <= dpl("ss"),
)
guest_segments.check(
    "guest.ss.dpl.rpl",
    'If the guest will not be virtual-8086 and "unrestricted guest" is 0, the SS DPL must equal the RPL of the SS selector.',
    when=all_of(~VIRTUAL_8086, ~UNRESTRICTED),
    must=dpl("ss") == rpl("ss"),
)
guest_segments.check(
    "guest.ss.dpl.zero",
    "If the guest will not be virtual-8086 and the CS type is 3 or guest CR0.PE is 0, the SS DPL must be 0.",
    when=all_of(~VIRTUAL_8086, any_of(type_of("cs") == 3, ~vmcs.guest_cr0[CR0.PE])),
    must=dpl("ss") == 0,
)
for segment in DATA_SEGMENTS:
    guest_segments.check(
        f"guest.{segment}.dpl",
        f'{premise(segment)} "unrestricted guest" is 0 and its type is 0 to 11 (data or non-conforming code), its DPL must not be less than '
        "the RPL of its selector.",
        when=all_of(counts(segment), ~UNRESTRICTED, type_of(segment) <= 11),
        must=dpl(segment) >= rpl(segment),
    )
for segment in SIX:
    guest_segments.check(
        f"guest.{segment}.p",
        f"{premise(segment)} the P bit (bit 7) of the {segment.upper()} access rights must be 1.",
        when=counts(segment),
        must=rights(segment)[AR.P],
    )
for segment in SIX:
    guest_segments.check(
        f"guest.{segment}.ar.rsvd-low",
        f"{premise(segment)} bits 11:8 of the {segment.upper()} access rights must be 0.",
        when=counts(segment),
        must=rights(segment)[11:8] == 0,
    )
guest_segments.check(
    "guest.cs.db-l",
    'If the guest will not be virtual-8086, "IA-32e mode guest" is 1 and the L bit of CS is 1, the D/B bit of CS must be 0.',
    requires=INTEL64,
    when=all_of(~VIRTUAL_8086, GUEST_64, rights("cs")[AR.L]),
    must=~rights("cs")[AR.DB],
)


def granularity(segment: str, id: str, when: Cond, words: str) -> None:
    """Declare the two rules that tie the G bit to the limit."""
    guest_segments.check(
        f"{id}.g.low",
        f"{words} any bit of the limit in 11:0 is 0, the G bit of the {segment.upper()} access rights must be 0.",
        when=all_of(when, limit(segment)[11:0] != 0xFFF),
        must=~rights(segment)[AR.G],
    )
    guest_segments.check(
        f"{id}.g.high",
        f"{words} any bit of the limit in 31:20 is 1, the G bit of the {segment.upper()} access rights must be 1.",
        when=all_of(when, limit(segment)[31:20] != 0),
        must=rights(segment)[AR.G],
    )


for segment in SIX:
    granularity(segment, f"guest.{segment}", counts(segment), f"{premise(segment)[:-1]} and")
for segment in SIX:
    guest_segments.check(
        f"guest.{segment}.ar.rsvd-high",
        f"{premise(segment)} bits 31:17 of the {segment.upper()} access rights must be 0.",
        when=counts(segment),
        must=rights(segment)[31:17] == 0,
    )

# CS has no rule on its unusable bit, yet every other rule applies to it

guest_segments.check(
    "guest.cs.unusable",
    "If the guest will not be virtual-8086, the unusable bit (bit 16) of the CS access rights must be 0; no sentence says so.",
    when=~VIRTUAL_8086,
    must=~rights("cs")[AR.UNUSABLE],
    ambiguity="cs-unusable",
)

# Flexible return and event delivery

FRED = all_of(vmcs.guest_cr4[CR4.FRED])
guest_segments.check(
    "guest.fred.ss.dpl",
    "If guest CR4.FRED is 1, the SS DPL must be 0 or 3.",
    requires=has("fred"),
    when=FRED,
    must=dpl("ss").one_of(0, 3),
)
guest_segments.check(
    "guest.fred.cs.l",
    "If guest CR4.FRED is 1 and the SS DPL is 0, the L bit of CS must be 1.",
    requires=has("fred"),
    when=all_of(FRED, dpl("ss") == 0),
    must=rights("cs")[AR.L],
)
guest_segments.check(
    "guest.fred.iopl-sti.iopl",
    "If guest CR4.FRED is 1 and the SS DPL is 3, RFLAGS.IOPL must be 0.",
    requires=has("fred"),
    when=all_of(FRED, dpl("ss") == 3),
    must=vmcs.guest_rflags[13:12] == 0,
)
guest_segments.check(
    "guest.fred.iopl-sti.sti",
    "If guest CR4.FRED is 1 and the SS DPL is 3, there must be no blocking by STI.",
    requires=has("fred"),
    when=all_of(FRED, dpl("ss") == 3),
    must=~vmcs.guest_interruptibility_state[INTERRUPTIBILITY.BLOCKING_BY_STI],
)

# TR

guest_segments.check(
    "guest.tr.type.ia32e",
    'If "IA-32e mode guest" is 1, the TR type must be 11 (64-bit busy TSS).',
    when=GUEST_64,
    must=type_of("tr") == 11,
)
guest_segments.check(
    "guest.tr.type.legacy",
    'If "IA-32e mode guest" is 0, the TR type must be 3 (16-bit busy TSS) or 11 (32-bit busy TSS).',
    when=~GUEST_64,
    must=type_of("tr").one_of(3, 11),
)
guest_segments.check(
    "guest.tr.s",
    "The S bit (bit 4) of the TR access rights must be 0.",
    must=~rights("tr")[AR.S],
)
guest_segments.check(
    "guest.tr.p",
    "The P bit (bit 7) of the TR access rights must be 1.",
    must=rights("tr")[AR.P],
)
guest_segments.check(
    "guest.tr.rsvd-low",
    "Bits 11:8 of the TR access rights must be 0.",
    must=rights("tr")[11:8] == 0,
)
granularity("tr", "guest.tr", TRUE, "If")
guest_segments.check(
    "guest.tr.unusable",
    "The unusable bit (bit 16) of the TR access rights must be 0.",
    must=usable("tr"),
)
guest_segments.check(
    "guest.tr.rsvd-high",
    "Bits 31:17 of the TR access rights must be 0.",
    must=rights("tr")[31:17] == 0,
)

# LDTR

guest_segments.check(
    "guest.ldtr.type",
    "If LDTR is usable, its type must be 2 (LDT).",
    when=usable("ldtr"),
    must=type_of("ldtr") == 2,
)
guest_segments.check(
    "guest.ldtr.s",
    "If LDTR is usable, the S bit (bit 4) of its access rights must be 0.",
    when=usable("ldtr"),
    must=~rights("ldtr")[AR.S],
)
guest_segments.check(
    "guest.ldtr.p",
    "If LDTR is usable, the P bit (bit 7) of its access rights must be 1.",
    when=usable("ldtr"),
    must=rights("ldtr")[AR.P],
)
guest_segments.check(
    "guest.ldtr.rsvd-low",
    "If LDTR is usable, bits 11:8 of its access rights must be 0.",
    when=usable("ldtr"),
    must=rights("ldtr")[11:8] == 0,
)
granularity("ldtr", "guest.ldtr", usable("ldtr"), "If LDTR is usable and")
guest_segments.check(
    "guest.ldtr.rsvd-high",
    "If LDTR is usable, bits 31:17 of its access rights must be 0.",
    when=usable("ldtr"),
    must=rights("ldtr")[31:17] == 0,
)
