"""The campaign: compare, count, gather findings."""
