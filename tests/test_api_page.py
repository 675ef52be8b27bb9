"""The examples of docs/api.md do what they show, and every public name has one."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import pytest

from test_documents import tool

API_PAGE = tool("api_page")
NAMED = [(module, name, item) for module, items in API_PAGE.documented().items() for name, item in items.items() if callable(item)]


@pytest.fixture(scope="module")
def beginning() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(API_PAGE.BEGINNING, names)
    return names


@pytest.mark.parametrize(("module", "name", "item"), NAMED, ids=[f"{module}.{name}" for module, name, _ in NAMED])
def test_an_example_gives_what_it_shows(module: str, name: str, item: object, beginning: dict[str, Any]) -> None:
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(item) or "", dict(beginning), name, module, 0)
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)


def test_examples_are_code_on_the_page() -> None:
    page = API_PAGE.page()
    assert page.count("```") % 2 == 0
    assert page.count("\n```python\n>>> ") >= len(NAMED)
    assert "(n,)" in page
    assert "uint64" in page
