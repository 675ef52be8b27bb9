"""Where an emulated CPU provably departs from the SDM: each departure as data, with its evidence.

A deviation says which checks the emulator leaves out (`skips`: check id -> condition under which it does), which it makes although the SDM does
not (`adds`), and which VM exits it takes first where the SDM has another (`exits`). A mismatch is a known deviation if the model with these
alterations allows the outcome; it is then counted as such, never as agreement. Each entry is written so that it could be sent to the
emulator's authors. The list itself is in bochs_deviations.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vmfuzz.errors import ModelError
from vmfuzz.model.check import Check
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.expr import TRUE, Cond, all_of

#: Prefix of the `ambiguity` of altered checks: what follows is the deviation's id.
MARK: Final = "deviation:"


@dataclass(frozen=True)
class Deviation:
    """One departure of the executors whose name begins with `executor`.

    `text`: what happens and why the SDM says otherwise. `source`: where the emulator's public source does it (file and function, in words).
    """

    id: str
    executor: str
    title: str
    text: str
    source: str
    skips: Mapping[str, Cond] = field(default_factory=dict)
    adds: Sequence[Check] = ()
    #: first exits that it takes although the SDM demands another: (condition, mask of outcomes)
    exits: Sequence[tuple[Cond, int]] = ()
    #: it shows in sequences only: what it does depends on what ran before, and explains no candidate by itself
    in_sequences: bool = False

    def __post_init__(self) -> None:
        unknown = [id for id in self.skips if id not in BY_ID]
        if unknown:
            raise ModelError(f"deviation {self.id}: unknown checks {', '.join(unknown)}")
        if bool(self.skips or self.adds or self.exits) is self.in_sequences:
            raise ModelError(
                f"deviation {self.id}: it neither skips nor adds a check, nor takes another exit, as only one does that shows in sequences"
            )


def skipping(*ids: str, when: Cond = TRUE) -> dict[str, Cond]:
    """Checks that are left out under the same condition."""
    return dict.fromkeys(ids, when)


def altered_checks(deviations: Iterable[Deviation], checks: Sequence[Check] = CHECKS) -> tuple[Check, ...]:
    """The checks as processors with these deviations may make them: skipped parts and additions become "may or may not"."""
    skips: dict[str, list[tuple[Cond, str]]] = {}
    added: list[Check] = []
    for deviation in deviations:
        for id, condition in deviation.skips.items():
            skips.setdefault(id, []).append((condition, deviation.id))
        added.extend(replace(check, ambiguity=MARK + deviation.id) for check in deviation.adds)
    altered: list[Check] = []
    for check in checks:
        rest = check.when
        for condition, deviation_id in skips.get(check.id, ()):
            skipped = all_of(rest, condition)
            altered.append(replace(check, when=skipped, ambiguity=MARK + deviation_id))
            rest = all_of(rest, ~condition)
        altered.append(replace(check, when=rest))
    return (*altered, *added)
