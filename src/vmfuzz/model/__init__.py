"""The SDM's VM-entry checks as a model that runs: expression algebra, checks, evaluation, prediction."""
