"""Executors: what runs a VM entry. base.py says what all of them do, kinds.py which there are; its `open_executor` opens one by name."""
