"""Corpus entries: the schema, reading and writing, cases by name, and errors that name what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vmfuzz.comparison.case import Case, applies, base_value, batch_of, mutation_between
from vmfuzz.comparison.processor import Processor
from vmfuzz.corpus import entries as corpus
from vmfuzz.corpus.entries import Entry, Near, Result, dumps, entry_files, find, load, require_verdict, save
from vmfuzz.errors import EnvironmentUnusable, UsageError, VmfuzzError
from vmfuzz.generate.bases import Bases
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.predict import model_of
from vmfuzz.state.profiles import capabilities, known_good

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(Path(corpus.__file__).with_name("corpus_schema.json").read_text(encoding="utf-8"))
CAPS = capabilities("corei7_skylake_x")
BASES = Bases(model_of(CAPS), known_good(CAPS))
ENTRY = Entry(
    Case("64-bit/tpr-shadow/nothing", {"guest_rflags": 0, "memory_vtpr": 0x30, "0x10011008": 5}),
    "accepts what the model refuses",
    ("guest.rflags.reserved.one",),
    "open",
    "not looked at yet",
    (
        Result(
            ("VMfailValid(7)",),
            ("guest.rflags.reserved.one",),
            "entered, exit 52",
            None,
            "mismatch",
            (Processor("corei7_skylake_x", "9e374d7e7ac9553c", "bochs corei7_skylake_x", "bochscpu-python 0.4.0", 7),),
        ),
    ),
    (Near("guest_rflags", 2, "entered, exit 52"),),
)
SHIPPED = entry_files(ROOT / "corpus")


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = save(tmp_path, ENTRY)
    assert load(path) == ENTRY
    assert path == tmp_path / "guest.rflags.reserved.one" / f"{ENTRY.id}.json"
    assert path.read_text(encoding="utf-8") == dumps(load(path))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_schema_describes_every_shipped_entry_and_refuses_others() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    for path in SHIPPED:
        data = json.loads(path.read_text(encoding="utf-8"))
        assert not list(validator.iter_errors(data)), path
    assert list(validator.iter_errors({**data, "verdict": "fine"}))
    assert list(validator.iter_errors({key: value for key, value in data.items() if key != "base"}))


def test_every_shipped_entry_is_in_stable_form_and_where_it_belongs() -> None:
    for path in SHIPPED:
        entry = load(path)
        assert path.read_text(encoding="utf-8") == dumps(entry), path
        assert path.stem == entry.id
        assert entry.results[0].processors


def test_the_shipped_corpus_has_every_kind_of_verdict() -> None:
    entries = [load(path) for path in SHIPPED]
    verdicts = {entry.verdict.partition(":")[0] for entry in entries}
    assert {"regression-guard", "deviation", "ambiguity"} <= verdicts
    assert len({check for entry in entries if entry.verdict == "regression-guard" for check in entry.checks}) > 250
    assert sum(len(entry.results) > 1 for entry in entries) > 5


def test_a_case_is_the_same_on_every_processor_that_has_it() -> None:
    for name in ("corei7_skylake_x", "sapphire_rapids"):
        caps = capabilities(name)
        base = Bases(model_of(caps), known_good(caps)).get(ENTRY.case.base)
        assert base is not None
        mutation = {"guest_rflags": 0, "memory_vtpr": 0x30}
        assert applies(base, mutation)
        example = batch_of(base, [{}, mutation]).row(1)
        assert mutation_between(base, example) == mutation
        assert base_value(base, "memory_vtpr") == 0x50


def test_a_case_does_not_apply_where_the_base_says_nothing_about_its_memory() -> None:
    base = BASES.get("64-bit/plain/nothing")
    assert base is not None
    assert not applies(base, {"memory_msr_load_1_index": 1})
    old = capabilities("core2_penryn_t9600")
    assert applies(base, {"tsc_multiplier": 0})
    assert not applies(known_good(old), {"tsc_multiplier": 0})


def changed(**parts: Any) -> dict[str, Any]:
    return {**corpus.to_json(ENTRY), **parts}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "not a corpus entry"),
        (changed(schema="vmfuzz-corpus-9"), 'expected a JSON object with "schema": "vmfuzz-corpus-1"'),
        (changed(id="0123456789"), "the content's id is"),
        (changed(base="64-bit"), "expected MODE/FEATURES/EVENT"),
        (changed(mutation={"guest_rflag": "0x0"}), "did you mean guest_rflags"),
        (changed(mutation={"guest_rflags": "zero"}), "guest_rflags = 'zero'"),
        (changed(mutation={"vpid": "0x10000"}), "vpid = 10000H: expected 0 to FFFFH"),
        (changed(mutation={"exit_reason": "0x0"}), "exit_reason"),
        (changed(mutation={"live_efer": "0x0"}), "a fact of the processor"),
        (changed(mutation={"memory_vtpr": "0x0"}), 'memory to "memory"'),
        (changed(memory={"0x10011001": "0x0"}), "divisible by 8"),
        (changed(verdict="wrong"), "expected open, model-fixed, regression-guard, ambiguity:ID, deviation:ID or erratum:NAME"),
        (changed(verdict="deviation:bochs"), "there is no deviation 'bochs'"),
        (changed(results=[]), '"results" is empty'),
        (changed(results=[1]), "expected a JSON object"),
        (changed(checks="guest"), '"checks": expected a JSON array'),
        (changed(reason=None), '"reason" = None: expected a text'),
    ],
)  # fmt: skip
def test_what_is_no_entry_is_refused_with_the_reason(data: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "entry.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(VmfuzzError) as caught:
        load(path)
    assert words in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_broken_files_and_empty_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no corpus entries"):
        entry_files(tmp_path)
    with pytest.raises(UsageError, match="no such file or directory"):
        entry_files(tmp_path / "nowhere")
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"a\.json is not JSON"):
        load(tmp_path / "a.json")


def test_an_entry_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    path = save(tmp_path, ENTRY)
    assert find(tmp_path, ENTRY.id[:4]) == (path, ENTRY)
    with pytest.raises(UsageError, match="no entry 'zz'"):
        find(tmp_path, "zz")
    other = replace(ENTRY, case=replace(ENTRY.case, base="64-bit/plain/nothing"))
    other_path = path.with_name(f"{ENTRY.id[:4]}ffffff.json")
    other_path.write_text(dumps(other), encoding="utf-8")
    with pytest.raises(UsageError, match="is the beginning of 2 entries"):
        find(tmp_path, ENTRY.id[:4])


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "guest.rflags.reserved.one").write_text("in the way", encoding="utf-8")
    with pytest.raises(EnvironmentUnusable, match="what was there before is as it was"):
        save(tmp_path, ENTRY)


def test_verdicts() -> None:
    for verdict in ("open", "model-fixed", "regression-guard", f"ambiguity:{next(iter(AMBIGUITIES))}", "deviation:bochs-rip-identical"):
        assert require_verdict(verdict) == verdict
