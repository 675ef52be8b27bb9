"""The atoms of a check's condition, and when one of them decides: what coverage counts and what the suite proves.

An atom is a comparison or a bit. It decides where the check's truth would be another if the atom's were (masking MC/DC): "violated" and
"satisfied" are the two ways round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from vmfuzz.model.expr import FALSE, TRUE, Bits, Cond, Node, all_of, any_of, make
from vmfuzz.model.predict import Model
from vmfuzz.model.wording import describe

#: Conditions without conditions below them.
ATOMIC: Final = frozenset({"bit", "eq", "le", "one_of"})


def replaced(node: Node, old: Node, new: Node) -> Node:
    """`node` with every occurrence of `old` replaced."""
    if node is old:
        return new
    if old.serial not in _below(node):
        return node
    args: tuple[Any, ...] = tuple(replaced(arg, old, new) if isinstance(arg, Node) else arg for arg in node.args)
    if node.op in ("all", "any"):
        return (all_of if node.op == "all" else any_of)(*args)
    if node.op == "not":
        inverted: Cond = ~args[0]
        return inverted
    return make(Bits if isinstance(node, Bits) else Cond, node.op, *args)


#: Serials of the nodes below each node that was asked for.
_BELOW: Final[dict[int, frozenset[int]]] = {}


def _below(node: Node) -> frozenset[int]:
    found = _BELOW.get(node.serial)
    if found is None:
        children = node.children
        found = _BELOW[node.serial] = frozenset(child.serial for child in children).union(*map(_below, children))
    return found


def nodes_of(node: Node) -> Iterator[Node]:
    """All nodes of the tree, each once."""
    seen: dict[int, Node] = {}
    stack = [node]
    while stack:
        here = stack.pop()
        if here.serial not in seen:
            seen[here.serial] = here
            stack.extend(reversed(here.children))
    return iter(seen.values())


@dataclass(frozen=True)
class Atom:
    """An atom of check `check` (an index in `model.compiled`); `flipped` is the check's condition with the atom's truth reversed."""

    check: int
    condition: Cond
    violated: Cond
    flipped: Cond

    def goal(self, violated: bool) -> Cond:
        """The condition under which the atom decides that the check is violated, or that it is satisfied."""
        return all_of(self.violated, ~self.flipped) if violated else all_of(~self.violated, self.flipped)

    def can_decide(self, violated: bool) -> bool:
        """False where `goal(violated)` is plainly never true."""
        never, always = (FALSE, TRUE) if violated else (TRUE, FALSE)
        return self.violated is not never and self.flipped is not always

    def __str__(self) -> str:
        return describe(self.condition)


def atoms_of(model: Model) -> tuple[Atom, ...]:
    """Every atom of every check that exists on the processor, in the SDM's order."""
    found = []
    for number, compiled in enumerate(model.compiled):
        for node in nodes_of(compiled.violated):
            if node.op in ATOMIC and isinstance(node, Cond):
                flipped = replaced(compiled.violated, node, ~node)
                assert isinstance(flipped, Cond)
                found.append(Atom(number, node, compiled.violated, flipped))
    return tuple(found)
