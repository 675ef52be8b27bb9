"""check_schema.json beside the modules: what `vmfuzz check --json` prints is what it says, and it refuses what is not."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from vmfuzz.cli.main import main

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.txt"))
#: What the samples do not show: bare errors, a number of two meanings, another architecture's dump, two states, nothing at all.
TEXTS = [
    "0x80000021",
    "0x80000022 qual 2",
    "KVM: entry failed, hardware error 0x7",
    "VMfailInvalid",
    "exit reason 12",
    "VM entry failed: 7",
    "guest_gs_base = 0x8000000000000000\nguest_rip = 1\nno_such_label = 7",
    "RIP: 0xffffffff81000000 RSP: 0xffffc90000000000 FLAGS: 246\nCR0: 0x80050033 CR4: 0x6a0\nEFER: 0x0000000000001d01\n",
    "VMPTRLD failed, error 11",
    "vmwrite(0x401e, 0) failed with error 12",
    "KVM internal error. Suberror: 1\nemulation failure\nEAX=00000000\nEIP=000a0000 EFL=00010006 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0",
    "host_tr_selector = 0\nVM entry failed: 0x80000021",
    "nested_vmx_exit_reflected failed vm entry 7",
    "qemu-1 [000] 1.0: kvm_nested_vmenter_failed: CC(!nested_cpu_has_vid(vmcs12)) err: 0",
    "IA32_VMX_BASIC (480) = 0x00da040000000012\nguest_cr0 = 0x80050033",
    "VM-instruction error 8\n-host_CR4=0x0000000000002020\n+host_CR4=0x0000000000000020\n",
    "exit reason 0x80000021, qualification 0\nVM-entry controls = 0x11ff\nguest IA32_DEBUGCTL = 0x4000\nguest RFLAGS = 0x2\n",
    "nothing of the kind",
]


def printed(*arguments: str | Path, text: str | None = None) -> Any:
    return json.loads(CliRunner().invoke(main, ["check", *map(str, arguments), "--json"], input=text).stdout)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    said = json.loads(resources.files("vmfuzz.explain").joinpath("check_schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(said)
    return jsonschema.Draft202012Validator(said)


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    return [*(printed(path) for path in SAMPLES), *(printed("-", text=text) for text in TEXTS)]


def test_what_is_printed_is_what_the_schema_says(validator: jsonschema.Draft202012Validator, answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        validator.validate(answer)
    validator.validate(printed(SAMPLES[0], SAMPLES[1]))
    said = validator.schema["$defs"]["answer"]
    assert set(said["properties"]) == set(said["required"]) == set(answers[0])
    shown = {key for answer in answers for key, value in answer.items() if value not in (None, [], {}, False, "")}
    assert set(answers[0]) - shown == set(), "a key of which the answers here show nothing"


@pytest.mark.parametrize("part", ["answer", "mistake", "finding", "change", "undecided", "reading", "reported"])
def test_what_is_wrong_is_refused(part: str, validator: jsonschema.Draft202012Validator, answers: list[dict[str, Any]]) -> None:
    parts = {
        "answer": answers,
        "mistake": [one for answer in answers for one in answer["causes"]],
        "finding": [one for answer in answers for one in answer["violated"]],
        "change": [one for answer in answers for repair in answer["repairs"] for one in repair],
        "undecided": [one for answer in answers for one in answer["undecided"]],
        "reading": [one for answer in answers for one in answer["fields"].values()],
        "reported": [answer["reported"] for answer in answers if answer["reported"]],
    }
    one, own = parts[part][0], validator.evolve(schema={**validator.schema, "oneOf": [{"$ref": f"#/$defs/{part}"}]})
    own.validate(one)
    assert not own.is_valid({**one, "no_such_key": 1})
    for key in one:
        assert not own.is_valid({other: value for other, value in one.items() if other != key}) or key == "to"
        assert not own.is_valid({**one, key: [[["wrong"]]]})
