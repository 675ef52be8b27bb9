"""The engine on a processor that does what none may: the bootable image in Debian's Bochs, with VMLAUNCH wrapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from guest_executor import ImageExecutor
from image_machine import ImageMachine, build_image, needs_image
from machine import needs

from vmfuzz.arch.outcomes import Kind
from vmfuzz.state.batch import VmcsBatch

missing = needs("bochs") or needs_image()
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]


def test_what_a_failed_entry_saves_is_written_back(tmp_path: Path) -> None:
    """Each row is the one that containment judged, and the engine tells which field changed: failures (CS's type 0) among entries."""
    saves = ("CC=gcc -Dvmfuzz_enter=wrong_enter", f"EXTRA={Path(__file__).with_name('saves_in_failures.c')}")
    with ImageMachine(build_image(tmp_path / "build", *saves)).start() as machine, ImageExecutor(machine) as image:
        good = image.known_good()
        rights = good["guest_cs_access_rights"]
        column = np.full(40, rights, np.uint64)
        column[::2] = rights & ~0xF
        outcomes = image.run(VmcsBatch(good, {"guest_cs_access_rights": column}, count=40))
        assert (outcomes.kind[::2] == Kind.ENTRY_FAILURE).all()
        assert (outcomes.kind[1::2] == Kind.EXIT).all()
        again = image.run([good])[0]
        assert (again.kind, again.number) == (Kind.EXIT, 52)
