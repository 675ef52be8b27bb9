"""Messages to and from their coded form: `struct vmfuzz_coded` of image/line.h. image/coding.c is the other side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vmfuzz.execute.wire.abi import struct_dtype

_WORD = 8


class BadMessage(ValueError):
    """Bytes that are no coded message."""


@dataclass(frozen=True)
class Rows:
    """Which bytes of a message are rows: from `start` to `end`, each of `stride` bytes; all three are multiples of 8."""

    start: int = 0
    end: int = 0
    stride: int = 0


def encode(code: int, message: bytes, rows: Rows, digest: int = 0) -> bytes:
    """The coded form of a message, whose length is a multiple of 8."""
    head = np.zeros(1, struct_dtype("coded"))
    head["code"], head["length"], head["digest"] = code, len(message), digest
    head["from"], head["to"], head["stride"] = rows.start, rows.end, rows.stride
    words = np.frombuffer(message, np.uint64).copy()
    if rows.stride:
        first, last, back = ((rows.start + rows.stride) // _WORD, rows.end // _WORD, rows.stride // _WORD)
        words[first:last] ^= np.frombuffer(message, np.uint64)[first - back : last - back]
    of_words = words.view(np.uint8).reshape(-1, _WORD)
    masks = np.packbits(of_words != 0, axis=1, bitorder="little").ravel()
    present = np.packbits(masks != 0, bitorder="little")
    return b"".join(part.tobytes() for part in (head, present, masks[masks != 0], of_words[of_words != 0]))


def decode(coded: bytes) -> tuple[int, bytes]:
    """(code, message) of a coded form; raises BadMessage for bytes that are none."""
    dtype = struct_dtype("coded")
    if len(coded) < dtype.itemsize:
        raise BadMessage(f"{len(coded)} bytes are not a coded message")
    head = np.frombuffer(coded, dtype, 1)[0]
    count = int(head["length"]) // _WORD
    groups = (count + 7) // 8
    planes = np.frombuffer(coded, np.uint8, -1, dtype.itemsize)
    present = np.unpackbits(planes[:groups], bitorder="little")[:count].astype(bool)
    masks = np.zeros(count, np.uint8)
    given = planes[groups : groups + int(present.sum())]
    if len(given) != present.sum() or len(present) != count:
        raise BadMessage("the coded message is too short")
    masks[present] = given
    nonzero = np.unpackbits(masks.reshape(-1, 1), axis=1, bitorder="little").astype(bool)
    rest = planes[groups + len(given) :]
    if len(rest) != nonzero.sum():
        raise BadMessage(f"the coded message has {len(rest)} bytes where {nonzero.sum()} were expected")
    of_words = np.zeros((count, _WORD), np.uint8)
    of_words[nonzero] = rest
    words = of_words.view(np.uint64).ravel()
    start, end, stride = (int(head[name]) // _WORD for name in ("from", "to", "stride"))
    if stride:
        rows = words[start:end].reshape(-1, stride)
        np.bitwise_xor.accumulate(rows, axis=0, out=rows)
    return int(head["code"]), words.tobytes()
