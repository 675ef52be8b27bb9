"""Counts and times in few characters."""

from __future__ import annotations


def short(value: int) -> str:
    """A count in a few characters: 9,999, then 66.6k, 1.43M."""
    if value < 10_000:
        return f"{value:,}"
    power = 1 if value < 999_500 else 2 if value < 999_500_000 else 3
    scaled = f"{value / 1000**power:#.3g}".rstrip(".")
    return scaled + "kMG"[power - 1]


def duration(seconds: float) -> str:
    """A time as people say it: 8.2 s, 5 min 33 s, 2 h 05 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
