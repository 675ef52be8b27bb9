"""The whole program for KVM that an entry exports to: it compiles without a warning, has the case in it, and says where it cannot run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.cli.places import stand_in
from vmfuzz.comparison.case import Case, Mutation, is_memory, word_address
from vmfuzz.corpus.entries import Entry, entry_files, load
from vmfuzz.corpus.export import export_entry
from vmfuzz.errors import UsageError

#: Entries of KVM: a case of each known deviation, and sequences.
PLACE = Path(__file__).parents[1] / "system" / "kvm_corpus"
PATHS = [path for path in entry_files(PLACE) if path.parent.name != "capabilities"]
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")


def exported(path: Path) -> tuple[Entry, str]:
    entry = load(path)
    return entry, export_entry(entry, stand_in(path, entry), "kvm-selftest")


def sequence_of(path: Path) -> list[Mutation]:
    """What each VM entry changes, the case last."""
    entry = load(path)
    return [*(entry.behind.before if entry.behind is not None else ()), entry.case.mutation]


def changed(text: str, number: int) -> dict[int, tuple[int, int]]:
    """What the program changes for one VM entry: (clear, set) by encoding."""
    table = re.search(rf"entry_{number}\[\] = {{\n(.*?)^}};", text, re.DOTALL | re.MULTILINE)
    assert table is not None
    found = re.findall(r"\{ (0x[0-9a-f]+), (0x[0-9a-f]+)ull, (0x[0-9a-f]+)ull \}", table[1])
    return {int(encoding, 16): (int(clear, 16), int(value, 16)) for encoding, clear, value in found}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_program_has_the_state_and_the_changes_of_the_entry(path: Path) -> None:
    entry, text = exported(path)
    base = stand_in(path, entry).base(entry.case.base)
    assert base is not None
    written = {int(encoding, 16): int(value, 16) for encoding, value in re.findall(r"\t\{ (0x[0-9a-f]{4}), (0x[0-9a-f]+)ull \},", text)}
    wanted = {FIELDS[name].encoding: base[name] for name in base if name in FIELDS and name not in ("host_rsp", "host_rip")}
    assert {encoding: written[encoding] for encoding in wanted} == wanted
    for number, row in enumerate(sequence_of(path)):
        after = {encoding: written[encoding] & ~clear | value for encoding, (clear, value) in changed(text, number).items()}
        assert after == {FIELDS[name].encoding: value for name, value in row.items() if name in FIELDS}
    changed_words = {word_address(base, key) for key in entry.case.mutation if is_memory(key)}
    for address, word in base.memory.items():
        in_program = f"{{ {address:#x}, {word:#x}ull }}" in text
        assert in_program is (bool(word) and address not in changed_words)
    assert not re.search(r"@[A-Z]+@", text)


@needs_gcc
def test_it_compiles_and_says_where_it_cannot_run(tmp_path: Path) -> None:
    """On a machine with nested VMX tests/system/test_kvm.py says what it finds."""
    (path,) = (path for path in PATHS if len(sequence_of(path)) > 1)
    _, text = exported(path)
    (tmp_path / "case.c").write_text(text, encoding="utf-8")
    done = subprocess.run(["gcc", *FLAGS, "-o", tmp_path / "case", tmp_path / "case.c"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    why = why_it_cannot_run()
    if why is None:
        pytest.skip("this machine may have nested VMX")
    ran = subprocess.run([tmp_path / "case"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (4, f"skipped: {why}")


def why_it_cannot_run() -> str | None:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except FileNotFoundError:
        return "there is no /dev/kvm"
    except OSError as error:
        return error.strerror
    nested = Path("/sys/module/kvm_intel/parameters/nested")
    has_it = nested.exists() and nested.read_text().strip() not in ("N", "0")
    return None if has_it else "KVM here has no nested VMX: a processor without VMX, or kvm_intel.nested = 0"


def test_what_it_cannot_bring_about_is_refused_and_named() -> None:
    entry = load(PATHS[0])
    trial = stand_in(PATHS[0], entry)
    launched = replace(entry, case=Case(entry.case.base, {**entry.case.mutation, "live_launch_state": 1}))
    with pytest.raises(UsageError, match="cannot bring about live_launch_state"):
        export_entry(launched, trial, "kvm-selftest")


def test_memory_of_the_case_takes_the_place_of_the_bases() -> None:
    (path,) = (path for path in PATHS if path.parent.name == "deviation.kvm-msr-load-sysenter")
    entry, text = exported(path)
    base = stand_in(path, entry).base(entry.case.base)
    assert base is not None
    (index, value) = (entry.case.mutation[key] for key in ("memory_msr_load_1_index", "memory_msr_load_1_data"))
    address = base["vm_entry_msr_load_address"]
    assert f"{{ {address:#x}, {index:#x}ull }}" in text
    assert f"{{ {address + 8:#x}, {value:#x}ull }}" in text
