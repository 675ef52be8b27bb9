"""How a campaign went over time: a bounded list of points, so that a summary can be drawn however long the campaign was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: At most so many points are kept; beyond, every other one is dropped and points are taken half as often.
_MOST: Final = 200

#: Seconds since the start, candidates, checks seen deciding, findings.
Point = tuple[float, int, int, int]


@dataclass
class History:
    """Points in the order of time, evenly spaced in candidates."""

    points: list[Point] = field(default_factory=list)
    _step: int = 1

    def add(self, seconds: float, candidates: int, decided: int, findings: int) -> None:
        """Note where the campaign is, if it has gone far enough since the last point."""
        if self.points and candidates < self.points[-1][1] + self._step:
            return
        self.points.append((round(seconds, 3), candidates, decided, findings))
        if len(self.points) > _MOST:
            self.points = self.points[::2]
            self._step = max(self._step, self.points[-1][1] // (_MOST // 2))

    def restore(self, points: list[list[float]]) -> None:
        """Take the points of a stored campaign."""
        self.points = [(point[0], int(point[1]), int(point[2]), int(point[3])) for point in points]
        self._step = max(1, self.points[-1][1] // _MOST) if self.points else 1
