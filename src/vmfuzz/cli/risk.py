"""What `vmfuzz run` asks before it puts a machine at risk, and what it says about the executor that it opened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from vmfuzz.errors import UsageError
from vmfuzz.execute.base import Executor
from vmfuzz.execute.kinds import REMOTE, SERIAL, kind_named
from vmfuzz.execute.kvm.opening import nested_kvm
from vmfuzz.execute.kvm.process import local_facts


@contextmanager
def telling(option: str, executor: Executor) -> Iterator[None]:
    """Say on standard error, one line each: a processor that could be asked and that nobody asked for; what a profile has and the processor lacks.

    And at the end what the kernel warned of while KVM ran candidates: what its developers want to know most.
    """
    offered = nested_kvm() if option == "auto" else None
    if offered is not None:
        click.echo(f"this machine offers nested VMX ({offered}): `--executor kvm` tests it; this run is on {executor.name}", err=True)
    if getattr(executor, "virtual", False):
        click.echo(
            f"{executor.name}: a virtual machine that nobody else uses, so MSR lists and host state run too; this may reset it (docs/hypervisors.md)",
            err=True,
        )
    lacking: list[str] = getattr(executor, "lacking", [])
    if lacking:
        click.echo(f"{executor.name} does not have these parts of the profile: {', '.join(lacking)}", err=True)
    yield
    for warning in dict.fromkeys(getattr(executor, "warnings", [])):
        click.echo(f"the kernel warned while candidates ran: {warning} (its log has more)", err=True)


def risk_options(executor: str, risk: str, yes: bool, jobs: int, poison: bool = False) -> dict[str, Any]:
    """Options of the executor for the risk level; bold and poison have to be confirmed.

    Raises UsageError where they mean nothing or nobody can answer.
    """
    asked = " ".join([f"--risk {risk}"] * (risk != "safe") + ["--poison"] * poison)
    if not asked:
        if yes and executor != "kvm" and not executor.startswith(REMOTE):
            raise UsageError(f"--yes: {executor} asks no question without --risk bold or --poison; leave it out")
        return _panic_options(executor, yes, jobs)
    if poison and executor == "kvm":
        raise UsageError("--poison: KVM always runs poisoned candidates, because they cannot harm the machine; leave it out")
    if not ((kind := kind_named(executor)) and kind.at_risk):
        raise UsageError(
            f"{asked}: {executor} does not put a machine at risk; this option is for --executor kmod, kvm, {REMOTE}COMMAND and {SERIAL}WHERE"
        )
    if jobs > 1:
        raise UsageError(f"{asked} with --jobs {jobs}: a processor runs one job at a time; leave out --jobs")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"{asked}: the machine may hang or reset (docs/bare-metal.md); there is no terminal to ask on, so add --yes to confirm"
            )
        click.confirm(
            "The machine that executes the candidates may hang or reset, and lose what is not on disk (docs/bare-metal.md). Go on?",
            abort=True,
            err=True,
        )
    return {"risk": risk, **({"poison": True} if poison else {}), **_panic_options(executor, yes, jobs)}


def _panic_options(executor: str, yes: bool, jobs: int) -> dict[str, Any]:
    """For KVM on a kernel that a warning ends: go on only where somebody confirms it. Another machine's kernel is asked when it is opened."""
    if executor.startswith(REMOTE):
        return {"risk_panic": True} if yes else {}
    if executor != "kvm" or not local_facts().panic_on_warn:
        return {}
    if jobs > 1:
        raise UsageError(
            f"--jobs {jobs} with kernel.panic_on_warn = 1: a warning from KVM takes the machine down; first: `sudo sysctl kernel.panic_on_warn=0`"
        )
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                "kernel.panic_on_warn = 1: a candidate that makes KVM print a warning takes this machine down; "
                "run `sudo sysctl kernel.panic_on_warn=0` first, or add --yes to run all the same"
            )
        click.confirm(
            "kernel.panic_on_warn = 1: a candidate that makes KVM print a warning takes this machine down. Go on?", abort=True, err=True
        )
    return {"risk_panic": True}
