"""Every shipped entry exports to forms that compile, and the exported changes make the entry's state out of the simplest base."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.cli.places import option_of
from vmfuzz.comparison.case import is_memory
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry, entry_files, load_all
from vmfuzz.corpus.export import FORMS, export_entry
from vmfuzz.errors import UnknownNameError
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.state.profiles import capabilities, known_good

ROOT = Path(__file__).parents[2]
ENTRIES = [entry for _, entry in load_all(entry_files(ROOT / "corpus"))]
#: A sample for the slow tools: every sixth entry, and all that are about memory or a deviation of several fields.
SAMPLE = [entry for number, entry in enumerate(ENTRIES) if number % 6 == 0 or any(map(is_memory, entry.case.mutation))]
FLAGS = ("-Wall", "-Wextra", "-Werror", "-std=gnu11", "-c")
#: What the exported function uses of the test program that it is put into.
STUB = """
#include <stdbool.h>
#include <stdint.h>
typedef uint64_t u64;
enum { VMX_INST_ERROR = 0x4400, EXI_REASON = 0x4402 };
#define VMX_ENTRY_FAILURE (1ul << 31)
u64 vmcs_read(unsigned long field);
int vmcs_write(unsigned long field, u64 value);
void enter_guest(void);
void enter_guest_with_bad_controls(void);
void enter_guest_with_invalid_guest_state(void);
void report(bool pass, const char *format, ...) __attribute__((format(printf, 2, 3)));
"""
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")


@cache
def trial_on(cpu: str) -> Trial:
    known = capabilities(cpu)
    return Trial(ModelExecutor(known, known_good(known)))


def exported(entry: Entry, form: str) -> str:
    return export_entry(entry, trial_on(option_of(entry.main_result.processors[0])[1]), form)


def compiles(source: str, place: Path) -> None:
    path = place / "cases.c"
    path.write_text(source, encoding="utf-8")
    done = subprocess.run(["gcc", *FLAGS, str(path), "-o", str(place / "cases.o")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]


@needs_gcc
def test_plain_c_compiles_without_a_warning(tmp_path: Path) -> None:
    head, parts = "", []
    for entry in SAMPLE:
        text = exported(entry, "c")
        # the two accessors are the same in each: one file for one call of the compiler
        start = text.index(f"void vmfuzz_{entry.id}(void);")
        head, comment = text[text.index("#include") : start], text[: text.index("#include")]
        parts.append(comment + text[start:])
    compiles(head + "\n".join(parts), tmp_path)


@needs_gcc
def test_one_whole_file_of_plain_c_compiles(tmp_path: Path) -> None:
    compiles(exported(ENTRIES[0], "c"), tmp_path)


@needs_gcc
def test_kvm_unit_tests_compile_against_the_functions_they_use(tmp_path: Path) -> None:
    calls = "\n".join(f"\tvmfuzz_{entry.id}_test();" for entry in SAMPLE)
    tests = "\n".join(exported(entry, "kvm-unit-test") for entry in SAMPLE)
    compiles(f"{STUB}\n{tests}\nvoid all(void);\nvoid all(void)\n{{\n{calls}\n}}\n", tmp_path)


WRITE = re.compile(r"vmwrite\((0x[0-9a-f]+), (?:\(?vmread\(0x[0-9a-f]+\)(?: & ~(0x[0-9a-f]+)ull\)?)?(?: \| )?)?(?:(0x[0-9a-f]+)ull)?\);")


def evaluated(text: str, start: dict[str, int]) -> dict[str, int]:
    """The state after the VMWRITEs of exported C, from `start`."""
    state = dict(start)
    for line in text.splitlines():
        if "\tvmwrite(0x" not in line:
            continue
        found = WRITE.search(line)
        assert found is not None, line
        name = BY_ENCODING[int(found[1], 16)].name
        old = state[name] if "vmread(" in line else 0
        state[name] = old & ~int(found[2] or "0", 16) | int(found[3] or "0", 16)
    return state


def test_the_writes_of_exported_c_make_the_state_of_the_entry() -> None:
    for entry in ENTRIES:
        trial = trial_on(option_of(entry.main_result.processors[0])[1])
        simplest, base = trial.base("64-bit/plain/nothing"), trial.base(entry.case.base)
        assert simplest is not None
        assert base is not None
        text = exported(entry, "c")
        after = evaluated(text, {name: simplest.get(name) or 0 for name in FIELDS})
        wanted = {name: base.get(name) or 0 for name in FIELDS} | {
            key: value for key, value in entry.case.mutation.items() if key in FIELDS
        }
        # addresses of the harness's memory mean nothing elsewhere: a comment asks for memory of the reader's own
        by_hand = set(re.findall(r"point (\w+) to memory of yours", text))
        assert {name: (after[name], wanted[name]) for name in FIELDS if name not in by_hand and after[name] != wanted[name]} == {}, entry.id


def test_a_syzkaller_program_has_one_mask_for_each_write() -> None:
    for entry in ENTRIES:
        program = exported(entry, "syz")
        masks = re.findall(r"@nested_intel_vmwrite_mask=\{AUTO, AUTO, \{0x0, @\w+=0x[0-9a-f]+, 0x[0-9a-f]+, 0x[0-9a-f]+, 0x0\}\}", program)
        assert len(masks) == program.count("@nested_intel_vmwrite_mask") == exported(entry, "c").count("\tvmwrite(0x")
        assert program.index("@nested_create_vm") < program.index("@nested_vmlaunch")
        assert all(line.startswith(("#", "r", "ioctl$")) for line in program.splitlines())


@pytest.mark.parametrize("form", [form for form in FORMS if form != "kvm-selftest"])
def test_what_no_vmwrite_can_bring_about_is_said(form: str) -> None:
    about_memory = [entry for entry in ENTRIES if any(map(is_memory, entry.case.mutation))]
    assert about_memory
    for entry in about_memory:
        assert "by hand: memory: " in exported(entry, form)


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown form 'perl'"):
        exported(ENTRIES[0], "perl")
