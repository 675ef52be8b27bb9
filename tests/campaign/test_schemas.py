"""The JSON Schemas beside the modules: what run, diff and replay print is what they say, and they say something."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from vmfuzz.cli.main import main
from vmfuzz.comparison import errata
from vmfuzz.corpus.entries import entry_files

#: Where the schema of each output lies.
ROOMS = {"summary": "campaign", "diff": "differences", "replay": "corpus"}

CORPUS = Path(__file__).parents[2] / "corpus"


def schema(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(resources.files(f"vmfuzz.{ROOMS[name]}").joinpath(f"{name}_schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(data)
    return data


def printed(*arguments: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False).stdout)
    return data


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    place = tmp_path_factory.mktemp("corpus")
    (place / "none.json").write_text("{}", encoding="utf-8")
    path = entry_files(CORPUS / "guest.pat")[0]
    changed = json.loads(path.read_text(encoding="utf-8"))
    changed["results"][0]["actual"] = "VMfailInvalid"
    (place / path.name).write_text(json.dumps(changed), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(errata, "deviations_of", lambda _name: ())
        return {
            "summary": printed("run", "-n", "2500"),
            "diff": printed("diff", "model", "bochs", "-n", "2500"),
            "replay": printed("replay", str(place), "--executor", "model"),
        }


#: Schema -> a list that is not empty in what is printed here.
NAMES = {"summary": "findings", "diff": "differences", "replay": "changed"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed_is_what_the_schema_says(name: str, outputs: dict[str, dict[str, Any]]) -> None:
    data, said = outputs[name], schema(name)
    jsonschema.validate(data, said)
    assert data[NAMES[name]]
    assert name != "replay" or data["unreadable"]
    assert set(data) == set(said["properties"]), "a key that no schema describes, or that is not printed"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_is_refused(name: str, outputs: dict[str, dict[str, Any]]) -> None:
    data, said = outputs[name], schema(name)
    for key in said["required"]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({other: value for other, value in data.items() if other != key}, said)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, key: {"no": ["such"]} if isinstance(data[key], list) else [["wrong"]]}, said)
