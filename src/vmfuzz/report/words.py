"""What the words of a report mean, for people who read it without the documents; a test compares them with docs/glossary.md."""

from __future__ import annotations

from typing import Final

#: Word -> its meaning in the glossary.
WORDS: Final = {
    "candidate": "one VMCS, with the memory that it refers to, for which a VM entry is tried",
    "base": (
        "a known-good state from which candidates are made; its name is MODE/FEATURES/EVENT. The model predicts that it enters, and on the "
        "processor it does"
    ),
    "mismatch": "a candidate with an outcome that the manual does not allow and no known deviation explains",
    "finding": "a mismatch that repeats",
    "not modelled": ("the outcome is allowed, but depends on something that the model does not know; it does not count as agreement"),
    "containment": (
        "the rules that let a candidate run only if it must exit before it executes anything, and if the machine survives that exit"
    ),
}
GLOSSARY: Final = "docs/glossary.md"
