"""What a person reads of a check is English: no expression, no name of a program, whatever the values are."""

from __future__ import annotations

import random
import re

import pytest

from vmfuzz.explain.infer import infer
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.teach import fault_lines, premises, why
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
