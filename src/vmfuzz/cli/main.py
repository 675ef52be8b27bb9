"""The `vmfuzz` command: the group of all commands, and how errors become one clear sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import sys
from importlib import import_module
from typing import Any, Final

import click

from vmfuzz import __version__
from vmfuzz.cli.contradictions import require_sense
from vmfuzz.cli.listing import Listing
from vmfuzz.cli.meta import UNREADABLE
from vmfuzz.cli.streams import patient_streams, to_nowhere
from vmfuzz.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_NOTHING_TESTED, EXIT_USAGE, VmfuzzError
from vmfuzz.interrupts import cause_of, ending_at_once, listening

#: Commands by name: module and function; a module is imported only when its command is used or listed.
COMMANDS: Final = {
    "run": ("vmfuzz.cli.run", "run"),
    "coverage": ("vmfuzz.cli.coverage", "coverage"),
    "report": ("vmfuzz.cli.report", "report"),
    "suite": ("vmfuzz.cli.suite", "suite"),
    "findings": ("vmfuzz.cli.findings", "findings"),
    "show": ("vmfuzz.cli.show", "show"),
    "minimize": ("vmfuzz.cli.minimize", "minimize"),
    "verdict": ("vmfuzz.cli.verdict", "verdict"),
    "export": ("vmfuzz.cli.export", "export"),
    "replay": ("vmfuzz.cli.replay", "replay"),
    "diff": ("vmfuzz.cli.diff", "diff"),
    "ambiguities": ("vmfuzz.cli.ambiguities", "ambiguities"),
    "check": ("vmfuzz.cli.check", "check"),
    "dump-code": ("vmfuzz.cli.dump_code", "dump_code"),
    "caps": ("vmfuzz.cli.caps", "caps"),
    "fields": ("vmfuzz.cli.fields", "fields"),
    "checks": ("vmfuzz.cli.checks", "checks"),
    "kmod-source": ("vmfuzz.cli.kmod_source", "kmod_source"),
    "image-source": ("vmfuzz.cli.image_source", "image_source"),
    "doctor": ("vmfuzz.cli.doctor", "doctor"),
}


#: What the write to a file that is open may fail with.
_OF_WRITING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN, errno.EINVAL)


class Commands(Listing):
    """A group that loads its commands on demand and prints VmfuzzError as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Command names in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name]
        with ending_at_once():
            command: click.Command = getattr(import_module(module), function)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; raises UsageError where the arguments contradict each other."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            require_sense(command, name, rest, ctx)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a VmfuzzError ends it with its sentence on standard error and its exit code."""
        try:
            return self._invoked(ctx)
        except VmfuzzError as error:
            click.echo(f"vmfuzz: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as interrupt:
            click.echo(f"vmfuzz: stopped by {cause_of(interrupt)}", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except click.Abort:  # a question was answered with no, or not at all
            click.echo("vmfuzz: not confirmed, so nothing was run", err=True)
            ctx.exit(EXIT_NOTHING_TESTED)

    def _invoked(self, ctx: click.Context) -> Any:
        """Run the command; where it met files that are no entries its exit code is 2, whatever came of the others."""
        try:
            result = super().invoke(ctx)
        except (SystemExit, click.exceptions.Exit):
            if ctx.meta.get(UNREADABLE):
                ctx.exit(EXIT_USAGE)
            raise
        if ctx.meta.get(UNREADABLE):
            ctx.exit(EXIT_USAGE)
        return result

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's; after Ctrl-C or SIGTERM the exit code says so, whatever the command's own is.

        Standard output that cannot be written (a full disk) ends the command with one sentence and exit code 3.
        """
        with patient_streams(), listening() as heard:
            try:
                try:
                    return super().main(*args, **kwargs)
                finally:
                    if sys.stdout is not None:
                        sys.stdout.flush()  # what fails at the interpreter's end would be reported by the interpreter
            except OSError as error:
                with contextlib.suppress(OSError):
                    click.echo(f"vmfuzz: {_failed(error)}; the output of the command is incomplete", err=True)
                _silence()
                sys.exit(EXIT_ENVIRONMENT)
            except KeyboardInterrupt:
                sys.exit(heard.exit_code or EXIT_INTERRUPTED)
            except SystemExit:
                if heard.exit_code is not None:
                    sys.exit(heard.exit_code)
                raise


def _failed(error: OSError) -> str:
    """What could not be done, and why; an error of writing to an open file does not name it."""
    why = error.strerror or str(error)
    if error.filename is not None:
        return f"cannot use {error.filename!r}: {why}"
    return f"cannot write standard output: {why}" if error.errno in _OF_WRITING else why


def _silence() -> None:
    """Nobody takes our output (a full disk): nothing is left to say, not even at the interpreter's end."""
    with contextlib.suppress(OSError, ValueError):  # standard output need not be a file
        to_nowhere(sys.stdout.fileno())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", package_name="vmfuzz")
def main() -> None:
    """What will VMLAUNCH do with this VMCS, and why?

    vmfuzz fuzzes the VM-entry checks of Intel VT-x: it mutates a known-good VMCS, runs each candidate through VMLAUNCH on an emulated or real
    processor, and compares the outcome with what Intel's manual says.

    \b
    vmfuzz run --iterations 1000000            fuzz an emulated CPU
    vmfuzz run --cpu tigerlake --seed 7        another CPU model, another seed
    vmfuzz run --directory d                   keep state and findings in d
    vmfuzz findings d; vmfuzz show ID          what it found, and one of it
    vmfuzz replay corpus                       is everything as recorded?
    vmfuzz diff tigerlake arrow_lake           where do two processors differ?
    vmfuzz check dump.txt                      why did this VM entry fail?
    vmfuzz checks guest.gs.s                   what does the manual require?

    Exit codes: 0 agreement, 1 something found, 2 wrong usage or input, 3 environment unusable, 4 stopped for the machine's safety, 5 nothing
    was tested, 130 stopped by Ctrl-C, 143 by SIGTERM.

    docs/glossary.md explains words such as base, family, atom, deviation and record.
    """
