"""Print docs/api.md: the public names of the package `vmfuzz` with signatures and docstrings.

python tools/api_page.py > docs/api.md
"""

from __future__ import annotations

import inspect
import re

import vmfuzz
from vmfuzz import strategies, testing
from vmfuzz.execute.base import Executor


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
    """The docstring, unwrapped."""
    return inspect.cleandoc(inspect.getdoc(item) or "")


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
        "For everybody who uses vmfuzz from Python. You will find every public name of `vmfuzz`, `vmfuzz.strategies` and `vmfuzz.testing`, with its",
        "arguments and results. Everything else may change without notice. `python tools/api_page.py` writes this page from the docstrings; a test keeps",
        "it current.",
        "",
    ]
    public = {name: getattr(vmfuzz, name) for name in sorted(vmfuzz.__all__) if name != "__version__"}
    for name, item in {**public, "Executor": Executor}.items():
        lines += section(name, item)
    for module in (strategies, testing):
        lines += [f"# {module.__name__}", "", document(module), ""]
        for name in module.__all__:
            item = getattr(module, name)
            lines += section(name, item) if callable(item) else [f"## {name}", "", f"`{', '.join(item)}`", ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
