"""Write the stored profiles (src/vmfuzz/state/profiles/) anew from the emulated CPU models. Run from the project's root."""

from __future__ import annotations

from pathlib import Path

from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.execute.kinds import open_executor
from vmfuzz.state.profiles import write_profile


def main() -> None:
    directory = Path("src/vmfuzz/state/profiles")
    for cpu in CPU_MODELS:
        with open_executor("bochs", cpu=cpu) as executor:
            print(write_profile(directory, cpu, executor.capabilities(), executor.known_good()))


if __name__ == "__main__":
    main()
