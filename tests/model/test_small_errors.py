"""Small errors of a processor: what they change, and that nothing is counted that the model never requires."""

from __future__ import annotations

import pytest

from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.expr import FALSE
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import model_of
from vmfuzz.model.small_errors import CHECK_DROPPED, HELD_OUT, KINDS, SOUGHT, SmallError, errors_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)
MODEL = model_of(CAPS)
ERRORS = errors_of(MODEL)


def of_check(id: str, kind: str) -> list[SmallError]:
    return [error for error in ERRORS if MODEL.compiled[error.check].check.id == id and error.kind == kind]


def shows(error: SmallError, **values: int) -> bool:
    return bool(evaluate(error.goal(), OperandValues(VmcsBatch(GOOD.replace(**values), {}, count=1)), {}))


def test_there_are_errors_of_every_kind() -> None:
    assert {error.kind for error in ERRORS} == set(KINDS)
    assert not set(SOUGHT) & set(HELD_OUT)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_another_condition_than_that_of_the_check(kind: str) -> None:
    assert all(error.erroneous is not error.violated for error in errors_of(MODEL, (kind,)))


def test_a_dropped_gate_shows_where_only_that_part_of_the_condition_does_not_hold() -> None:
    (unusable,) = [error for error in of_check("guest.gs.s", "gate dropped") if "UNUSABLE" in error.what]
    rights = GOOD["guest_gs_access_rights"]
    assert shows(unusable, guest_gs_access_rights=rights & ~0x10 | 1 << 16)
    assert not shows(unusable, guest_gs_access_rights=rights & ~0x10)
    assert not shows(unusable, guest_gs_access_rights=rights)


def test_a_moved_bit_shows_where_the_two_bits_differ() -> None:
    (moved,) = [error for error in of_check("guest.gs.s", "bit position off by one") if error.what == "bit 4 -> 5"]
    rights = GOOD["guest_gs_access_rights"] & ~0x30
    assert shows(moved, guest_gs_access_rights=rights | 0x10)
    assert shows(moved, guest_gs_access_rights=rights | 0x20)
    assert not shows(moved, guest_gs_access_rights=rights | 0x30)


def test_a_constant_off_by_one_shows_at_the_boundary() -> None:
    limits = [error for error in ERRORS if error.kind == "constant off by one" and "cr3_target_count" in error.violated.reads]
    assert limits
    found = {value for error in limits for value in range(8) if shows(error, cr3_target_count=value)}
    assert found == {4, 5}


def test_an_ambiguous_check_that_is_not_made_is_no_error() -> None:
    uncertain = [error for error in ERRORS if not error.certain and error.kind == CHECK_DROPPED]
    assert uncertain
    assert all(error.goal() is FALSE for error in uncertain)


def test_what_the_model_never_requires_has_no_errors() -> None:
    never = {number for number, compiled in enumerate(MODEL.compiled) if MODEL.fold(compiled.check.known) is FALSE}
    assert never
    assert not {error.check for error in ERRORS} & never
