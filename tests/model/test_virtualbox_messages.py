"""VirtualBox's diagnostics stand for checks of the model, and what it says in a text becomes the cause."""

from __future__ import annotations

import pytest

from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.reading import read_text
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.virtualbox_messages import DIAGNOSTICS


@pytest.mark.parametrize(("name", "patterns"), DIAGNOSTICS.items(), ids=list(DIAGNOSTICS))
def test_each_pattern_means_checks_of_one_stage(name: str, patterns: tuple[str, ...]) -> None:
    ids = DIAGNOSTICS.checks_named(name) or frozenset()
    assert bool(ids) == bool(patterns)
    assert len({BY_ID[id].fails.stage for id in ids}) <= 1


def test_a_diagnostic_names_the_cause_and_one_of_virtualbox_alone_does_not() -> None:
    (dump,) = read_text("vmresume: failed, kVmxVDiag_Vmentry_GuestSegAttrPresentDs\n")
    found = answer(dump)
    assert [check.id for named in dump.named for check in named.checks] == ["guest.ds.p"]
    assert dump.reported is not None
    assert dump.reported.exit_reason == 0x80000021
    assert [cause.what for cause in found.causes] == ['VirtualBox says "kVmxVDiag_Vmentry_GuestSegAttrPresentDs".']
    (dump,) = read_text("kVmxVDiag_Vmentry_MsrBitmapPtrReadPhys\n")
    assert dump.reported is not None
    assert any("of its own" in warning for warning in dump.warnings)
