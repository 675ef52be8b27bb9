"""docs/kvm-checks.md, and the block of it in docs/kvm.md: who holds each check on KVM, from the campaigns in docs/report/kvm.jsonl.

    python tests/system/who_holds_checks.py docs/report/kvm.jsonl ...     # adds a campaign
    python tools/kvm_page.py                                              # writes the pages

KVM's own word says who refused a candidate: a text of its own check, a VM-instruction error of the processor below, or nothing. Where it says
nothing, the end tells: KVM alone loads the MSRs of the list (34), and answers with a VM-instruction error that the processor below did not
give; a guest state that fails (33) without a text was refused by the processor below.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vmfuzz.files import write_text
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.kvm_messages import BELOW
from vmfuzz.prose import wrapped

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "kvm-checks.md"
REPORT: Final = ROOT / "docs" / "kvm.md"
CAMPAIGNS: Final = ROOT / "docs" / "report" / "kvm.jsonl"
#: Group 2 is what `summary` writes.
BLOCK: Final = re.compile(r"(<!-- figures of docs/report/kvm.jsonl -->\n)(.*?)(<!-- end of figures -->)", re.DOTALL)
OWN, OWN_SILENT, PROCESSOR, NOBODY, UNSEEN = "KVM, by a text", "KVM, without a text", "the processor below", "nobody", "not seen alone"
_MEANINGS: Final = {
    OWN: "KVM's own check, named in its tracepoint",
    OWN_SILENT: "KVM's own code, which names nothing",
    PROCESSOR: "the processor below KVM",
    NOBODY: "no candidate that violates it alone failed",
    UNSEEN: "exists there, and no executed candidate violated it alone",
}


def campaigns() -> list[dict[str, Any]]:
    """The campaigns that are kept, one a line."""
    return [json.loads(line) for line in CAMPAIGNS.read_text(encoding="utf-8").splitlines()]


def holders(held: dict[str, Any]) -> list[str]:
    """Who held a check in one campaign, in the order of the page."""
    found = {_holder(outcome, text) for outcome, text in held["words"]}
    if not found:
        return [NOBODY if held["alone"] else UNSEEN]
    return [name for name in _MEANINGS if name in found]


def _holder(outcome: str, text: str | None) -> str:
    if text is None:
        return PROCESSOR if outcome.startswith("entry failure 33") else OWN_SILENT
    return PROCESSOR if text.startswith(BELOW.strip()) else OWN


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _row(id: str, items: Sequence[dict[str, Any]]) -> str:
    """One check in all campaigns that saw it: who held it in each, where that differs; what KVM names; the counts of all."""
    mine = [item["checks"][id] for item in items if id in item["checks"]]
    named = list(dict.fromkeys("; ".join(holders(held)) for held in mine if held["alone"])) or [UNSEEN]
    texts = list(dict.fromkeys(text for held in mine for _, text in held["words"] if text is not None))
    otherwise: Counter[str] = Counter()
    for held in mine:
        otherwise.update(held["otherwise"])
    others = ", ".join(f"{name} {number:,}" for name, number in otherwise.most_common())
    said = "<br>".join(f"`{_cell(text)}`" for text in texts)
    failed, alone = (sum(held[key] for held in mine) for key in ("failed", "alone"))
    return f"| {id} | {' / '.join(named)} | {said} | {alone:,} | {failed:,} | {others} |"


def page() -> str:
    """docs/kvm-checks.md."""
    items = campaigns()
    here = [check.id for check in CHECKS if any(check.id in item["checks"] for item in items)]
    missing = [check.id for check in CHECKS if check.id not in here]
    lines = [
        "# Who holds each check on KVM",
        "",
        "For people who work on KVM. You will see, for each check, whether KVM makes it, leaves it to the processor below, or leaves it to nobody.",
        "",
        "`tools/kvm_page.py` makes this page from the campaigns in `docs/report/kvm.jsonl` (`tests/system/who_holds_checks.py`). All results are "
        "emulated. [kvm.md](kvm.md) says how KVM is tested.",
        "",
        *(f"- {item['executor']}: {item['candidates']:,} candidates, seed {item['seed']}, {item['executed']:,} executed" for item in items),
        "",
        "*Alone* counts the executed candidates in which no other check of the stage that fails is violated. *Failed* counts those of them that end as "
        "the check demands. *Otherwise* says what the rest are, by known deviation. Up to two failed candidates of each check ran again, each alone, to "
        "get KVM's own text.",
        "",
        *(f"- {name}: {meaning}" for name, meaning in _MEANINGS.items()),
        "",
        *summary(items),
        "",
        "| check | held by | what KVM says | alone | failed | otherwise |",
        "| --- | --- | --- | ---: | ---: | --- |",
        *(_row(id, items) for id in here),
        "",
        f"The others do not exist there, because the emulated processor or KVM lacks the feature ({len(missing)}):",
        "",
        ", ".join(missing) + ".",
    ]
    return wrapped("\n".join(lines) + "\n")


def summary(items: Sequence[dict[str, Any]]) -> list[str]:
    """How many checks each holds, for each campaign."""
    lines = [f"| executor | {' | '.join(_MEANINGS)} |", "| --- |" + " ---: |" * len(_MEANINGS)]
    for item in items:
        counts = Counter(holders(held)[0] for held in item["checks"].values())
        lines.append(f"| {item['executor']} | {' | '.join(str(counts[name]) for name in _MEANINGS)} |")
    return lines


def written() -> str:
    """docs/kvm.md with the block of these figures."""
    block = "\n".join(summary(campaigns())) + "\n"
    return BLOCK.sub(lambda match: match[1] + block + match[3], REPORT.read_text(encoding="utf-8"))


def main() -> None:
    """Write both anew."""
    write_text(PAGE, page())
    write_text(REPORT, written())
    print(f"wrote {PAGE.relative_to(ROOT)} and {REPORT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
