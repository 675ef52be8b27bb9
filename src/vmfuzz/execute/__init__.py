"""Executors: what runs a VM entry. base.py says what all of them do, kinds.py which there are; `open_executor` opens one by name."""

from vmfuzz.execute.base import Executor
from vmfuzz.execute.kinds import open_executor, plain_names

__all__ = ["Executor", "open_executor", "plain_names"]
