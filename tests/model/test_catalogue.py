"""The declared checks against the reference catalogue and against the ambiguities."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from vmfuzz.errors import UnknownNameError
from vmfuzz.model.ambiguities import AMBIGUITIES, Ambiguity
from vmfuzz.model.check import Check
from vmfuzz.model.checks import BY_ID, CHECKS, NOT_APPLICABLE, SECTIONS, check_named
from vmfuzz.model.operands import operand_width
from vmfuzz.model.sections import NUMBERS
from vmfuzz.model.wording import describe

SPEC = Path(__file__).parents[3] / "shared" / "spec"
#: Checks that state something of which the reference has no row.
BEYOND_THE_REFERENCE = {
    "ctl.inject.errcode.forbidden.cp": "the second reading's correction about vector 21, as one reading of an ambiguity",
    "ctl.inject.errcode.forbidden.vector21": "the same vector on processors without CET, where nothing is ambiguous",
    "host.fred.outside": "the rows host.fred.* outside IA-32e mode, as one reading of an ambiguity",
    "guest.fred.outside": "the rows guest.fred.* outside IA-32e mode, as one reading of an ambiguity",
    **dict.fromkeys(
        ("ctl.key-bits", "host.cr3.key-bits", "guest.cr3.key-bits", "guest.link.key-bits", "guest.pdpte.key-bits"),
        "every row about the physical-address width, with the other reading of the width",
    ),
    "guest.cs.unusable": "no sentence says it; the ambiguity cs-unusable asks what processors do",
}


def reference_ids() -> list[str]:
    rows, review = SPEC / "checks.tsv", SPEC / "vm-entry-checks-review.md"
    if not rows.exists() or not review.exists():
        return []
    with rows.open(encoding="utf-8", newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    added = re.findall(r"`([a-z0-9._-]+)` \(new", review.read_text(encoding="utf-8"))
    return [*ids, *added, "guest.pdbg.bld"]


def declared(id: str) -> list[str]:
    """The checks that state a row: the one of that id, or the family `id.`; a family may have its member in the middle."""
    if id == "host.sel.rpl-ti":
        return [check.id for check in CHECKS if re.fullmatch(r"host\.sel\.\w+\.rpl-ti", check.id)]
    return [check.id for check in CHECKS if check.id == id or check.id.startswith(f"{id}.")]


@pytest.mark.parametrize("id", reference_ids())
def test_a_row_of_the_reference_is_declared_or_not_applicable(id: str) -> None:
    assert bool(declared(id)) + (id in NOT_APPLICABLE) == 1


def test_every_check_states_a_row_of_the_reference() -> None:
    ids = reference_ids()
    if not ids:
        pytest.skip(f"{SPEC} is not present")
    stated = {check for id in ids for check in declared(id)}
    assert {check.id for check in CHECKS} - stated == set(BEYOND_THE_REFERENCE)


def test_not_applicable_rows_are_rows_of_the_reference_and_have_a_reason() -> None:
    if reference_ids():
        assert set(NOT_APPLICABLE) <= set(reference_ids())
    assert all(len(reason) > 20 for reason in NOT_APPLICABLE.values())


def test_ids_are_declared_once() -> None:
    assert len(BY_ID) == len(CHECKS) == sum(len(section.checks) for section in SECTIONS)


def test_sections_are_in_the_manuals_order() -> None:
    assert [section.title for section in SECTIONS] == list(NUMBERS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_says_its_rule_in_one_sentence(check: Check) -> None:
    assert check.text[0].isupper() or check.text[0] == '"'
    assert check.text.endswith((".", ").", '".'))
    assert "  " not in check.text
    assert re.search(r"\bmust\b|\bno event may\b", check.text)
    assert check.fields
    assert all(operand_width(name) >= 1 for name in check.fields)
    assert describe(check.must) not in ("always", "never")


@pytest.mark.parametrize("check", [check for check in CHECKS if check.ambiguity], ids=lambda check: check.id)
def test_the_ambiguity_of_a_check_exists(check: Check) -> None:
    assert check.ambiguity in AMBIGUITIES


@pytest.mark.parametrize("ambiguity", AMBIGUITIES.values(), ids=lambda ambiguity: ambiguity.id)
def test_an_ambiguity_has_checks_and_says_all_it_must(ambiguity: Ambiguity) -> None:
    assert [check.id for check in CHECKS if check.ambiguity == ambiguity.id]
    assert all(getattr(ambiguity, part).strip() for part in ("title", "text", "strict", "lenient", "known", "wording"))
    assert ambiguity.strict != ambiguity.lenient


def test_an_unknown_check_lists_what_is_near() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown check 'guest\.gs\.pp'; did you mean .*guest\.gs\.p\b"):
        check_named("guest.gs.pp")
    assert check_named("guest.gs.p") is BY_ID["guest.gs.p"]
