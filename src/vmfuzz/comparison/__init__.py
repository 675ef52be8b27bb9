"""One candidate: its case by name, what model and executor say of it, and whether they agree. Below all that runs many."""
