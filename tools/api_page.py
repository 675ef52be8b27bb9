"""Print docs/api.md: the public names of the package `vmfuzz` with signatures and docstrings, whose examples tests/test_api_page.py runs.

python tools/api_page.py > docs/api.md
"""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Final

import vmfuzz
from vmfuzz import strategies, testing
from vmfuzz.execute.base import Executor
from vmfuzz.model.predict import Violation
from vmfuzz.prose import wrapped

#: What every example begins with.
BEGINNING: Final = """\
import numpy as np
import vmfuzz
from hypothesis import given
from vmfuzz import strategies
from vmfuzz.testing import NotAllowed, assert_allowed

capabilities = vmfuzz.capabilities("corei7_skylake_x")
good = vmfuzz.known_good(capabilities)
bad = good.replace(guest_gs_access_rights=0)
"""


def signature(name: str, item: object) -> str:
    """`name(arguments) -> result` on one line, without quotes around annotations; empty arguments where there is no signature."""
    try:
        text = str(inspect.signature(item))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"{name}(...)"
    return name + re.sub(
        r"vmfuzz\.[a-z_.]+\.", "", text.replace("'", "").replace("self, ", "").replace("cls, ", "").replace("(self)", "()")
    )


def document(item: object) -> str:
    """The docstring, with its examples as code."""
    text = inspect.cleandoc(inspect.getdoc(item) or "")
    return re.sub(r"^>>> .*?(?=\n\n|\Z)", lambda match: f"```python\n{match[0].strip()}\n```", text, flags=re.DOTALL | re.MULTILINE)


def documented() -> dict[str, dict[str, object]]:
    """Module -> public name -> what it is. Two classes are public too that nobody imports: functions return them."""
    public = {name: getattr(vmfuzz, name) for name in sorted(vmfuzz.__all__) if name != "__version__"}
    modules: list[ModuleType] = [strategies, testing]
    named = {module.__name__: {name: getattr(module, name) for name in module.__all__} for module in modules}
    return {"vmfuzz": {**public, "Executor": Executor, "Violation": Violation}, **named}


def members(kind: type) -> list[str]:
    """Public methods and properties that the class itself defines, one list item each."""
    lines = []
    for name, member in sorted(vars(kind).items()):
        if name.startswith("_") or isinstance(member, int | str):
            continue
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        text = " ".join(document(member.fget if isinstance(member, property) else function).split())
        if not text:
            continue
        shown = f"{name}" if not callable(function) else signature(name, function)
        lines.append(f"- `{shown}`: {text}")
    return lines


def section(name: str, item: object) -> list[str]:
    """One name: heading, signature, docstring, members of a class."""
    is_class = inspect.isclass(item)
    head = f"class {name}" if is_class else signature(name, item)
    lines = [f"## {name}", "", f"`{head}`", "", document(item), ""]
    return [*lines, *members(item), ""] if isinstance(item, type) else lines


def page() -> str:
    """The whole page."""
    lines = [
        "# Python interface",
        "",
        "For everybody who uses vmfuzz from Python. You will find every public name of `vmfuzz`, `vmfuzz.strategies` and",
        "`vmfuzz.testing`: what it is for, its members, the shapes of its arrays, what it raises, and an example. Everything else",
        "may change without notice. `python tools/api_page.py` writes this page from the docstrings, and a test runs the examples.",
        "They begin with:",
        "",
        "```python",
        BEGINNING.rstrip(),
        "```",
        "",
    ]
    for module, items in documented().items():
        if module != "vmfuzz":
            lines += [f"# {module}", "", document(globals()[module.rpartition(".")[2]]), ""]
        for name, item in items.items():
            lines += section(name, item) if callable(item) else [f"## {name}", "", f"`{', '.join(item)}`", ""]  # type: ignore[attr-defined]
    return wrapped("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    print(page(), end="")
