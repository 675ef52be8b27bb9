"""`vmfuzz export`: a finding as a test that the hypervisors' own people can run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vmfuzz.cli.places import find_entry, place_option, stand_in
from vmfuzz.corpus.export import FORMS, export_entry
from vmfuzz.errors import UsageError
from vmfuzz.files import require_writable, write_bytes, write_text


@click.command()
@click.argument("id")
@click.option("--c", "form", flag_value="c", help="Plain C: the VMWRITEs as functions.")
@click.option("--kvm-unit-test", "form", flag_value="kvm-unit-test", help="A test function in the style of kvm-unit-tests.")
@click.option(
    "--kvm-selftest", "form", flag_value="kvm-selftest", help="A whole program in C that runs the case in a virtual machine of KVM."
)
@click.option("--syz", "form", flag_value="syz", help="A syzkaller program with its VMWRITE masks.")
@click.option(
    "--image",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a bootable image that runs the case on whatever machine boots it, with no operating system, and shows the expected and the actual "
    "outcome on the screen and on the serial line. A name that ends in .iso makes a CD, for Bochs, VirtualBox and all other machines with a BIOS, and "
    "where GRUB's packages are installed for UEFI firmware too; one that ends in .bin makes a multiboot image, for `qemu-system-x86_64 -kernel`.",
)
@click.option(
    "--uncontained",
    is_flag=True,
    help="With --image: run the case even where containment would refuse it. Only for an emulator, or a virtual machine whose hypervisor nobody needs: "
    "the case may write any MSR, and take the machine down.",
)
@click.option(
    "--cpu", help="Of the processors on which the finding was run, the one whose state to export. [default: the first that shows it]"
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write here instead of standard output.")
@place_option
def export(
    id: str, form: str | None, image: Path | None, uncontained: bool, cpu: str | None, output: Path | None, place: Path | None
) -> None:
    """Print the finding ID as a test in one of the forms, or write it as a bootable image."""
    if image is not None:
        if form is not None or output is not None:
            raise UsageError(f"--image {image} already says what to write and where; leave out {'-o' if output else '--' + str(form)}")
        _write_image(id, image, uncontained, cpu, place)
        return
    if uncontained:
        raise UsageError("--uncontained is for --image FILE: what the other forms print has no containment")
    if form is None:
        raise UsageError(f"name the form: {', '.join('--' + name for name in FORMS)}, --image FILE")
    if output is not None:
        require_writable(output)
    path, entry = find_entry(place, id, to_read=True)
    text = export_entry(entry, stand_in(path, entry, cpu), form)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)


def _write_image(id: str, image: Path, uncontained: bool, cpu: str | None, place: Path | None) -> None:
    from vmfuzz.corpus.efi import PACKAGES, efi_partition
    from vmfuzz.corpus.image_case import export_image, is_disc, require_image_name  # reads C headers, which the other forms do without

    require_image_name(image)
    require_writable(image)
    path, entry = find_entry(place, id, to_read=True)
    efi = efi_partition() if is_disc(image) else b""
    write_bytes(image, export_image(entry, stand_in(path, entry, cpu), image, uncontained, efi or b""))
    if efi is None:
        click.echo(f"{image} boots on a BIOS; for one that boots on UEFI firmware too, install {PACKAGES} and export it again", err=True)
