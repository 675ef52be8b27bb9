"""Generation of candidates: known-good bases, mutations that know the checks, families."""
