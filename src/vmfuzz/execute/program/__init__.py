"""The executor on a program of somebody else's that answers VM entries in JSON lines (docs/program.md)."""
