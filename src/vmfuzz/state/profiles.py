"""Stored profiles: the capabilities and the known-good VMCS of each emulated CPU model, as its executor reports them.

They ship with the package (one JSON file a model, under profiles/), so that prediction, `caps` and `check` need no executor. A test keeps
each equal to what the model reports; `python benchmarks/write_profiles.py` writes them anew.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.errors import UnknownNameError
from vmfuzz.files import write_text
from vmfuzz.state.vmcs import Vmcs

_DIRECTORY = resources.files("vmfuzz.state") / "profiles"
#: The profile that known-good states of other processors are derived from.
_TEMPLATE = "corei7_skylake_x"


@cache
def profile_names() -> tuple[str, ...]:
    """Names of the stored profiles, sorted."""
    return tuple(sorted(entry.name.removesuffix(".json") for entry in _DIRECTORY.iterdir() if entry.name.endswith(".json")))


@cache
def _profile(name: str) -> tuple[Capabilities, Vmcs]:
    if name not in profile_names():
        raise UnknownNameError("CPU model", name, profile_names())
    data = json.loads((_DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    return Capabilities.from_json(data["capabilities"]), Vmcs.from_json(data["known_good"])


def capabilities(model_name: str) -> Capabilities:
    """The capabilities of an emulated CPU model; raises UnknownNameError."""
    return _profile(model_name)[0]


def known_good(capabilities: Capabilities) -> Vmcs:
    """A VMCS that enters a 64-bit guest on a processor with these capabilities.

    That of the stored profile with equal capabilities, as captured there; for other processors the template's, with its control words
    adjusted to what the processor allows and with exactly the fields that it has.
    """
    for name in profile_names():
        stored, vmcs = _profile(name)
        if stored == capabilities:
            return vmcs
    return _derive(capabilities)


def _derive(caps: Capabilities) -> Vmcs:
    template = _profile(_TEMPLATE)[1]
    values = {name: value for name, value in template.items() if name not in FIELDS or caps.has_field(name)}
    values.update({field.name: 0 for field in caps.fields if field.writable and field.name not in values})
    for word in CONTROL_WORDS.values():
        if word.field in values:
            values[word.field] = caps.adjust(word.key, values[word.field])
    for register, (must, may) in (("cr0", caps.cr0_fixed), ("cr4", caps.cr4_fixed)):
        for area in ("guest", "host"):
            values[f"{area}_{register}"] = (values[f"{area}_{register}"] | must) & may
    return Vmcs(values, template.memory)


def write_profile(directory: Path, name: str, caps: Capabilities, vmcs: Vmcs) -> Path:
    """Write one profile; returns its path."""
    path = directory / f"{name}.json"
    data = {"capabilities": caps.to_json(), "known_good": vmcs.to_json()}
    write_text(path, json.dumps(data, indent=1) + "\n")
    return path
