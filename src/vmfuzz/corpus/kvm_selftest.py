"""A case as a program for Linux: one C file that runs it in a virtual machine of KVM and says what was expected and what happened.

kvm_selftest.c beside this module is the program; what an entry puts into it are tables: the whole known-good state of the case's base, the memory
that it points to, and what each VM entry changes. The virtual machine has its memory where the engine has it, so addresses keep their meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.arch.registers import BITWISE
from vmfuzz.comparison.case import batch_of, is_memory
from vmfuzz.corpus.entries import Entry
from vmfuzz.errors import UsageError
from vmfuzz.state.vmcs import Vmcs

#: The program's own exit handler and stack take the place of the engine's.
_OWN: Final = ("host_rsp", "host_rip")


def kvm_selftest(entry: Entry, base: Vmcs) -> str:
    """The program for an entry whose base is `base`; raises UsageError where the case needs more than fields and memory."""
    before = [] if entry.behind is None else list(entry.behind.before)
    _require_expressible(entry, base, before)
    rows = [*before, entry.case.mutation]
    parts = {
        "HEAD": "\n".join(f" * {line}" for line in _head(entry)),
        "NAME": f"vmfuzz_{entry.id}",
        "ALLOWED": ", ".join(f'"{text}"' for text in entry.main_result.predicted),
        "RECORDED": f"{entry.main_result.actual} on {entry.main_result.processors[0].executor}",
        "BASE": entry.case.base,
        "FIELDS": "\n".join(_fields(base)),
        "MEMORY": "\n".join(_memory(entry, base)),
        "CHANGES": "\n".join(line for number, row in enumerate(rows) for line in _changes(number, base, row)),
        "ENTRIES": "\n".join(f"\t{{ entry_{number}, {sum(key in FIELDS for key in row)} }}," for number, row in enumerate(rows)),
    }
    text = resources.files("vmfuzz.corpus").joinpath("kvm_selftest.c").read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace(f"@{name}@", value)
    return text


def _head(entry: Entry) -> list[str]:
    violated = f" ({', '.join(entry.checks)})" if entry.checks else ""
    return [f"vmfuzz {entry.id}: {entry.kind}{violated}", *([f"{entry.reason}."] if entry.reason else [])]


def _require_expressible(entry: Entry, base: Vmcs, before: list[Mapping[str, int]]) -> None:
    made = [key for key, condition in LIVE.items() if condition.settable or condition.of_batch]
    live = [key for key in made if base.get(key) or any(row.get(key) for row in [*before, entry.case.mutation])]
    if live:
        raise UsageError(f"{entry.id}: the program executes VMLAUNCH with a clear VMCS and cannot bring about {', '.join(live)}; --c can")
    if any(is_memory(key) for row in before for key in row):
        raise UsageError(f"{entry.id}: an entry before the case changes memory, which the program cannot do; replay the entry instead")


def _fields(base: Vmcs) -> Iterator[str]:
    for name in sorted((name for name in base if name in FIELDS and name not in _OWN), key=lambda name: FIELDS[name].encoding):
        yield f"\t{{ {FIELDS[name].encoding:#06x}, {base[name]:#x}ull }},\t/* {name} */"


def _memory(entry: Entry, base: Vmcs) -> Iterator[str]:
    batch = batch_of(base, [{key: value for key, value in entry.case.mutation.items() if is_memory(key)}])
    words = {**base.memory, **{address: int(column[0]) for address, column in batch.memory_columns.items()}}
    for address, word in sorted(words.items()):
        if word:
            yield f"\t{{ {address:#x}, {word:#x}ull }},"


def _changes(number: int, base: Vmcs, row: Mapping[str, int]) -> Iterator[str]:
    yield f"static const struct change entry_{number}[] = {{"
    for name in sorted((key for key in row if key in FIELDS), key=lambda name: FIELDS[name].encoding):
        old, value = base.get(name) or 0, row[name]
        clear, set_ = (old & ~value, value & ~old) if name in BITWISE else (FIELDS[name].mask, value)
        yield f"\t{{ {FIELDS[name].encoding:#06x}, {clear:#x}ull, {set_:#x}ull }},\t/* {name}: {old:#x} -> {value:#x} */"
    yield "\t{ 0, 0, 0 },"
    yield "};"
