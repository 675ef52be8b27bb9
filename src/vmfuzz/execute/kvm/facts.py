"""What an agent says about its machine before anything is opened, and what follows for people: works, or why not and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vmfuzz.execute.kmod.device import ELSEWHERE, WITH_SVM
from vmfuzz.execute.kvm.abi import kvm_dtype

#: Parameters of kvm_intel that change what a VM entry does: they are part of the executor's name.
TELLING: Final = ("ept", "unrestricted_guest", "vpid", "enable_shadow_vmcs", "preemption_timer", "nested_early_check")
_OFF: Final = ("N", "0")


@dataclass(frozen=True)
class Facts:
    """The machine: kernel release, processor (vendor, family-model-stepping), and KVM's modules with the parameters of kvm_intel.

    `opened`: the errno of opening /dev/kvm, 0 when it can be opened. `vmx`: whether the processor says that it has VMX. `ignores_msrs`:
    kvm.ignore_msrs, with which a WRMSR of an MSR that KVM does not know does not fault, also of the MSR-load list.
    """

    release: str
    processor: str
    vmx: bool
    opened: int
    kvm_intel: bool
    kvm_amd: bool
    panic_on_warn: bool
    parameters: Mapping[str, str]
    ignores_msrs: bool = False

    @classmethod
    def parse(cls, answer: bytes) -> Facts:
        """Read the agent's lines "name=value" (words.c)."""
        text = bytes(answer.ljust(kvm_dtype("facts").itemsize, b"\0")).split(b"\0")[0].decode("utf-8", "replace")
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        module = "kvm_intel."
        return cls(
            release=found.get("release", "?"),
            processor=found.get("processor", "?"),
            vmx=found.get("vmx") == "1",
            opened=int(found.get("open", errno.ENOENT)),
            kvm_intel=found.get("kvm_intel") == "1",
            kvm_amd=found.get("kvm_amd") == "1",
            panic_on_warn=found.get("panic_on_warn", "0") not in ("", "0"),
            parameters={name.removeprefix(module): value for name, value in found.items() if name.startswith(module)},
            ignores_msrs=found.get("ignore_msrs", "") not in ("", *_OFF),
        )

    @property
    def settings(self) -> str:
        """The telling parameters, such as "ept=Y vpid=Y", as far as this kernel has them; "ignore_msrs=Y" only where it is on."""
        telling = [f"{name}={self.parameters[name]}" for name in TELLING if name in self.parameters]
        return " ".join([*telling, *(["ignore_msrs=Y"] if self.ignores_msrs else [])])

    @property
    def why_not(self) -> str | None:
        """Why no candidate can run there and what to do, None where it can."""
        if self.opened == errno.ENOENT:
            return f"/dev/kvm does not exist: {self._no_device()}"
        if self.opened in (errno.EACCES, errno.EPERM):
            return (
                "/dev/kvm: permission denied; it belongs to the group kvm: `sudo usermod -aG kvm $USER`, then log in again "
                "(or run vmfuzz as root)"
            )
        if self.opened:
            return f"/dev/kvm: {os.strerror(self.opened)}"
        if not self.kvm_intel and self.processor.startswith(WITH_SVM):
            return f"/dev/kvm works, but this processor ({self.processor}) has SVM instead of VMX, so KVM has no nested VMX; {ELSEWHERE}"
        if not self.kvm_intel:
            return f"/dev/kvm works, but this processor ({self.processor}) has no VMX, so KVM has no nested VMX; {ELSEWHERE}"
        if self.parameters.get("nested", "Y") in _OFF:
            return (
                "nested VMX is off (kvm_intel.nested = 0): stop virtual machines, then `sudo modprobe -r kvm_intel && sudo modprobe kvm_intel "
                "nested=1`; to keep it, `options kvm_intel nested=1` in /etc/modprobe.d/kvm.conf"
            )
        return None

    def _no_device(self) -> str:
        if self.processor.startswith(WITH_SVM):
            return f"and this processor ({self.processor}) has SVM instead of VMX, so KVM could not offer nested VMX; {ELSEWHERE}"
        if not self.vmx:
            return (
                "this processor has no VMX, or a hypervisor or the firmware hides it (in a virtual machine: nested virtualization has to be "
                "turned on for it); use --executor bochs"
            )
        return "load KVM with `sudo modprobe kvm_intel nested=1`; in a container, start it with `--device /dev/kvm`"
