"""Small errors that a processor may have in one check: what coverage looks for and what the sensitivity benchmark counts.

An error replaces the condition under which the check fails. It shows where the check's truth is another with it and the outcome hangs on the check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.atoms import ATOMIC, nodes_of, replaced
from vmfuzz.model.expr import FALSE, MASK64, TRUE, Bits, Cond, Node, all_of, any_of, make
from vmfuzz.model.predict import CompiledCheck, Model
from vmfuzz.model.wording import describe

CHECK_DROPPED: Final = "check dropped"
GATE_DROPPED: Final = "gate dropped"
ATOM_NEGATED: Final = "atom negated"
CONSTANT: Final = "constant off by one"
BIT: Final = "bit position off by one"
#: Kinds that generation looks for. Negated atoms are left to the coverage of atoms, dropped checks to the counts of deciding.
SOUGHT: Final = (GATE_DROPPED, CONSTANT, BIT)
#: Kinds that generation knows nothing of: the benchmark's test of whether it finds more than what it looks for.
_FAR_BIT, _STRICT, _MEMBER, _CONNECTIVE, _SUM = (
    "bit position off by two",
    "comparison strict",
    "member dropped",
    "all for any",
    "sum in 32 bits",
)
HELD_OUT: Final = (_FAR_BIT, _STRICT, _MEMBER, _CONNECTIVE, _SUM)
KINDS: Final = (CHECK_DROPPED, GATE_DROPPED, ATOM_NEGATED, CONSTANT, BIT, *HELD_OUT)

#: The kind of an error, what was changed, and the node that takes the other's place.
_Replacement = tuple[str, str, Node]


@dataclass(frozen=True, eq=False)
class SmallError:
    """Check `check` (an index in `model.compiled`) fails where `erroneous` holds, in place of `violated`; `what` says what was changed.

    `certain`: whether the check has no ambiguity; a processor that does not make an ambiguous check is not in error.
    """

    check: int
    kind: str
    what: str
    violated: Cond
    erroneous: Cond
    certain: bool

    @property
    def can_show(self) -> bool:
        """False where `goal()` is plainly never true."""
        added = self.erroneous is not FALSE and self.violated is not TRUE
        return added or (self.certain and self.violated is not FALSE and self.erroneous is not TRUE)

    def goal(self) -> Cond:
        """Where the error makes a difference that the check does not allow."""
        added = all_of(self.erroneous, ~self.violated)
        return any_of(added, all_of(self.violated, ~self.erroneous)) if self.certain else added


def errors_of(model: Model, kinds: tuple[str, ...] = KINDS) -> tuple[SmallError, ...]:
    """Every small error of these kinds in every check that the model requires on the processor, in the SDM's order."""
    return tuple(
        SmallError(number, kind, what, compiled.violated, erroneous, compiled.certain)
        for number, compiled in enumerate(model.compiled)
        if compiled.violated.reads and model.fold(compiled.check.known) is not FALSE
        for kind, what, erroneous in _errors(compiled, kinds)
        if erroneous is not compiled.violated
    )


def _errors(compiled: CompiledCheck, kinds: tuple[str, ...]) -> Iterator[tuple[str, str, Cond]]:
    if CHECK_DROPPED in kinds:
        yield CHECK_DROPPED, "", FALSE
    gates = compiled.when.args if compiled.when.op == "all" else (compiled.when,) if compiled.when.op != "true" else ()
    for gate in gates if GATE_DROPPED in kinds else ():
        rest = (other for other in gates if other is not gate)
        yield GATE_DROPPED, describe(gate), all_of(*rest, ~compiled.must)
    for node in nodes_of(compiled.violated):
        for kind, what, new in _in_node(node):
            if kind not in kinds:
                continue
            erroneous = replaced(compiled.violated, node, new)
            assert isinstance(erroneous, Cond)
            yield kind, what, erroneous


def _in_node(node: Node) -> Iterator[_Replacement]:
    """The small errors in one node."""
    if isinstance(node, Cond) and node.op in ATOMIC:
        yield ATOM_NEGATED, f"not {node.op}", ~node
    if node.op in _OF_OPERATION:
        yield from _OF_OPERATION[node.op](node)


def _in_constant(node: Node) -> Iterator[_Replacement]:
    (constant,) = node.args
    for step in (1, -1) if constant else ():
        value = constant + step & MASK64
        yield CONSTANT, f"{hexadecimal(constant)} -> {hexadecimal(value)}", make(Bits, "const", value)


def _in_bit(node: Node) -> Iterator[_Replacement]:
    bits, index, _ = node.args
    for kind, step in ((BIT, 1), (BIT, -1), (_FAR_BIT, 2), (_FAR_BIT, -2)):
        if 0 <= index + step < bits.width:
            yield kind, f"bit {index} -> {index + step}", make(Cond, "bit", bits, index + step, "")


def _in_comparison(node: Node) -> Iterator[_Replacement]:
    left, right = node.args
    yield _STRICT, "<= -> <", ~make(Cond, "le", right, left)


def _in_set(node: Node) -> Iterator[_Replacement]:
    bits, members = node.args
    for member in members if len(members) > 1 else ():
        rest = tuple(value for value in members if value != member)
        yield _MEMBER, f"without {hexadecimal(member)}", make(Cond, "one_of", bits, rest)


def _in_sum(node: Node) -> Iterator[_Replacement]:
    if node.reads:
        yield _SUM, describe(node), make(Bits, "and", node, make(Bits, "const", (1 << 32) - 1))


def _in_connective(node: Node) -> Iterator[_Replacement]:
    yield _CONNECTIVE, f"{node.op} of {len(node.args)}", (any_of if node.op == "all" else all_of)(*node.args)


_OF_OPERATION: Final[Mapping[str, Callable[[Node], Iterator[_Replacement]]]] = {
    "const": _in_constant,
    "bit": _in_bit,
    "le": _in_comparison,
    "one_of": _in_set,
    "add": _in_sum,
    "shl": _in_sum,
    "all": _in_connective,
    "any": _in_connective,
}
