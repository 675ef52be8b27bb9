"""The full campaigns through the kernel module, one after the other, and the tables of docs/bare-metal.md that come from them.

    python tests/system/every_campaign.py               # the full ones
    python tests/system/every_campaign.py --poison      # short ones with poison, which are compared with these

Each boots a machine of its own (comparison.py) and adds its figures to docs/report/module.jsonl. What is there already, of the module as it is now and
at least as long, is not done again: a campaign that was stopped begins anew, the others do not. Exit code 1 when one of them found something that
nothing explains, or did not come to its end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from debian_kernels import digest, kernels, release
from machine import HERE, needs

ROOT: Final = HERE.parents[1]
FIGURES: Final = ROOT / "docs" / "report" / "module.jsonl"
#: All models with VMX and 64-bit mode of Debian's Bochs 2.7 besides corei7_skylake_x and tigerlake. The last has no counterpart in this process.
OTHERS: Final = (
    "core2_penryn_t9600",
    "corei5_lynnfield_750",
    "corei5_arrandale_m520",
    "corei7_sandy_bridge_2600k",
    "corei7_ivy_bridge_3770k",
    "corei7_haswell_4770",
    "broadwell_ult",
    "corei3_cnl",
    "corei7_icelake_u",
    "bx_generic",
)
#: Neither VMX-preemption timer nor EPT: `safe` takes nothing there.
ONE_WALL: Final = ("core2_penryn_t9600", "bx_generic")
#: CPU model, kernel's arguments, seed, candidates to execute, kernel (0 the oldest that is installed, -1 the newest).
CAMPAIGNS: Final = (
    ("corei7_skylake_x", "pti=on", 1, 1_000_000, 0),
    ("corei7_skylake_x", "nopti mitigations=off", 2, 1_000_000, 0),
    *((cpu, "pti=on", 3, 100_000, 0) for cpu in OTHERS),
    ("tigerlake", "mitigations=off", 3, 100_000, -1),
)


#: With poison each executes so many.
POISONED: Final = 100_000


def is_done(wanted: dict[str, Any], poison: bool) -> bool:
    """Whether a campaign's figures are there."""
    same = {"cpu": wanted["cpu"], "arguments": wanted["arguments"], "seed": wanted["seed"], "risk": wanted["risk"], "poison": poison}
    same |= {"kernel": release(kernels()[wanted["kernel"]]), "module": digest()}
    lines = map(json.loads, FIGURES.read_text(encoding="utf-8").splitlines())
    return any(line["executed"] >= wanted["executed"] and all(line.get(name) == value for name, value in same.items()) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poison", action="store_true", help="the campaigns with poison (docs/bare-metal.md)")
    poison = parser.parse_args().poison
    missing = needs("bochs")
    if missing:
        sys.exit(missing)
    failed = []
    for cpu, arguments, seed, executed, kernel in CAMPAIGNS:
        wanted = {"cpu": cpu, "arguments": arguments, "seed": seed, "executed": executed, "kernel": kernel}
        wanted["risk"] = "bold" if cpu in ONE_WALL else "safe"
        if poison:
            wanted["executed"] = POISONED
        if is_done(wanted, poison):
            continue
        options = [word for name, value in {**wanted, "json": FIGURES}.items() for word in (f"--{name}", str(value))]
        options += ["--poison"] * poison
        if subprocess.run([sys.executable, Path(__file__).with_name("comparison.py"), *options], check=False).returncode:
            failed.append(f"{cpu} ({arguments})")
    subprocess.run([sys.executable, ROOT / "tools" / "module_page.py"], check=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
