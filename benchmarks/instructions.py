"""How many VMX instructions a candidate costs the engine, counted from candidates of a campaign and their outcomes on an emulated CPU.

    python benchmarks/instructions.py [--rows 400000] [CPU]

The engine (kmod/engine.c) is the same on a processor: `write_row`, `vmfuzz_enter`, `record`, and VMCLEAR with VMPTRLD after an entry. A row writes the
fields whose value is not that of the row before, and after an entry also what an exit may have changed (`vmfuzz_may_change`): in KVM's agent guest state
and two fields of the VM-entry controls, in the module all columns.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from probe import families_of

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind
from vmfuzz.campaign.loop import Campaign
from vmfuzz.execute.kinds import open_executor

#: Bits 11:10 of an encoding (SDM "Field Encoding in the VMCS"): guest-state fields.
_GUEST_STATE = 2
#: VM-entry controls and VM-entry interruption information: what else an exit changes.
_CHANGED = (0x4012, 0x4016)
#: VMREADs of `record`: exit reason, qualification, interruption information; after VMfail the error.
_READS = {Kind.EXIT: 3, Kind.ENTRY_FAILURE: 3, Kind.VMFAIL_VALID: 1}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("cpu", nargs="?", default="corei7_skylake_x")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    families = 0
    with open_executor("bochs", cpu=arguments.cpu) as executor:
        for batch in families_of(Campaign(executor, seed=1), arguments.rows):
            kind = executor.run(batch).kind
            ran = np.isin(kind, list(_READS))
            families += 1
            counts["candidates"] += int(ran.sum())
            batch, kind = batch.take(ran), kind[ran]
            entered = kind == Kind.EXIT
            left = entered | (kind == Kind.ENTRY_FAILURE)
            for name, column in batch.columns.items():
                if name not in FIELDS:
                    continue
                changed = np.concatenate([[True], column[1:] != column[:-1]])
                again = np.concatenate([[True], left[:-1]])
                encoding = FIELDS[name].encoding
                counts["VMWRITE of all columns"] += len(column)
                counts["VMWRITE in the module"] += int((changed | again).sum())
                saved = encoding >> 10 & 3 == _GUEST_STATE or encoding in _CHANGED
                counts["VMWRITE in KVM's agent"] += int((changed | again).sum() if saved else changed.sum())
            counts["VMREAD"] += sum(reads * int((kind == which).sum()) for which, reads in _READS.items())
            counts["VMCLEAR"] += int(entered.sum())
            counts["VMPTRLD"] += int(entered.sum())
            counts["VMLAUNCH"] += len(kind)
            # once a family: the base is written, its fields are read again at the end, and the VMCS is made current and given back
            counts["VMWRITE a family"] += len(batch.base)
            counts["VMREAD a family"] += len(batch.base)
            counts["VMCLEAR a family"] += 2
            counts["VMPTRLD a family"] += 1
    candidates = counts.pop("candidates")
    print(f"{candidates:,} candidates that ran, {families} families; a candidate:")
    for what, number in counts.items():
        print(f"  {what:40} {number / candidates:7.3f}")


if __name__ == "__main__":
    main()
