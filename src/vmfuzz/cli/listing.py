"""What `vmfuzz --help` says of each command in one line, and which command is meant where there is none of a name."""

from __future__ import annotations

from typing import Final

import click

from vmfuzz.errors import UnknownNameError

#: A whole sentence for each command, short enough for a terminal of 80 columns; listing them imports no command.
LINES: Final = {
    "run": "Fuzz: run mutated VMCSs, and compare with the manual's model.",
    "coverage": "Say what a run covers, and what it misses.",
    "report": "Show the results of one or more campaigns as a page.",
    "suite": "Make two cases for every atom of every check.",
    "findings": "List what a campaign found, or the entries of a corpus.",
    "show": "Show one finding: what differs, and what the manual requires.",
    "minimize": "Minimize findings to the smallest difference that shows them.",
    "verdict": "Record what a finding is: a deviation, an ambiguity, fixed.",
    "export": "Print a finding as a test in C or for another tool.",
    "replay": "Run every entry of a corpus again: has anything changed?",
    "diff": "Find out where two processors differ.",
    "ambiguities": "Show where the manual can be read in two ways.",
    "check": "Explain why a VM entry failed, from a dump or a log.",
    "dump-code": "Print code that dumps a VMCS from your own program.",
    "caps": "Show what a processor allows.",
    "fields": "Show the VMCS fields.",
    "checks": "Show the VM-entry checks that the manual requires.",
    "kmod-source": "Write the kernel module's sources into a directory.",
    "image-source": "Write the bootable image's sources into a directory.",
    "doctor": "Say what can execute VM entries on this machine.",
}


class Listing(click.Group):
    """A group that lists its commands by LINES, and names those that come near to one that is not there."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, LINES[name]) for name in self.list_commands(ctx)])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; raises UnknownNameError where there is no command of that name."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            raise UnknownNameError("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)
