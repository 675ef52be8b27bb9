"""What comes with vmfuzz and is not Python: the corpus and the sources of module and image; in a wheel within the package, else in the source tree."""

from __future__ import annotations

from pathlib import Path

from vmfuzz.errors import EnvironmentUnusable

_PACKAGE = Path(__file__).parents[1]
_SOURCE_TREE = Path(__file__).parents[3]


def shipped(name: str) -> Path:
    """The directory "corpus", "kmod" or "image"; raises EnvironmentUnusable where vmfuzz was installed without it."""
    for place in (_PACKAGE / "shipped" / name, _SOURCE_TREE / name):
        if place.is_dir():
            return place
    raise EnvironmentUnusable(f"vmfuzz was installed without {name}/; install the wheel, or run it in the source tree")


def module_sources() -> dict[str, Path]:
    """The files of which kernel module and agent are made, by their names in a directory of their own."""
    place = shipped("kmod")
    virtual = next(directory for directory in (place / "kvm", _PACKAGE / "execute" / "kvm") if directory.is_dir())
    own = [path for pattern in ("*.c", "*.h", "*.ld", "Kbuild", "Makefile", "dkms.conf", "LICENSE") for path in place.glob(pattern)]
    found = {path.name: path for path in own if not path.name.endswith(".mod.c")}
    return found | {f"kvm/{path.name}": path for pattern in ("*.c", "*.h") for path in virtual.glob(pattern)}


def image_sources() -> dict[str, Path]:
    """The files of which the bootable image is made, the module's among them, by their names in a directory of their own."""
    place = shipped("image")
    own = [path for pattern in ("*.c", "*.h", "*.S", "*.ld", "grub.cfg", "Makefile") for path in place.glob(pattern)]
    return {f"image/{path.name}": path for path in own} | {f"kmod/{name}": path for name, path in module_sources().items()}
