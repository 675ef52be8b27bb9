"""What the headers declare, as setup.py had it written, is what they declare now; sizes and offsets are the C compiler's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from vmfuzz.execute.wire import abi
from vmfuzz.execute.wire.abi import constants, enumerators, native_file, struct_dtype
from vmfuzz.execute.wire.declared import declared

ROOT = Path(__file__).parents[3]
#: As setup.py has them.
HEADERS = (
    *(ROOT / "kmod" / name for name in ("engine.h", "containment.h", "vmfuzz_uapi.h")),
    ROOT / "src" / "vmfuzz" / "execute" / "kvm" / "machine.h",
    *(ROOT / "image" / name for name in ("line.h", "case.h")),
)
STRUCTURES = ("request", "result", "pair", "cpuid", "messages", "run", "limits", "case")


def test_what_was_written_is_what_the_headers_declare() -> None:
    pytest.importorskip("cffi")
    written = json.loads(native_file("declared.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(declared(HEADERS)))


def test_sizes_offsets_and_numbers_are_those_of_the_compiler(tmp_path: Path) -> None:
    known = json.loads(native_file("declared.json").read_text(encoding="utf-8"))
    structures = [name for name in STRUCTURES if f"vmfuzz_{name}" in known["structs"]]
    places = [(name, member) for name in structures for member in struct_dtype(name).fields or ()]
    source = tmp_path / "sizes.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        + "".join(f'#include "{header}"\n' for header in HEADERS)
        + "int main(void)\n{\n"
        + "".join(f'\tprintf("%zu\\n", sizeof(struct vmfuzz_{name}));\n' for name in structures)
        + "".join(f'\tprintf("%zu\\n", offsetof(struct vmfuzz_{name}, {member}));\n' for name, member in places)
        + "".join(f'\tprintf("%d\\n", (int)VMFUZZ_{name});\n' for name in constants())
        + "}\n",
        encoding="utf-8",
    )
    subprocess.run(["gcc", "-w", f"-I{ROOT / 'kmod'}", "-o", tmp_path / "sizes", source], check=True)
    printed = [int(line) for line in subprocess.run([tmp_path / "sizes"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()]
    offsets = [struct_dtype(name).fields[member][1] for name, member in places]  # type: ignore[index]
    assert printed == [*(struct_dtype(name).itemsize for name in structures), *offsets, *constants().values()]
    assert len(structures) >= 5


def test_an_enumeration_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        enumerators("no_such_thing")
    assert abi.names_of("STATUS_DONE")
