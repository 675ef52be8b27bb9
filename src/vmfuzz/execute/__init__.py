"""Executors: what runs a VM entry. `open_executor` opens one by name; base.py says what all of them do."""

from vmfuzz.execute.base import EXECUTORS, Executor, open_executor

__all__ = ["EXECUTORS", "Executor", "open_executor"]
