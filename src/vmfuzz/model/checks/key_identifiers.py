"""Physical-address bits that memory encryption uses for key identifiers (IA32_TME_ACTIVATE): one check a section with such addresses.

Every rule about the physical-address width is made once more for the width less these bits. Whether a processor does that, the ambiguity
key-identifier-bits leaves open; so the checks here fail only for what the rules themselves let pass.
"""

from __future__ import annotations

from typing import Any, Final

from vmfuzz.model.check import Check, Section
from vmfuzz.model.expr import Cond, Node, all_of, any_of, capability, make
from vmfuzz.model.operands import cap

#: Mask of what lies beyond the physical-address width -> the same for the width less the key-identifier bits.
_NARROWER: Final = {name: f"{name}_or_key" for name in ("beyond_physical_width", "beyond_maxphyaddr", "cr3_reserved")}


def _narrower(node: Node) -> Any:
    """The same condition or value with the narrower width."""
    if node.op == "cap":
        return capability(_NARROWER.get(node.args[0], node.args[0]))
    args = tuple(_narrower(arg) if isinstance(arg, Node) else arg for arg in node.args)
    return make(Cond, node.op, *args) if isinstance(node, Cond) else make(type(node), node.op, *args)


def _on_width(check: Check) -> bool:
    return not check.must.caps.isdisjoint(_NARROWER)


def check_key_identifiers(section: Section, id: str, what: str, *others: Section) -> None:
    """Declare the check for the addresses of `section` and of `others`, whose violations end in the same."""
    # whoever looks for a violation begins with the last rule: the plain ones stand first in the manual
    rules = [check for each in (section, *others) for check in each.checks if _on_width(check)][::-1]
    section.check(
        id,
        f"{what} must not set physical-address bits that hold a key identifier.",
        requires=cap.key_identifier_bits != 0,
        must=all_of(*(any_of(~check.requires, ~check.when, ~check.must, _narrower(check.must)) for check in rules)),
        known=all_of(*(any_of(~check.requires, ~check.when, check.known) for check in rules)),
        fails=rules[0].fails,
        ambiguity="key-identifier-bits",
    )
