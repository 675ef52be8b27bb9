"""Messages to and from their coded form: `struct vmfuzz_coded` of image/line.h. image/coding.c is the other side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vmfuzz.execute.serial.abi import line_constants
from vmfuzz.execute.wire.abi import struct_dtype

_WORD = 8
_MAP_BITS = 64
_Words = npt.NDArray[np.uint64]


class BadMessage(ValueError):
    """Bytes that are no coded message."""


@dataclass(frozen=True)
class Rows:
    """Which bytes of a request are rows: from `start` to its end, each of `stride` bytes; both are multiples of 8. A stride of 0: there are none."""

    start: int = 0
    stride: int = 0


def encode(code: int, message: bytes, rows: Rows, digest: int = 0) -> bytes:
    """The coded form of a request, whose length is a multiple of 8."""
    head = np.zeros(1, struct_dtype("coded"))
    head["code"], head["length"], head["digest"] = code, len(message), digest
    head["from"], head["to"], head["stride"] = rows.start, len(message), rows.stride
    words = np.frombuffer(message, np.uint64)
    if not rows.stride:
        return head.tobytes() + _planes(words)
    table = words[rows.start // _WORD :].reshape(-1, rows.stride // _WORD)
    reference = _reference(table)
    differences = table ^ reference
    varying = np.asarray(differences.any(axis=0), np.bool_)
    bits = np.packbits(np.pad(varying, (0, -len(varying) % _MAP_BITS)), bitorder="little").view(np.uint64)
    return head.tobytes() + _planes(np.concatenate((words[: rows.start // _WORD], reference, bits))) + _differences(differences[:, varying])


def _reference(table: _Words) -> _Words:
    """A row that has in each column what more than half of the rows have there, if they do."""
    middle = len(table) // 2
    return np.partition(table, middle, axis=0)[middle] if len(table) else np.zeros(table.shape[1], np.uint64)


def _planes(words: _Words) -> bytes:
    of_words = words.view(np.uint8).reshape(-1, _WORD)
    masks = np.packbits(of_words != 0, axis=1, bitorder="little").ravel()
    present = np.packbits(masks != 0, bitorder="little")
    return b"".join(part.tobytes() for part in (present, masks[masks != 0], of_words[of_words != 0]))


def _differences(table: _Words) -> bytes:
    """The rows' streams: which words differ, then each of these. A place for every byte that there may be, of which those stay that are needed."""
    count, columns = table.shape
    groups = (columns + 7) // 8
    of_words = np.ascontiguousarray(table).view(np.uint8).reshape(count, columns, _WORD)
    stream = np.zeros((count, groups + columns * (1 + _WORD)), np.uint8)
    wanted = np.zeros(stream.shape, np.bool_)
    stream[:, :groups] = np.packbits(table != 0, axis=1, bitorder="little")
    wanted[:, :groups] = True
    values = stream[:, groups:].reshape(count, columns, 1 + _WORD)
    values[:, :, 0] = np.packbits(of_words != 0, axis=2, bitorder="little")[:, :, 0]
    values[:, :, 1:] = of_words
    np.not_equal(values, 0, out=wanted[:, groups:].reshape(values.shape))
    return stream[wanted].tobytes()


def decode(coded: bytes) -> tuple[int, bytes]:
    """(code, message) of an answer's coded form; raises BadMessage for bytes that are none."""
    dtype = struct_dtype("coded")
    if len(coded) < dtype.itemsize:
        raise BadMessage(f"{len(coded)} bytes are not a coded message")
    head = np.frombuffer(coded, dtype, 1)[0]
    start, end, stride, kept, index = (int(head[name]) for name in ("from", "to", "stride", "kept", "index"))
    planes = np.frombuffer(coded, np.uint8, -1, dtype.itemsize)
    if not kept:
        return int(head["code"]), _words(planes, int(head["length"]) // _WORD).tobytes()
    count = (start + kept * stride + index + int(head["length"]) - end) // _WORD
    whole = _words(planes, count).tobytes()
    index_at = start + kept * stride
    table = np.frombuffer(whole, f"V{stride}", kept, start)
    rows = _rows(np.frombuffer(whole, np.uint8, index, index_at), (end - start) // stride)
    if len(rows) and int(rows.max()) >= kept:
        raise BadMessage(f"row {int(rows.max())} of {kept}")
    return int(head["code"]), whole[:start] + table[rows].tobytes() + whole[index_at + index :]


def _words(planes: npt.NDArray[np.uint8], count: int) -> _Words:
    groups = (count + 7) // 8
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
    return of_words.view(np.uint64).ravel()


def _rows(index: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.intp]:
    """Which of the kept rows each row is."""
    first_repeat = line_constants()["LINE_KEPT"]
    repeats = index >= first_repeat
    times = np.where(repeats, index.astype(np.intp) - first_repeat + 1, 1)
    last = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(index))))
    rows: Any = np.repeat(index[last].astype(np.intp), times)
    if len(rows) < count:
        raise BadMessage(f"{len(rows)} rows where {count} were expected")
    return np.asarray(rows[:count], np.intp)
