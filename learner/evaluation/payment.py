"""Which captions of the evaluated games the run's reward pays most for, and which least."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.schemas.ids import caption_id, lookup_id

LISTED = 10


@dataclass(frozen=True, slots=True)
class PaidCaption:
    """A caption of the evaluated games.

    Attributes:
        text: what the game said.
        times: how often it came up per episode.
        reward: what it would have paid per episode, at what the run paid for it each time on average.
    """

    text: str
    times: float
    reward: float


def paid_captions(
    folder: Path | None, captions: Counter[str], episodes: int
) -> tuple[list[PaidCaption], list[PaidCaption]]:
    """What paid most, and what paid least, the more frequent first; both empty without the run's tally.

    Args:
        folder: of the run, whose tally says what each caption earned in training.
        captions: how often each came up in all episodes.
        episodes: number of episodes.
    """
    totals = CaptionTally.load(folder).totals if folder is not None else {}
    paid = []
    for text, times in captions.items():
        total = totals.get(lookup_id(caption_id(text)))
        if total is not None and total.steps:
            each = total.reward / total.steps
            paid.append(PaidCaption(text, times / episodes, each * times / episodes))
    paying = sorted((c for c in paid if c.reward > 0), key=lambda c: (-c.reward, -c.times))
    most = paying[:LISTED]
    others = sorted((c for c in paid if c not in most), key=lambda c: (c.reward, -c.times))
    return most, others[:LISTED]
