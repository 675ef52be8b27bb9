"""Which executors there are, as a table, and how one is opened by name. A new executor is a folder beside this file and a line of the table."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.execute.base import AS, Executor


@dataclass(frozen=True)
class Kind:
    """A kind of executors, by the name that a person gives.

    `opening`: the module that is imported when one is opened, since an executor's needs are its own. It has `open_by_name(argument, cpu,
    options) -> Executor` and, where `vmfuzz doctor` shall try it, `availability() -> Availability`.
    `argument`: what follows the name in what a person gives, in capitals; the name is then the beginning: "remote:" and "COMMAND"; `expected` says
    to whom leaves it out what it is.
    `native`: it needs Linux on x86-64 and what the native build makes.
    `at_risk`: a candidate may take the machine with it, and only one job at a time can use the processor.
    `one_processor`: it executes on the processor that is there, or is one itself, so that nobody names one; for KVM `cpu` is a profile to narrow it to.
    """

    name: str
    opening: str
    argument: str = ""
    expected: str = ""
    native: bool = True
    at_risk: bool = False
    one_processor: bool = False

    def argument_in(self, given: str) -> str | None:
        """What follows the name in `given`, "" where nothing may; None where `given` is no name of this kind."""
        if self.argument:
            return given.removeprefix(self.name) if given.startswith(self.name) else None
        return "" if given == self.name else None


#: Name of the emulated CPU of Bochs; names of its processors begin so.
BOCHS: Final = "bochs"
#: Name of the executor that is the model itself in a processor's place; names of its processors begin so.
MODEL: Final = "model"
#: A name that begins so is the command that starts the agent of another machine: "remote:ssh root@target vmfuzz-agent".
REMOTE: Final = "remote:"
#: A name that begins so is the serial line to a machine that runs the bootable image: "serial:unix:PATH" (docs/hypervisors.md).
SERIAL: Final = "serial:"
#: A name that begins so is the emulated CPU of another environment, by its interpreter: "bochs@VENV/bin/python".
ELSEWHERE: Final = "bochs@"

#: A name that begins so is the command of a program that answers VM entries (docs/program.md): "program:python3 my_emulator.py".
PROGRAM: Final = "program:"

_PROGRAM: Final = "the command of a program that answers VM entries, such as program:python3 my_emulator.py (docs/program.md)"
_AGENT: Final = "the command that starts the agent, such as remote:ssh root@target vmfuzz-agent"
_LINE: Final = (
    "the serial line to a machine that runs the bootable image, such as serial:unix:PATH or serial:/dev/ttyUSB0 (docs/hypervisors.md)"
)
#: All executors. `vmfuzz doctor` and messages list them in this order.
TABLE: tuple[Kind, ...] = (
    Kind(BOCHS, "vmfuzz.execute.bochs.opening"),
    Kind("kvm", "vmfuzz.execute.kvm.opening", at_risk=True, one_processor=True),
    Kind("kmod", "vmfuzz.execute.kmod.opening", at_risk=True, one_processor=True),
    Kind(MODEL, "vmfuzz.execute.model.opening", native=False),
    Kind(ELSEWHERE, "vmfuzz.execute.bochs.opening", "PYTHON", "the interpreter of an environment, such as bochs@VENV/bin/python"),
    Kind(REMOTE, "vmfuzz.execute.remote.opening", "COMMAND", _AGENT, at_risk=True, one_processor=True),
    Kind(SERIAL, "vmfuzz.execute.serial.opening", "WHERE", _LINE, at_risk=True, one_processor=True),
    Kind(PROGRAM, "vmfuzz.execute.program.opening", "COMMAND", _PROGRAM, native=False, one_processor=True),
)
#: The emulated CPU, under the name that means "what costs nothing": a real processor has to be asked for.
_AUTO: Final = ("auto", BOCHS)


def plain_names() -> tuple[str, ...]:
    """The names that are whole."""
    return (_AUTO[0], *(kind.name for kind in TABLE if not kind.argument))


def all_names() -> tuple[str, ...]:
    """All kinds of names, as a person reads them."""
    return (*plain_names(), *(f"{kind.name}{kind.argument}" for kind in TABLE if kind.argument))


def kind_named(name: str) -> Kind | None:
    """The kind that a person means with `name`; None where it names no executor."""
    name = _AUTO[1] if name == _AUTO[0] else name
    return next((kind for kind in TABLE if kind.argument_in(name) is not None), None)


def open_executor(name: str = "auto", cpu: str | None = None, **options: Any) -> Executor:
    """Open an executor; use it in a `with` statement, which closes it.

    - `name`: as for `vmfuzz run --executor`. "auto" is the emulated CPU; vmfuzz uses a real processor only if you name it.
    - `cpu`: for bochs, an emulated CPU model. For model (the model in the place of a processor), a stored profile or a capabilities file.
      For kvm, a profile: KVM then offers only what that profile has.

    Raises UnknownNameError (executor, CPU model or profile), UsageError (a profile that the executor cannot have) and EnvironmentUnusable
    (something is not installed, or there is no device).

    >>> with vmfuzz.open_executor("model", cpu="icelake") as executor:
    ...     executor.name
    'model icelake'
    """
    kind = kind_named(name)
    if kind is None:
        raise UnknownNameError("executor", name, all_names())
    argument = kind.argument_in(name) or ""
    if kind.argument and not argument.strip():
        raise UsageError(f"{name!r}: expected {kind.expected}")
    executor: Executor = import_module(kind.opening).open_by_name(argument, cpu, options)
    return executor


def is_the_processor_there(name: str) -> bool:
    """Whether an executor of this name is the one processor of some machine, and not a model of which there are several."""
    kind = kind_named(name)
    return kind is not None and kind.one_processor


def cpu_option(name: str, processor: str) -> str | None:
    """What `open_executor` takes as `cpu` to open the executor `name` again, whose capabilities are called `processor`.

    Nothing where that is the processor that is there; for KVM the profile to which its capabilities were narrowed, if they were.
    """
    if is_the_processor_there(name):
        return processor.partition(AS)[2] or None
    return processor


def word_of(executor: str) -> str:
    """The kind of an executor that calls itself so in reports, without version and processor: "bochs" of "bochs@0.3.1 corei7_skylake_x"."""
    return executor.partition(" ")[0].partition("@")[0]


def is_harmless(executor: str) -> bool:
    """Whether an executor that calls itself so in reports ("bochs@0.3.1 corei7_skylake_x") cannot take the machine with it."""
    return any(kind.name.rstrip(":") == word_of(executor) and not kind.at_risk for kind in TABLE)
