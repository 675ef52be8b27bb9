"""Batches after which the machine did not come back: findings without an outcome, narrowed down in half-batches (bisect.py).

Each half is on disk before it runs, so that a further reset narrows the batch instead of losing what was known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.case import Case, mutation_between
from vmfuzz.generate.families import Block, FamilyPlan

#: The kind of these findings.
KIND: Final = "machine did not come back"


@dataclass(frozen=True)
class LostBatch:
    """A batch that was under way when the campaign ended, on a processor that can take the machine with it.

    `number`: its row in the store. `count`: the candidates of the plan that ran. `checks`: what the suspects aim at. `first`, `last`: the candidates
    that are suspects, without `last`. `trying`: those of them that are under way now, and `alone` whether the only suspect ran by itself:
    "did not come back", "came back", or "" where that is not known. `resets`: how often the machine did not come back, the first time counted.
    `restarted`: whether the machine that vmfuzz runs on was started anew in between. `mutation`: the only suspect, once there is one.
    """

    number: int
    plan: FamilyPlan
    count: int
    checks: tuple[str, ...]
    first: int
    last: int
    trying: tuple[int, int] | None = None
    alone: str = ""
    resets: int = 1
    restarted: bool = True
    mutation: dict[str, int] | None = None

    @property
    def id(self) -> str:
        """A short permanent name made of the content."""
        return hashlib.sha256(json.dumps([KIND, asdict(self.plan), self.count]).encode()).hexdigest()[:10]

    @property
    def suspects(self) -> int:
        """How many candidates it may have been."""
        return self.last - self.first

    @property
    def next_part(self) -> tuple[int, int] | None:
        """The candidates to run next, to know more: half of the suspects, or the last one by itself; None where nothing is left to find."""
        if self.alone:
            return None
        return self.first, self.first + (self.suspects + 1) // 2

    @property
    def most_resets(self) -> int:
        """How often more the machine may go down, at most, until one candidate is left."""
        return 0 if self.alone else max(1, (self.suspects - 1).bit_length())

    def came_back(self) -> LostBatch:
        """What is known after the machine came back from `trying`: it is none of these."""
        assert self.trying is not None
        if self.suspects == 1:
            return replace(self, trying=None, alone="came back")
        return replace(self, trying=None, first=self.trying[1])

    def did_not_come_back(self) -> LostBatch:
        """What is known after the machine did not come back from `trying`: it is one of these."""
        assert self.trying is not None
        first, last = self.trying
        alone = "did not come back" if last - first == 1 else ""
        return replace(self, trying=None, first=first, last=last, alone=alone, resets=self.resets + 1)

    def with_culprit(self, candidate: int) -> LostBatch:
        """What is known where the machine itself says which candidate it was running."""
        return replace(self, trying=None, first=candidate, last=candidate + 1, alone="did not come back")

    def named(self, campaign: Campaign) -> LostBatch:
        """The same with the mutation of the only suspect, if there is only one."""
        if self.suspects != 1 or self.mutation is not None:
            return self
        example = campaign.candidates(self.plan, self.count).row(self.first)
        return replace(self, mutation=mutation_between(campaign.generator.base_of(self.plan), example))

    def to_data(self) -> dict[str, Any]:
        """What the store keeps."""
        data = asdict(self)
        del data["number"], data["checks"]
        return data

    def to_json(self) -> dict[str, Any]:
        """A JSON object for reports; with a single suspect it has the id and the mutation of its case."""
        case = None
        if self.mutation is not None:
            mutation = {name: f"{value:#x}" for name, value in self.mutation.items()}
            case = {"id": Case(self.plan.base, self.mutation).id, "base": self.plan.base, "mutation": mutation}
        return {
            "id": self.id,
            "kind": KIND,
            "base": self.plan.base,
            "checks": list(self.checks),
            "operands": list(self.plan.operands),
            "seed": self.plan.seed,
            "candidates": self.count,
            "suspects": [self.first, self.last],
            "resets": self.resets,
            "restarted": self.restarted,
            "alone": self.alone or None,
            "case": case,
        }


def plan_from(data: dict[str, Any]) -> FamilyPlan:
    """The plan that `dataclasses.asdict` made the data of."""
    blocks = tuple(Block(**{**block, "sought": tuple(block.get("sought", ()))}) for block in data["blocks"])
    return FamilyPlan(**{**data, "operands": tuple(data["operands"]), "blocks": blocks})


def _targets(plan: FamilyPlan, first: int, last: int) -> Iterator[int]:
    """The targets of the blocks that the candidates from `first` to `last` lie in."""
    start = 0
    for block in plan.blocks:
        if start < last and first < start + block.rows:
            yield block.target
        start += block.rows


def lost_from(number: int, data: dict[str, Any], checks: Sequence[str]) -> LostBatch:
    """The batch of `LostBatch.to_data`, or of a record {"plan", "count"} that was made before a batch ran.

    `checks`: ids of all checks of the campaign's model.
    """
    plan = plan_from(data.get("plan", data))  # the first stores kept nothing but the plan
    count = data.get("count", plan.rows)
    first, last = data.get("first", 0), data.get("last", count)
    trying = data.get("trying")
    return LostBatch(
        number,
        plan,
        count,
        tuple(dict.fromkeys(checks[target] for target in _targets(plan, first, last) if target < len(checks))),
        first,
        last,
        trying=tuple(trying) if trying else None,
        alone=data.get("alone", ""),
        resets=data.get("resets", 1),
        restarted=data.get("restarted", True),
        mutation=data.get("mutation"),
    )
