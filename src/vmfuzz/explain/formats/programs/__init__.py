"""The programs whose output is declared: a module each, with its FORMAT. A new one is a new module, and no other file knows of it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from vmfuzz.explain.formats.declared import Declared


@cache
def formats() -> tuple[Declared, ...]:
    """All declared formats."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}").FORMAT for name in names)
