"""The seed question gets its answer, and every real dump of the specification is read without loss and its known cause named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vmfuzz.arch.outcomes import Kind
from vmfuzz.errors import VmfuzzError
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.judgement.judge import judge, operands_of
from vmfuzz.explain.reading import read_text

#: file -> (fields that must be read, checks or words of the cause, exit code)
KNOWN = {
    "02-drakvuf-388a-xen.txt": (48, ["guest.cr3.reserved"], 1),
    "06-edk2-91-kvm.txt": (17, ["guest.rflags.if.extint"], 1),
    "08-kvm-ml-2021-ds-not-accessed.txt": (101, ["guest.ds.type.accessed", "guest.es.type.accessed"], 1),
    "12-kvm-ml-2020-hwerror0.txt": (106, [], 0),
    "14-kvm-ml-2022-proxmox-smm-sti.txt": (110, ["guest.intr.sti-if"], 1),
    "16-kvm-notes-manual-dump-ok.txt": (109, [], 0),
    "19-kvm-ml-2023-grsec-triplefault.txt": (105, [], 0),
    "20-xen-ml-2019-nested-vmlaunch7.txt": (109, ["ctl.inject.errcode.required"], 1),
    "23-xen-ml-vkey-ok.txt": (108, [], 0),
    "25-xmhf-bug008-cr0-ne.txt": (44, ["guest.cr0.fixed.ones"], 1),
    "30-atoms-freebsd-forensic-table.txt": (68, ["guest.cr4.fixed.ones"], 1),
    "31-hobby-cn-sti-shadow.txt": (12, ["guest.intr.extint.sti"], 1),
    "37-vbox-21332.txt": (0, [], 1),
    "46-seed-rdtsc-printk.txt": (57, ["guest.gs.type.accessed", "guest.gs.s", "guest.gs.p"], 1),
    "46b-seed-dump-lines-only.txt": (57, [], 0),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_real_dump_is_read_and_judged(specification, name):
    fields, checks, code = KNOWN[name]
    (dump,) = read_text((specification / "dumps" / name).read_text(encoding="utf-8"), name)
    found = answer(dump)
    assert len(dump.readings) == fields
    assert sorted(finding.check.id for finding in found.violated) == sorted(checks)
    assert found.exit_code == code
    assert not any("is not used" in warning for warning in dump.warnings)


def test_the_index_lists_no_dump_that_is_not_tested(specification):
    listed = [json.loads(line)["file"] for line in (specification / "dumps" / "index.jsonl").read_text(encoding="utf-8").splitlines()]
    assert set(listed) == set(KNOWN)


def test_no_number_of_a_complete_kvm_or_xen_dump_is_lost(specification):
    for name in ("08-kvm-ml-2021-ds-not-accessed.txt", "16-kvm-notes-manual-dump-ok.txt", "20-xen-ml-2019-nested-vmlaunch7.txt"):
        text = (specification / "dumps" / name).read_text(encoding="utf-8")
        (dump,) = read_text(text)
        values = {reading.value for reading in [*dump.readings.values(), *dump.beside.values()]}
        numbers = re.findall(r"(?:[A-Za-z)] ?= ?|=)\s*(?:0x)?([0-9a-f]{4,16})\b", text.partition("domain_crash")[0])
        assert [number for number in numbers if int(number, 16) not in values] == [], name


@pytest.fixture
def seed(specification):
    (dump,) = read_text((specification / "seed-question.txt").read_text(encoding="utf-8"), "seed-question.txt")
    return answer(dump)


def test_the_seed_question_is_answered(seed):
    first = render(seed).splitlines()[:10]
    text = " ".join(" ".join(first).split())
    assert "Cause: GUEST_GS_ACCESS_RIGHTS is defined as 482EH" in text
    assert "encoding of VMX-preemption timer value" in text
    assert "The encoding of guest GS access rights is 481EH" in text
    assert "keeps 0" in text
    assert "define GUEST_GS_ACCESS_RIGHTS as 0x481e" in text


def test_the_other_mistakes_of_the_seed_do_not_stop_the_entry(seed):
    assert len(seed.causes) == 1
    assert not any(mistake.stops for mistake in seed.remarks)
    assert any("IA32_SYSENTER_CS = 00000D01H is the value of guest IA32_EFER" in mistake.what for mistake in seed.remarks)


def test_the_seed_printed_the_basic_msr(seed):
    assert {number: msr.value for number, msr in seed.dump.msrs.items()} == {0x480: 0xDA040000000004}
    assert seed.knowledge.facts["revision"].value == 4


def test_the_text_in_docs_is_what_the_tool_says(seed):
    kept = (Path(__file__).resolve().parents[2] / "docs" / "seed-answer.txt").read_text(encoding="utf-8")
    assert kept == render(seed, explain=True)


def test_the_mended_seed_has_no_violation(seed):
    state = judge(seed.dump, seed.knowledge, operands_of(seed.dump))
    assert state.of(*{finding.verdict for finding in seed.violated}) == []


def test_the_experiment_of_the_seed_fails_and_mended_comes_back_with_exit_reason_16(seed):
    """The author's controls and segment registers, RDTSC exiting, guest RIP at an RDTSC: on an emulated CPU."""
    own = ("guest_cr3", "guest_cr4", "guest_rip", "guest_rsp")
    printed = {
        name: reading.value
        for name, reading in seed.dump.readings.items()
        if name not in own and not name.startswith("host_") and name != "secondary_processor_based_controls"
    }
    try:
        opened = BochsExecutor("corei7_skylake_x", contain=False)  # the guest is to run its one instruction
    except VmfuzzError as error:
        pytest.skip(str(error))
    with opened as executor:
        base = executor.known_good()
        page = int(executor._process.request["arena_va"])
        mended = base.replace(
            **printed, guest_cr3=base["host_cr3"], guest_cr4=base["host_cr4"], guest_rip=page + 0x100, guest_rsp=page + 0x800
        ).with_memory({executor.arena.base + 0x100: 0xF4F4F4F4F4F4310F})  # RDTSC, then HLT
        wrong = mended.replace(guest_gs_access_rights=0, vmx_preemption_timer_value=0x10000)
        failure, success = list(executor.run([wrong, mended]))
    assert (failure.kind, failure.number, failure.qualification) == (Kind.ENTRY_FAILURE, 33, 0)
    assert (success.kind, success.number) == (Kind.EXIT, 16)
