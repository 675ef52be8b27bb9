"""KVM's own words: every text of the table names checks that exist, and lines of the trace are read."""

from __future__ import annotations

import fnmatch

import pytest

from vmfuzz.execute.kvm.words import text_of
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.kvm_messages import CONSISTENCY_CHECKS, checks_without_text

#: These stand for checks of both areas.
_BOTH = ("kvm_vcpu_is_illegal_gpa(vcpu, cr3)", "!kvm_vcpu_is_legal_cr3(vcpu, cr3)")


@pytest.mark.parametrize(("text", "patterns"), CONSISTENCY_CHECKS.items(), ids=list(CONSISTENCY_CHECKS))
def test_every_pattern_names_a_check(text: str, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        assert any(fnmatch.fnmatchcase(check.id, pattern) for check in CHECKS), pattern
    assert bool(CONSISTENCY_CHECKS.checks_named(text)) == bool(patterns)
    if text not in _BOTH:
        assert len({BY_ID[id].fails.stage for id in CONSISTENCY_CHECKS.checks_named(text) or ()}) <= 2, (
            "the link pointer and MSRs fail in stages of their own"
        )


def test_a_line_of_the_trace() -> None:
    line = "  vmfuzz-agent-77 [000] d..2. 12.5: kvm_nested_vmenter_failed: !nested_host_cr0_valid(vcpu, vmcs12->host_cr0)"
    assert text_of(line) == "!nested_host_cr0_valid(vcpu, vmcs12->host_cr0)"
    assert CONSISTENCY_CHECKS.checks_named(text_of(line) or "") == {"host.cr0.fixed.ones", "host.cr0.fixed.zeros"}
    assert text_of("kvm_nested_vmexit: reason EPT_VIOLATION") is None
    assert CONSISTENCY_CHECKS.checks_named("something newer") is None


def test_what_kvm_leaves_to_the_processor_below() -> None:
    left = checks_without_text()
    assert {"guest.gs.s", "guest.rflags.reserved.one", "ctl.tpr.threshold.vtpr", "guest.activity.hlt.dpl", "guest.link.current"} <= set(
        left
    )
    assert not {"ctl.exit.savetimer", "host.pat", "guest.pat", "ctl.vpid.nonzero"} & set(left)
