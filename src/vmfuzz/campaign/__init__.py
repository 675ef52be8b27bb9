"""The campaign: plan, run, count what is seen, gather mismatches by signature, keep it all on disk."""
