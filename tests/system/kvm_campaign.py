"""A campaign on KVM in a test machine, with its figures: how many candidates end as the model says, and what the others are."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from guest_executor import KvmGuestExecutor, ran

from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.mismatches import Findings
from vmfuzz.comparison.compare import Comparison, Verdict


@dataclass
class KvmFigures:
    """What a campaign counted; `log`: new warnings of the kernel with the family after which each came."""

    verdicts: Counter[str] = field(default_factory=Counter)
    deviations: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    executed: int = 0
    exits: int = 0
    requests: int = 0
    seconds: float = 0.0
    executor_seconds: float = 0.0
    log: list[str] = field(default_factory=list)

    def add(self, campaign: Campaign, comparison: Comparison, base: str) -> None:
        """Count one family."""
        self.verdicts.update(Verdict(int(number)).name for number in comparison.verdict)
        self.executed += int(ran(comparison.outcomes).sum())
        for row in range(len(comparison.verdict)):
            if comparison.verdict[row] == Verdict.DEVIATION:
                assert campaign.altered is not None
                number = int(comparison.deviation[row])
                self.deviations[campaign.altered.deviations[number].id if number >= 0 else "several"] += 1
            elif comparison.verdict[row] == Verdict.REFUSED:
                self.refusals[comparison.outcomes.message_of(row) or "no reason given"] += 1
        self.findings.add(comparison, base)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        plain = {name: getattr(self, name) for name in ("executed", "exits", "requests", "log")}
        counters = {name: dict(getattr(self, name).most_common()) for name in ("verdicts", "deviations", "refusals")}
        seconds = {"seconds": round(self.seconds), "executor_seconds": round(self.executor_seconds)}
        return {**plain, **seconds, **counters, "findings": [finding.to_json() for finding in self.findings.by_id.values()]}

    def __str__(self) -> str:
        v = self.verdicts
        rate = self.executed / max(self.executor_seconds, 1e-9)
        exits = f"{self.exits / self.executed:.1f} VM exits each; " if self.exits else ""
        return (
            f"{v.total():,} candidates, {v['REFUSED']:,} refused, {v['NOT_RUN']:,} left out, {self.executed:,} executed ({rate:,.0f}/s), "
            f"{exits}{v['AGREES']:,} agree with the model, {v['DEVIATION']:,} are known deviations, "
            f"{v['NOT_MODELLED']:,} rest on something not modelled, {v['MISMATCH']:,} differ, {v['EXECUTOR_CRASHED']:,} cost the virtual machine; "
            f"{len(self.findings.by_id)} findings, {len(self.log)} warnings\n"
            + "\n".join(json.dumps(finding.to_json()) for finding in self.findings.by_id.values())
        )


def compare(
    guest: KvmGuestExecutor, executed: int, *, seed: int = 1, family: int = 300, on_family: Callable[[KvmFigures], None] | None = None
) -> KvmFigures:
    """Run a campaign until so many were executed."""
    campaign, figures, chunk, began = Campaign(guest, seed=seed), KvmFigures(), 0, time.monotonic()
    while figures.executed < executed:
        for plan in campaign.plan(chunk):
            figures.add(campaign, campaign.execute(plan, min(family, plan.rows)), plan.base)
            figures.exits += guest.machine_process.exits
            figures.log += [f"{plan.base}: {line}" for line in guest.machine_process.log]
            figures.seconds, figures.executor_seconds = time.monotonic() - began, campaign.progress.executor_seconds
            if on_family is not None:
                on_family(figures)
            if figures.executed >= executed:
                break
        chunk += 1
    return figures
