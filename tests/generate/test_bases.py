"""The known-good states of a processor."""

from __future__ import annotations

import pytest

from vmfuzz.generate.bases import Bases
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good


@pytest.mark.parametrize("name", ["corei7_skylake_x", "core2_penryn_t9600", "synthetic_everything"])
def test_states_judged_together_are_those_that_the_model_lets_enter_alone(name: str) -> None:
    caps = capabilities(name)
    model = model_of(caps)
    bases = Bases(model, known_good(caps))
    possible, refused = bases.possible, 0
    for each in bases.samples():
        state = bases._composed(each)
        if state is None:
            assert each not in possible
            continue
        prediction = model.predict_batch(VmcsBatch(state, {}, count=1))
        enters = not prediction.not_modelled[0] and not any(check.certain for check in prediction.violations_of(0))
        assert (each in possible) == enters
        refused += not enters
        if enters:
            assert possible[each] == state
    assert refused, "none was refused, so that nothing was compared"


def test_a_base_is_the_same_alone_as_among_all() -> None:
    caps = capabilities("corei7_skylake_x")
    alone, among = Bases(model_of(caps), known_good(caps)), Bases(model_of(caps), known_good(caps))
    for name, state in list(among.possible.items())[::37]:
        assert alone.get(name) == state
