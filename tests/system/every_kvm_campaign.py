"""The campaigns on KVM in whole machines, one after the other, resumable: state, findings and summaries in a directory of their own.

    python tests/system/every_kvm_campaign.py STATE [NAME ...]

Each is `vmfuzz run --executor "remote:..."` into a machine that Debian's kernel was booted in. A machine that dies is booted again, and the
campaign goes on after the batch that it was lost in; so it does when this script is started again. Exit code 1 when a campaign did not end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from debian_kernels import kernels, release
from machine import CLOSE, HERE, KVM_ARGUMENTS, Machine, MachineError, needs

from vmfuzz.campaign.stored import has_campaign

CPU: Final = "corei7_skylake_x"
#: Machines that one campaign may need.
_MOST_MACHINES: Final = 20


@dataclass(frozen=True)
class Planned:
    """One campaign: kernel (the beginning of its release), parameters of kvm_intel, profile, candidates."""

    name: str
    kernel: str
    candidates: int
    parameters: str = ""
    profile: str | None = None


PLANNED: Final = (
    Planned("6.1", "6.1.", 330_000),
    Planned("6.12", "6.12.", 330_000),
    Planned("6.1-ept-0", "6.1.", 22_500, "ept=0"),
    Planned("6.1-unrestricted-guest-0", "6.1.", 22_500, "unrestricted_guest=0"),
    Planned("6.1-enable-shadow-vmcs-0", "6.1.", 22_500, "enable_shadow_vmcs=0"),
    Planned("6.1-haswell", "6.1.", 22_500, profile="corei7_haswell_4770"),
    Planned("6.1-sandy-bridge", "6.1.", 22_500, profile="corei7_sandy_bridge_2600k"),
    Planned("6.12-ept-0", "6.12.", 22_500, "ept=0"),
    Planned("6.12-unrestricted-guest-0", "6.12.", 22_500, "unrestricted_guest=0"),
    Planned("6.12-sandy-bridge", "6.12.", 22_500, profile="corei7_sandy_bridge_2600k"),
)


def kernel_of(planned: Planned) -> Path:
    """The headers of its kernel; ends the script where that is not installed."""
    found = [folder for folder in kernels() if release(folder).startswith(planned.kernel)]
    if not found:
        sys.exit(f"{planned.name}: no kernel {planned.kernel}* with headers is installed (tests/system/README.md)")
    return found[-1]


class Booted:
    """The machine of one kernel at a time: booted when it is wanted, and not again for other parameters of kvm_intel."""

    def __init__(self) -> None:
        self._machine: Machine | None = None

    def machine_for(self, planned: Planned) -> Machine:
        """A machine with its kernel and parameters."""
        kernel = kernel_of(planned)
        if self._machine is not None and self._machine.kernel == kernel:
            self._machine.request(CLOSE, b"")
            self._machine.unload_others()
        else:
            self.close()
            self._machine = Machine("bochs", cpu=CPU, arguments=KVM_ARGUMENTS, kernel=kernel)
            self._machine.start()
        self._machine.load_others(planned.parameters)
        return self._machine

    def close(self) -> None:
        """End the machine."""
        if self._machine is not None:
            self._machine.close()
        self._machine = None


def run(planned: Planned, directory: Path, machine: Machine) -> bool:
    """Run a campaign to its end in a machine; False where the machine died before, or the campaign was ended."""
    command = [sys.executable, str(HERE / "without_panics.py"), "run", "--executor", f"remote:{machine.agent('--kvm')}"]
    command += ["--directory", str(directory), "--minimize-seconds", "0", "-n", str(planned.candidates)]
    command += ["--summary", str(directory / "summary.json")]
    if planned.profile:
        command += ["--cpu", planned.profile]
    if has_campaign(directory):
        command.append("--resume")
    before = machine.trouble()
    environment = {**os.environ, "VMFUZZ_SYSTEM_BELOW": f"bochs-2.7 {CPU}"}
    with (directory / "output.txt").open("ab") as output:
        status = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode
    with (directory / "kernel-log.txt").open("a", encoding="utf-8") as log:
        log.write(machine.trouble().removeprefix(before))
    return status in (0, 1)


def attempt(planned: Planned, directory: Path, booted: Booted) -> str:
    """One machine for a campaign; how it ended, in words."""
    try:
        if run(planned, directory, booted.machine_for(planned)):
            return "done"
        said = "the campaign ended; see output.txt"
    except MachineError as error:
        said = f"the machine died: {error}"
    booted.close()
    return said


def finished(planned: Planned, directory: Path) -> bool:
    """Whether the campaign has come to its end."""
    summary = directory / "summary.json"
    if not summary.is_file():
        return False
    done: int = json.loads(summary.read_text(encoding="utf-8"))["candidates"]
    return done >= planned.candidates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(planned.name for planned in PLANNED)}; all by default")
    wanted = parser.parse_args()
    missing = needs("bochs")
    if missing:
        sys.exit(missing)
    left, booted = [], Booted()
    for planned in PLANNED:
        if wanted.names and planned.name not in wanted.names:
            continue
        directory = wanted.state / planned.name
        directory.mkdir(parents=True, exist_ok=True)
        for _ in range(_MOST_MACHINES):
            if finished(planned, directory):
                break
            print(f"{planned.name}: {attempt(planned, directory, booted)}", flush=True)
        if not finished(planned, directory):
            left.append(planned.name)
    booted.close()
    sys.exit(f"not finished: {', '.join(left)}" if left else 0)


if __name__ == "__main__":
    main()
