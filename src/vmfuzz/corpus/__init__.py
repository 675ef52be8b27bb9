"""The corpus: entries as files, their replay, and their export as tests for others."""
