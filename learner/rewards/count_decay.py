"""A caption's reward falls with how often it came up in its episode: ``r_int / N ** beta``.

From section 4.2 of ONI (arXiv 2410.23022), with beta = 3 by default (``--count-beta``). Environments count:
:class:`onibus.producers.nethack.environment.NetHackEnvironment` and
:class:`onibus.producers.environments.caption_wrapper.CaptionWrapper`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onibus.schemas.ids import NO_CAPTION


@dataclass(frozen=True, slots=True)
class RewardedBatch:
    """Rewards of a batch, float32, with the shape of its ids, and what is told of them.

    ``coverage`` is the share of steps with a caption whose caption had a label, or a score, under some
    specification; NaN when no step had a caption. ``first_sights`` are the captions that came up in their
    episode for the first time, and ``unscored`` those of them that a model was to score and did not.
    ``by_spec`` are the sums of each specification's part, by name, where there are several.
    """

    intrinsic: NDArray[np.float32]
    coverage: float
    first_sights: int = 0
    unscored: int = 0
    by_spec: Mapping[str, float] = field(default_factory=dict)


def decayed(
    total: NDArray[np.float32],
    judged: NDArray[np.bool_],
    ids: NDArray[np.int64],
    counts: NDArray[np.int64],
    beta: float,
    parts: Mapping[str, NDArray[np.float32]],
) -> RewardedBatch:
    """Rewards by how often their caption has come up, in place, and how many captions were judged."""
    rewarded = np.flatnonzero(total)
    fading = counts.reshape(-1)[rewarded].astype(np.float32) ** beta
    if rewarded.size:
        flat = total.reshape(-1)
        flat[rewarded] /= fading
    by_spec = {}
    if len(parts) > 1:
        by_spec = {name: float((part.reshape(-1)[rewarded] / fading).sum()) for name, part in parts.items()}
    captioned = np.count_nonzero(ids != NO_CAPTION)
    coverage = np.count_nonzero(judged) / captioned if captioned else float("nan")
    return RewardedBatch(total, coverage, by_spec=by_spec)
