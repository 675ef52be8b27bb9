"""Whether an error can show: the solver's answers, checked against the model."""

from __future__ import annotations

import pytest

from vmfuzz.generate.families import Generator
from vmfuzz.generate.solve import Ground
from vmfuzz.generate.visible import Visibility
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import KNOWN_SUFFIX, MEMORY_OPERANDS
from vmfuzz.model.predict import model_of
from vmfuzz.model.small_errors import SmallError, errors_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good

pytest.importorskip("z3")

CAPS = capabilities("corei7_skylake_x")
MODEL = model_of(CAPS)
MADE = Generator(MODEL, known_good(CAPS))
BASE = MADE.bases.captured


@pytest.fixture(scope="module")
def solver() -> Visibility:
    values = OperandValues(VmcsBatch(BASE, {}, count=1))
    return Visibility(MODEL, Ground(lambda name: int(values(name)), MADE.can_vary), set(BASE.memory))


def errors(check: str, kind: str) -> list[SmallError]:
    return [error for error in errors_of(MODEL, (kind,)) if MODEL.compiled[error.check].check.id == check]


@pytest.mark.parametrize("check", ["guest.gs.s", "ctl.tpr.threshold.reserved", "guest.efer.lme", "guest.gs.dpl"])
@pytest.mark.parametrize("kind", ["check dropped", "gate dropped", "bit position off by one"])
def test_in_a_witness_the_error_leaves_what_the_model_allows(solver: Visibility, check: str, kind: str) -> None:
    witnesses = [(error, witness) for error in errors(check, kind)[:3] if (witness := solver.witness(error)) is not None]
    assert witnesses
    for error, witness in witnesses:
        fields = {name: value for name, value in witness.items() if name.removesuffix(KNOWN_SUFFIX) not in MEMORY_OPERANDS}
        batch = VmcsBatch(BASE.replace(**fields), {}, count=1)
        prediction = MODEL.predict_batch(batch)
        erroneous = bool(evaluate(error.erroneous, OperandValues(batch), {}))
        allowed = int(MODEL.allowed_if(prediction, error.check, erroneous)[0])
        assert allowed & -allowed & int(prediction.allowed[0]) == 0


def test_what_another_check_of_the_same_outcome_hides_has_no_witness(solver: Visibility) -> None:
    # bit 0 of an address that must be aligned: the alignment fails the entry in the same way
    (hidden,) = [error for error in errors("ctl.iobitmap.width.a", "constant off by one") if error.what.endswith("01H")]
    assert solver.witness(hidden) is None


def test_an_error_of_a_check_that_decides_alone_has_a_witness(solver: Visibility) -> None:
    (dropped,) = errors("guest.gs.s", "check dropped")
    assert solver.witness(dropped) is not None
