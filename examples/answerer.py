#!/usr/bin/env python3
"""A processor for vmfuzz in Python: vmfuzz run --executor "program:python3 examples/answerer.py" (docs/program.md says what the lines mean).

Put your own emulator's VM entry in the place of `vm_entry`, which is a toy that knows eight checks. Nothing else has to change.
"""

import json
import sys

HELLO = {"hello": "vmfuzz-program-1", "name": "toy in Python", "version": "1", "profile": "corei7_skylake_x"}
ENTRY_FAILURE = {"outcome": "entry_failure", "exit_reason": 33, "qualification": 0}


def vm_entry(vmcs, memory):
    """What VMLAUNCH does with this VMCS: a dict of field names and numbers; `memory`: addresses and 64-bit words."""
    if vmcs["live_no_current_vmcs"]:
        return {"outcome": "vmfail_invalid"}
    if vmcs["live_blocking_by_mov_ss"]:
        return {"outcome": "vmfail_valid", "error": 26}
    if vmcs["live_launch_instruction"] != vmcs["live_launch_state"]:
        return {"outcome": "vmfail_valid", "error": 5 if vmcs["live_launch_instruction"] else 4}
    if vmcs["cr3_target_count"] > 4:
        return {"outcome": "vmfail_valid", "error": 7, "message": "too many CR3-target values"}
    if vmcs["host_cr0"] & 0x8000_0021 != 0x8000_0021 or not vmcs["host_cr4"] & 0x2000:
        return {"outcome": "vmfail_valid", "error": 8, "message": "host CR0 or CR4"}
    if not vmcs["guest_rflags"] & 2:
        return {**ENTRY_FAILURE, "message": "guest RFLAGS"}
    if not vmcs["guest_gs_access_rights"] & 0x1_0080:  # usable, and not present
        return {**ENTRY_FAILURE, "message": "guest GS"}
    link = vmcs["vmcs_link_pointer"]
    if link != 0xFFFF_FFFF_FFFF_FFFF and (link & 0xFFF or memory.get(link, 0) & 0xFFFF_FFFF == 0):
        return {**ENTRY_FAILURE, "qualification": 4}
    return {"outcome": "entered"}  # "exit_reason": 52 says more, where you know with which exit the guest ends


def numbers(values):
    """Values are hexadecimal texts, since numbers of 64 bits are no numbers of JSON everywhere."""
    return {name: int(value, 16) for name, value in values.items()}


def main():
    print(json.dumps(HELLO), flush=True)
    base, words, left = {}, {}, 0
    for line in sys.stdin:
        request = json.loads(line)
        if "end" in request:
            break
        if "batch" in request:
            base, left = numbers(request["base"]), request["rows"]
            words = {int(address, 16): word for address, word in numbers(request["memory"]).items()}
            continue
        vmcs, memory = {**base, **numbers(request["differences"])}, words
        if "memory" in request:
            memory = {**words, **{int(address, 16): word for address, word in numbers(request["memory"]).items()}}
        answer = json.dumps({"row": request["row"], **vm_entry(vmcs, memory)})
        left -= 1
        print(answer, flush=left == 0)  # at the latest with the last row of a batch


if __name__ == "__main__":
    main()
