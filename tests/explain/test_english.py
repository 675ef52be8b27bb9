"""What a person reads of a check is English: no expression, no name of a program, whatever the values are."""

from __future__ import annotations

import random
import re

import pytest

from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.answer.teach import fault_lines, premises, why
from vmfuzz.explain.judgement.processor import infer
from vmfuzz.explain.reading import read_text
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.operands import operand_width
from vmfuzz.model.partial import Evaluator, Partial

#: A name of a program (two_words), an expression (<fact>, a != b, a << b, [11:0], AND, {1, 2}), an attribute (field.BIT).
_NOT_ENGLISH = re.compile(r"[a-z0-9]_[a-z0-9]|[<>{}=]|\[\d+:\d+\]| AND | OR |[a-z]\.[A-Z\"]")


def _values(check, number):
    source = random.Random(f"{check.id} {number}")
    names = sorted(check.must.reads | check.when.reads)
    full = {name: (1 << operand_width(name)) - 1 for name in names}
    if number < 2:
        return {name: Partial(mask * number) for name, mask in full.items()}
    return {name: Partial(source.getrandbits(64) & mask) for name, mask in full.items() if number < 12 or source.random() < 0.5}


@pytest.mark.parametrize("typical", [True, False])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_faults_and_premises_are_english(check, typical):
    (dump,) = read_text("guest_cr0 = 0x31\n", "text")
    knowledge = infer(dump)
    for number in range(16):
        evaluator = Evaluator(_values(check, number).get, knowledge.lookup(48, typical=typical).get)
        for line in [*fault_lines(check.must, evaluator), *premises(check.when)]:
            assert line, number
            assert not _NOT_ENGLISH.search(line), line
            assert "this does not hold" not in line


def test_the_reasons_are_english():
    assert [check.id for check in CHECKS if re.search(r"[a-z0-9]_[a-z0-9]|[<>]", why(check))] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "GUEST_ACTIVITY_STATE = 1\nGUEST_INTERRUPTIBILITY_INFO = 1\n",
            "guest activity state is 1 (HLT), but must be 0 (active), because guest interruptibility state bit 0 (BLOCKING_BY_STI) is 1",
        ),
        (
            "GUEST_INTERRUPTIBILITY_INFO = 3\n",
            "bit 1 (BLOCKING_BY_MOV_SS) is 1, but must be 0, because guest interruptibility state bit 0 (BLOCKING_BY_STI) is 1",
        ),
        ("GUEST_INTERRUPTIBILITY_INFO = 4\n", "because the processor is not in SMM"),
        (
            "GUEST_GS_AR = 0xc000\nGUEST_RFLAGS = 0x2\n",
            "guest GS is usable (bit 16 of its access rights, 0000C000H, is 0), so bits 0 (ACCESSED), 4 (S) and 7 (P) must be 1; they are 0.",
        ),
        ("GUEST_GS_AR = 0xc000\n", "guest GS is usable (bit 16 of its access rights, 0000C000H, is 0), so bits"),
        (
            "GUEST_TR_AR = 0x89\n",
            'guest TR type (bits 3:0) is 9 (available TSS), but must be BH (busy TSS); 3 is allowed too if "IA-32e mode guest" is 0.',
        ),
        (
            "GUEST_IA32_EFER = 0x100\nVM_ENTRY_CONTROLS = 0x93ff\n",
            'Because VM-entry controls bit 15 ("load IA32_EFER") is 1, either guest IA32_EFER bit 10 (LMA) must be 1 (it is 0) or VM-entry '
            'controls bit 9 ("IA-32e mode guest") must be 0 (it is 1).',
        ),
        ("GUEST_RFLAGS = 0xffffffff81000002\n", "guest RFLAGS bits 63:31 and 24 are 1, but must be 0"),
        ("GUEST_RFLAGS = 0x0\n", "With this change every check that can be judged from this text passes (calculated, not run)."),
        ("GUEST_CR3 = 0x1000\n", "Cause: cannot be determined from this text. No value shown is wrong; these fields are needed first: "),
    ],
)
def test_the_first_lines_give_the_fault_with_its_reason(text, said):
    (dump,) = read_text(f"exit reason 0x80000021\n{text}", "text")
    assert said in " ".join(render(answer(dump)).split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "VM-instruction error 7\nEPT_POINTER = 0x105f\nCPU_BASED_VM_EXEC_CONTROL = 0x84006172\nSECONDARY_VM_EXEC_CONTROL = 0x2\n",
            "EPTP bits 2:0 are 7, but must be 0 or 6, because",
        ),
        ("VM-instruction error 8\n", "The controls may be wrong too: the processor may check controls and host state in either order."),
        ("HOST_CR4 = 0x0\n", "This VM entry will fail: VM-instruction error 8: VM entry with invalid host-state field(s)."),
        ("GUEST_RFLAGS = 0x2\n", "The text cannot show whether these values reached the VMCS; read them back with VMREAD."),
        (
            "#define GUEST_RIP 0x681e\n#define GUEST_RSP 0x681c\n#define GUEST_CR0 0x6800\n",
            "All 3 encodings in this list are right, so the mistake is elsewhere. Show the values that you write.",
        ),
    ],
)
def test_the_first_lines_are_plain(text, said):
    (dump,) = read_text(text, "text")
    assert said in " ".join(render(answer(dump)).split())
