"""What one processor allows: its VMX capability MSRs, the CPUID facts that checks need, and the answers derived from both.

`Capabilities` stores raw facts only (MSR values and CPUID leaves); every answer is computed, so that a stored profile can never
contradict itself. Sources: SDM Vol. 3D "VMX Capability Reporting Facility", Vol. 2A "CPUID".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from vmfuzz.arch.controls import CONTROL_WORDS, Control, Pin, Primary, Secondary, control_named, word_of
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.fields import FIELDS, Field, field_named
from vmfuzz.errors import UsageError
from vmfuzz.files import read_json
from vmfuzz.hexadecimal import hexadecimal

SCHEMA: Final = "vmfuzz-capabilities-1"
_EXPECTED: Final = "expected a file that `vmfuzz caps --json` wrote"
MASK64: Final = (1 << 64) - 1

#: The capability MSRs in order of number.
CAPABILITY_MSRS: Final = MappingProxyType(
    {
        0x480: "IA32_VMX_BASIC",
        0x481: "IA32_VMX_PINBASED_CTLS",
        0x482: "IA32_VMX_PROCBASED_CTLS",
        0x483: "IA32_VMX_EXIT_CTLS",
        0x484: "IA32_VMX_ENTRY_CTLS",
        0x485: "IA32_VMX_MISC",
        0x486: "IA32_VMX_CR0_FIXED0",
        0x487: "IA32_VMX_CR0_FIXED1",
        0x488: "IA32_VMX_CR4_FIXED0",
        0x489: "IA32_VMX_CR4_FIXED1",
        0x48A: "IA32_VMX_VMCS_ENUM",
        0x48B: "IA32_VMX_PROCBASED_CTLS2",
        0x48C: "IA32_VMX_EPT_VPID_CAP",
        0x48D: "IA32_VMX_TRUE_PINBASED_CTLS",
        0x48E: "IA32_VMX_TRUE_PROCBASED_CTLS",
        0x48F: "IA32_VMX_TRUE_EXIT_CTLS",
        0x490: "IA32_VMX_TRUE_ENTRY_CTLS",
        0x491: "IA32_VMX_VMFUNC",
        0x492: "IA32_VMX_PROCBASED_CTLS3",
        0x493: "IA32_VMX_EXIT_CTLS2",
    }
)
#: Other MSRs that say what a processor allows, where CPUID says that they exist (PDCM, TME).
IA32_PERF_CAPABILITIES, IA32_TME_ACTIVATE = 0x345, 0x982
OTHER_MSRS: Final = MappingProxyType({IA32_PERF_CAPABILITIES: "IA32_PERF_CAPABILITIES", IA32_TME_ACTIVATE: "IA32_TME_ACTIVATE"})
FACT_MSRS: Final = MappingProxyType({**CAPABILITY_MSRS, **OTHER_MSRS})

Leaf = tuple[int, int]
Registers = tuple[int, int, int, int]
_EAX = 0


def _parse_hex(what: str, text: object) -> int:
    try:
        value = int(text, 16) if isinstance(text, str) else -1
    except ValueError:
        value = -1
    if not 0 <= value <= MASK64:
        raise UsageError(f'{what} = {text!r}: expected a hexadecimal number of at most 64 bits, such as "0x2b"')
    return value


@dataclass(frozen=True)
class Capabilities:
    """What one processor, or processor model, allows. Immutable.

    - `name: str`
    - `msrs`: number of an MSR -> its value, for the capability MSRs that exist.
    - `cpuid`: (leaf, subleaf) -> (EAX, EBX, ECX, EDX). If it is empty, only the MSRs are known. The answers below that need CPUID are then
      the most permissive ones, and a prediction that depends on what is not known is "not modelled".
    - `microcode: int | None`: the revision, if the processor has one and it is known. It changes what a processor does, not what it reports,
      so comparisons of capabilities leave it out.

    >>> capabilities.physical_address_width, capabilities.may_be_1("enable_ept"), capabilities.has_field("guest_ia32_pkrs")
    (40, True, False)
    """

    name: str
    msrs: Mapping[int, int]
    cpuid: Mapping[Leaf, Registers] = field(default_factory=dict)
    microcode: int | None = None

    def __post_init__(self) -> None:
        missing = [number for number in range(0x480, 0x48B) if number not in self.msrs]
        if missing:
            names = ", ".join(f"{hexadecimal(number)} ({CAPABILITY_MSRS[number]})" for number in missing)
            raise UsageError(f"capabilities of {self.name}: missing {names}; every processor with VMX has these MSRs")
        object.__setattr__(self, "msrs", MappingProxyType(dict(sorted(self.msrs.items()))))
        object.__setattr__(self, "cpuid", MappingProxyType(dict(sorted(self.cpuid.items()))))

    def __hash__(self) -> int:
        return hash((tuple(self.msrs.items()), tuple(self.cpuid.items())))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Capabilities):
            return NotImplemented
        return dict(self.msrs) == dict(other.msrs) and dict(self.cpuid) == dict(other.cpuid)

    def __reduce__(self) -> tuple[object, ...]:
        return Capabilities, (self.name, dict(self.msrs), dict(self.cpuid), self.microcode)

    # Raw facts

    def msr(self, number: int) -> int:
        """The MSR's value, 0 where it does not exist (so that none of its features exist) or is not known."""
        return self.msrs.get(number, 0)

    def registers(self, leaf: int, subleaf: int = 0) -> Registers:
        """What CPUID reports in a leaf: (EAX, EBX, ECX, EDX), 0 where the leaf does not exist or is not known."""
        return self.cpuid.get((leaf, subleaf), (0, 0, 0, 0))

    def knows_leaf(self, leaf: int, subleaf: int = 0) -> bool:
        """Whether it is known what CPUID reports in a leaf, or that the leaf does not exist."""
        if (leaf, subleaf) in self.cpuid:
            return True
        greatest = self.cpuid.get((leaf & 0x80000000, 0))
        if greatest is not None and leaf > greatest[_EAX]:
            return True
        first = self.cpuid.get((leaf, 0))
        if first is None or subleaf == 0:
            return False
        # leaf 0DH has a subleaf 1 on every processor; leaf 23H has a bitmap of its subleaves, others the greatest subleaf
        if leaf == 0xD and subleaf == 1:
            return False
        return not first[_EAX] >> subleaf & 1 if leaf == 0x23 else subleaf > first[_EAX]

    def knows_msr(self, number: int) -> bool:
        """Whether the value of an MSR of OTHER_MSRS is known, or that it does not exist."""
        if number in self.msrs:
            return True
        leaf, _, register, bit = FEATURES["pdcm" if number == IA32_PERF_CAPABILITIES else "tme"]
        return self.knows_leaf(leaf) and not self.registers(leaf)[register] >> bit & 1

    def has(self, feature: str) -> bool:
        """Whether CPUID reports `feature` (a name of FEATURES); True for all where CPUID is not known."""
        leaf, subleaf, register, bit = FEATURES[feature]
        if not self.cpuid:
            return True
        return bool(self.registers(leaf, subleaf)[register] >> bit & 1)

    # Controls

    def allowed_settings(self, key: str) -> tuple[int, int]:
        """(bits that must be 1, bits that may be 1) of the control word `key`, each a mask of 64 bits.

        The TRUE capability MSRs decide where IA32_VMX_BASIC[55] is 1 (SDM "Reserved Controls and Default Settings").
        """
        word = CONTROL_WORDS[key]
        number = word.true_msr if word.true_msr and self.true_controls else word.msr
        value = self.msr(number)
        if word.only_allowed_1:
            return 0, value
        if key == "secondary":
            return 0, value >> 32
        return value & 0xFFFFFFFF, value >> 32

    def may_be_1(self, control: str | Control) -> bool:
        """Whether the control (a name such as "enable_ept", or a bit) may be 1."""
        bit = control_named(control) if isinstance(control, str) else control
        return bool(self.allowed_settings(word_of(bit).key)[1] >> bit & 1)

    def must_be_1(self, control: str | Control) -> bool:
        """Whether the control must be 1."""
        bit = control_named(control) if isinstance(control, str) else control
        return bool(self.allowed_settings(word_of(bit).key)[0] >> bit & 1)

    def adjust(self, key: str, wanted: int) -> int:
        """The legal setting of control word `key` nearest to `wanted`: bits that must be 1 set, bits that may not be 1 cleared."""
        must, may = self.allowed_settings(key)
        return (wanted | must) & may

    # IA32_VMX_BASIC

    @property
    def revision(self) -> int:
        """VMCS revision identifier, 31 bits."""
        return self.msr(0x480) & 0x7FFFFFFF

    @property
    def region_size(self) -> int:
        """Bytes to allocate for a VMXON or VMCS region."""
        return (self.msr(0x480) >> 32 & 0x1FFF) or 4096

    @property
    def true_controls(self) -> bool:
        """IA32_VMX_BASIC[55]: the TRUE capability MSRs exist and default1 controls may be 0."""
        return bool(self.msr(0x480) >> 55 & 1)

    @property
    def addresses_limited_to_32_bits(self) -> bool:
        """IA32_VMX_BASIC[48]: physical addresses of VMX structures are limited to 32 bits."""
        return bool(self.msr(0x480) >> 48 & 1)

    @property
    def dual_monitor(self) -> bool:
        """IA32_VMX_BASIC[49]: dual-monitor treatment of SMIs and SMM."""
        return bool(self.msr(0x480) >> 49 & 1)

    @property
    def error_code_optional(self) -> bool:
        """IA32_VMX_BASIC[56]: an injected hardware exception may carry an error code or not, whatever its vector."""
        return bool(self.msr(0x480) >> 56 & 1)

    @property
    def nested_exception(self) -> bool:
        """IA32_VMX_BASIC[58]: the nested-exception bit of injected events is supported."""
        return bool(self.msr(0x480) >> 58 & 1)

    # Widths

    @property
    def physical_address_width(self) -> int:
        """MAXPHYADDR (CPUID.80000008H:EAX[7:0]); 52 where CPUID is not known."""
        if not self.cpuid:
            return 52
        return (self.registers(0x80000008)[_EAX] & 0xFF) or 36

    @property
    def linear_address_width(self) -> int:
        """Linear-address width (CPUID.80000008H:EAX[15:8]); 57 where CPUID is not known."""
        if not self.cpuid:
            return 57
        return (self.registers(0x80000008)[_EAX] >> 8 & 0xFF) or 32

    @property
    def key_identifier_bits(self) -> int:
        """How many of the upper physical-address bits hold a key identifier, of TME (IA32_TME_ACTIVATE[35:32]) or TDX ([39:36]); 0 unless it is locked."""
        activate = self.msr(IA32_TME_ACTIVATE)
        return max(activate >> 32 & 0xF, activate >> 36 & 0xF) if activate & 1 else 0

    @property
    def beyond_physical_width(self) -> int:
        """Mask of the address bits that no VMX structure's address may set."""
        width = min(self.physical_address_width, 32 if self.addresses_limited_to_32_bits else 64)
        return MASK64 & ~((1 << width) - 1)

    @property
    def cr3_reserved(self) -> int:
        """Mask of the bits of CR3 that must be 0: 63:MAXPHYADDR, less 62:61 where linear-address masking is supported."""
        reserved = MASK64 & ~((1 << self.physical_address_width) - 1)
        return reserved & ~(3 << 61) if self.has("lam") else reserved

    # Fixed bits

    @property
    def cr0_fixed(self) -> tuple[int, int]:
        """(bits of CR0 that must be 1, bits that may be 1) in VMX operation."""
        return self.msr(0x486), self.msr(0x487)

    @property
    def cr4_fixed(self) -> tuple[int, int]:
        """(bits of CR4 that must be 1, bits that may be 1) in VMX operation."""
        return self.msr(0x488), self.msr(0x489)

    # IA32_VMX_MISC

    @property
    def cr3_target_limit(self) -> int:
        """How many CR3-target values the processor supports."""
        return self.msr(0x485) >> 16 & 0x1FF

    @property
    def activity_states(self) -> int:
        """Mask of supported activity states: bit N for state N (active always)."""
        return 1 | (self.msr(0x485) >> 6 & 7) << 1

    @property
    def instruction_length_0(self) -> bool:
        """IA32_VMX_MISC[30]: software events may be injected with instruction length 0."""
        return bool(self.msr(0x485) >> 30 & 1)

    @property
    def vmwrite_any_field(self) -> bool:
        """IA32_VMX_MISC[29]: VMWRITE may write VM-exit information fields."""
        return bool(self.msr(0x485) >> 29 & 1)

    @property
    def msr_list_maximum(self) -> int:
        """Recommended maximum number of entries of an MSR-load or MSR-store area."""
        return 512 * ((self.msr(0x485) >> 25 & 7) + 1)

    # Fields

    def has_field(self, field_or_name: Field | str) -> bool:
        """Whether the VMCS field exists on this processor."""
        entry = field_named(field_or_name) if isinstance(field_or_name, str) else field_or_name
        return not entry.gates or any(self._gate(gate) for gate in entry.gates)

    def _gate(self, gate: str) -> bool:
        if gate == "seam":
            return False
        if gate.startswith("cr3_targets>"):
            return self.cr3_target_limit > int(gate.partition(">")[2])
        return self.may_be_1(gate)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields that exist here, in order of encoding."""
        return tuple(entry for entry in FIELDS.values() if self.has_field(entry))

    @property
    def ept(self) -> bool:
        """Whether "enable EPT" may be 1."""
        return self.may_be_1(Secondary.ENABLE_EPT)

    @property
    def unrestricted_guest(self) -> bool:
        """Whether "unrestricted guest" may be 1."""
        return self.may_be_1(Secondary.UNRESTRICTED_GUEST)

    @property
    def preemption_timer(self) -> bool:
        """Whether "activate VMX-preemption timer" may be 1."""
        return self.may_be_1(Pin.ACTIVATE_VMX_PREEMPTION_TIMER)

    @property
    def monitor_trap_flag(self) -> bool:
        """Whether "monitor trap flag" may be 1."""
        return self.may_be_1(Primary.MONITOR_TRAP_FLAG)

    # JSON

    def to_json(self) -> dict[str, Any]:
        """A JSON object with raw facts only; numbers are hexadecimal strings."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "msrs": {f"{number:x}": f"{value:#x}" for number, value in self.msrs.items()},
            "cpuid": {
                f"{leaf:x}.{subleaf:x}": [f"{register:#x}" for register in registers] for (leaf, subleaf), registers in self.cpuid.items()
            },
            **({} if self.microcode is None else {"microcode": f"{self.microcode:#x}"}),
        }

    @classmethod
    def from_json(cls, data: object) -> Capabilities:
        """The capabilities that `to_json` wrote; raises UsageError that names what is wrong."""
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise UsageError(f'not a capabilities file: expected a JSON object with "schema": "{SCHEMA}"')
        msrs, cpuid = data.get("msrs"), data.get("cpuid", {})
        if not isinstance(msrs, dict) or not isinstance(cpuid, dict):
            raise UsageError('capabilities file: "msrs" and "cpuid" must be JSON objects')
        leaves: dict[Leaf, Registers] = {}
        for key, registers in cpuid.items():
            leaf, _, subleaf = key.partition(".")
            if not isinstance(registers, list) or len(registers) != 4:
                raise UsageError(f'capabilities file: cpuid "{key}" must be a list of four registers')
            values = [_parse_hex(f"cpuid {key}", register) & 0xFFFFFFFF for register in registers]
            leaves[_parse_hex("cpuid leaf", leaf), _parse_hex("cpuid subleaf", subleaf or "0")] = (
                values[0],
                values[1],
                values[2],
                values[3],
            )
        numbers = {_parse_hex("MSR number", key): _parse_hex(f"MSR {key}", value) for key, value in msrs.items()}
        microcode = _parse_hex("microcode", data["microcode"]) if "microcode" in data else None
        return cls(str(data.get("name", "unnamed")), numbers, leaves, microcode)

    @classmethod
    def load(cls, path: Path) -> Capabilities:
        """Read a capabilities file; raises UsageError when it cannot be read or is malformed."""
        data = read_json(path, _EXPECTED)
        try:
            return cls.from_json(data)
        except UsageError as error:
            raise UsageError(f"{path}: {error}; {_EXPECTED}") from None
