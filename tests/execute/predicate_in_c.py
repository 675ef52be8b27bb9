"""The predicate of kmod/containment.c, built for this process, on batches: beside KmodContainment in tests and in tests/system/every_row.py."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.execute.kmod.abi import kmod_constants
from vmfuzz.execute.kmod.containment import BOLD, features
from vmfuzz.execute.wire.abi import constants, struct_dtype
from vmfuzz.execute.wire.family import Arena
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

KMOD: Final = Path(__file__).parents[2] / "kmod"
_WORDS: Final = ("pin", "primary", "secondary", "tertiary", "exit", "entry", "secondary_exit")
#: vmfuzz_refuse for many rows: a call from Python costs more than the rules.
_LOOP: Final = """
#include "containment_calls.h"
void refuse_rows(const struct vmfuzz_limits *l, const vmfuzz_u64 *v, vmfuzz_u64 rows, int *rule)
{
	for (; rows; rows--, v += VMFUZZ_SLOT_COUNT)
		*rule++ = (int)vmfuzz_refuse(l, v);
}
"""


def build(folder: Path) -> ctypes.CDLL:
    """containment.c as a shared object in `folder`, which must exist."""
    path, loop = folder / "containment.so", folder / "loop.c"
    loop.write_text(_LOOP)
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{KMOD}"]
    subprocess.run(["gcc", *flags, "-o", path, KMOD / "containment.c", loop], check=True)
    return ctypes.CDLL(str(path))


class RawBatch(VmcsBatch):
    """A batch whose columns hold any 64 bits, as a program's request may."""

    def __init__(
        self, base: Vmcs, columns: dict[str, npt.NDArray[np.uint64]], words: Mapping[int, npt.NDArray[np.uint64]] | None = None
    ) -> None:
        self.base, self.columns, self.memory_columns = base, MappingProxyType(columns), MappingProxyType(dict(words or {}))
        self.count = len(next(iter(columns.values())))

    def cut(self) -> VmcsBatch:
        """What VMWRITE makes of it."""
        return VmcsBatch(self.base, {n: c & np.uint64(FIELDS[n].mask) for n, c in self.columns.items()}, self.memory_columns)


class InC:
    """The predicate of containment.c on batches."""

    def __init__(
        self,
        library: ctypes.CDLL,
        capabilities: Capabilities,
        known: Vmcs,
        arena: Arena,
        risk: int,
        poison: bool = False,
        virtual: bool = False,
    ) -> None:
        self.library = library
        self.arena = arena
        count = kmod_constants()["SLOT_FIELDS"]
        encodings = (ctypes.c_uint16 * count).in_dll(library, "vmfuzz_slot_encoding")
        self.names = [BY_ENCODING[encoding].name for encoding in encodings]
        limits: Any = np.zeros(1, struct_dtype("limits"))
        limits["risk"], limits["physical_bits"] = risk, capabilities.physical_address_width
        limits["linear_bits"], limits["features"] = capabilities.linear_address_width, features(capabilities)
        limits["arena_pa"], limits["arena_bytes"] = arena.base, arena.size
        for register, fixed in (("cr0", capabilities.cr0_fixed), ("cr4", capabilities.cr4_fixed)):
            limits[f"{register}_fixed0"], limits[f"{register}_fixed1"] = fixed
        for slot, key in enumerate(_WORDS):
            limits["must"][0, slot], limits["may"][0, slot] = capabilities.allowed_settings(key)
        limits["poison"], limits["virtual"] = poison, virtual and risk == BOLD
        limits["captured"][0, : len(self.names)] = [known.get(name) or 0 for name in self.names]
        self.limits = limits

    def _judge_lists(self, batch: VmcsBatch, slots: npt.NDArray[np.uint64]) -> None:
        """What vmfuzz_harmless_list says of each row and list into its slot, with the words that main.c gives it."""
        bit = 1 << constants()["TARGET_ARENA_BIT"]
        base = np.array([(bit | at - self.arena.base, word) for at, word in batch.base.memory.items()], np.uint64).reshape(-1, 2)
        targets = np.array([bit | at - self.arena.base for at in batch.memory_columns], np.uint64)
        values = np.stack([*batch.memory_columns.values()], axis=1) if len(targets) else np.zeros((len(batch), 0), np.uint64)
        for row in range(len(batch)):
            value = np.ascontiguousarray(values[row])
            words = np.zeros(1, struct_dtype("words"))
            words["base"], words["targets"], words["values"] = base.ctypes.data, targets.ctypes.data, value.ctypes.data
            words["base_count"], words["count"] = len(base), len(targets)
            pointers = [ctypes.c_void_p(array.ctypes.data) for array in (self.limits, slots[row], words)]
            for name in ("ENTRY", "STORE", "LOAD"):
                number = ctypes.c_uint32(kmod_constants()[f"SLOT_{name}_COUNT"])
                slots[row, kmod_constants()[f"SLOT_{name}_LIST"]] = self.library.vmfuzz_harmless_list(*pointers, number)

    def rules(self, batch: VmcsBatch) -> npt.NDArray[np.int32]:
        """The rule that refuses each row, 0 for none; of a batch or of a RawBatch."""
        pages = {(word - self.arena.base) // 4096 for word in (*batch.base.memory, *batch.memory_columns)}
        self.limits["walls"] = (0 not in pages) * 1 | (1 not in pages) * 2
        slots = np.zeros((len(batch), kmod_constants()["SLOT_COUNT"]), np.uint64)
        for number, name in enumerate(self.names):
            slots[:, number] = batch.columns.get(name, np.uint64(batch.base.get(name) or 0))
        if self.limits["poison"][0] or self.limits["virtual"][0]:
            masks = np.array([FIELDS[name].mask for name in self.names], np.uint64)
            slots[:, : len(self.names)] &= masks  # as main.c cuts them
            self._judge_lists(batch, slots)
        rule = np.zeros(len(batch), np.int32)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (self.limits, slots, rule)]
        self.library.refuse_rows(*pointers[:2], ctypes.c_uint64(len(batch)), pointers[2])
        return rule
