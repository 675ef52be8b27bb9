"""Keys in the meta of click's context: what a command leaves there for the end of the group."""

from typing import Final

#: How many files are no entries.
UNREADABLE: Final = "vmfuzz.unreadable"
