"""The stored profiles: one for each emulated CPU, as that CPU reports itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vmfuzz.arch.outcomes import Kind
from vmfuzz.errors import UnknownNameError
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.execute.kinds import open_executor
from vmfuzz.model.predict import predict
from vmfuzz.state.profiles import capabilities, emulated_names, known_good, write_profile
from vmfuzz.state.vmcs import Vmcs

#: Addresses in the engine: they are a matter of how it was compiled.
BUILT = ("host_rip", "host_rsp")


def test_every_emulated_cpu_has_a_profile() -> None:
    assert set(emulated_names()) == set(CPU_MODELS)
    assert len(emulated_names()) == 13
    assert list(emulated_names()) == sorted(emulated_names())


@pytest.mark.parametrize("name", emulated_names())
def test_the_stored_state_is_predicted_to_enter(name: str) -> None:
    prediction = predict(known_good(capabilities(name)), capabilities(name))
    assert prediction.violations == ()
    assert prediction.enters
    assert not prediction.not_modelled


@pytest.mark.parametrize("name", emulated_names())
def test_the_stored_state_has_only_fields_that_exist_there(name: str) -> None:
    caps = capabilities(name)
    assert all(caps.has_field(field) for field in known_good(caps) if not field.startswith("live_"))


@pytest.mark.parametrize("name", emulated_names())
def test_the_profile_is_what_the_emulated_cpu_reports(name: str) -> None:
    with open_executor("bochs", cpu=name) as executor:
        assert executor.capabilities().to_json() == capabilities(name).to_json()
        assert executor.known_good().without(*BUILT).to_json() == known_good(capabilities(name)).without(*BUILT).to_json()
        assert executor.run([executor.known_good()])[0].kind is Kind.EXIT


@pytest.mark.parametrize("name", emulated_names())
def test_the_emulated_cpu_enters_with_the_stored_state(name: str) -> None:
    with open_executor("bochs", cpu=name) as executor:
        assert executor.run([known_good(capabilities(name))])[0].kind is Kind.EXIT


def test_an_unknown_cpu_is_refused_with_what_is_near() -> None:
    with pytest.raises(UnknownNameError, match="unknown CPU model 'corei7_skylake'; did you mean corei7_skylake_x"):
        capabilities("corei7_skylake")


def test_a_written_profile_reads_back(tmp_path: Path) -> None:
    caps = capabilities("tigerlake")
    data = json.loads(write_profile(tmp_path, "copy", caps, known_good(caps)).read_text(encoding="utf-8"))
    assert type(caps).from_json(data["capabilities"]) == caps
    assert Vmcs.from_json(data["known_good"]) == known_good(caps)
