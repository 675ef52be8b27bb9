"""The worker process of the bochs executor: loads the platform and the emulated CPU, then serves requests
until its pipe closes.

Run as a script by process.py with `-I -S`; it imports nothing but ctypes, so that it starts quickly.
"""

import ctypes
import os
import sys


def main(arguments: list[str]) -> int:
    """Arguments: platform library, bochscpu library, then the numbers that vmfuzz_serve_bochs takes."""
    platform_path, bochs_path, *numbers = arguments
    # RTLD_GLOBAL and first: bochscpu's undefined and replaceable symbols must resolve to the platform's.
    platform = ctypes.CDLL(platform_path, mode=os.RTLD_GLOBAL | os.RTLD_NOW)
    bochs = ctypes.CDLL(bochs_path, mode=os.RTLD_LAZY)
    platform.vmfuzz_serve_bochs.argtypes = [ctypes.c_void_p] + [ctypes.c_int] * len(numbers)
    return int(platform.vmfuzz_serve_bochs(bochs._handle, *(int(number) for number in numbers)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
