"""The man pages and the completions of shells, made of the commands' own help.

    python tools/man_pages.py

Writes docs/man/*.1 (with click-man) and docs/completion/ (click's own scripts, which ask vmfuzz); wheels install them below share/.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class
from click_man.core import write_man_pages

from vmfuzz import __version__
from vmfuzz.cli.listing import LINES
from vmfuzz.cli.main import COMMANDS, main

DOCS: Final = Path(__file__).parents[1] / "docs"
#: Shell -> where its completions look for the file of a program called vmfuzz.
COMPLETIONS: Final = {"bash": "bash/vmfuzz", "zsh": "zsh/_vmfuzz", "fish": "fish/vmfuzz.fish"}
UNWRAPPED: Final = re.compile(r"\.PP\n\n((?:[^.\n].*\n)+)")


def write_pages(into: Path) -> None:
    """Write a page for vmfuzz and for each of its commands."""
    context = click.Context(main)
    commands = {name: command for name in COMMANDS if (command := main.get_command(context, name)) is not None}
    for name, command in commands.items():
        command.short_help = LINES[name]
    group = click.Group(
        "vmfuzz", commands=commands, params=main.params, help=main.help, short_help="Fuzz the VM-entry checks of Intel VT-x."
    )
    write_man_pages("vmfuzz", group, version=__version__, target_dir=str(into), date=f"vmfuzz {__version__}")
    for page in into.glob("*.1"):
        # click-man leaves the lines of a paragraph that is not to be wrapped (\b in the help) to be wrapped
        page.write_text(UNWRAPPED.sub(r".PP\n.nf\n\1.fi\n", page.read_text(encoding="utf-8")), encoding="utf-8")


def write_completions(into: Path) -> None:
    """Write the script of each shell."""
    for shell, name in COMPLETIONS.items():
        kind = get_completion_class(shell)
        assert kind is not None
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(kind(main, {}, "vmfuzz", "_VMFUZZ_COMPLETE").source().rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    (DOCS / "man").mkdir(exist_ok=True)
    for old in (DOCS / "man").glob("*.1"):
        old.unlink()
    write_pages(DOCS / "man")
    write_completions(DOCS / "completion")
    print(f"wrote {DOCS / 'man'} and {DOCS / 'completion'}")
