"""The case in an exported image: put together for another machine, as image/case.c does, it is the entry's state there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from vmfuzz.arch.fields import BY_ENCODING, FIELDS, Area
from vmfuzz.arch.outcomes import Kind
from vmfuzz.cli.main import main
from vmfuzz.cli.places import stand_in
from vmfuzz.comparison.case import batch_of
from vmfuzz.corpus.disc import bootable_disc
from vmfuzz.corpus.entries import Entry, entry_files, load
from vmfuzz.corpus.image_case import _case, export_image, packed_case, with_case
from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.execute.wire.abi import native_file, struct_dtype
from vmfuzz.execute.wire.family import Arena, Family

ROOT = Path(__file__).parents[2]
ALL = [*entry_files(ROOT / "corpus"), *entry_files(ROOT / "tests/system/kvm_corpus")]
#: The image leaves the local APIC of its processor as it is.
IN_X2APIC_MODE = [path for path in ALL if "/x2apic-mode/" in path.read_text(encoding="utf-8")]
PATHS = [path for path in ALL if path not in IN_X2APIC_MODE]
SAMPLE = PATHS[::7]
VM86 = entry_files(ROOT / "corpus/deviation.bochs-vm86-real-mode")[0]
ARENA_BIT = 1 << 63


class There:
    """What a machine whose known-good VMCS, arena and revision are others makes of a case: image/case.c in Python."""

    def __init__(self, data: bytes, captured: Mapping[int, int], arena: int, revision: int) -> None:
        self.data = data
        self.head = np.frombuffer(data, struct_dtype("case"), 1)[0]
        self._captured, self._arena, self._revision = captured, arena, revision

    def array(self, name: str, count: int, dtype: str) -> Any:
        return np.frombuffer(self.data, struct_dtype(dtype), count, int(self.head[name]))

    def value(self, item: Any) -> int:
        code = _case()
        taken = {
            code["CASE_FROM_NOTHING"]: 0,
            code["CASE_FROM_CAPTURED"]: self._captured.get(int(item["target"]), 0) & ~int(item["clear"]),
            code["CASE_FROM_REVISION"]: self._revision,
        }
        if item["from"] == code["CASE_FROM_ARENA"]:
            return self._arena + int(item["set"])
        return taken[int(item["from"])] | int(item["set"])

    def base(self) -> dict[int, int]:
        changes = self.array("base", int(self.head["base_count"]), "case_value")
        return {**self._captured, **{int(item["target"]): self.value(item) for item in changes}}

    def row(self, number: int) -> dict[int, int]:
        columns = int(self.head["field_columns"] + self.head["arena_columns"] + self.head["live_columns"])
        items = self.array("rows", int(self.head["row_count"]) * columns, "case_value")[number * columns : (number + 1) * columns]
        return {int(item["target"]): self.value(item) for item in items}

    def text(self, at: int) -> str:
        return self.data[at : self.data.index(b"\0", at)].decode("ascii")


def rows_of(entry: Entry) -> list[Mapping[str, int]]:
    return [*(entry.behind.before if entry.behind is not None else ()), entry.case.mutation]


@pytest.mark.parametrize("path", SAMPLE, ids=lambda path: path.stem)
def test_on_another_machine_it_is_the_same_guest_and_that_machines_host(path: Path) -> None:
    entry = load(path)
    trial = stand_in(path, entry)
    known, base = trial.executor.known_good(), trial.base(entry.case.base)
    assert base is not None
    arena, moved, revision = known["live_empty_paging"], 0x7000_0000, 0x1234
    hosts = {FIELDS[name].encoding: known[name] ^ 0x5000 for name in ("host_rsp", "host_gs_base", "host_cr3")}
    in_arena = {
        FIELDS[name].encoding: known[name] - arena + moved for name in known if name in FIELDS and 0 <= known[name] - arena < 1 << 17
    }
    captured = {**{FIELDS[name].encoding: known[name] for name in known if name in FIELDS}, **hosts, **in_arena}
    there = There(packed_case(entry, trial), captured, moved, revision)
    family = Family.of(batch_of(base, rows_of(entry)), Arena(arena, 1 << 17), known)
    after = there.base()
    changed = {target for target in family.base if target < ARENA_BIT and family.base[target] != known.get(BY_ENCODING[target].name)}
    for encoding in hosts:
        assert after[encoding] == (captured[encoding] if encoding not in changed else family.base[encoding])
    for target, value in family.base.items():
        if target & ARENA_BIT:
            assert after.get(target, 0) in (value, revision | (value & 1 << 31))
        elif BY_ENCODING[target].area is Area.GUEST:
            assert after[target] == (value - arena + moved if 0 <= value - arena < 1 << 17 else value)
    for number in range(family.count):
        row = there.row(number)
        wanted = {t: v if isinstance(v, int) else int(v[number]) for t, v in zip(family.targets, family.values, strict=True)}
        assert list(row) == list(wanted)
        guests = [t for t in row if t <= 0xFFFF and BY_ENCODING[t].area is Area.GUEST and not 0 <= wanted[t] - arena < 1 << 17]
        assert [row[target] for target in guests] == [wanted[target] for target in guests]


def test_a_case_in_x2apic_mode_is_refused() -> None:
    (path,) = IN_X2APIC_MODE
    entry = load(path)
    with pytest.raises(UsageError, match="live_x2apic_mode = 1"):
        packed_case(entry, stand_in(path, entry))


@pytest.mark.parametrize("path", PATHS[::20], ids=lambda path: path.stem)
def test_expected_is_what_the_model_allows(path: Path) -> None:
    entry = load(path)
    there = There(packed_case(entry, stand_in(path, entry)), {}, 0, 0)
    text = there.text(int(there.head["text"]))
    assert entry.id in text
    assert f"recorded: {entry.main_result.actual} on" in " ".join(text.split())
    outcomes = there.array("outcomes", int(there.head["outcome_count"]), "case_outcome")
    assert text.count("expected: ") == len(outcomes) == len(entry.main_result.predicted)
    assert all(len(line) <= 79 for line in text.splitlines())


def test_words_name_every_outcome_that_an_entry_can_have() -> None:
    entry = load(VM86)
    there = There(packed_case(entry, stand_in(VM86, entry)), {}, 0, 0)
    words = there.array("words", int(there.head["word_count"]), "case_word")
    named = {(int(word["kind"]), int(word["number"])): there.text(int(word["text"])) for word in words}
    assert named[Kind.VMFAIL_VALID, 7] == "VM entry with invalid control field(s)"
    assert named[Kind.EXIT, 52] == "VMX-preemption timer expired"
    assert named[Kind.ENTRY_FAILURE, 33] == "VM-entry failure due to invalid guest state"
    assert named[Kind.REFUSED, 20] == "refused: a VM-exit MSR-load list would be processed"


def test_control_bits_that_the_case_needs_are_told_from_those_that_are_its_point() -> None:
    """A control that the entry's processor has must be there elsewhere; one that no processor has is what the case is about."""
    (path,) = entry_files(ROOT / "corpus/ctl.sec.allowed")[:1]
    entry = load(path)
    trial = stand_in(path, entry)
    there = There(packed_case(entry, trial), {}, 0, 0)
    may = trial.model.capabilities.allowed_settings("secondary")[1]
    (item,) = (item for item in there.array("rows", int(there.head["field_columns"]), "case_value") if item["target"] == 0x401E)
    assert int(item["set"]) & ~may
    assert int(item["needs_1"]) == int(item["set"]) & may


def test_the_image_has_the_case_in_its_last_bytes() -> None:
    entry = load(VM86)
    trial = stand_in(VM86, entry)
    flat = export_image(entry, trial, Path("case.bin"))
    case = packed_case(entry, trial)
    plain = native_file("image/vmfuzz.bin").read_bytes()
    assert (len(flat), flat[: -_case()["CASE_BYTES"]]) == (len(plain), plain[: -_case()["CASE_BYTES"]])
    assert flat[-_case()["CASE_BYTES"] :].rstrip(b"\0") == case.rstrip(b"\0")
    assert export_image(entry, trial, Path("case.iso")) == bootable_disc(native_file("image/bios.bin").read_bytes(), flat)


def test_a_case_that_is_too_long_and_an_image_without_room_are_refused() -> None:
    room = _case()["CASE_BYTES"]
    with pytest.raises(UsageError, match=f"the case takes {room + 1} bytes and the image has room for {room}"):
        with_case(bytes(room), bytes(room + 1), "0123456789")
    with pytest.raises(EnvironmentUnusable, match="install vmfuzz again"):
        with_case(bytes(room - 1) + b"\1", b"", "0123456789")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "case.img"], "--image case.img: expected a name that ends in .iso (a CD) or .bin"),
        (["--image", "case.iso", "--c"], "leave out --c"),
        (["--image", "case.iso", "-o", "case.c"], "leave out -o"),
        (["--uncontained", "--c"], "--uncontained is for --image FILE"),
        (["--image", "case.iso", "--cpu", "i486"], "it was not run on 'i486'; expected one of arrow_lake, "),
        ([], "--kvm-selftest, --image FILE"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["export", str(VM86), *arguments])
    assert done.exit_code == 2
    assert said in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_image(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("case.iso", "case.bin")]
    for file in files:
        done = CliRunner().invoke(main, ["export", str(VM86), "--cpu", "corei7_skylake_x", "--image", str(file)])
        assert done.exit_code == 0
        assert done.output == "" or (file.suffix == ".iso" and "for one that boots on UEFI firmware too, install" in done.output)
    disc, flat = (file.read_bytes() for file in files)
    assert flat.ljust(-(-len(flat) // 2048) * 2048, b"\0") in disc
    assert b"recorded: entered, exit 52 on bochs corei7_skylake_x" in flat
