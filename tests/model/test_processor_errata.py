"""Processor errata: which processors have them, what a campaign on silicon knows of them, and that an emulated CPU has none."""

from __future__ import annotations

import pytest

from vmfuzz.model.known_deviations import DEVIATIONS, errata_of
from vmfuzz.model.processor_errata import ERRATA_BY_ID, PROCESSOR_ERRATA, Signature, known_on
from vmfuzz.state.profiles import capabilities


@pytest.mark.parametrize(
    ("eax", "expected"), [(0x10676, (6, 0x17, 6)), (0x306C3, (6, 0x3C, 3)), (0x0F4A, (15, 4, 10)), (0x6FB, (6, 15, 11))]
)
def test_the_signature_of_a_processor(eax: int, expected: tuple[int, int, int]) -> None:
    assert Signature.of(eax) == expected


def test_each_number_is_there_once_and_each_erratum_says_how_it_shows() -> None:
    assert len(ERRATA_BY_ID) == sum(1 + len(erratum.also) for erratum in PROCESSOR_ERRATA)
    for erratum in PROCESSOR_ERRATA:
        assert erratum.models, erratum.id
        assert bool(erratum.outcomes) or not (erratum.adds or erratum.skips), erratum.id
        assert erratum.source, erratum.id


def test_a_campaign_on_silicon_knows_the_errata_of_its_processor() -> None:
    assert [deviation.id for deviation in known_on(Signature(6, 0x17, 6))] == ["AZ61", "AZ62"]
    assert known_on(Signature(15, 0x17)) == ()
    assert not {deviation.id for deviation in DEVIATIONS} & set(ERRATA_BY_ID)


@pytest.mark.parametrize(
    ("executor", "expected"), [("kmod Core2", True), ("kvm 6.12 on Core2", True), ("bochs x", False), ("kvm 6.12 on bochs x", False)]
)
def test_an_emulated_cpu_has_no_errata_whatever_model_it_names(executor: str, expected: bool) -> None:
    caps = capabilities("core2_penryn_t9600")
    assert Signature.of(caps.registers(1)[0]).model == 0x17
    assert bool(errata_of(executor, caps)) is expected
