"""What `--executor remote:` starts: standard input and output on one side, a test machine's mailbox on the other."""

from __future__ import annotations

import errno
import os
import sys
import time

from machine import CLOSE, exchange

from vmfuzz.execute.kvm.abi import kvm_constants

HEAD = 16


def ask(disk: int, code: int, payload: bytes) -> tuple[int, bytes]:
    for answer in exchange(disk, code, payload):
        if answer is not None:
            return answer
        time.sleep(0.002)
    raise AssertionError("exchange does not end without an answer")


def main() -> None:
    disk = os.open(sys.argv[1], os.O_RDWR)
    while head := sys.stdin.buffer.read(HEAD):
        magic, code, length = head[:4], int.from_bytes(head[4:8], "little"), int.from_bytes(head[8:], "little")
        payload = sys.stdin.buffer.read(length)
        if code == kvm_constants()["KVM_FACTS"] and "--kvm" not in sys.argv:
            status, answer = errno.ENOTTY, b""  # as the agent without --kvm says
        else:
            status, answer = ask(disk, code, payload)
        sys.stdout.buffer.write(magic + status.to_bytes(4, "little") + len(answer).to_bytes(8, "little") + answer)
        sys.stdout.buffer.flush()
    ask(disk, CLOSE, b"")


if __name__ == "__main__":
    main()
