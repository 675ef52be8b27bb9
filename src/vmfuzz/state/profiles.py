"""Stored profiles: the capabilities and a known-good VMCS of each emulated CPU model, and of processors that people have.

They ship with the package, one JSON file a profile, so that prediction, `caps` and `check` need no executor. Those under profiles/ are what the
executor of each emulated CPU model reports (`python tools/write_profiles.py` writes them anew); those under processors/ are made of public
facts, each with its source (`python tools/write_processors.py`, docs/processors.md). Tests keep both current.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.files import write_text
from vmfuzz.state.vmcs import Vmcs

# not by importlib.resources, which imports what reads archives and makes temporary files: `vmfuzz check` would wait for that
_EMULATED = Path(__file__).with_name("profiles")
_PROCESSORS = Path(__file__).with_name("processors")
#: The profile that known-good states of other processors are derived from.
_TEMPLATE = "corei7_skylake_x"


def _names_in(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name.removesuffix(".json") for entry in directory.iterdir() if entry.name.endswith(".json")))


@cache
def emulated_names() -> tuple[str, ...]:
    """Names of the profiles of emulated CPU models, sorted: an emulator executes on them."""
    return _names_in(_EMULATED)


@cache
def processor_names() -> tuple[str, ...]:
    """Names of the profiles of processors that no emulator here has, sorted: the executor `model` stands in for them."""
    return _names_in(_PROCESSORS)


@cache
def profile_names() -> tuple[str, ...]:
    """Names of all stored profiles, sorted."""
    return tuple(sorted((*emulated_names(), *processor_names())))


@cache
def _data(name: str) -> dict[str, Any]:
    if name not in profile_names():
        raise UnknownNameError("CPU model", name, profile_names())
    directory = _EMULATED if name in emulated_names() else _PROCESSORS
    data: dict[str, Any] = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
    return data


@cache
def _profile(name: str) -> tuple[Capabilities, Vmcs]:
    data = _data(name)
    return Capabilities.from_json(data["capabilities"]), Vmcs.from_json(data["known_good"])


def capabilities(model_name: str) -> Capabilities:
    """The capabilities of a stored profile; `vmfuzz caps --list` lists the names. Raises UnknownNameError.

    >>> vmfuzz.capabilities("tigerlake").has("rdpid")
    True
    """
    return _profile(model_name)[0]


def description(name: str) -> str:
    """What a profile of a processor is made of, in one line; raises UnknownNameError, and UsageError for an emulated CPU model."""
    if name in emulated_names():
        raise UsageError(f"{name}: an emulated CPU model has no description; expected one of {', '.join(processor_names())}")
    return str(_data(name)["description"])


def capabilities_named(cpu: str) -> Capabilities:
    """The capabilities that a person names: a stored profile, or a capabilities file (`vmfuzz caps --json` writes one).

    What comes from a file is called by the file's name, by which it can be found again. Raises UnknownNameError, and UsageError where the file
    cannot be read.
    """
    if cpu not in profile_names() and (cpu.endswith(".json") or "/" in cpu):
        return replace(Capabilities.load(Path(cpu)), name=cpu)
    return capabilities(cpu)


def known_good(capabilities: Capabilities) -> Vmcs:
    """A VMCS that enters a 64-bit guest on a processor with these capabilities.

    If a stored profile has equal capabilities, its captured VMCS. For other processors, the VMCS of corei7_skylake_x with control words
    adjusted to what the processor allows, and with exactly the fields that it has.

    >>> vmfuzz.known_good(capabilities)["guest_cs_selector"]
    8
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


def write_profile(directory: Path, name: str, caps: Capabilities, vmcs: Vmcs, description: str | None = None) -> Path:
    """Write one profile, with a line that says what a processor's profile is made of; returns its path."""
    path = directory / f"{name}.json"
    words = {} if description is None else {"description": description}
    data = {**words, "capabilities": caps.to_json(), "known_good": vmcs.to_json()}
    write_text(path, json.dumps(data, indent=1) + "\n")
    return path
