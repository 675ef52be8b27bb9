"""The tables of docs/bare-metal.md from the campaigns through the kernel module in docs/report/module.jsonl.

    python tests/system/comparison.py --json docs/report/module.jsonl ...     # adds a campaign
    python tools/module_page.py                                          # writes the tables

Of campaigns with the same processor, kernel, arguments and seed the last one counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from vmfuzz.files import write_text
from vmfuzz.prose import wrapped

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "bare-metal.md"
CAMPAIGNS: Final = ROOT / "docs" / "report" / "module.jsonl"
#: Group 2 is what `tables` writes.
BLOCK: Final = re.compile(r"(<!-- figures of docs/report/module.jsonl -->\n)(.*?)(<!-- end of figures -->)", re.DOTALL)
#: "outcome (cause) / outcome (cause)": what tests/system/comparison.py counts.
DIFFERENCE: Final = re.compile(r"(?P<there>.*) \((?P<why_there>[^()]*)\) / (?P<here>.*) \((?P<why_here>[^()]*)\)")
COLUMNS: Final = (
    "candidates",
    "executed",
    "agree",
    "deviation",
    "not modelled",
    "differ",
    "refused",
    "left out",
    "executed/s",
    "3.0: equal",
    "3.0: other",
)


def campaigns(text: str) -> list[dict[str, Any]]:
    """The campaigns in a file of them, one a line."""
    found = [json.loads(line) for line in text.splitlines()]
    return list({(item["cpu"], item["kernel"], item["arguments"], item["seed"], item.get("poison")): item for item in found}.values())


def tables(items: Sequence[dict[str, Any]]) -> str:
    """The block between the markers."""
    poisoned = [item for item in items if item.get("poison")]
    items = [item for item in items if not item.get("poison")]
    executed = sum(item["executed"] for item in items)
    differ = sum(item["verdicts"].get("MISMATCH", 0) for item in items)
    dirty = [item["cpu"] for item in items if item["log"] != "clean"]
    log = "was clean after each" if not dirty else f"was not clean after those on {', '.join(dirty)}"
    lines = [
        f"{executed:,} candidates executed in {len(items)} campaigns, {differ:,} that nothing explains; the kernel's log {log}, and the module unloaded.",
        "",
        f"| CPU model, kernel, its arguments, seed | {' | '.join(COLUMNS)} |",
        "|---|" + "---:|" * len(COLUMNS),
        *map(_campaign, items),
        "",
        *_table("refused because", "candidates", _sum(items, "refusals")),
        "",
        *_table("known deviation", "candidates", _sum(items, "deviations")),
        "",
        *_table("other end in Bochs 3.0: what explains that of 2.7 / of 3.0", "candidates", _differences(items)),
        *_poisoned(poisoned, items),
    ]
    return wrapped("\n".join(lines) + "\n")


def _poisoned(poisoned: Sequence[dict[str, Any]], items: Sequence[dict[str, Any]]) -> list[str]:
    """Refused candidates and checks seen deciding alone, without and with poison, at the greatest number of candidates that both campaigns wrote down."""
    lines = []
    for item in poisoned:
        twin = next((other for other in items if all(other[name] == item[name] for name in ("cpu", "kernel", "arguments", "seed"))), None)
        if twin is None or not twin.get("steps") or not item["steps"]:
            continue
        step = min(len(item["steps"]), len(twin["steps"])) - 1
        (count, refused, decided), (count_with, refused_with, decided_with) = twin["steps"][step], item["steps"][step]
        counts = f"{count:,} / {count_with:,} | {refused:,} | {refused_with:,} | {decided} | {decided_with}"
        lines.append(f"| {item['cpu']} | {counts} | {item['executed']:,} | {item['verdicts'].get('MISMATCH', 0):,} |")
    if not lines:
        return []
    head = (
        "| with `--poison`, beside the campaign without | candidates without / with | refused without | with | checks decided alone without | with | "
        "executed with | differ |"
    )
    return ["", head, "|---|" + "---:|" * 7, *lines]


def _campaign(item: dict[str, Any]) -> str:
    verdicts = item["verdicts"]
    rate = item["executed"] / max(item["executor_seconds"], 1)
    numbers = [item["candidates"], item["executed"]]
    numbers += [verdicts.get(name, 0) for name in ("AGREES", "DEVIATION", "NOT_MODELLED", "MISMATCH", "REFUSED", "NOT_RUN")]
    compared = [item["equal"], item["different"]] if item["equal"] else ["", ""]
    cells = [*(f"{number:,}" for number in numbers), f"{rate:,.0f}", *(number and f"{number:,}" for number in compared)]
    release = item["kernel"].split("-")[0].split("+")[0]
    risk = ", bold" if item.get("risk") == "bold" else ""
    risk += "" if "module" in item else ", module of 26 November 2026"
    return f"| {item['cpu']}, {release}, `{item['arguments']}`, {item['seed']}{risk} | {' | '.join(map(str, cells))} |"


def _sum(items: Iterable[dict[str, Any]], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for item in items:
        total.update({key.removeprefix("refused: "): number for key, number in item[name].items()})
    return total


def _differences(items: Iterable[dict[str, Any]]) -> Counter[str]:
    """By what explains them; where the model allows both outcomes, by the outcomes."""
    total: Counter[str] = Counter()
    for key, number in _sum(items, "differences").items():
        match = DIFFERENCE.fullmatch(key)
        assert match is not None, key
        plain = {match["why_there"], match["why_here"]} <= {"AGREES", "NOT_MODELLED"}
        why = (
            f"both allowed: {match['there']} / {match['here']}" if plain else f"{_cause(match['why_there'])} / {_cause(match['why_here'])}"
        )
        total[why] += number
    return total


def _cause(name: str) -> str:
    return {"AGREES": "as the manual says", "NOT_MODELLED": "not modelled"}.get(name, name)


def _table(what: str, count: str, numbers: Counter[str]) -> list[str]:
    return [f"| {what} | {count} |", "|---|---:|", *(f"| {name} | {number:,} |" for name, number in numbers.most_common())]


def written() -> str:
    """The document with the tables of the campaigns that are kept."""
    block = tables(campaigns(CAMPAIGNS.read_text(encoding="utf-8")))
    return BLOCK.sub(lambda match: match[1] + block + match[3], PAGE.read_text(encoding="utf-8"))


def main() -> None:
    """Write the block anew."""
    write_text(PAGE, written())
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
