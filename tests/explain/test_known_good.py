"""Known-good states are accused of nothing, and read back whole, whichever way they are printed.

`tests/quality/known_good_dumps.py` does the same for every base of every CPU model; this is a cross-section.
"""

from __future__ import annotations

from functools import cache

import pytest
from printers import PRINTERS, REPORTS, faults

from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.generate.bases import Bases
from vmfuzz.model.predict import model_of
from vmfuzz.state.profiles import capabilities, known_good

#: Of each CPU model so many bases, evenly spread, each in one form; the rows together have all forms and reports.
_BASES = 18


@cache
def bases(cpu: str) -> Bases:
    caps = capabilities(cpu)
    return Bases(model_of(caps), known_good(caps))


@pytest.mark.parametrize("cpu", CPU_MODELS)
def test_a_known_good_state_is_read_whole_and_accused_of_nothing(cpu: str) -> None:
    names = [name for name in bases(cpu).samples() if bases(cpu).get(name) is not None]
    start = list(CPU_MODELS).index(cpu)
    for number, name in enumerate(names[start :: len(names) // _BASES]):
        form = list(PRINTERS)[(start + number) % len(PRINTERS)]
        report = REPORTS[(start + number // len(PRINTERS)) % len(REPORTS)]
        state = bases(cpu).get(name)
        assert state is not None
        assert faults(state, capabilities(cpu), form, report) == [], (name, form, hex(report))


@pytest.mark.parametrize("report", REPORTS, ids=["entered", "failed", "no outcome"])
@pytest.mark.parametrize("form", PRINTERS)
def test_every_form_with_every_report(form: str, report: int) -> None:
    cpu = "corei7_skylake_x"
    for name in ("64-bit/plain/nothing", "real/plain/nothing", "64-bit/loads/nothing"):
        state = bases(cpu).get(name)
        assert state is not None
        assert faults(state, capabilities(cpu), form, report) == [], name
