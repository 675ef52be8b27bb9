"""Pictures of a report as SVG for a page: coverage over time and the distribution of outcomes.

Drawn by matplotlib in marker colours, which become the page's own (CSS variables), so that one picture fits a dark and a light page.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.report.data import Processor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Marker colours: text and lines take the page's colour, series the page's variables --s0, --s1, ...
_TEXT: Final = "#010203"
_SERIES: Final = tuple(f"#0a0b{number:02x}" for number in range(16))
_DASHES: Final = ("-", "--", ":", "-.")
_COLOURS: Final = 8
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vmfuzz",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _TEXT),
}

#: Groups of outcomes: what an outcome's short form begins with -> the group's name; the first that fits.
GROUPS: Final = (
    ("entered", "entered"),
    ("VMfailValid(7)", "VMfailValid 7 (controls)"),
    ("VMfailValid(8)", "VMfailValid 8 (host state)"),
    ("VMfail", "other VMfail"),
    ("entry failure 33", "exit reason 33 (guest state)"),
    ("entry failure 34", "exit reason 34 (MSR loading)"),
    ("refused", "not run (containment)"),
    ("", "other"),
)


def grouped(outcomes: Counter[str]) -> dict[str, int]:
    """Counts of outcomes by group, in the order of GROUPS."""
    counts = dict.fromkeys((name for _, name in GROUPS), 0)
    for outcome, count in outcomes.items():
        counts[next(name for start, name in GROUPS if outcome.startswith(start))] += count
    return counts


def outcomes(processors: Sequence[Processor]) -> str:
    """One bar per processor: the share of each group of outcomes."""
    figure, axes = _figure(8.6, 1.3 + 0.27 * len(processors))
    names = [processor.name for processor in processors]
    counts = [grouped(processor.total("outcomes")) for processor in processors]
    left = [0.0] * len(processors)
    for number, (_, group) in enumerate(GROUPS):
        shares = [100 * each[group] / max(1, sum(each.values())) for each in counts]
        if any(shares):
            axes.barh(range(len(names)), shares, left=left, color=_SERIES[number], label=group, height=0.72)
            left = [before + share for before, share in zip(left, shares, strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("candidates, %")
    axes.tick_params(axis="y", length=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=8, labelcolor=_TEXT)
    return _svg(figure, "outcomes")


def coverage(processors: Sequence[Processor]) -> str | None:
    """One line per processor: checks seen deciding over candidates run, of its longest campaign; None where no history was kept."""
    lines = []
    for processor in processors:
        source = max(processor.campaigns, key=lambda each: int(each.data["candidates"]))
        points = source.data.get("history") or []
        if points:
            lines.append((processor.name, [point[1] for point in points], [point[2] for point in points], len(source.data["checks"])))
    if not lines:
        return None
    figure, axes = _figure(9.6, 3.8)
    for number, (name, candidates, decided, existing) in enumerate(lines):
        dash = _DASHES[number // _COLOURS % len(_DASHES)]
        axes.plot(candidates, decided, dash, color=_SERIES[number % _COLOURS], label=f"{name} ({decided[-1]} of {existing})", linewidth=1.4)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("candidates run")
    axes.set_ylabel("checks seen deciding alone")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=7.5, labelcolor=_TEXT)
    return _svg(figure, "coverage")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a window; sizes in inches."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentUnusable(f"the pictures of the page need {error.name}; install it with: pip install 'vmfuzz[report]'") from None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def _svg(figure: Figure, prefix: str) -> str:
    """The figure as an <svg> element whose ids begin with `prefix`, in the page's colours and as wide as its place."""
    import matplotlib

    written = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(_STYLE):
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", text)
    text = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", text)
    text = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text).replace("url(#", f"url(#{prefix}-")
    text = text.replace(_TEXT, "currentColor")
    for number, colour in enumerate(_SERIES):
        text = text.replace(colour, f"var(--s{number})")
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px sans-serif", text).strip()
