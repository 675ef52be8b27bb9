"""What is known of the processor when a dump does not say: what all processors share, what the dump's own capability MSRs say, and what the
reported outcome proves (an entry that got as far as the guest's state has passed every check of the controls and the host's state).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from vmfuzz.arch.capabilities import IA32_PERF_CAPABILITIES, MASK64, Capabilities
from vmfuzz.arch.completions import completions
from vmfuzz.arch.controls import CONTROL_WORDS, CONTROLS
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.registers import CR4
from vmfuzz.explain.dump import Dump, Reading
from vmfuzz.hexadecimal import as_wide, hexadecimal
from vmfuzz.model.operands import FACTS, capability_reader
from vmfuzz.model.partial import Partial

_DEFINED = {key: sum(1 << bit for name, bit in CONTROLS.items() if name.startswith(key + ".")) for key in CONTROL_WORDS}
#: default1 bits of each word: those that the TRUE capability MSRs still report as fixed to 1, and those that they release.
FIXED_1: Final = {"pin": 0x16, "primary": 0x04006172, "exit": 0x00036DFB, "entry": 0x000011FB}
_RELEASED: Final = {"pin": 0, "primary": 0x00018000, "exit": 0x4, "entry": 0x4}
_TRUE_BIT: Final = 55
_TRUE_MSRS: Final = frozenset((0x48D, 0x48E, 0x48F, 0x490))
#: What a capability MSR tells by itself, apart from control words.
_TOLD_BY: Final[Mapping[int, tuple[str, ...]]] = {
    0x480: ("revision", "dual_monitor", "error_code_optional", "nested_exception"),
    0x485: ("cr3_target_limit", "activity_states", "instruction_length_minimum"),
    0x486: ("cr0_must_be_1",),
    0x487: ("cr0_must_be_0",),
    0x488: ("cr4_must_be_1",),
    0x489: ("cr4_must_be_0",),
    0x48C: ("ept_vpid_cap",),
}
#: EN_PERF_METRICS of IA32_PERF_GLOBAL_CTRL, which exists with IA32_PERF_CAPABILITIES[15].
_PERF_METRICS: Final = 1 << 48
#: Accessed and dirty flags: the EPTP's bit that enables them, and the bit of IA32_VMX_EPT_VPID_CAP that says that there are any.
_EPTP_ACCESSED_AND_DIRTY: Final = 1 << 6
_HAS_ACCESSED_AND_DIRTY: Final = 1 << 21
_CR4_DEFINED: Final = sum(1 << bit for bit in CR4)
_CR4_EVERYWHERE: Final = 0x27FF  # VME to OSXMMEXCPT and VMXE: every processor with VMX has them
#: Facts that a person would take for granted, used only where nothing better is known; what rests on them is called likely.
_TYPICAL: Final = {
    "error_code_optional": 0,
    "nested_exception": 0,
    "dual_monitor": 0,
    "instruction_length_minimum": 1,
    "activity_states": 0xF,
    "ept_vpid_cap": 0x00000F0106734141,
    "cr3_target_limit": 4,
    "cr3_reserved": MASK64 & ~((1 << 52) - 1) & ~(3 << 61),
    "beyond_physical_width": MASK64 & ~((1 << 52) - 1),
    "beyond_maxphyaddr": MASK64 & ~((1 << 52) - 1),
    "cr4_must_be_0": MASK64 & ~_CR4_DEFINED,
    "efer_reserved": MASK64 & ~0xD01,
    "perf_global_reserved": MASK64 & ~(0xFFFF | 0x1FFFF << 32),
    "s_cet_reserved": 0x3C0,
}


def _width_facts(width: int) -> dict[str, int]:
    """Facts that follow from the linear-address width."""
    return {
        "canonical_bias": 1 << (width - 1),
        "canonical_limit": (1 << width) - 1,
        "identical_low_maximum": (1 << width) - 1,
        "identical_high_minimum": MASK64 & ~((1 << width) - 1),
    }


#: The facts that differ between linear-address widths.
WIDTH_FACTS: Final = frozenset(_width_facts(48))


def _shared() -> dict[str, Partial]:
    """What holds on every processor with VMX and Intel 64."""
    facts: dict[str, Partial] = {}
    for key in CONTROL_WORDS:
        fixed, released = FIXED_1.get(key, 0), _RELEASED.get(key, 0)
        facts[f"{key}_must_be_1"] = Partial(fixed, MASK64 & ~released)
        # a bit without a name is reserved: no processor lets it be 1 unless it must be
        facts[f"{key}_may_be_1"] = Partial(fixed | released, MASK64 & ~(_DEFINED[key] & ~(fixed | released)))
    ten = (1 << 36) - 1
    facts |= {
        "cr0_must_be_1": Partial(0x80000021),
        "cr0_must_be_0": Partial(MASK64 & ~0xFFFFFFFF),
        "cr4_must_be_1": Partial(0x2000),
        "cr4_must_be_0": Partial(MASK64 & ~_CR4_DEFINED, _CR4_EVERYWHERE | (MASK64 & ~_CR4_DEFINED)),
        "cr3_reserved": Partial(MASK64 & ~((1 << 52) - 1) & ~(3 << 61), (MASK64 & ~((1 << 52) - 1) & ~(3 << 61)) | ten),
        "beyond_physical_width": Partial(MASK64 & ~((1 << 52) - 1), (MASK64 & ~((1 << 52) - 1)) | 0xFFFFFFFF),
        "beyond_maxphyaddr": Partial(MASK64 & ~((1 << 52) - 1), (MASK64 & ~((1 << 52) - 1)) | ten),
        "efer_reserved": Partial(MASK64 & ~0xD01, MASK64 & ~0x800),
        # a bit for each counter that exists (two general ones on every processor with the MSR), and bit 48 with PERF_METRICS
        "perf_global_reserved": Partial(MASK64 & ~(0xFFFFFFFF | 0x1FFFF << 32), MASK64 & ~(0xFFFFFFFC | 0x1FFFF << 32)),
        "s_cet_reserved": Partial(0x3C0, 0x3C0),
        "activity_states": Partial(1, MASK64 & ~0xE),
        "has_intel64": Partial(1),
        "key_identifier_bits": Partial(0),  # no dump tells
        "cr3_target_limit": Partial(4),
        "instruction_length_minimum": Partial(0, MASK64 & ~1),
        "ept_vpid_cap": Partial(1 << 6 | 1 << 14, 1 << 6 | 1 << 14),
    }
    for name in (
        "error_code_optional",
        "nested_exception",
        "dual_monitor",
        *(f"has_{feature}" for feature in FEATURES if feature != "intel64"),
    ):
        facts[name] = Partial(0, MASK64 & ~1)
    return facts


@dataclass
class Knowledge:
    """What is known of the processor's capability facts, and where from. `exact`: a profile or capabilities file was given."""

    facts: dict[str, Partial]
    widths: tuple[int, ...]
    notes: list[str] = field(default_factory=list)
    exact: bool = False
    _kept: dict[tuple[int, bool], dict[str, Partial]] = field(default_factory=dict, repr=False, compare=False)

    def lookup(self, width: int, typical: bool) -> Mapping[str, Partial]:
        """Facts for one linear-address width; with `typical` the unknown bits of some are those of the usual processor."""
        kept = self._kept.get((width, typical))
        if kept is None:
            kept = self._kept[width, typical] = self._lookup(width, typical)
        return kept

    def _lookup(self, width: int, typical: bool) -> dict[str, Partial]:
        facts = dict(self.facts)
        if not self.exact:
            facts |= {name: Partial(value) for name, value in _width_facts(width).items()}
        if typical and not self.exact:
            for name in FACTS:
                usual = _TYPICAL.get(name, MASK64 if name.endswith("_may_be_1") else 1 if name.startswith("has_") else None)
                have = facts.get(name, Partial(0, 0))
                if usual is not None:
                    facts[name] = Partial(have.value | (usual & ~have.known))
                elif name.endswith("_must_be_1"):
                    facts[name] = Partial(have.value)
        return facts


def from_capabilities(capabilities: Capabilities) -> Knowledge:
    """What the capabilities of a stored processor profile or of a file tell: everything, or the bits that do not rest on what they lack."""
    possible = completions(capabilities)
    most, least = (capability_reader(each) for each in possible)
    facts = {name: Partial(most(name)).merge(Partial(least(name))) for name in FACTS}
    widths = tuple(dict.fromkeys(each.linear_address_width for each in reversed(possible)))
    return Knowledge(facts, widths, [f"processor: {capabilities.name}"], exact=possible[0] is possible[1])


def infer(dump: Dump, working: Dump | None = None) -> Knowledge:
    """What the dump itself tells about its processor, beside what holds everywhere; `working`: a state that entered on it."""
    facts = _shared()
    notes: list[str] = []
    _from_msrs(dump.msrs, facts, notes)
    if _reached_guest_state(dump):
        entered = dump.reported is not None and dump.reported.entered
        _from_passing(dump, facts, notes, entered, "the reported outcome proves that these passed, so the processor allows what they hold")
    if working is not None:
        _from_msrs({number: reading for number, reading in working.msrs.items() if number not in dump.msrs}, facts, notes)
        _from_passing(
            working, facts, notes, True, "the working state entered, so the processor, taken to be the same, allows what it holds"
        )
    _keep_known(facts)
    la57 = any((reading := dump.readings.get(name)) is not None and reading.value >> CR4.LA57 & 1 for name in ("host_cr4", "guest_cr4"))
    return Knowledge(facts, (57,) if la57 else (48, 57), notes)


def _keep_known(facts: dict[str, Partial]) -> None:
    for name in FACTS:
        facts.setdefault(name, Partial(0, 0))


def _reached_guest_state(dump: Dump) -> bool:
    """Whether the reported outcome proves that the checks of controls and host state passed."""
    return dump.reported is not None and dump.reported.exit_reason is not None


def _fill(facts: dict[str, Partial], name: str, value: int, known: int) -> bool:
    """Learn bits of a fact that were not known; returns whether there were any."""
    have = facts.get(name, Partial(0, 0))
    new = known & ~have.known
    facts[name] = Partial(have.value | (value & new), have.known | new)
    return bool(new)


def _from_msrs(readings: Mapping[int, Reading], facts: dict[str, Partial], notes: list[str]) -> None:
    msrs = {number: reading.value for number, reading in readings.items()}
    basic = msrs.get(0x480)
    true_controls = bool(basic >> _TRUE_BIT & 1) if basic is not None else True if msrs.keys() & _TRUE_MSRS else None
    capabilities = Capabilities("the text", {**dict.fromkeys(range(0x480, 0x48B), 0), **msrs})
    facts |= {name: Partial(FACTS[name](capabilities)) for number in msrs for name in _TOLD_BY.get(number, ())}
    if basic is not None:
        notes.append(
            f"IA32_VMX_BASIC = {as_wide(basic, 64)} in the text: VMCS revision identifier {hexadecimal(capabilities.revision)}, "
            + ("TRUE capability MSRs exist (bit 55)" if true_controls else "no TRUE capability MSRs (bit 55 is 0)")
        )
    for key, word in CONTROL_WORDS.items():
        _control_word(key, word.msr, word.true_msr, word.only_allowed_1, msrs, true_controls, facts)
    if IA32_PERF_CAPABILITIES in msrs:
        _fill(facts, "perf_global_reserved", 0 if msrs[IA32_PERF_CAPABILITIES] >> 15 & 1 else _PERF_METRICS, _PERF_METRICS)
    others = sorted(number for number in msrs if number != 0x480)
    if others:
        notes.append("capability MSRs in the text are used: " + ", ".join(hexadecimal(number) for number in others))


def _control_word(
    key: str,
    plain: int,
    true: int | None,
    only_allowed_1: bool,
    msrs: Mapping[int, int],
    true_controls: bool | None,
    facts: dict[str, Partial],
) -> None:
    if only_allowed_1:
        if plain in msrs:
            facts[f"{key}_may_be_1"] = Partial(msrs[plain])
        return
    number = true if true is not None and true in msrs and true_controls is not False else plain
    if number in msrs:
        facts[f"{key}_may_be_1"] = Partial(msrs[number] >> 32)
        if key == "secondary" or number == true or true_controls is False:
            facts[f"{key}_must_be_1"] = Partial(msrs[number] & 0xFFFFFFFF if key != "secondary" else 0)
    released = _RELEASED.get(key, 0)
    if released and true_controls is not None:
        _fill(facts, f"{key}_must_be_1", 0 if true_controls else released, released)


def _from_passing(dump: Dump, facts: dict[str, Partial], notes: list[str], entered: bool, proof: str) -> None:
    """The controls and the host state passed: what they have set is allowed, what they have clear is not required.

    `entered`: so did the guest state. `proof` begins the note on what was learned.
    """
    learned = [*_from_control_words(dump, facts), *_from_control_registers(dump, facts, entered)]
    _from_addresses(dump, facts, entered)
    if learned:
        notes.append(f"{proof}: {', '.join(dict.fromkeys(learned))}")


def _from_control_words(dump: Dump, facts: dict[str, Partial]) -> Iterator[str]:
    """The titles of the control words from which something was learned."""
    for key, word in CONTROL_WORDS.items():
        reading = dump.readings.get(word.field)
        if reading is None or not _active(dump, key):
            continue
        ones = reading.value & reading.known
        zeros = ~reading.value & reading.known & ((1 << 32) - 1)
        if _fill(facts, f"{key}_may_be_1", ones, ones) | _fill(facts, f"{key}_must_be_1", 0, zeros):
            yield word.title


def _from_control_registers(dump: Dump, facts: dict[str, Partial], entered: bool) -> Iterator[str]:
    """The control registers from which something was learned."""
    for area in ("host", "guest")[: 1 + entered]:
        for register in ("CR0", "CR4"):
            reading = dump.readings.get(f"{area}_{register.lower()}")
            if reading is not None and _fill(facts, f"{register.lower()}_must_be_0", 0, reading.value & reading.known):
                yield f"{area} {register}"


def _from_addresses(dump: Dump, facts: dict[str, Partial], entered: bool) -> None:
    """The highest address that passed is within the physical-address width; an EPTP that passed has no feature that the processor lacks."""
    addresses = ["host_cr3", "eptp", "virtual_apic_address", "apic_access_address", "msr_bitmap", *(["guest_cr3"] if entered else [])]
    top = max((dump.readings[name].value & ((1 << 52) - 1) for name in addresses if name in dump.readings), default=0).bit_length()
    for name in ("cr3_reserved", "beyond_maxphyaddr", "beyond_physical_width"):
        _fill(facts, name, 0, (1 << top) - 1)
    eptp = dump.readings.get("eptp")
    if eptp is not None and _active(dump, "secondary") and eptp.value & _EPTP_ACCESSED_AND_DIRTY:
        _fill(facts, "ept_vpid_cap", _HAS_ACCESSED_AND_DIRTY, _HAS_ACCESSED_AND_DIRTY)


def _active(dump: Dump, key: str) -> bool:
    """Whether the control word is known to count: the control that activates it is 1."""
    control = CONTROL_WORDS[key].activated_by
    if control is None:
        return True
    owner = next(word for word in CONTROL_WORDS.values() if isinstance(control, word.bits))
    reading = dump.readings.get(owner.field)
    return reading is not None and bool(reading.value & reading.known & 1 << control) and _active(dump, owner.key)
