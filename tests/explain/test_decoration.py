"""What stands around every line of a text changes nothing, and what only looks like it is left alone."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.text.decoration import undecorated

HERE = Path(__file__).parent
SAMPLES = {f"{path.parent.name}/{path.stem}": path for path in sorted([*HERE.glob("samples/*.txt"), *HERE.glob("bodies/*.txt")])}


def before(sign: str) -> Callable[[str], str]:
    """Every line with a sign before it; {n} in it counts, and so does {t} in a time."""
    return lambda text: "".join(
        sign.replace("{n}", str(number)).replace("{t}", f"{number:06}") + line + "\n" for number, line in enumerate(text.splitlines(), 1)
    )


DECORATIONS: dict[str, Callable[[str], str]] = {
    "numbers": before("{n}: "),
    "numbers in columns": lambda text: "".join(f"{number:5}  {line}\n" for number, line in enumerate(text.splitlines(), 1)),
    "numbers and bars": lambda text: "".join(f"{number:4} | {line}\n" for number, line in enumerate(text.splitlines(), 1)),
    "numbers of a page": before("L{n} "),
    "a patch": before("+"),
    "a quoted patch": before("> + "),
    "numbers and a patch": before("{n} + "),
    "a list": before("* "),
    "a comment of C": before(" * "),
    "comments of C++": before("// "),
    "comments of a shell": before("# "),
    "comments of an assembler": before("; "),
    "bars": before("| "),
    "a box": before("│ "),
    "string literals": lambda text: "".join(f'"{line}"\n' for line in text.splitlines()),
    "string literals of C": lambda text: "".join(f'\t"{line}\\n"\n' for line in text.splitlines()),
    "inline code": lambda text: "".join(f"`{line}`\n" for line in text.splitlines()),
    "backslashes": lambda text: text.replace("\n", " \\\n"),
    "breaks of HTML": lambda text: text.replace("\n", "<br>\n"),
    "breaks of HTML alone": lambda text: text.replace("\n", "<br/>"),
    "rows of a page": lambda text: "".join(f"<div>{line}</div>" for line in text.splitlines()),
    "places to break": lambda text: re.sub(r"([0-9a-fA-F]{4})(?=[0-9a-fA-F]{4})", "\\1\u200b", text),
    "one string literal": lambda text: '"' + text.replace("\t", "\\t").replace("\n", "\\n") + '"',
    "JSON string": lambda text: json.dumps({"log": text}),
    "JSON lines": lambda text: "".join(json.dumps({"msg": line}) + "\n" for line in text.splitlines()),
    "Docker": before("2024-05-01T12:34:56.789Z "),
    "dmesg -e": before("[  +0.{t}] "),
    "dmesg -d": before("[<    0.{t}>] "),
    "syslog in French": before("juil. 01 12:00:00 pve1 kernel: [ 12.{t}] "),
    "syslog in Chinese": before("7月 01 12:00:00 pve1 kernel: "),
    "grep": before("/var/log/kern.log:Jul  1 12:00:00 pve1 kernel: [ 12.{t}] "),
    "grep -n": before("kern.log:{n}:[ 12.{t}] "),
    "/dev/kmsg": before("3,1{n},34148526{n},-;kvm_intel: "),
    "ftrace": before(" qemu-system-x86-1234    [003] d..1   12.{t}: "),
    "trace_printk": before("      CPU 0/KVM-251862 [019]  6384.{t}: bprint:               vmx_dump_{n}: "),
    "docker compose": before("vm_1  | "),
    "klog": before("I0701 12:00:00.{n}    1234 x.go:12] "),
    "libvirt": before("2022-07-01 12:00:00.123+0000: 1234: error : qemuMonitorIO:123 : "),
    "QEMU": before("qemu-system-x86_64: "),
    "a logger of one's own": before("foo bar: "),
    "another": before("VM#3 >> "),
    "a third": before("2022.07.01-12.00.00 <kvm> "),
    "dates of America": before("07/01/2022 12:00:00 "),
    "dates of Europe": before("01.07.2022 12:00:00 "),
    "numbers in brackets": before("({n}) "),
    "Android": before("05-01 12:34:56.789     0     0 E kvm: "),
    "a serial console": before("[12:34:56.789] "),
    "a clock": before("12:34:56 "),
    "Go": before("2024/05/01 12:34:56.123456 "),
    "a Xen guest": before("(d1) "),
    "a crate of Rust": before("[INFO  hv::vcpu] "),
    "colours": lambda text: "".join(f"\x1b[1;32m{line}\x1b[0m\n" for line in text.splitlines()),
    "colours without their escape character": lambda text: "".join(f"[32m{line}[0m\n" for line in text.splitlines()),
    "blank lines between": lambda text: text.replace("\n", "\n\n"),
    "blanks collapsed": lambda text: re.sub(r" {2,}", " ", text),
}


def of(dump: Dump) -> dict[str, tuple[int, int]]:
    """What was read, with the bits that are known."""
    return {reading.name: (reading.value, reading.known) for reading in (*dump.readings.values(), *dump.msrs.values())}


@pytest.mark.parametrize("decoration", DECORATIONS)
@pytest.mark.parametrize("name", SAMPLES)
def test_decorations_change_nothing(name: str, decoration: str) -> None:
    text = SAMPLES[name].read_text(encoding="utf-8")
    plain, decorated = read_text(text), read_text(DECORATIONS[decoration](text))
    assert [of(dump) for dump in decorated] == [of(dump) for dump in plain], decorated[0].warnings
    for mine, other in zip(decorated, plain, strict=True):
        assert (mine.reported is None) == (other.reported is None)
        if mine.reported is not None and other.reported is not None:
            assert (mine.reported.exit_reason, mine.reported.error) == (other.reported.exit_reason, other.reported.error)


@pytest.mark.parametrize("width", range(66, 101, 2))
@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("bodies/kvm", ""),
        ("bodies/kvm", "[  417.123456] kvm_intel: "),
        ("bodies/kvm", "Jun 24 17:25:51 testhost kernel: "),
        ("samples/kvm", ""),
        ("bodies/xen", "(XEN) "),
        ("samples/xen", ""),
    ],
)
def test_lines_may_be_broken_at_any_width(name: str, prefix: str, width: int) -> None:
    text = SAMPLES[name].read_text(encoding="utf-8")
    lines = [prefix + line for line in text.splitlines()]
    broken = "\n".join("\n".join(textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)) for line in lines)
    assert of(read_text(broken + "\n")[0]) == of(read_text(text)[0])


@pytest.mark.parametrize("name", ["bodies/kvm", "bodies/xen", "samples/kvm", "samples/xen"])
def test_the_ends_of_lines_may_be_lost(name: str) -> None:
    text = SAMPLES[name].read_text(encoding="utf-8")
    assert of(read_text(text.replace("\n", " ") + "\n")[0]) == of(read_text(text)[0])


@pytest.mark.parametrize(
    "text",
    [
        "480: 0x00da040000000004\n481: 0x0000007f00000016\n482: 0xfff9fffe0401e172\n483: 0x007fffff00036dff\n",
        "#define GUEST_CR0 0x6800\n#define GUEST_CR3 0x6802\n#define GUEST_CR4 0x6804\n#ifdef X\n#endif\n",
        "6800 0x80050033\n6802 0x1000\n6804 0x2660\n",
        "| GUEST_CR0 | 0x80050033 |\n| GUEST_CR3 | 0x1000 |\n| GUEST_CR4 | 0x2660 |\n",
        "-1\n-2\n-3\n-4\n",
        "0: msr=0x00000600 value=0x0\n1: msr=0x00000601 value=0x0\n2: msr=0x00000602 value=0x0\n3: msr=0x00000603 value=0x0\n",
        "guest_cr0 = 0x80050033\n+ guest_cr3 = 0x1000\nguest_cr4 = 0x2660\n",
        '"GUEST_CR0": 0x80050033,\n"GUEST_CR3": 0x1000,\n"GUEST_CR4": 0x2660,\n',
    ],
)
def test_what_only_looks_like_a_decoration_stays(text: str) -> None:
    lines = text.splitlines()
    assert undecorated(lines) == lines


def test_a_stretch_of_decorated_lines_among_others() -> None:
    prose = ["I changed this,", "and it still fails:", ""]
    fields = [f"GUEST_CR{number} = {number + 1:#x}" for number in (0, 3, 4) for _ in range(3)]
    assert undecorated([*prose, *(f"+ {line}" for line in fields), *prose]) == [*prose, *fields, *prose]


@pytest.mark.parametrize(
    "prefix",
    [
        "> > ",
        "[   12.345678] kvm_intel: ",
        "[ 12.3] [ T1234] ",
        "[...] ",
        "[**] ",
        "[NoirVisor] ",
        "Jul  1 12:00:00 pve1 kernel: [   12.3] ",
        "juil. 01 12:00:00 pve1 kernel: ",
        "2024-05-01T12:34:56.789+0200 host qemu-system-x86[1234]: ",
        "2022-07-01 12:00:00.123+0000: 1234: error : qemuMonitorIO:123 : ",
        "2024/05/01 12:34:56.123456 ",
        "00:00:12.345678 ",
        " qemu-system-x86-1234    [003] d..1   12.3: ",
        "kern.log:12:[ 12.3] ",
        "(XEN) d1v0 ",
        "(intelhaxm): ",
        "INFO hv::vcpu: ",
        "CPU(0x00): @before02@",
        "   +0x010 ",
    ],
)
def test_a_single_line_loses_what_can_be_nothing_else(prefix: str) -> None:
    assert [line.strip() for line in undecorated([f"{prefix}guest_cr0 = 0x31"])] == ["guest_cr0 = 0x31"]


@pytest.mark.parametrize(
    "line", ["[GUEST_CR0] 0x31", "[0x6800] guest_cr0 = 0x31", "[6800] guest_cr0 = 0x31", "[guest] cr0 = 0x31", "[3] = 0x31", "error 7"]
)
def test_what_a_line_says_stays(line: str) -> None:
    assert undecorated([line]) == [line]
