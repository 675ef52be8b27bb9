"""Narrowing a lost batch down: half-batches run again, over as many resets of the machine as it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.lost import LostBatch
from vmfuzz.campaign.store import Store
from vmfuzz.errors import UsageError


def bisect_lost(campaign: Campaign, store: Store, on_step: Callable[[LostBatch], None] | None = None) -> None:
    """Narrow the lost batches of a store down to one candidate each, on the campaign's executor, which may take the machine with it.

    Where the machine goes down, the next call goes on from there. Candidates that run here are not counted. Raises UsageError where store and campaign do
    not fit.
    """
    store.require_same(campaign)
    for batch in store.lost:
        candidates = campaign.candidates(batch.plan, batch.count)
        if len(candidates) != batch.count:
            raise UsageError(f"lost batch {batch.id}: its plan makes {len(candidates)} candidates, not {batch.count} as when it ran")
        known = batch
        while (part := known.next_part) is not None:
            known = replace(known, trying=part)
            store.keep_lost(known)
            if on_step is not None:
                on_step(known)
            try:
                campaign.executor.run(candidates.take(np.arange(*part)))
            except KeyboardInterrupt:
                store.keep_lost(replace(known, trying=None))  # nobody knows what became of it
                raise
            known = known.came_back().named(campaign)
            store.keep_lost(known)
