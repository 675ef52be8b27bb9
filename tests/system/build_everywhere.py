"""The module built against kernels that Debian 12 does not have, each in a root file system of the Debian release that packages it. Not for CI.

    python tests/system/build_everywhere.py             # as root: 5.10, 6.1, 6.12 and the newest
    python tests/system/build_everywhere.py trixie-backports --keep /var/tmp/roots

Needs the package mmdebstrap and some 300 MB of downloads a release. The compiler is the release's own. Exit code 1 when one of the builds fails or
says anything: warnings with W=1, sparse, objtool, modpost.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from debian_kernels import BUILD_OPTIONS, complaints, copy_sources

#: 5.10, 6.1, 6.12, and the newest that a release of Debian's has.
SUITES: Final = ("bullseye", "bookworm", "trixie", "trixie-backports")
_BACKPORTS: Final = "-backports"
_PACKAGES: Final = "gcc,make,libc6-dev,sparse,linux-headers-cloud-amd64,linux-headers-rt-amd64"


def _places(root: Path, suite: str) -> list[str]:
    """Where packages come from, as mmdebstrap takes it: this machine's mirror; of backports, with the release that they are for, the newer."""
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian", "Label: Debian"]
    mirror = subprocess.run(targets, capture_output=True, text=True, check=True).stdout.split()[0]
    release = suite.removesuffix(_BACKPORTS)
    newer = [] if release == suite else [f'--aptopt=APT::Default-Release "{suite}"']
    return [*newer, release, str(root), *(f"deb {mirror} {each} main" for each in dict.fromkeys((release, suite)))]


def build_in(root: Path, suite: str) -> list[str]:
    """Make the release's root file system, build against each kernel whose headers it has; returns what went wrong, one text each."""
    root.parent.mkdir(parents=True, exist_ok=True)
    if not (root / "usr/src").is_dir():
        subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", f"--include={_PACKAGES}", *_places(root, suite)], check=True)
    failed = []
    headers = sorted(path.name for path in (root / "usr/src").glob("linux-headers-*-amd64"))
    if not headers:
        failed.append(f"{suite}: no headers of a kernel in it")
    for name in headers:
        folder = root / "tmp" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        copy_sources(folder)
        make = ["make", "-C", f"/usr/src/{name}", f"M=/tmp/{name}", *BUILD_OPTIONS, "C=2", "modules"]
        # objtool of current kernels reads /proc; the mount ends with the command
        enter = ["unshare", "--mount", "sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', root]
        done = subprocess.run([*enter, *make], capture_output=True, text=True, check=False)
        said = complaints(done.stdout + done.stderr)
        print(
            f"{suite} {name.removeprefix('linux-headers-')}: {'failed' if done.returncode else 'built'}, {len(said)} warnings", flush=True
        )
        if done.returncode or said:
            failed.append("\n".join([f"{suite} {name}:", *(said or [done.stdout + done.stderr])]))
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=SUITES, help="releases of Debian")
    parser.add_argument("--keep", type=Path, help="keep the root file systems in this folder, and use what is there")
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("mmdebstrap"):
        sys.exit("this makes root file systems and enters them: be root, with the package mmdebstrap installed")
    failed = []
    with tempfile.TemporaryDirectory(prefix="vmfuzz-roots-") as temporary:
        for suite in options.suites:
            try:
                failed += build_in((options.keep or Path(temporary)) / suite, suite)
            except subprocess.CalledProcessError as error:
                failed.append(f"{suite}: mmdebstrap ended with status {error.returncode}")
    sys.exit("\n\n".join(failed) if failed else 0)


if __name__ == "__main__":
    main()
