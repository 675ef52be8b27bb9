"""From a mismatch that a campaign counted to an entry of a corpus: run again, minimized, laid together; and the complete suite."""
