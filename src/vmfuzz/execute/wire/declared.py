"""What the C headers of the wire formats declare, as plain data: setup.py has it written when the native part is built.

Parsing C takes cffi longer than reading a text and judging it takes `vmfuzz check`, so it is done once. This module needs cffi and nothing of vmfuzz.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_KINDS = {"vmfuzz_u8": "u1", "unsigned char": "u1", "unsigned short": "u2", "unsigned int": "u4",
          "unsigned long long": "u8", "char": "S1"}  # fmt: skip


def declared(headers: Iterable[Path]) -> dict[str, Any]:
    """Enumerators of each enumeration and layout of each structure by name; each header may use what those before it declare.

    A layout is a scalar's numpy type, [element, length] of an array, or of a structure {"size": bytes, "fields": {name: [offset, layout]}}.
    """
    import cffi

    ffi, enums = cffi.FFI(), list[str]()
    for header in headers:
        text = re.sub(r"^#.*$", "", header.read_text(encoding="utf-8"), flags=re.MULTILINE)
        ffi.cdef(text)
        enums += re.findall(r"^enum (\w+) \{", text, re.MULTILINE)
    structs = ffi.list_types()[1]
    return {
        "enums": {name: ffi.typeof(f"enum {name}").relements for name in enums},
        "structs": {name: _layout(ffi, ffi.typeof(f"struct {name}")) for name in structs},
    }


def _layout(ffi: Any, ctype: Any) -> Any:
    if ctype.kind == "primitive":
        return _KINDS[ctype.cname]
    if ctype.kind == "pointer":
        return "u8"
    if ctype.kind == "array":
        return f"S{ctype.length}" if ctype.item.cname == "char" else [_layout(ffi, ctype.item), ctype.length]
    return {"size": ffi.sizeof(ctype), "fields": {name: [member.offset, _layout(ffi, member.type)] for name, member in ctype.fields}}
